"""BN254_KZG beside py_ecc: true and false openings, malformed input, its price, its fork, and the ceremony it is for."""

import json
import random
from dataclasses import replace
from importlib.resources import files

import pytest
from py_ecc import optimized_bn128 as curve
from py_ecc.optimized_bn128 import FQ2

from openledger.evm_ext.calls import CallRequest
from openledger.evm_ext.precompiles.bn254 import FIELD_MODULUS
from openledger.evm_ext.precompiles.bn254_kzg import (
    CEREMONY_GAS,
    CEREMONY_TAU_G2,
    GROUP_ORDER,
    NAMED_BY_CALLER_GAS,
    bn254_kzg,
    gas,
)
from openledger.evm_ext.precompiles.precompile import PrecompileFailed
from openledger.genesis.parameters import ForkSchedule
from openledger.genesis.predeploys import BN254_KZG

CHANCE = random.Random(254)
YES, NO = (1).to_bytes(32, "big"), bytes(32)


def word(value) -> bytes:
    return int(value).to_bytes(32, "big")


def g1(point) -> bytes:
    if curve.is_inf(point):
        return bytes(64)
    x, y = curve.normalize(point)
    return word(x.n) + word(y.n)


def g2(point) -> bytes:
    if curve.is_inf(point):
        return bytes(128)
    x, y = curve.normalize(point)
    return word(x.coeffs[1]) + word(x.coeffs[0]) + word(y.coeffs[1]) + word(y.coeffs[0])


def value_at(coefficients: list[int], point: int) -> int:
    total = 0
    for coefficient in reversed(coefficients):
        total = (total * point + coefficient) % GROUP_ORDER
    return total


def quotient(coefficients: list[int], z: int) -> list[int]:
    """(p - p(z)) / (X - z), by Horner's rule."""
    found, carried = [], 0
    for coefficient in reversed(coefficients[1:]):
        carried = (carried * z + coefficient) % GROUP_ORDER
        found.append(carried)
    return found[::-1]


class Opening:
    """An opening over a tau of its own, its points made by py_ecc out of the powers of tau, one by one."""

    def __init__(self, degree: int = 5, z: int | None = None) -> None:
        self.tau = CHANCE.randrange(2, GROUP_ORDER)
        powers = [curve.multiply(curve.G1, pow(self.tau, exponent, GROUP_ORDER)) for exponent in range(degree + 1)]
        coefficients = [CHANCE.randrange(GROUP_ORDER) for _ in range(degree + 1)]
        self.z = CHANCE.randrange(GROUP_ORDER) if z is None else z
        self.y = value_at(coefficients, self.z)
        self.commitment = self._sum(powers, coefficients)
        self.proof = self._sum(powers, quotient(coefficients, self.z))
        self.tau_g2 = curve.multiply(curve.G2, self.tau)

    @staticmethod
    def _sum(powers, scalars):
        total = curve.Z1
        for power, scalar in zip(powers, scalars):
            total = curve.add(total, curve.multiply(power, scalar))
        return total

    def holds(self) -> bool:
        """By py_ecc's pairing, in the form with the subtraction in G2."""
        left = curve.add(self.commitment, curve.neg(curve.multiply(curve.G1, self.y)))
        shifted = curve.add(self.tau_g2, curve.neg(curve.multiply(curve.G2, self.z)))
        return curve.pairing(curve.G2, left) == curve.pairing(shifted, self.proof)

    def encode(self) -> bytes:
        return b"\1" + g1(self.commitment) + word(self.z) + word(self.y) + g1(self.proof) + g2(self.tau_g2)


@pytest.fixture(scope="module")
def opening() -> Opening:
    return Opening()


@pytest.fixture(scope="module")
def ceremony() -> dict[str, list[bytes]]:
    text = files("openledger.genesis").joinpath("srs/eigenda-srs-powers.json").read_text()
    return {name: [bytes.fromhex(point) for point in json.loads(text)[name]] for name in ("g1_reverse",)}


def decompressed(point: bytes) -> bytes:
    x = int.from_bytes(bytes([point[0] & 0x3F]) + point[1:], "big")
    y = pow(x**3 + 3, (FIELD_MODULUS + 1) // 4, FIELD_MODULUS)
    is_largest = point[0] >> 6 == 0b11
    return word(x) + word(y if (y > FIELD_MODULUS // 2) == is_largest else FIELD_MODULUS - y)


def test_true_and_false_openings_as_py_ecc_says(opening):
    assert opening.holds()
    assert bn254_kzg(opening.encode()) == YES
    other = Opening()
    for name in ("y", "z", "commitment", "proof", "tau_g2"):
        changed = Opening.__new__(Opening)
        changed.__dict__ = {**opening.__dict__, name: getattr(other, name)}
        assert bn254_kzg(changed.encode()) == NO, name
        if name == "z":
            assert not changed.holds()


@pytest.mark.parametrize("degree", [0, 1, 2])
def test_short_polynomials_whose_points_are_infinity(degree):
    for z in (0, None):
        opening = Opening(degree, z)
        assert bn254_kzg(opening.encode()) == YES
        assert curve.is_inf(opening.proof) == (degree == 0)
        opening.y = (opening.y + 1) % GROUP_ORDER
        assert bn254_kzg(opening.encode()) == NO


def test_the_zero_polynomial_is_zero_everywhere(opening):
    tau = g2(opening.tau_g2)
    assert bn254_kzg(b"\1" + bytes(64) + word(7) + word(0) + bytes(64) + tau) == YES
    assert bn254_kzg(b"\1" + bytes(64) + word(7) + word(1) + bytes(64) + tau) == NO
    assert bn254_kzg(b"\1" + bytes(64) + word(7) + word(0) + g1(opening.proof) + tau) == NO


def test_a_polynomial_opened_at_tau_itself():
    # Whoever knows tau can open there with any proof at all; the left side is then infinity or never cancels.
    opening = Opening()
    opening.z = opening.tau
    opening.y = 0
    opening.commitment = curve.Z1
    opening.proof = curve.multiply(curve.G1, 5)
    assert opening.holds()
    assert bn254_kzg(opening.encode()) == YES


def test_the_ceremonys_openings_hold_over_the_ceremony_alone(ceremony, opening):
    # X^(2^28 - 1) divided by X is X^(2^28 - 2): EigenDA publishes the commitments to both.
    commitment, proof = (decompressed(point) for point in ceremony["g1_reverse"][:2])
    data = commitment + word(0) + word(0) + proof
    assert bn254_kzg(b"\0" + data) == YES
    assert bn254_kzg(b"\1" + data + CEREMONY_TAU_G2) == YES
    assert bn254_kzg(b"\1" + data + g2(opening.tau_g2)) == NO
    assert bn254_kzg(b"\0" + data[:64] + word(0) + word(1) + proof) == NO
    assert bn254_kzg(b"\0" + data[:64] + word(1) + word(0) + proof) == NO
    x, y = (curve.FQ(int.from_bytes(commitment[start : start + 32], "big")) for start in (0, 32))
    raised = curve.add((x, y, curve.FQ(1)), curve.multiply(curve.G1, 9))  # the polynomial plus 9
    assert bn254_kzg(b"\0" + g1(raised) + word(0) + word(9) + proof) == YES


def outside_the_subgroup() -> bytes:
    """A point of G2's curve, which has many more points than the group."""
    p = FIELD_MODULUS
    while True:
        x = FQ2([CHANCE.randrange(p), CHANCE.randrange(p)])
        square = x * x * x + curve.b2
        first = square ** ((p - 3) // 4)
        alpha = first * first * square
        half = FQ2([0, 1]) if alpha == FQ2([p - 1, 0]) else (FQ2.one() + alpha) ** ((p - 1) // 2)
        y = half * first * square
        if y * y == square:
            point = (x, y, FQ2.one())
            assert curve.is_on_curve(point, curve.b2)
            assert not curve.is_inf(curve.multiply(point, GROUP_ORDER))
            return g2(point)


def changed_at(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def test_malformed_input_is_refused(opening):
    good = opening.encode()
    x, y = good[1:33], good[33:65]
    malformed = {
        "version 0 or 1": [b"", b"\2" + good[1:], b"\xff"],
        "bytes of input": [good[:-1], good + b"\0", b"\0" + good[1:], good[:193], b"\0", b"\1"],
        "below the group's order": [
            changed_at(good, at, word(value)) for at in (65, 97) for value in (GROUP_ORDER, 2**256 - 1)
        ],
        "below the field's modulus": [
            changed_at(good, at, word(int.from_bytes(good[at : at + 32], "big") + FIELD_MODULUS))
            for at in (1, 33, 129, 161, 193, 225, 257, 289)
        ],
        "not on the curve": [
            *(changed_at(good, at, word(int.from_bytes(y, "big") ^ 1)) for at in (33, 161)),
            changed_at(good, 1, y + x),
            changed_at(good, 129, word(0) + word(1)),
            changed_at(good, 320, bytes([good[320] ^ 1])),
        ],
        "subgroup": [good[:193] + outside_the_subgroup()],
        "infinity": [good[:193] + bytes(128)],
    }
    for message, inputs in malformed.items():
        for data in inputs:
            with pytest.raises(PrecompileFailed, match=message):
                bn254_kzg(data)


def test_no_bytes_raise_anything_else(opening):
    good = opening.encode()
    for _ in range(200):
        data = bytearray(good)
        data[0] = CHANCE.randrange(3)
        for _ in range(CHANCE.randrange(3)):
            data[CHANCE.randrange(len(data))] = CHANCE.randrange(256)
        cut = bytes(data[: CHANCE.choice((0, 1, 193, 320, 321))])
        try:
            assert bn254_kzg(cut) in (YES, NO)
        except PrecompileFailed:
            pass


def test_it_answers_from_its_fork_on_and_takes_its_price(tools, open_chain, opening):
    genesis = tools.op_genesis()
    chain = open_chain(replace(genesis, forks=ForkSchedule(bn254_kzg=genesis.timestamp + 2)))
    good = opening.encode()

    def call(data: bytes, gas_limit: int = 1_000_000):
        return chain.call(CallRequest(to=BN254_KZG, data=data, gas=gas_limit), chain.head().hash)

    before = call(good)
    assert before.success
    assert before.output == b""
    block = chain.build(chain.head().hash, tools.attributes(chain.head(), (tools.l1_info().encode(),)))
    chain.set_heads(unsafe=block.hash)
    after = call(good)
    assert after.success
    assert after.output == YES
    assert call(good[:97] + word(opening.y ^ 1) + good[129:]).output == NO
    assert gas(good) == NAMED_BY_CALLER_GAS
    intrinsic = 21_000 + sum(16 if byte else 4 for byte in good)
    assert after.gas_used == intrinsic + NAMED_BY_CALLER_GAS
    assert not call(good, intrinsic + NAMED_BY_CALLER_GAS - 1).success
    assert gas(b"\0" + good[1:193]) == CEREMONY_GAS
    refused = call(good[:-1], 500_000)
    assert not refused.success
    assert refused.output == b""
    assert refused.gas_used == 500_000
