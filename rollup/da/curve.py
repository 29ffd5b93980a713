"""Points of BN254 (alt_bn128) as affine integers, and the two ways their bytes are written.

EigenDA writes points as affine integers in certificates (Solidity order) and as gnark-crypto's compressed
bytes in its SRS files. `zksnake` (arkworks) does the arithmetic; it aborts with a Rust panic on integers that
are not on the curve, so every point is checked here before it reaches it.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from zksnake._algebra import ec_bn254 as _ec

FIELD_MODULUS = 21888242871839275222246405745257275088696311157297823662689037894645226208583
"""p: coordinates are integers below it."""
GROUP_ORDER = 21888242871839275222246405745257275088548364400416034343698204186575808495617
"""r: the order of both groups, and the modulus of blob elements."""

_INFINITY, _SMALLEST, _LARGEST = 0b01, 0b10, 0b11
_ARKWORKS_LARGEST, _ARKWORKS_INFINITY = 0x80, 0x40


class InvalidPoint(ValueError):
    """The bytes or integers do not name a point of the group."""


@dataclass(frozen=True, slots=True)
class G1Point:
    """An affine point of y² = x³ + 3 over Fp; (0, 0) is the point at infinity, as in Ethereum's precompiles."""

    x: int
    y: int

    def check(self) -> "G1Point":
        """Return self; raises InvalidPoint when the point is not on the curve (the group has cofactor 1)."""
        if not (0 <= self.x < FIELD_MODULUS and 0 <= self.y < FIELD_MODULUS):
            raise InvalidPoint("G1 coordinate is not below the field modulus")
        on_curve = (self.y * self.y - self.x * self.x * self.x - 3) % FIELD_MODULUS == 0
        if not on_curve and (self.x, self.y) != (0, 0):
            raise InvalidPoint(f"G1 point ({self.x}, {self.y}) is not on the curve")
        return self


@dataclass(frozen=True, slots=True)
class G2Point:
    """An affine point of the twist over Fp²; `x` = x0 + x1·i and `y` = y0 + y1·i; all zero is infinity."""

    x0: int
    x1: int
    y0: int
    y1: int


G1_INFINITY = G1Point(0, 0)
G2_INFINITY = G2Point(0, 0, 0, 0)


def g1_from_integers(point: G1Point) -> Any:
    """The backend's point. Raises InvalidPoint."""
    point.check()
    if point == G1_INFINITY:
        return _ec.PointG1.identity()
    return _ec.PointG1(point.x, point.y)


def g1_to_integers(point: Any) -> G1Point:
    """Affine integers of a backend point."""
    return G1_INFINITY if point.is_zero() else G1Point(int(point.x), int(point.y))


def g2_from_integers(point: G2Point) -> Any:
    """The backend's point, on the curve and in the subgroup of order r. Raises InvalidPoint."""
    coordinates = (point.x0, point.x1, point.y0, point.y1)
    if not all(0 <= value < FIELD_MODULUS for value in coordinates):
        raise InvalidPoint("G2 coordinate is not below the field modulus")
    if point == G2_INFINITY:
        return _ec.g2() * 0
    # Through the compressed bytes, because from_bytes checks curve and subgroup and fails with an exception.
    flag = _ARKWORKS_LARGEST if _is_largest_g2(point.y0, point.y1) else 0
    encoded = bytearray(point.x0.to_bytes(32, "little") + point.x1.to_bytes(32, "little"))
    encoded[-1] |= flag
    decoded = _decode(_ec.PointG2, bytes(encoded))
    if g2_to_integers(decoded) != point:
        raise InvalidPoint("G2 point is not on the curve")
    return decoded


def g2_to_integers(point: Any) -> G2Point:
    """Affine integers of a backend point."""
    if point.is_zero():
        return G2_INFINITY
    (x0, x1), (y0, y1) = point.x, point.y
    return G2Point(int(x0), int(x1), int(y0), int(y1))


def g1_from_compressed(data: bytes) -> Any:
    """The backend's point from gnark's 32 bytes: big-endian x, the top two bits tell y. Raises InvalidPoint."""
    if len(data) != 32:
        raise InvalidPoint(f"a compressed G1 point has 32 bytes, not {len(data)}")
    return _decode(_ec.PointG1, _gnark_to_arkworks(data))


def g2_from_compressed(data: bytes) -> Any:
    """The backend's point from gnark's 64 bytes: big-endian x1, then x0. Raises InvalidPoint."""
    if len(data) != 64:
        raise InvalidPoint(f"a compressed G2 point has 64 bytes, not {len(data)}")
    return _decode(_ec.PointG2, _gnark_to_arkworks(data))


def to_compressed(point: Any) -> bytes:
    """gnark's compressed bytes of a backend point of either group (32 or 64 bytes)."""
    encoded = bytearray(bytes(point.to_bytes()))
    flags = encoded[-1] & 0xC0
    encoded[-1] &= 0x3F
    encoded.reverse()
    gnark = _INFINITY if flags & _ARKWORKS_INFINITY else (_LARGEST if flags else _SMALLEST)
    encoded[0] |= gnark << 6
    return bytes(encoded)


def _gnark_to_arkworks(data: bytes) -> bytes:
    flag = data[0] >> 6
    if flag == 0:
        raise InvalidPoint("the point is not in compressed form")
    encoded = bytearray(data)
    encoded[0] &= 0x3F
    encoded.reverse()
    if flag == _LARGEST:
        encoded[-1] |= _ARKWORKS_LARGEST
    elif flag == _INFINITY:
        encoded[-1] |= _ARKWORKS_INFINITY
    return bytes(encoded)


def _is_largest_g2(y0: int, y1: int) -> bool:
    half = (FIELD_MODULUS - 1) // 2
    return y1 > half if y1 else y0 > half


def _decode(kind: Any, data: bytes) -> Any:
    try:
        return kind.from_bytes(data)
    except ValueError as error:
        raise InvalidPoint(f"not a point of the group: {error}") from error


def g1_generator() -> Any:
    """The generator (1, 2)."""
    return _ec.g1()


def g2_generator() -> Any:
    """The generator of G2 that Ethereum and gnark use."""
    return _ec.g2()


def g1_sum_of_products(points: list[Any], scalars: list[int]) -> Any:
    """Σ scalarᵢ·pointᵢ in G1; scalars in [0, r). Holds the GIL for its whole length."""
    return _ec.multiscalar_mul_g1(points, scalars)


def g2_sum_of_products(points: list[Any], scalars: list[int]) -> Any:
    """Σ scalarᵢ·pointᵢ in G2; scalars in [0, r). Holds the GIL for its whole length."""
    return _ec.multiscalar_mul_g2(points, scalars)


def pairings_cancel(left: tuple[Any, Any], right: tuple[Any, Any]) -> bool:
    """Whether e(left) = e(right), each a pair of (G1, G2) backend points."""
    return bool(_ec.multi_pairing([left[0], -right[0]], [left[1], right[1]]) == _one())


@cache
def _one() -> Any:
    return _ec.multi_pairing([], [])
