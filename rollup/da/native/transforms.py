"""Fourier transforms over points of G1, compiled, and with them the proofs of all chunks of a blob (FK20).

Most of the work is multiplying points by roots of unity. BN254 has a map that costs one product in Fp, (x, y) -> (beta x, y),
and multiplies a point by lambda, a cube root of unity modulo r. So k·P is k1·P + k2·(lambda·P) with k1 and k2 of half the
length (Gallant, Lambert, Vanstone), and thousands of products share their divisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from zksnake._algebra import polynomial_bn254 as _polynomial

from openledger.rollup.da.curve import FIELD_MODULUS, GROUP_ORDER
from openledger.rollup.da.native.field import load, montgomery, multiply, store, words_of
from openledger.rollup.da.native.points import scalars
from openledger.rollup.da.native.sums import G1, Words, add_pairs, compiled, signed_digits

Digits = NDArray[np.int32]

_BITS: Final = 4
_LARGEST_DIGIT: Final = 1 << (_BITS - 1)
_HALF_WINDOWS: Final = 33
"""Digits of a number below 2^130, which both halves of a scalar are."""
_WINDOWS: Final = 64
_AT_ONCE: Final = 1 << 14
"""Points multiplied at once: the table of their multiples takes 18 times their room."""
_RESIDUES_AT_ONCE: Final = 32

BETA: Final = pow(3, (FIELD_MODULUS - 1) // 3, FIELD_MODULUS)
_BETA_WORDS = words_of(montgomery(BETA))


@compiled
def _times_beta(rows: Words, like: Any) -> None:
    for row in range(len(rows)):
        store(rows, row, 0, multiply(load(rows, row, 0, like), _BETA_WORDS))


# --- scalars in two halves -------------------------------------------------------------------------------


@cache
def _lattice() -> tuple[int, tuple[int, int], tuple[int, int]]:
    """lambda of BETA, and two short vectors (a, b) with a + b·lambda = 0 modulo r (by Euclid's algorithm)."""
    from zksnake._algebra import ec_bn254

    generator = ec_bn254.g1()
    mapped = ec_bn254.PointG1(BETA * generator.x % FIELD_MODULUS, generator.y)
    root = pow(5, (GROUP_ORDER - 1) // 3, GROUP_ORDER)
    factor = root if generator * root == mapped else root * root % GROUP_ORDER
    rows = [(GROUP_ORDER, 0), (factor, 1)]
    while rows[-2][0] ** 2 > GROUP_ORDER:
        quotient = rows[-2][0] // rows[-1][0]
        rows.append(tuple(before - quotient * last for before, last in zip(rows[-2], rows[-1])))  # type: ignore[arg-type]
    first, second = ((remainder, -coefficient) for remainder, coefficient in rows[-2:])
    return factor, first, second


def halves(scalar: int) -> tuple[int, int]:
    """(k1, k2), perhaps negative, with k1 + k2·lambda = scalar modulo r, both below 2^130 in size."""
    _, (a1, b1), (a2, b2) = _lattice()
    determinant = a1 * b2 - a2 * b1
    first = (2 * scalar * b2 + determinant) // (2 * determinant)
    second = (-2 * scalar * b1 + determinant) // (2 * determinant)
    return scalar - first * a1 - second * a2, -first * b1 - second * b2


def split_digits(values: Sequence[int]) -> tuple[Digits, Digits]:
    """Signed digits of both halves of every scalar, by window."""
    found = []
    for half in zip(*map(halves, values)):
        signs = np.array([-1 if value < 0 else 1 for value in half], dtype=np.int32)
        found.append(signed_digits(scalars([abs(value) for value in half]), _BITS, _HALF_WINDOWS) * signs)
    return found[0], found[1]


# --- products and transforms -----------------------------------------------------------------------------


def _table(rows: Words) -> Words:
    """0 to _LARGEST_DIGIT times every point, one multiple after the other."""
    table = np.zeros((_LARGEST_DIGIT + 1, *rows.shape), dtype=np.uint64)
    scratch, own = G1.scratch(), np.arange(len(rows)) * 2
    table[1] = rows
    for digit in range(2, _LARGEST_DIGIT + 1):
        add_pairs(table[digit - 1], own, rows, own, table[digit], scratch, G1.zero)
    return table.reshape(-1, rows.shape[1])


def _places(digits: Digits, first: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Where the multiples by these digits stand in a table, of points that stand `step` apart by multiple."""
    found = 2 * (np.abs(digits).astype(np.int64) * step + first) + (digits < 0)
    return np.where(digits == 0, -1, found)


def products(rows: Words, digits: tuple[Digits, Digits]) -> Words:
    """Every point times its scalar, given by `split_digits`."""
    count = len(rows)
    result = np.zeros_like(rows)
    for start in range(0, count, _AT_ONCE):
        part = slice(start, min(start + _AT_ONCE, count))
        plain = _table(rows[part])
        mapped = plain.copy()
        _times_beta(mapped, G1.zero)
        total = np.zeros_like(rows[part])
        length = len(total)
        scratch, index = G1.scratch(), np.arange(length)
        for window in range(_HALF_WINDOWS - 1, -1, -1):
            if window < _HALF_WINDOWS - 1:
                for _ in range(_BITS):
                    add_pairs(total, 2 * index, total, 2 * index, total, scratch, G1.zero)
            for table, half in ((plain, digits[0]), (mapped, digits[1])):
                places = _places(half[window, part], index, length)
                add_pairs(total, 2 * index, table, places, total, scratch, G1.zero)
        result[part] = total
    return result


def _bit_reversal(size: int) -> NDArray[np.int64]:
    order = np.zeros(1, dtype=np.int64)
    while len(order) < size:
        order = np.concatenate([2 * order, 2 * order + 1])
    return order


@lru_cache(maxsize=8)
def _root_digits(size: int, inverse: bool) -> tuple[Digits, Digits]:
    roots = [int(root) for root in _polynomial.get_all_root_of_unity(size)]
    return split_digits([roots[0], *reversed(roots[1:])] if inverse else roots)


def transform(rows: Words, size: int, *, inverse: bool = False) -> Words:
    """The Fourier transform of every run of `size` points, in natural order. The inverse leaves out dividing by `size`."""
    if size == 1:
        return rows
    order = (np.arange(len(rows) // size)[:, None] * size + _bit_reversal(size)).ravel()
    values: Words = rows[order]
    roots = _root_digits(size, inverse)
    scratch = G1.scratch()
    half = 1
    while half < size:
        pairs = np.arange(len(values)).reshape(-1, 2, half)
        upper, lower = pairs[:, 0].ravel(), pairs[:, 1].ravel()
        offsets = np.tile(np.arange(half), len(pairs)) * (size // (2 * half))
        moved = (offsets > 0) & values[lower].any(axis=1)
        if moved.any():
            columns = offsets[moved]
            values[lower[moved]] = products(values[lower[moved]], (roots[0][:, columns], roots[1][:, columns]))
        total, difference = (np.empty((len(upper), values.shape[1]), dtype=np.uint64) for _ in range(2))
        add_pairs(values, 2 * upper, values, 2 * lower, total, scratch, G1.zero)
        add_pairs(values, 2 * upper, values, 2 * lower + 1, difference, scratch, G1.zero)
        values[upper], values[lower] = total, difference
        half *= 2
    return values


# --- FK20 ------------------------------------------------------------------------------------------------


def transformed_powers(powers: Words, length: int) -> Words:
    """What proofs need of the first powers of tau, the same for every blob of so many elements in chunks of `length`.

    Of each residue modulo `length`, the transform of every length-th power, reversed and padded to twice the number."""
    blocks = len(powers) // length
    padded = np.zeros((length, 2 * blocks, powers.shape[1]), dtype=np.uint64)
    by_residue = powers.reshape(blocks, length, -1).swapaxes(0, 1)
    padded[:, 0] = by_residue[:, 0]
    padded[:, blocks + 1 :] = by_residue[:, :0:-1]
    return transform(padded.reshape(-1, powers.shape[1]), 2 * blocks)


def prove(coefficients: Sequence[int], length: int, chunks: int, transformed: Words) -> Words:
    """The proof of every chunk, by index; `transformed` are the `transformed_powers` for as many coefficients."""
    blocks = len(coefficients) // length
    size = 2 * blocks
    padded = np.zeros((chunks, transformed.shape[1]), dtype=np.uint64)
    if blocks > 1:
        quotients = transform(_row_products(coefficients, length, size, transformed), size, inverse=True)
        padded[: blocks - 1] = quotients[1:blocks]
    return transform(padded, chunks)[_bit_reversal(chunks)]


def _row_products(coefficients: Sequence[int], length: int, size: int, transformed: Words) -> Words:
    """By row, the sum over all residues of scalar times point, divided by `size` for the transform back."""
    scale = pow(size, -1, GROUP_ORDER)
    total = np.zeros((size, transformed.shape[1]), dtype=np.uint64)
    scratch, index = G1.scratch(), np.arange(size)
    for start in range(0, length, _RESIDUES_AT_ONCE):
        residues = range(start, min(start + _RESIDUES_AT_ONCE, length))
        table = _table(transformed[residues.start * size : residues.stop * size])
        digits = []
        for residue in residues:
            column = list(coefficients[residue::length])
            values = _polynomial.fft(column + [0] * (size - len(column)), size)
            digits.append(signed_digits(scalars([value * scale % GROUP_ORDER for value in values]), _BITS, _WINDOWS))
        part = np.zeros_like(total)
        for window in range(_WINDOWS - 1, -1, -1):
            if window < _WINDOWS - 1:
                for _ in range(_BITS):
                    add_pairs(part, 2 * index, part, 2 * index, part, scratch, G1.zero)
            for position, of in enumerate(digits):
                places = _places(of[window], position * size + index, len(residues) * size)
                add_pairs(part, 2 * index, table, places, part, scratch, G1.zero)
        add_pairs(total, 2 * index, part, 2 * index, total, scratch, G1.zero)
    return total
