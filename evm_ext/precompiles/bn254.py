"""The curve BN254 (alt_bn128): ECADD 0x06, ECMUL 0x07, ECPAIRING 0x08 (EIP-196, EIP-197; prices of EIP-1108).

Numbers are 32 bytes, big endian. A point of G1 is x || y, of G2 is x1 || x0 || y1 || y0 (imaginary part first);
all zeros are the point at infinity. A number that is not below the field's modulus, a point that is not on its
curve, and a G2 point outside the subgroup fail the call.

Addition is done here: it is far cheaper than making the native library's points. The library is only ever handed
points that were checked, because it answers bad ones by panicking.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, Final

import gmpy2
from zksnake._algebra import ec_bn254

from openledger.evm_ext.precompiles.precompile import PrecompileFailed, padded

FIELD_MODULUS: Final = 21888242871839275222246405745257275088696311157297823662689037894645226208583
PAIR_BYTES: Final = 192
POINT_BYTES: Final = 64

# 3 / (9 + i), the constant of G2's curve, real and imaginary part.
_G2_B = (
    19485874751759354771024239261021720505790618469301721065564631296452457478373,
    266929791119991161246907387137283842545076965332900288569378510910307636690,
)
_CACHED_G2_POINTS = 256

ADD_GAS_BYZANTIUM: Final = 500
MUL_GAS_BYZANTIUM: Final = 40_000
ADD_GAS: Final = 150
MUL_GAS: Final = 6_000


def _pairing_price(base: int, pair: int) -> Callable[[bytes], int]:
    """A price of `base` and `pair` for every 192 bytes."""
    return lambda data: base + pair * (len(data) // PAIR_BYTES)


pairing_gas_byzantium = _pairing_price(100_000, 80_000)
pairing_gas = _pairing_price(45_000, 34_000)


def _number(data: bytes, start: int) -> int:
    value = int.from_bytes(data[start : start + 32], "big")
    if value >= FIELD_MODULUS:
        raise PrecompileFailed(f"BN254: coordinate {value} is not below the field's modulus")
    return value


def g1_coordinates(data: bytes, start: int) -> tuple[int, int] | None:
    """A checked point, None for infinity. Every point of G1's curve is in the group. Raises PrecompileFailed."""
    x, y = _number(data, start), _number(data, start + 32)
    if x == 0 and y == 0:
        return None
    if (y * y - x * x * x - 3) % FIELD_MODULUS:
        raise PrecompileFailed(f"BN254: ({x}, {y}) is not on the curve")
    return x, y


def g2_point(data: bytes, start: int) -> Any | None:
    """A checked point in the library's form, None for infinity. Raises PrecompileFailed."""
    encoded = data[start : start + 2 * POINT_BYTES]
    if not any(encoded):
        return None
    return g2_from_bytes(encoded)


@lru_cache(maxsize=_CACHED_G2_POINTS)
def g2_from_bytes(encoded: bytes) -> Any:
    """Cached: the verifying key of a proof system is the same in every proof, and checking is half of a pairing."""
    x1, x0, y1, y0 = (_number(encoded, start) for start in (0, 32, 64, 96))
    p = FIELD_MODULUS
    square0, square1 = x0 * x0 - x1 * x1, 2 * x0 * x1
    real = y0 * y0 - y1 * y1 - (square0 * x0 - square1 * x1) - _G2_B[0]
    imaginary = 2 * y0 * y1 - (square0 * x1 + square1 * x0) - _G2_B[1]
    if real % p or imaginary % p:
        raise PrecompileFailed("BN254: a point of a pairing is not on the curve of G2")
    # The library's compressed form is the one whose decoding reports a point outside the subgroup as an error.
    compressed = bytearray(x0.to_bytes(32, "little") + x1.to_bytes(32, "little"))
    if y1 > p - y1 or (y1 == 0 and y0 > p - y0):
        compressed[-1] |= 0x80
    try:
        return ec_bn254.PointG2.from_bytes(bytes(compressed))
    except ValueError:
        raise PrecompileFailed("BN254: a point of a pairing is not in the subgroup G2") from None


@cache
def _one() -> Any:
    return ec_bn254.multi_pairing([], [])


def pairings_are_one(left: list[Any], right: list[Any]) -> bool:
    """Whether the product of the pairings of checked points, of G1 with those of G2, is one."""
    return not left or bool(ec_bn254.multi_pairing(left, right) == _one())


def _encode(x: int, y: int) -> bytes:
    return x.to_bytes(32, "big") + y.to_bytes(32, "big")


def add(data: bytes) -> bytes:
    """Input: two points of G1. Output: their sum."""
    data = padded(data, 2 * POINT_BYTES)
    left, right = g1_coordinates(data, 0), g1_coordinates(data, POINT_BYTES)
    if left is None or right is None:
        point = left or right
        return _encode(*point) if point else bytes(POINT_BYTES)
    p = FIELD_MODULUS
    (x1, y1), (x2, y2) = left, right
    if x1 != x2:
        slope = (y2 - y1) * int(gmpy2.invert(x2 - x1, p))
    elif y1 != y2 or y1 == 0:
        return bytes(POINT_BYTES)
    else:
        slope = 3 * x1 * x1 * int(gmpy2.invert(2 * y1, p))
    x3 = (slope * slope - x1 - x2) % p
    return _encode(x3, (slope * (x1 - x3) - y1) % p)


def mul(data: bytes) -> bytes:
    """Input: a point of G1 and a scalar. Output: their product."""
    data = padded(data, POINT_BYTES + 32)
    point = g1_coordinates(data, 0)
    scalar = int.from_bytes(data[POINT_BYTES:], "big")
    if point is None or scalar == 0:
        return bytes(POINT_BYTES)
    if scalar == 1:
        return _encode(*point)
    product = ec_bn254.multiscalar_mul_g1([ec_bn254.PointG1(*point)], [scalar])
    return bytes(POINT_BYTES) if product.is_zero() else _encode(product.x, product.y)


def pairing(data: bytes) -> bytes:
    """Input: pairs of a point of G1 and one of G2. Output: 1 in 32 bytes if the product of their pairings is one."""
    if len(data) % PAIR_BYTES:
        raise PrecompileFailed(f"ECPAIRING: {len(data)} bytes of input, a multiple of {PAIR_BYTES} is needed")
    left, right = [], []
    for start in range(0, len(data), PAIR_BYTES):
        g1 = g1_coordinates(data, start)
        g2 = g2_point(data, start + POINT_BYTES)
        if g1 is not None and g2 is not None:
            left.append(ec_bn254.PointG1(*g1))
            right.append(g2)
    return int(pairings_are_one(left, right)).to_bytes(32, "big")
