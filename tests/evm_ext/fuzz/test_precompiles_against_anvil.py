"""Every precompile of Prague, Osaka and the OP-Stack through anvil: output and gas of random and damaged input."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from evm_fuzz.anvil import Anvil, is_installed
from py_arkworks_bls12381 import G1Point, G2Point, Scalar
from zksnake._algebra import ec_bn254

from openledger.evm_ext.precompiles.ethereum import precompiles_at
from openledger.evm_ext.precompiles.precompile import PrecompileFailed
from openledger.genesis import predeploys
from openledger.genesis.hardforks import Hardfork

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not is_installed(), reason="anvil is not installed: run `npm ci` in tests/clients"),
]

GAS = 10_000_000


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def padded(encoded: bytes) -> bytes:
    return b"".join(bytes(16) + encoded[start : start + 48] for start in range(0, len(encoded), 48))


def inputs(chance: random.Random) -> Iterator[tuple[bytes, bytes]]:
    """(address, input) of each precompile, good ones first, then damaged ones."""

    def scalar() -> int:
        return chance.choice((0, 1, 2, chance.getrandbits(255), 2**256 - 1))

    def bls_g1() -> bytes:
        return padded((G1Point() * Scalar(chance.choice((0, 1, chance.getrandbits(250))))).to_xy_bytes_be())

    def bls_g2() -> bytes:
        return padded((G2Point() * Scalar(chance.choice((0, 1, chance.getrandbits(250))))).to_xy_bytes_be())

    def bn_g1() -> bytes:
        point = ec_bn254.g1() * (chance.getrandbits(250) + 1)
        return word(point.x) + word(point.y)

    def bn_g2() -> bytes:
        point = ec_bn254.g2() * (chance.getrandbits(250) + 1)
        return word(point.x[1]) + word(point.x[0]) + word(point.y[1]) + word(point.y[0])

    def modexp() -> bytes:
        sizes = [chance.choice((0, 1, 8, 31, 32, 33, 64, 65, 1_023, 1_024, 1_025)) for _ in range(3)]
        numbers = [chance.randbytes(min(size, 100)).rjust(size, b"\0") for size in sizes]
        return b"".join(map(word, sizes)) + b"".join(numbers)

    def p256() -> bytes:
        key = ec.derive_private_key(chance.getrandbits(250) + 1, ec.SECP256R1())
        digest = chance.randbytes(32)
        r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()))))
        public = key.public_key().public_numbers()
        return digest + word(r) + word(s) + word(public.x) + word(public.y)

    good = [
        (predeploys.ECRECOVER, chance.randbytes(32) + word(27) + chance.randbytes(64)),
        (predeploys.SHA256, chance.randbytes(100)),
        (predeploys.RIPEMD160, chance.randbytes(100)),
        (predeploys.IDENTITY, chance.randbytes(100)),
        *((predeploys.MODEXP, modexp()) for _ in range(8)),
        (predeploys.BN254_ADD, bn_g1() + bn_g1()),
        (predeploys.BN254_MUL, bn_g1() + word(scalar())),
        (predeploys.BN254_PAIRING, bn_g1() + bn_g2()),
        (predeploys.BLAKE2F, word(chance.randrange(30))[28:] + chance.randbytes(208) + b"\1"),
        (predeploys.BLS12_G1ADD, bls_g1() + bls_g1()),
        (predeploys.BLS12_G2ADD, bls_g2() + bls_g2()),
        (predeploys.BLS12_PAIRING_CHECK, bls_g1() + bls_g2()),
        (predeploys.BLS12_MAP_FP_TO_G1, padded(chance.randbytes(48))),
        (predeploys.BLS12_MAP_FP2_TO_G2, padded(chance.randbytes(96))),
        (predeploys.BLS12_MAP_FP_TO_G1, padded(b"\x10" + chance.randbytes(47))),
        (predeploys.BLS12_MAP_FP2_TO_G2, padded(b"\x10" + chance.randbytes(47) + b"\x10" + chance.randbytes(47))),
        (predeploys.P256VERIFY, p256()),
    ]
    for count in (1, 2, 7, 130):
        good.append((predeploys.BLS12_G1MSM, b"".join(bls_g1() + word(scalar()) for _ in range(count))))
    for count in (1, 2, 7):
        good.append((predeploys.BLS12_G2MSM, b"".join(bls_g2() + word(scalar()) for _ in range(count))))
    for address, data in good:
        yield address, data
        changed = bytearray(data)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        yield address, bytes(changed)
        yield address, data[:-1]


def ours(address: bytes, data: bytes, fork: Hardfork, is_op: bool) -> tuple[bool, int, bytes]:
    """(success, gas used, output) of a transaction to the precompile, with its intrinsic gas and the calldata floor."""
    precompile = precompiles_at(fork, is_op)[address]
    zeros = data.count(0)
    others = len(data) - zeros
    floor = 21_000 + 10 * (zeros + 4 * others)
    try:
        gas = 21_000 + 4 * zeros + 16 * others + precompile.gas(data)
        if gas > GAS:
            return False, GAS, b""
        return True, max(gas, floor), precompile.run(data)
    except PrecompileFailed:
        return False, GAS, b""


def theirs(chain: Anvil, address: bytes, data: bytes) -> tuple[bool, int, bytes]:
    request = {"from": "0x" + "11" * 20, "to": "0x" + address.hex(), "data": "0x" + data.hex(), "gas": hex(GAS)}
    trace = chain.ask_one("debug_traceCall", request, "latest", {"tracer": "callTracer"})
    if "error" in trace:
        return False, int(trace["gasUsed"], 16), b""
    return True, int(trace["gasUsed"], 16), bytes.fromhex(trace.get("output", "0x")[2:])


@pytest.mark.parametrize(
    ("fork", "network"),
    [(Hardfork.PRAGUE, "ethereum"), (Hardfork.OSAKA, "ethereum"), (Hardfork.PRAGUE, "optimism")],
    ids=["prague", "osaka", "op"],
)
def test_every_precompile_does_in_anvil_what_it_does_here(fork: Hardfork, network: str) -> None:
    chance = random.Random(f"{fork} {network}")
    table = precompiles_at(fork, network == "optimism")
    with Anvil(fork, network) as chain:
        for address, data in inputs(chance):
            if address in table:
                expected = ours(address, data, fork, network == "optimism")
                assert expected == theirs(chain, address, data), (address.hex(), data.hex())
