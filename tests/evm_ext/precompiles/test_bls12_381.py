"""The BLS12-381 precompiles against py-evm's, which compute with py_ecc and share no code with ours."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from eth.exceptions import OutOfGas, VMError
from eth.vm.forks.prague.computation import PragueComputation
from py_arkworks_bls12381 import G1Point, G2Point, Scalar

from openledger.evm_ext.precompiles.bls12_381 import FIELD_MODULUS
from openledger.evm_ext.precompiles.ethereum import precompiles_at
from openledger.genesis import predeploys
from openledger.genesis.hardforks import Hardfork

GAS = 10_000_000
PRAGUE = precompiles_at(Hardfork.PRAGUE, False)
THEIRS = PragueComputation.get_precompiles()
ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001


class _Call:
    """What a precompile sees of a computation, for theirs and ours alike."""

    def __init__(self, data: bytes, gas: int) -> None:
        self.msg = SimpleNamespace(data=data, data_as_bytes=data)
        self.gas_left = gas
        self.output = b""

    def consume_gas(self, amount: int, reason: str = "") -> None:
        if amount > self.gas_left:
            raise OutOfGas(reason)
        self.gas_left -= amount


def run(precompile: Any, data: bytes, gas: int = GAS) -> tuple[bool, int, bytes]:
    call = _Call(data, gas)
    try:
        precompile(call)
    except VMError:
        return False, 0, b""
    return True, call.gas_left, bytes(call.output)


def agree(address: bytes, data: bytes) -> tuple[bool, bytes]:
    found = run(PRAGUE[address], data)
    assert found == run(THEIRS[address], data), data.hex()
    return found[0], found[2]


def padded(encoded: bytes) -> bytes:
    return b"".join(bytes(16) + encoded[start : start + 48] for start in range(0, len(encoded), 48))


def g1(scalar: int) -> bytes:
    return padded((G1Point() * Scalar(scalar % ORDER)).to_xy_bytes_be())


def g2(scalar: int) -> bytes:
    return padded((G2Point() * Scalar(scalar % ORDER)).to_xy_bytes_be())


def number(value: int) -> bytes:
    return value.to_bytes(64, "big")


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


# On the curve, outside the subgroup: the point of order 3 on G1, and a point of G2's curve.
OUTSIDE_G1 = number(0) + number(2)


def outside_g2() -> bytes:
    """The first point of G2's curve y^2 = x^3 + 4 + 4i with a real x for which there is a y."""
    p = FIELD_MODULUS
    x = 1
    while True:
        x += 1
        a, b = (x**3 + 4) % p, 4
        norm = pow(a * a + b * b, (p + 1) // 4, p)
        if norm * norm % p != (a * a + b * b) % p:
            continue
        for sign in (norm, -norm):
            half = (a + sign) * pow(2, -1, p) % p
            root = pow(half, (p + 1) // 4, p)
            if root * root % p == half and root:
                return number(x) + number(0) + number(root) + number(b * pow(2 * root, -1, p) % p)


OUTSIDE_G2 = outside_g2()

BAD_G1 = {
    "not on the curve": number(1) + number(1),
    "x is the modulus": number(FIELD_MODULUS) + g1(1)[64:],
    "y above the modulus": g1(1)[:64] + number(FIELD_MODULUS + 1),
    "x with a bit above 48 bytes": b"\x01" + g1(1)[1:],
    "zero, then y": number(0) + number(1),
    "infinity by the modulus": number(FIELD_MODULUS) + number(0),
}
BAD_G2 = {
    "not on the curve": number(1) * 4,
    "a part is the modulus": g2(1)[:64] + number(FIELD_MODULUS) + g2(1)[128:],
    "a part with a bit above 48 bytes": g2(1)[:192] + b"\x80" + g2(1)[193:],
    "infinity by the modulus": number(FIELD_MODULUS) + number(0) * 3,
}


def test_addition_takes_every_point_of_the_curve() -> None:
    for left in (g1(0), g1(1), g1(5), g1(-5), OUTSIDE_G1):
        for right in (g1(0), g1(5), OUTSIDE_G1):
            assert agree(predeploys.BLS12_G1ADD, left + right)[0]
    for left in (g2(0), g2(1), g2(5), g2(-5), OUTSIDE_G2):
        for right in (g2(0), g2(5), OUTSIDE_G2):
            assert agree(predeploys.BLS12_G2ADD, left + right)[0]


def test_sums_of_products_are_theirs() -> None:
    chance = random.Random(1)
    scalars = [0, 1, 2, ORDER - 1, ORDER, ORDER + 1, 2**256 - 1]
    for count in (1, 2, 5, 6, 7):
        terms = [g1(chance.choice((0, 1, 99))) + word(chance.choice(scalars)) for _ in range(count)]
        assert agree(predeploys.BLS12_G1MSM, b"".join(terms))[0]
    for count in (1, 2, 6):
        terms = [g2(chance.choice((0, 1, 99))) + word(chance.choice(scalars)) for _ in range(count)]
        assert agree(predeploys.BLS12_G2MSM, b"".join(terms))[0]


def test_points_outside_the_subgroup_are_no_factors() -> None:
    assert not agree(predeploys.BLS12_G1MSM, OUTSIDE_G1 + word(3))[0]
    assert not agree(predeploys.BLS12_G1MSM, g1(1) + word(1) + OUTSIDE_G1 + word(0))[0]
    assert not agree(predeploys.BLS12_G2MSM, OUTSIDE_G2 + word(3))[0]
    assert not agree(predeploys.BLS12_PAIRING_CHECK, OUTSIDE_G1 + g2(0))[0]
    assert not agree(predeploys.BLS12_PAIRING_CHECK, g1(0) + OUTSIDE_G2)[0]


def test_pairings_are_theirs() -> None:
    equal = g1(6) + g2(35) + g1(-210) + g2(1)
    assert agree(predeploys.BLS12_PAIRING_CHECK, equal) == (True, word(1))
    assert agree(predeploys.BLS12_PAIRING_CHECK, g1(1) + g2(1)) == (True, word(0))
    for pair in (g1(0) + g2(9), g1(9) + g2(0), g1(0) + g2(0)):
        assert agree(predeploys.BLS12_PAIRING_CHECK, pair) == (True, word(1))


def test_maps_are_theirs() -> None:
    chance = random.Random(2)
    for value in (0, 1, FIELD_MODULUS - 1, FIELD_MODULUS // 2, chance.randrange(FIELD_MODULUS)):
        assert agree(predeploys.BLS12_MAP_FP_TO_G1, number(value))[0]
        assert agree(predeploys.BLS12_MAP_FP2_TO_G2, number(value) + number(chance.randrange(FIELD_MODULUS)))[0]
    for value in (FIELD_MODULUS, 2**381, 2**384, 2**511):
        assert not agree(predeploys.BLS12_MAP_FP_TO_G1, number(value))[0]
        assert not agree(predeploys.BLS12_MAP_FP2_TO_G2, number(0) + number(value))[0]


@pytest.mark.parametrize("name", BAD_G1)
def test_bad_points_of_g1_fail_every_call(name: str) -> None:
    bad = BAD_G1[name]
    for address, data in (
        (predeploys.BLS12_G1ADD, bad + g1(1)),
        (predeploys.BLS12_G1ADD, g1(1) + bad),
        (predeploys.BLS12_G1MSM, bad + word(1)),
        (predeploys.BLS12_PAIRING_CHECK, bad + g2(0)),
    ):
        assert not agree(address, data)[0]


@pytest.mark.parametrize("name", BAD_G2)
def test_bad_points_of_g2_fail_every_call(name: str) -> None:
    bad = BAD_G2[name]
    for address, data in (
        (predeploys.BLS12_G2ADD, bad + g2(1)),
        (predeploys.BLS12_G2ADD, g2(1) + bad),
        (predeploys.BLS12_G2MSM, bad + word(1)),
        (predeploys.BLS12_PAIRING_CHECK, g1(0) + bad),
    ):
        assert not agree(address, data)[0]


def test_input_of_another_length_fails() -> None:
    sizes = {
        predeploys.BLS12_G1ADD: 256,
        predeploys.BLS12_G1MSM: 160,
        predeploys.BLS12_G2ADD: 512,
        predeploys.BLS12_G2MSM: 288,
        predeploys.BLS12_PAIRING_CHECK: 384,
        predeploys.BLS12_MAP_FP_TO_G1: 64,
        predeploys.BLS12_MAP_FP2_TO_G2: 128,
    }
    for address, size in sizes.items():
        for wrong in (0, 1, size - 1, size + 1):
            assert not agree(address, bytes(wrong))[0]


def test_every_number_of_terms_has_their_price() -> None:
    for address, size in ((predeploys.BLS12_G1MSM, 160), (predeploys.BLS12_G2MSM, 288)):
        for count in (1, 2, 3, 50, 127, 128, 129, 1_000):
            data = bytes(size * count)  # points at infinity
            price = PRAGUE[address].gas(data)
            assert run(PRAGUE[address], data, price)[:2] == (True, 0)
            assert run(PRAGUE[address], data, price - 1)[:2] == (False, 0)
            if count <= 3:
                assert run(THEIRS[address], data, price)[:2] == (True, 0)
    # EIP-2537, the discount tables: their first entries, one in the middle, the last.
    prices = [PRAGUE[predeploys.BLS12_G1MSM].gas(bytes(160 * count)) for count in (1, 2, 64, 128, 129)]
    assert prices == [12_000, 22_776, 442_368, 797_184, 803_412]
