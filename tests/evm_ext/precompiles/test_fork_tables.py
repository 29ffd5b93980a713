"""Which precompiles exist at which fork, and at what price."""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from openledger.evm_ext import CallRequest
from openledger.evm_ext.precompiles import basic
from openledger.evm_ext.precompiles.blake2 import _compress, _portable_compress
from openledger.evm_ext.precompiles.ethereum import precompiles_at
from openledger.evm_ext.precompiles.modexp import gas_eip198, gas_eip2565, gas_eip7883
from openledger.evm_ext.precompiles.precompile import PrecompileFailed
from openledger.genesis import predeploys
from openledger.genesis.hardforks import Hardfork

P256_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


@pytest.mark.parametrize(
    ("fork", "last"),
    [
        (Hardfork.FRONTIER, 4),
        (Hardfork.SPURIOUS_DRAGON, 4),
        (Hardfork.BYZANTIUM, 8),
        (Hardfork.PETERSBURG, 8),
        (Hardfork.ISTANBUL, 9),
        (Hardfork.SHANGHAI, 9),
        (Hardfork.CANCUN, 10),
        (Hardfork.PRAGUE, 17),
    ],
)
def test_a_fork_has_the_precompiles_up_to_its_last(fork: Hardfork, last: int) -> None:
    assert sorted(precompiles_at(fork, False)) == [number.to_bytes(20, "big") for number in range(1, last + 1)]


def test_osaka_and_op_chains_have_p256_at_their_prices() -> None:
    assert precompiles_at(Hardfork.OSAKA, False)[predeploys.P256VERIFY].gas(b"") == 6_900
    for fork in (Hardfork.PRAGUE, Hardfork.OSAKA):
        assert precompiles_at(fork, True)[predeploys.P256VERIFY].gas(b"") == 3_450


def test_prices_change_with_forks() -> None:
    pairs = bytes(192 * 2)
    for fork, prices in (
        (Hardfork.BYZANTIUM, (500, 40_000, 260_000)),
        (Hardfork.ISTANBUL, (150, 6_000, 113_000)),
        (Hardfork.PRAGUE, (150, 6_000, 113_000)),
    ):
        table = precompiles_at(fork, False)
        found = [
            table[address].gas(pairs)
            for address in (predeploys.BN254_ADD, predeploys.BN254_MUL, predeploys.BN254_PAIRING)
        ]
        assert tuple(found) == prices


# (bytes of base and modulus, exponent, its length): gas by EIP-198, EIP-2565, EIP-7883. Facts of go-ethereum's
# core/vm/testdata/precompiles: modexp.json, modexp_eip2565.json, modexp_eip7883.json ("nagydani" cases).
MODEXP_PRICES = [
    (64, 2, 1, (204, 200, 500)),
    (64, 3, 1, (204, 200, 500)),
    (64, 0x10001, 3, (3_276, 341, 2_048)),
    (128, 2, 1, (665, 200, 512)),
    (128, 0x10001, 3, (10_649, 1_365, 8_192)),
    (256, 2, 1, (1_894, 341, 2_048)),
    (256, 0x10001, 3, (30_310, 5_461, 32_768)),
    (512, 2, 1, (5_580, 1_365, 8_192)),
    (512, 0x10001, 3, (89_292, 21_845, 131_072)),
    (1024, 2, 1, (17_868, 5_461, 32_768)),
    (1024, 0x10001, 3, (285_900, 87_381, 524_288)),
]


@pytest.mark.parametrize(("size", "exponent", "exponent_size", "prices"), MODEXP_PRICES)
def test_modexp_has_the_known_prices(size: int, exponent: int, exponent_size: int, prices: tuple[int, ...]) -> None:
    numbers = b"\xff" * size + exponent.to_bytes(exponent_size, "big") + b"\xff" * size
    data = word(size) + word(exponent_size) + word(size) + numbers
    assert (gas_eip198(data), gas_eip2565(data), gas_eip7883(data)) == prices


def test_osaka_counts_long_exponents_and_small_numbers_anew() -> None:
    exponent = b"\x80" + bytes(63)
    small = word(1) + word(64) + word(1) + b"\2" + exponent + b"\3"
    assert gas_eip7883(small) == 16 * (16 * 32 + 255)
    assert gas_eip2565(small) == 200
    larger = word(33) + word(64) + word(1) + bytes(33) + exponent + b"\3"
    assert gas_eip7883(larger) == 2 * 5**2 * (16 * 32 + 255)
    assert gas_eip2565(larger) == 5**2 * (8 * 32 + 255) // 3


@pytest.mark.parametrize("position", range(3))
def test_osaka_takes_no_number_above_1024_bytes(position: int) -> None:
    lengths = [1, 1, 1]
    lengths[position] = 1_024
    gas_eip7883(b"".join(map(word, lengths)))
    lengths[position] = 1_025
    with pytest.raises(PrecompileFailed, match="1025 bytes"):
        gas_eip7883(b"".join(map(word, lengths)))


@pytest.mark.parametrize(
    ("address", "unit", "limit", "words"),
    [
        (predeploys.BN254_PAIRING, 192, 112_687, "bad elliptic curve pairing input size"),
        (predeploys.BLS12_G1MSM, 160, 513_760, "g1 msm input size exceeds maximum"),
        (predeploys.BLS12_G2MSM, 288, 488_448, "g2 msm input size exceeds maximum"),
        (predeploys.BLS12_PAIRING_CHECK, 384, 235_008, "pairing input size exceeds maximum"),
    ],
)
def test_op_chains_limit_input_where_a_fault_proof_must_follow(open_chain, tools, address, unit, limit, words) -> None:
    chain = open_chain(tools.op_genesis())
    most = limit // unit * unit
    for size, success in ((most, True), (most + unit, False)):
        # Points at infinity: the time is in reading them.
        request = CallRequest(sender=tools.ADDRESSES[0], to=address, data=bytes(size), gas=50_000_000)
        result = chain.call(request, chain.head().hash)
        assert result.success is success
        if not success:
            assert result.error == words
    ethereum = open_chain(tools.ethereum_genesis(), "ethereum")
    request = CallRequest(sender=tools.ADDRESSES[0], to=address, data=bytes(most + unit), gas=50_000_000)
    assert ethereum.call(request, ethereum.head().hash).success


def test_a_failing_precompile_fails_the_call_and_its_gas_is_gone(open_chain, tools) -> None:
    chain = open_chain(tools.ethereum_genesis())
    for address in precompiles_at(Hardfork.PRAGUE, False):
        request = CallRequest(sender=tools.ADDRESSES[0], to=address, data=b"\xff" * 500, gas=400_000)
        result = chain.call(request, chain.head().hash)
        if not result.success:
            assert result.gas_used == 400_000
            assert not result.output


def test_p256_takes_only_what_is_a_signature() -> None:
    key = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())
    public = key.public_key().public_numbers()
    digest = bytes(range(32))
    signature = key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    r, s = utils.decode_dss_signature(signature)
    run = precompiles_at(Hardfork.OSAKA, False)[predeploys.P256VERIFY].run
    tail = word(public.x) + word(public.y)
    valid = digest + word(r) + word(s) + tail
    assert run(valid) == word(1)
    assert run(digest + word(r) + word(P256_N - s) + tail) == word(1)  # either half
    for bad in (
        b"",
        valid[:-1],
        valid + b"\0",
        digest + word(0) + word(s) + tail,
        digest + word(r) + word(0) + tail,
        digest + word(r) + word(P256_N) + tail,
        digest + word(r + P256_N if r + P256_N < 2**256 else P256_N) + word(s) + tail,
        digest + word(r) + word(s) + bytes(64),
        digest + word(r) + word(s) + word(public.y) + word(public.x),
        bytes(32) + word(r) + word(s) + tail,
    ):
        assert run(bad) == b""


def test_blake2_without_its_native_build_gives_the_same() -> None:
    chance = random.Random(1)
    for rounds in (0, 1, 10, 12, 25):
        words = tuple(chance.getrandbits(64) for _ in range(26))
        for final in (False, True):
            arguments = (rounds, words[:8], words[8:24], words[24:], final)
            assert _portable_compress(*arguments) == bytes(_compress(*arguments))


def test_ripemd160_is_the_same_where_openssl_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    data = [b"", b"abc", bytes(1_000)]
    found = [basic.ripemd160(each) for each in data]
    assert found[1].hex() == "00" * 12 + "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"  # the authors' vector
    monkeypatch.setattr(basic, "_IN_OPENSSL", False)
    assert [basic.ripemd160(each) for each in data] == found
