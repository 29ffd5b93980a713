"""Points against py_ecc, which we did not write."""

import json
from importlib.resources import files
from typing import Any

import pytest
from py_ecc import bn128

from openledger.rollup.da import curve
from openledger.rollup.da.curve import FIELD_MODULUS, G1_INFINITY, G2_INFINITY, G1Point, G2Point, InvalidPoint

HALF = pow(2, -1, FIELD_MODULUS)
PUBLISHED = json.loads(files("openledger.genesis").joinpath("srs/eigenda-srs-powers.json").read_text())


def as_g1(point: tuple[Any, Any]) -> G1Point:
    return G1Point(*(int(value.n) for value in point))


def as_g2(point: tuple[Any, Any]) -> G2Point:
    return G2Point(*(int(c) for value in point for c in value.coeffs))


@pytest.mark.parametrize("scalar", [1, 2, 3, 12345, bn128.curve_order - 1])
def test_multiples_of_the_generators_equal_py_ecc(scalar: int) -> None:
    assert curve.g1_to_integers(curve.g1_generator() * scalar) == as_g1(bn128.multiply(bn128.G1, scalar))
    assert curve.g2_to_integers(curve.g2_generator() * scalar) == as_g2(bn128.multiply(bn128.G2, scalar))


def test_published_points_survive_compressed_and_affine_forms() -> None:
    assert len(PUBLISHED["g1_reverse"]) == len(PUBLISHED["g2_power_of_two"]) == 28
    for text in PUBLISHED["g1_reverse"]:
        point = curve.g1_from_compressed(bytes.fromhex(text))
        assert curve.to_compressed(point).hex() == text
        assert curve.g1_from_integers(curve.g1_to_integers(point)) == point
    for text in PUBLISHED["g2_power_of_two"]:
        point = curve.g2_from_compressed(bytes.fromhex(text))
        assert curve.to_compressed(point).hex() == text
        assert curve.g2_from_integers(curve.g2_to_integers(point)) == point


def test_published_g2_powers_are_powers_of_one_secret() -> None:
    # e([τ^(2^28-2^i)]₁, [τ^(2^i)]₂) is e(G₁, G₂)^(τ^(2^28)) whatever i is.
    pairs = [
        (curve.g1_from_compressed(bytes.fromhex(g1)), curve.g2_from_compressed(bytes.fromhex(g2)))
        for g1, g2 in zip(PUBLISHED["g1_reverse"], PUBLISHED["g2_power_of_two"], strict=True)
    ]
    assert all(curve.pairings_cancel(pairs[0], pair) for pair in pairs[1:])
    assert not curve.pairings_cancel(pairs[0], (pairs[1][0], pairs[2][1]))


def test_infinity_has_its_own_forms() -> None:
    zero = curve.g1_from_integers(G1_INFINITY)
    assert curve.to_compressed(zero) == b"\x40" + bytes(31)
    assert curve.g1_to_integers(curve.g1_from_compressed(b"\x40" + bytes(31))) == G1_INFINITY
    zero2 = curve.g2_from_integers(G2_INFINITY)
    assert curve.g2_to_integers(curve.g2_from_compressed(curve.to_compressed(zero2))) == G2_INFINITY


@pytest.mark.parametrize("point", [G1Point(1, 3), G1Point(FIELD_MODULUS + 1, 2), G1Point(-1, 2), G1Point(0, 1)])
def test_integers_off_the_curve_are_refused_in_g1(point: G1Point) -> None:
    with pytest.raises(InvalidPoint):
        curve.g1_from_integers(point)


def test_integers_off_the_curve_are_refused_in_g2() -> None:
    good = curve.g2_to_integers(curve.g2_generator())
    for bad in (
        G2Point(1, 2, 3, 4),
        G2Point(good.x0, good.x1, good.y0, good.y1 + 1),
        G2Point(good.x0 + FIELD_MODULUS, good.x1, good.y0, good.y1),
    ):
        with pytest.raises(InvalidPoint):
            curve.g2_from_integers(bad)


def test_point_on_the_twist_outside_the_subgroup_is_refused() -> None:
    # A point of the twist is almost never of order r.
    field, b2 = bn128.FQ2, bn128.b2
    for real in range(1, 50):
        x = field([real, 0])
        square = x * x * x + b2
        root = _square_root(square)
        if root is not None and not bn128.is_inf(bn128.multiply((x, root), bn128.curve_order)):
            with pytest.raises(InvalidPoint):
                curve.g2_from_integers(as_g2((x, root)))
            return
    pytest.fail("no twist point found")


def _square_root(value: Any) -> Any | None:
    """Square root in Fp² = Fp(i) by the complex method, or None."""
    a0, a1 = (int(c) for c in value.coeffs)
    norm_root = _root(a0 * a0 + a1 * a1)
    for sign in (1, -1):
        real = _root((a0 + sign * norm_root) * HALF)
        if real:
            root = bn128.FQ2([real, a1 * pow(2 * real, -1, FIELD_MODULUS)])
            if root * root == value:
                return root
    return None


def _root(value: int) -> int:
    return pow(value, (FIELD_MODULUS + 1) // 4, FIELD_MODULUS)


@pytest.mark.parametrize("data", [b"", bytes(32), b"\x80" * 31, b"\xff" * 32])
def test_bad_compressed_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidPoint):
        curve.g1_from_compressed(data)
    with pytest.raises(InvalidPoint):
        curve.g2_from_compressed(data * 2)
