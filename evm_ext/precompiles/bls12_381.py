"""The curve BLS12-381: precompiles 0x0b to 0x11 (EIP-2537).

A number of the field is 64 bytes, big endian, whose first 16 are zero; a number of its quadratic extension is
two of them, real part first. A point is x || y, 128 bytes in G1 and 256 in G2; all zeros are the point at infinity.
Scalars are 32 bytes, of any value. As the EIP says, additions take any point of the curve, multi-scalar
multiplications and pairings only points of the subgroup.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from openledger.evm_ext.precompiles.bls12_381_discounts import G1_DISCOUNTS, G2_DISCOUNTS
from openledger.evm_ext.precompiles.precompile import PrecompileFailed

FIELD_MODULUS: Final = (
    0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
)
NUMBER_BYTES: Final = 64
G1_BYTES: Final = 128
G2_BYTES: Final = 256
SCALAR_BYTES: Final = 32
G1_TERM_BYTES: Final = G1_BYTES + SCALAR_BYTES
G2_TERM_BYTES: Final = G2_BYTES + SCALAR_BYTES
PAIR_BYTES: Final = G1_BYTES + G2_BYTES

G1_ADD_GAS: Final = 375
G2_ADD_GAS: Final = 600
G1_MUL_GAS: Final = 12_000
G2_MUL_GAS: Final = 22_500
PAIRING_BASE_GAS: Final = 37_700
PAIRING_PAIR_GAS: Final = 32_600
MAP_TO_G1_GAS: Final = 5_500
MAP_TO_G2_GAS: Final = 23_800

_MODULUS_BYTES = FIELD_MODULUS.to_bytes(48, "big")
_PADDING = bytes(16)
_ONE_BY_ONE = 5
"""Up to this many terms are multiplied one by one: the library's sums of products pay off later."""


def _numbers(data: bytes, start: int, count: int) -> bytes:
    """`count` numbers as 48 bytes each. Raises PrecompileFailed for one not below the modulus."""
    parts = []
    for position in range(start, start + NUMBER_BYTES * count, NUMBER_BYTES):
        number = data[position + 16 : position + NUMBER_BYTES]
        if data[position : position + 16] != _PADDING or number >= _MODULUS_BYTES:
            raise PrecompileFailed("BLS12-381: a number is not below the field's modulus")
        parts.append(number)
    return b"".join(parts)


def _g1(data: bytes, start: int, *, in_subgroup: bool) -> Any:
    encoded = _numbers(data, start, 2)
    try:
        return G1Point.from_xy_bytes_be(encoded) if in_subgroup else G1Point.from_xy_bytes_unchecked_be(encoded)
    except ValueError as problem:
        raise PrecompileFailed(f"BLS12-381: bad point of G1: {problem}") from None


def _g2(data: bytes, start: int, *, in_subgroup: bool) -> Any:
    encoded = _numbers(data, start, 4)
    try:
        return G2Point.from_xy_bytes_be(encoded) if in_subgroup else G2Point.from_xy_bytes_unchecked_be(encoded)
    except ValueError as problem:
        raise PrecompileFailed(f"BLS12-381: bad point of G2: {problem}") from None


def _encode(point: Any) -> bytes:
    encoded: bytes = point.to_xy_bytes_be()
    return b"".join(_PADDING + encoded[start : start + 48] for start in range(0, len(encoded), 48))


def _need_length(name: str, data: bytes, size: int) -> None:
    if len(data) != size:
        raise PrecompileFailed(f"{name}: {len(data)} bytes of input, {size} are needed")


def _need_multiple(name: str, data: bytes, size: int) -> int:
    count, rest = divmod(len(data), size)
    if rest or not count:
        raise PrecompileFailed(f"{name}: {len(data)} bytes of input, a multiple of {size} but not 0 is needed")
    return count


def g1_add(data: bytes) -> bytes:
    """Input: two points of G1's curve. Output: their sum."""
    _need_length("BLS12_G1ADD", data, 2 * G1_BYTES)
    return _encode(_g1(data, 0, in_subgroup=False) + _g1(data, G1_BYTES, in_subgroup=False))


def g2_add(data: bytes) -> bytes:
    """Input: two points of G2's curve. Output: their sum."""
    _need_length("BLS12_G2ADD", data, 2 * G2_BYTES)
    return _encode(_g2(data, 0, in_subgroup=False) + _g2(data, G2_BYTES, in_subgroup=False))


def _msm_gas(term_bytes: int, mul_gas: int, discounts: tuple[int, ...]) -> Callable[[bytes], int]:
    """The price of a sum of products; input of a wrong length costs nothing and fails afterwards."""

    def gas(data: bytes) -> int:
        count = len(data) // term_bytes
        if count == 0:
            return 0
        return count * mul_gas * discounts[min(count, len(discounts)) - 1] // 1_000

    return gas


g1_msm_gas = _msm_gas(G1_TERM_BYTES, G1_MUL_GAS, G1_DISCOUNTS)
g2_msm_gas = _msm_gas(G2_TERM_BYTES, G2_MUL_GAS, G2_DISCOUNTS)


def _scalar(data: bytes, start: int) -> Any:
    """Reduced by the group's order, which multiplies points of the subgroup to the same."""
    return Scalar.from_be_bytes_mod_order(data[start : start + SCALAR_BYTES])


def _sum_of_products(group: Any, points: list[Any], scalars: list[Any]) -> bytes:
    if len(points) > _ONE_BY_ONE:
        return _encode(group.multiexp_unchecked(points, scalars))
    total = group.identity()
    for point, scalar in zip(points, scalars, strict=True):
        total += point * scalar
    return _encode(total)


def g1_msm(data: bytes) -> bytes:
    """Input: pairs of a point of G1 and a scalar. Output: the sum of their products."""
    _need_multiple("BLS12_G1MSM", data, G1_TERM_BYTES)
    starts = range(0, len(data), G1_TERM_BYTES)
    points = [_g1(data, start, in_subgroup=True) for start in starts]
    return _sum_of_products(G1Point, points, [_scalar(data, start + G1_BYTES) for start in starts])


def g2_msm(data: bytes) -> bytes:
    """Input: pairs of a point of G2 and a scalar. Output: the sum of their products."""
    _need_multiple("BLS12_G2MSM", data, G2_TERM_BYTES)
    starts = range(0, len(data), G2_TERM_BYTES)
    points = [_g2(data, start, in_subgroup=True) for start in starts]
    return _sum_of_products(G2Point, points, [_scalar(data, start + G2_BYTES) for start in starts])


def pairing_gas(data: bytes) -> int:
    """By the number of pairs."""
    return PAIRING_BASE_GAS + PAIRING_PAIR_GAS * (len(data) // PAIR_BYTES)


def pairing(data: bytes) -> bytes:
    """Input: pairs of a point of G1 and one of G2. Output: 1 in 32 bytes if the product of their pairings is one."""
    _need_multiple("BLS12_PAIRING_CHECK", data, PAIR_BYTES)
    starts = range(0, len(data), PAIR_BYTES)
    left = [_g1(data, start, in_subgroup=True) for start in starts]
    right = [_g2(data, start + G1_BYTES, in_subgroup=True) for start in starts]
    return int(GT.pairing_check(left, right)).to_bytes(32, "big")


def map_fp_to_g1(data: bytes) -> bytes:
    """Input: a number of the field. Output: a point of G1 (simplified SWU with isogeny, cofactor cleared)."""
    _need_length("BLS12_MAP_FP_TO_G1", data, NUMBER_BYTES)
    return _encode(G1Point.map_from_fp_be(_numbers(data, 0, 1)))


def map_fp2_to_g2(data: bytes) -> bytes:
    """Input: a number of the quadratic extension. Output: a point of G2, likewise."""
    _need_length("BLS12_MAP_FP2_TO_G2", data, 2 * NUMBER_BYTES)
    return _encode(G2Point.map_from_fp2_be(_numbers(data, 0, 2)))
