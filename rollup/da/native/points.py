"""Points between the SRS files' compressed bytes, the rows that `sums.py` computes with, and the library's points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from zksnake._algebra import ec_bn254 as _ec

from openledger.rollup.da.curve import FIELD_MODULUS, InvalidPoint
from openledger.rollup.da.native.field import add, load, montgomery, multiply, square, store, subtract, words_of
from openledger.rollup.da.native.sums import (
    G1,
    G2,
    Words,
    add_pairs,
    compiled,
    inverse,
    is_zero,
    power,
    sum_of_products,
)

_LEAVE_MONTGOMERY: Final = pow(1 << 256, -1, FIELD_MODULUS)
_PLAIN_ONE = words_of(1)
_ENTER_MONTGOMERY = words_of((1 << 512) % FIELD_MODULUS)
_HALF = words_of(montgomery((FIELD_MODULUS + 1) // 2))
_THREE = words_of(montgomery(3))
_NONE = words_of(0)
# 3 / (9 + i), the constant of G2's curve.
_TWIST = words_of(montgomery(19485874751759354771024239261021720505790618469301721065564631296452457478373)) + words_of(
    montgomery(266929791119991161246907387137283842545076965332900288569378510910307636690)
)
_ROOT_EXPONENT = np.array(words_of((FIELD_MODULUS + 1) // 4), dtype=np.uint64)
_LARGEST_SMALL = words_of((FIELD_MODULUS - 1) // 2)


@compiled
def _root(value: Any) -> Any:
    """A square root in Fp if there is one: p is 3 modulo 4."""
    return power(value, _ROOT_EXPONENT)


@compiled
def _root_2(value: Any) -> Any:
    """A square root in Fp² if there is one, by way of the norm."""
    real, imaginary = value[:4], value[4:]
    norm = _root(add(square(real), square(imaginary)))
    half = multiply(add(real, norm), _HALF)
    first = _root(half)
    if not is_zero(subtract(square(first), half)):
        half = multiply(subtract(real, norm), _HALF)
        first = _root(half)
    if is_zero(first):
        return _NONE + _root(subtract(_NONE, real))
    return first + multiply(multiply(imaginary, _HALF), inverse(first))


@compiled
def _is_largest(value: Any) -> bool:
    """Whether an element of Fp is more than half the modulus."""
    plain = multiply(value, _PLAIN_ONE)
    for word in range(3, -1, -1):
        if plain[word] != _LARGEST_SMALL[word]:
            return bool(plain[word] > _LARGEST_SMALL[word])
    return False


@compiled
def _complete_1(rows: Words, are_largest: Any) -> int:
    """y for every x, which comes in plain form. The first row that is no point, or -1."""
    for row in range(len(rows)):
        x = multiply(load(rows, row, 0, _NONE), _ENTER_MONTGOMERY)
        wanted = add(multiply(square(x), x), _THREE)
        y = _root(wanted)
        if not is_zero(subtract(square(y), wanted)):
            return row
        if _is_largest(y) != are_largest[row]:
            y = subtract(_NONE, y)
        store(rows, row, 0, x)
        store(rows, row, 4, y)
    return -1


@compiled
def _complete_2(rows: Words, are_largest: Any) -> int:
    for row in range(len(rows)):
        plain = load(rows, row, 0, _TWIST)
        x = multiply(plain[:4], _ENTER_MONTGOMERY) + multiply(plain[4:], _ENTER_MONTGOMERY)
        wanted = add(multiply(square(x), x), _TWIST)
        y = _root_2(wanted)
        if not is_zero(subtract(square(y), wanted)):
            return row
        significant = y[:4] if is_zero(y[4:]) else y[4:]
        if _is_largest(significant) != are_largest[row]:
            y = subtract(subtract(y, y), y)
        store(rows, row, 0, x)
        store(rows, row, 8, y)
    return -1


def decompressed(data: bytes, size: int) -> Words:
    """Rows of gnark's compressed points of `size` bytes: 32 in G1, 64 in G2. Raises InvalidPoint for one that is not on the curve, or infinity.

    Points of G2 are not checked to be of the subgroup: the files they come from are checked by their SHA-256."""
    group = G1 if size == 32 else G2
    encoded = np.frombuffer(data, dtype=np.uint8).reshape(-1, size)
    flags = encoded[:, 0] >> 6
    if not np.all(flags >= 0b10):
        raise InvalidPoint(f"point {int(np.argmin(flags >= 0b10))} is not in compressed form, or infinity")
    # Reversed as a whole the words are little-endian, and x0 stands before x1.
    words = np.ascontiguousarray(encoded[:, ::-1]).view(np.uint64)
    words[:, -1] &= np.uint64((1 << 62) - 1)
    rows = np.zeros((len(words), 2 * group.words), dtype=np.uint64)
    rows[:, : group.words] = words
    wrong = (_complete_1 if group is G1 else _complete_2)(rows, flags == 0b11)
    if wrong >= 0:
        raise InvalidPoint(f"point {wrong} is not on the curve")
    return rows


def _integers(row: Words) -> list[int]:
    data = row.tobytes()
    return [
        int.from_bytes(data[start : start + 32], "little") * _LEAVE_MONTGOMERY % FIELD_MODULUS
        for start in range(0, len(data), 32)
    ]


def to_library(row: Words) -> Any:
    """The library's point of a row."""
    coordinates = _integers(row)
    if len(row) == 8:
        return _ec.PointG1(*coordinates) if any(coordinates) else _ec.PointG1.identity()
    return _ec.PointG2(*coordinates) if any(coordinates) else _ec.g2() * 0


def scalars(values: list[int]) -> Words:
    """Integers below 2^254 as rows of words."""
    data = b"".join([value.to_bytes(32, "little") for value in values])
    return np.frombuffer(data, dtype=np.uint64).reshape(-1, 4)


def library_sum(points: Words, factors: Words) -> Any:
    """Σ factorᵢ·pointᵢ as the library's point."""
    group = G1 if points.shape[1] == 2 * G1.words else G2
    few, weights = sum_of_products(points, factors, group)
    add_up = _ec.multiscalar_mul_g1 if group is G1 else _ec.multiscalar_mul_g2
    return add_up([to_library(row) for row in few], weights)


def from_library(points: Sequence[Any]) -> Words:
    """Rows of the library's points, all of one group."""
    encoded = []
    for point in points:
        in_g1 = isinstance(point, _ec.PointG1)
        if point.is_zero():
            encoded.append(bytes(64 if in_g1 else 128))
        else:
            coordinates = (point.x, point.y) if in_g1 else (*point.x, *point.y)
            encoded.append(b"".join(montgomery(coordinate).to_bytes(32, "little") for coordinate in coordinates))
    return np.frombuffer(b"".join(encoded), dtype=np.uint64).reshape(len(points), -1).copy()


def multiples(base: Any, factors: Words) -> Words:
    """Rows of factorᵢ·base, for a point of the library: a sum of 32 out of a table of its multiples by byte."""
    powers = from_library([base * (1 << 8 * byte) for byte in range(32)])
    group = G1 if powers.shape[1] == 2 * G1.words else G2
    table = np.zeros((256, *powers.shape), dtype=np.uint64)
    scratch = group.scratch()
    own = np.arange(32) * 2
    for digit in range(1, 256):
        add_pairs(table[digit - 1], own, powers, own, table[digit], scratch, group.zero)
    digits = np.ascontiguousarray(factors).view(np.uint8).reshape(len(factors), 32).astype(np.int64)
    found = np.zeros((len(factors), powers.shape[1]), dtype=np.uint64)
    rows, own = table.reshape(-1, powers.shape[1]), np.arange(len(factors)) * 2
    for byte in range(32):
        places = np.where(digits[:, byte] > 0, 2 * (32 * digits[:, byte] + byte), -1)
        add_pairs(found, own, rows, places, found, scratch, group.zero)
    return found


def compressed(rows: Words) -> bytes:
    """gnark's compressed bytes of rows, one after the other."""
    encoded = []
    for row in rows:
        coordinates = _integers(row)
        half = len(coordinates) // 2
        # Imaginary part first; where it is 0 the real part tells which y it is.
        significant = next((value for value in reversed(coordinates[half:]) if value), 0)
        flag = (0b11 if significant > FIELD_MODULUS // 2 else 0b10 if any(coordinates) else 0b01) << 62
        data = b"".join(value.to_bytes(32, "big") for value in reversed(coordinates[:half]))
        encoded.append((int.from_bytes(data[:8], "big") | flag).to_bytes(8, "big") + data[8:])
    return b"".join(encoded)
