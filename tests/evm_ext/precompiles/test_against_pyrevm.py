"""Ethereum's precompiles up to Cancun through ours and through revm: success, gas and output of the same inputs.

pyrevm runs one set of rules, Cancun's, whatever it is asked for.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator

import pytest
from py_ecc import optimized_bn128 as curve
from pyrevm import EVM, AccountInfo

from openledger.evm_ext.precompiles.bn254 import FIELD_MODULUS
from openledger.evm_ext.precompiles.ethereum import precompiles_at
from openledger.evm_ext.precompiles.precompile import PrecompileFailed
from openledger.evm_ext.signatures import SECP256K1_N, sign_digest
from openledger.genesis import predeploys
from openledger.genesis.hardforks import Hardfork

SENDER = "0x" + "11" * 20
GAS = 12_000_000
CANCUN = precompiles_at(Hardfork.CANCUN, False)


def ours(address: bytes, data: bytes, gas: int) -> tuple[bool, int, bytes]:
    """(success, gas used, output) of a call with so much gas."""
    precompile = CANCUN[address]
    try:
        price = precompile.gas(data)
        if price > gas:
            return False, gas, b""
        return True, price, precompile.run(data)
    except PrecompileFailed:
        return False, gas, b""


def revms(address: bytes, data: bytes, gas: int) -> tuple[bool, int, bytes]:
    evm = EVM()
    evm.insert_account_info(SENDER, AccountInfo(balance=1))
    zeros = data.count(0)
    intrinsic = 21_000 + 4 * zeros + 16 * (len(data) - zeros)
    try:
        output = evm.message_call(SENDER, "0x" + address.hex(), calldata=data, gas=gas + intrinsic, gas_price=0)
    except RuntimeError:
        output = b""
    return evm.result.is_success, evm.result.gas_used - intrinsic, bytes(output)


def agree(address: bytes, data: bytes) -> bool:
    """Compares at much gas, at exactly enough and at one less. Gives whether the call succeeds."""
    success, price, output = ours(address, data, GAS)
    assert (success, price, output) == revms(address, data, GAS), data.hex()
    if success:
        for gas in (price, price - 1):
            if gas >= 0:
                assert ours(address, data, gas) == revms(address, data, gas), (gas, data.hex())
    return success


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def damaged(chance: random.Random, data: bytes) -> Iterator[bytes]:
    """The input, shortened, lengthened, and with single bytes changed."""
    yield data
    yield data[: chance.randrange(len(data) + 1)]
    yield data + chance.randbytes(chance.randrange(1, 40))
    for _ in range(3):
        changed = bytearray(data)
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        yield bytes(changed)


def test_hashes_and_identity_do_what_revm_does() -> None:
    chance = random.Random(1)
    for address in (predeploys.SHA256, predeploys.RIPEMD160, predeploys.IDENTITY):
        for size in (0, 1, 31, 32, 33, 64, 1_000, 5_000):
            assert agree(address, chance.randbytes(size))


def test_ecrecover_does_what_revm_does() -> None:
    chance = random.Random(2)
    for _ in range(10):
        digest = chance.randbytes(32)
        parity, r, s = sign_digest(digest, chance.randbytes(32))
        signature = digest + word(27 + parity) + word(r) + word(s)
        assert ours(predeploys.ECRECOVER, signature, GAS)[2]
        for data in damaged(chance, signature):
            agree(predeploys.ECRECOVER, data)
        agree(predeploys.ECRECOVER, digest + word(28 - parity) + word(r) + word(SECP256K1_N - s))
        for v, r_, s_ in ((26, r, s), (29, r, s), (27, 0, s), (27, r, 0), (27, SECP256K1_N, s), (27, r, SECP256K1_N)):
            agree(predeploys.ECRECOVER, digest + word(v) + word(r_) + word(s_))
        agree(predeploys.ECRECOVER, digest + b"\1" + word(27 + parity)[1:] + word(r) + word(s))


def test_modexp_does_what_revm_does() -> None:
    chance = random.Random(3)

    def some_size() -> int:
        return chance.choice((0, 1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 100, 200))

    for _ in range(150):
        sizes = some_size(), some_size(), some_size()
        numbers = [chance.choice((chance.randbytes, bytes, lambda size: b"\xff" * size))(size) for size in sizes]
        if chance.random() < 0.3 and sizes[2]:
            numbers[2] = bytes(sizes[2] - 1) + chance.choice((b"\0", b"\1", b"\2"))
        data = b"".join(map(word, sizes)) + b"".join(numbers)
        agree(predeploys.MODEXP, data)
        agree(predeploys.MODEXP, data[: chance.randrange(len(data) + 1)])


def test_modexp_with_lengths_that_nobody_can_pay_for_does_what_revm_does() -> None:
    big = (0, 1, 32, 2**31, 2**32, 2**63, 2**64 - 1, 2**64, 2**256 - 1)
    for base in big:
        for exponent in big:
            for modulus in big:
                if base == 0 and modulus == 0 and exponent > 2**31:
                    continue  # revm asks more than any gas; by the EIP the work and the price are nothing
                agree(predeploys.MODEXP, word(base) + word(exponent) + word(modulus) + b"\2\3\5")


def g1(scalar: int) -> bytes:
    x, y = curve.normalize(curve.multiply(curve.G1, scalar % curve.curve_order or curve.curve_order))
    return word(int(x)) + word(int(y))


def g2(scalar: int) -> bytes:
    x, y = curve.normalize(curve.multiply(curve.G2, scalar % curve.curve_order))
    return b"".join(word(int(part)) for part in (x.coeffs[1], x.coeffs[0], y.coeffs[1], y.coeffs[0]))


G1_EDGES: tuple[Callable[[random.Random], bytes], ...] = (
    lambda chance: bytes(64),
    lambda chance: g1(1),
    lambda chance: g1(curve.curve_order - 1),
    lambda chance: g1(chance.getrandbits(250) + 1),
    lambda chance: word(FIELD_MODULUS) + word(2),
    lambda chance: word(1) + word(2 + FIELD_MODULUS),
    lambda chance: word(1) + word(3),
    lambda chance: word(0) + word(1),
    lambda chance: word(FIELD_MODULUS) + bytes(32),
    lambda chance: chance.randbytes(64),
)


def test_bn254_addition_and_multiplication_do_what_revm_does() -> None:
    chance = random.Random(4)
    scalars = (0, 1, 2, curve.curve_order - 1, curve.curve_order, curve.curve_order + 1, 2**256 - 1)
    for left in G1_EDGES:
        for right in G1_EDGES:
            agree(predeploys.BN254_ADD, left(chance) + right(chance))
        for scalar in (*scalars, chance.getrandbits(256)):
            agree(predeploys.BN254_MUL, left(chance) + word(scalar))
    some = g1(1234567)
    for data in (some + some, some + g1(5), some + g1(-1234567), some):
        for damage in damaged(chance, data):
            agree(predeploys.BN254_ADD, damage)
            agree(predeploys.BN254_MUL, damage)


# On the curve of G2, not in the subgroup: the first whose x has the real part n and the imaginary part 1.
OUTSIDE_G2 = b"".join(
    map(
        word,
        (
            1,
            2,
            19659275751359636165940301690575149581329631496732780143538578556285923319774,
            7292567877523311580221095596750716176434782432868683424513645834767876293070,
        ),
    )
)


def test_bn254_pairings_do_what_revm_does() -> None:
    chance = random.Random(5)
    a, b = chance.getrandbits(200), chance.getrandbits(200)
    one = g1(a) + g2(b) + g1(-a * b) + g2(1)
    assert ours(predeploys.BN254_PAIRING, one, GAS)[2] == word(1)
    for data in damaged(chance, one):
        agree(predeploys.BN254_PAIRING, data)
    inside = g2(77)
    right = (
        inside,
        bytes(128),
        OUTSIDE_G2,
        word(FIELD_MODULUS) + inside[32:],
        inside[:96] + word(1),
        bytes(96) + word(1),
    )
    for left in G1_EDGES:
        for point in right:
            agree(predeploys.BN254_PAIRING, left(chance) + point)
    for pairs in (0, 1, 3):
        agree(predeploys.BN254_PAIRING, one * pairs)
    # Negation within a pair: the sign of a compressed point must be the right one for every y.
    for scalar in range(1, 9):
        assert ours(predeploys.BN254_PAIRING, g1(3) + g2(scalar) + g1(-3 * scalar) + g2(1), GAS)[2] == word(1)
        assert ours(predeploys.BN254_PAIRING, g1(3) + g2(-scalar) + g1(3 * scalar) + g2(1), GAS)[2] == word(1)


def test_blake2f_does_what_revm_does() -> None:
    chance = random.Random(6)
    for rounds in (0, 1, 9, 10, 11, 12, 1_000, 2**31):
        for final in (0, 1, 2, 255):
            agree(predeploys.BLAKE2F, rounds.to_bytes(4, "big") + chance.randbytes(208) + bytes([final]))
    for size in (0, 1, 212, 214, 400):
        agree(predeploys.BLAKE2F, bytes(size))


# Made with ckzg and the mainnet setup: a random blob's polynomial at a random point, and a constant one, whose proof
# is the point at infinity.
KZG_PROOFS = (
    "010c67bb121b02ebcebf7b2a5d8ed0279431d1bcad16fb9a0dff6972fd988447"
    "03392845ef4a1b271f424a8b7631f8a2fbd35971be472833c6cff3159595b262"
    "6c4cb56bff251cecbdaad7c4819768654e8995425fc9c8eeae81d4f7cc0a9f73"
    "8aaa3c9660451214427e9d2a42813fed207e4d576dfd4d80096ba93b49ac9fff"
    "9f301997ba199b3c91be77d6f2f02944b8220f97033c8efafd74827c1eb6e55b"
    "16eff737d5734f893c987eb5d074d2d6a0984189159570e7663511525c51548f",
    "01cdcb18824446fa3041b29d7d3b5abc4152b417cb6814d7fd1852fa2511a64e"
    "03392845ef4a1b271f424a8b7631f8a2fbd35971be472833c6cff3159595b262"
    "0000000000000000000000000000000000000000000000000000000000000005"
    "b0e7791fb972fe014159aa33a98622da3cdc98ff707965e536d8636b5fcc5ac7"
    "a91a8c46e59a00dca575af0f18fb13dcc0000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000",
)
SCALAR_MODULUS = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001


@pytest.mark.parametrize("proof", [bytes.fromhex(proof) for proof in KZG_PROOFS], ids=["random", "constant"])
def test_point_evaluations_do_what_revm_does(proof: bytes) -> None:
    chance = random.Random(7)
    assert agree(predeploys.POINT_EVALUATION, proof)
    for _ in range(4):
        for data in damaged(chance, proof):
            agree(predeploys.POINT_EVALUATION, data)
    for position in (32, 64):
        number = int.from_bytes(proof[position : position + 32], "big")
        for other in (number + SCALAR_MODULUS, SCALAR_MODULUS, 2**256 - 1, number + 1):
            agree(predeploys.POINT_EVALUATION, proof[:position] + word(other) + proof[position + 32 :])
    for point in (b"\xc0" + bytes(47), b"\xc0" + bytes(46) + b"\1", b"\xe0" + bytes(47), bytes(48), proof[96:144]):
        agree(predeploys.POINT_EVALUATION, proof[:144] + point)
        versioned_hash = b"\1" + hashlib.sha256(point).digest()[1:]
        agree(predeploys.POINT_EVALUATION, versioned_hash + proof[32:96] + point + proof[144:])
