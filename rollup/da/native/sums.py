"""Sums of products in G1 and G2, compiled (Pippenger's buckets, filled by additions in affine form).

A point is a row of words: x and y in Montgomery form, all zero for infinity. An affine addition needs one division, and
many divisions at once cost three products each; so the points of a bucket are added in pairs, all buckets together, until
one is left, and it does not matter how unevenly they fill: a blob of zeros has every scalar in one bucket.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import numba
import numpy as np
from numba.extending import overload
from numpy.typing import NDArray

from openledger.rollup.da.curve import FIELD_MODULUS
from openledger.rollup.da.native.field import ONE, ZERO, ZERO_2, add, load, multiply, square, store, subtract, words_of

Words = NDArray[np.uint64]
Places = NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])

_CHUNK: Final = 1_024
"""Divisions made at once: their products stay in the cache."""
_STRIPS: Final = 32
"""Parts into which a window's buckets are cut, to be weighted together."""
_SCALAR_BITS: Final = 254
_EXPONENT = np.array(words_of(FIELD_MODULUS - 2), dtype=np.uint64)


def compiled(function: F) -> F:
    """Compile, keeping the result on disk where there is a place for it; the global lock is not held while it runs."""
    try:
        return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
        return cast(F, numba.njit(nogil=True, error_model="numpy")(function))


# --- division --------------------------------------------------------------------------------------------


@compiled
def power(value: Any, exponent: Words) -> Any:
    """An element of Fp to the power in four words."""
    result = ONE
    for word in range(3, -1, -1):
        for bit in range(63, -1, -1):
            result = square(result)
            if (exponent[word] >> np.uint64(bit)) & np.uint64(1):
                result = multiply(result, value)
    return result


@compiled
def _inverse_1(value: Any) -> Any:
    """By Fermat; 0 gives 0."""
    return power(value, _EXPONENT)


@compiled
def _inverse_2(value: Any) -> Any:
    """The conjugate divided by the norm."""
    real, imaginary = value[:4], value[4:]
    scale = _inverse_1(add(square(real), square(imaginary)))
    return multiply(real, scale) + subtract(subtract(scale, scale), multiply(imaginary, scale))


def inverse(value: Any) -> Any:
    """1 / value, and 0 for 0."""
    raise NotImplementedError("only compiled code calls this")


@overload(inverse, strict=False)  # type: ignore[untyped-decorator]  # numba is untyped
def _overload_inverse(value: Any) -> Any:
    if value.count == 4:
        return lambda value: _inverse_1(value)
    return lambda value: _inverse_2(value)


def one(value: Any) -> Any:
    """1, of the kind of `value`."""
    raise NotImplementedError("only compiled code calls this")


@overload(one, strict=False)  # type: ignore[untyped-decorator]  # numba is untyped
def _overload_one(value: Any) -> Any:
    if value.count == 4:
        return lambda value: ONE
    return lambda value: ONE + ZERO


@compiled
def is_zero(value: Any) -> bool:
    """Whether all words are zero."""
    total = value[0]
    for word in value:
        total |= word
    return bool(total == np.uint64(0))


# --- additions, many at once -----------------------------------------------------------------------------


@compiled
def _coordinates(rows: Words, place: int, like: Any) -> Any:
    """(x, y) of the point in row `place >> 1`, negated where the last bit is set."""
    row = place >> 1
    x = load(rows, row, 0, like)
    y = load(rows, row, len(like), like)
    if place & 1:
        y = subtract(like, y)
    return x, y


@compiled
def _divisor(x1: Any, y1: Any, x2: Any, y2: Any) -> Any:
    """What the slope is divided by: 1 where there is none."""
    difference = subtract(x2, x1)
    if is_zero(difference):
        twice = add(y1, y2)
        if is_zero(twice):
            return one(x1)  # opposite points, or infinity twice
        return twice
    if (is_zero(x1) and is_zero(y1)) or (is_zero(x2) and is_zero(y2)):
        return one(x1)
    return difference


@compiled
def _sum(x1: Any, y1: Any, x2: Any, y2: Any, inverted: Any, zero: Any) -> Any:
    """The sum of two points, given 1 / _divisor of them."""
    if is_zero(x1) and is_zero(y1):
        return x2, y2
    if is_zero(x2) and is_zero(y2):
        return x1, y1
    if is_zero(subtract(x2, x1)):
        if is_zero(add(y1, y2)):
            return zero, zero
        squared = square(x1)
        slope = multiply(add(add(squared, squared), squared), inverted)
    else:
        slope = multiply(subtract(y2, y1), inverted)
    x3 = subtract(subtract(square(slope), x1), x2)
    return x3, subtract(multiply(slope, subtract(x1, x3)), y1)


@compiled
def add_pairs(
    left: Words,
    left_places: Places,
    right: Words,
    right_places: Places,
    sums: Words,
    scratch: Words,
    like: Any,
) -> None:
    """sums[k] = left[…] + right[…]; places are 2·row, plus 1 to negate; a right place below 0 means nothing to add.

    `sums` may be `left` and `right` themselves if no sum stands after its own summands. `like` is 0; `scratch` has
    2·_CHUNK rows of an element."""
    for start in range(0, len(left_places), _CHUNK):
        stop = min(start + _CHUNK, len(left_places))
        running = one(like)
        for k in range(start, stop):
            if right_places[k] < 0:
                continue
            x1, y1 = _coordinates(left, left_places[k], like)
            x2, y2 = _coordinates(right, right_places[k], like)
            divisor = _divisor(x1, y1, x2, y2)
            store(scratch, k - start, 0, running)
            store(scratch, k - start + _CHUNK, 0, divisor)
            running = multiply(running, divisor)
        running = inverse(running)
        for k in range(stop - 1, start - 1, -1):
            if right_places[k] >= 0:
                divisor = load(scratch, k - start + _CHUNK, 0, like)
                store(scratch, k - start, 0, multiply(running, load(scratch, k - start, 0, like)))
                running = multiply(running, divisor)
        for k in range(start, stop):
            x, y = _coordinates(left, left_places[k], like)
            if right_places[k] >= 0:
                x2, y2 = _coordinates(right, right_places[k], like)
                x, y = _sum(x, y, x2, y2, load(scratch, k - start, 0, like), like)
            store(sums, k, 0, x)
            store(sums, k, len(like), y)


# --- buckets ---------------------------------------------------------------------------------------------


@compiled
def signed_digits(scalars: Words, bits: int, windows: int) -> NDArray[np.int32]:
    """Signed digits of base 2^bits by window, least significant first, between -2^(bits - 1) and 2^(bits - 1)."""
    digits = np.empty((windows, len(scalars)), dtype=np.int32)
    mask, half = (1 << bits) - 1, 1 << (bits - 1)
    for index in range(len(scalars)):
        carry = 0
        for window in range(windows):
            first = window * bits
            word, offset = first >> 6, first & 63
            value = np.uint64(0)
            if word < 4:
                value = scalars[index, word] >> np.uint64(offset)
                if offset + bits > 64 and word < 3:
                    value |= scalars[index, word + 1] << np.uint64(64 - offset)
            digit = np.int64(value & np.uint64(mask)) + carry
            carry = 0
            if digit > half:
                digit -= 1 << bits
                carry = 1
            digits[window, index] = digit
    return digits


@compiled
def _by_bucket(digits: NDArray[np.int32], ends: Places) -> Places:
    """Places of the points whose digit is not 0, bucket after bucket; those of bucket k stand from ends[k] to ends[k + 1]."""
    count = len(ends) - 1
    ends[:] = 0
    for digit in digits:
        if digit:
            ends[abs(digit)] += 1
    for bucket in range(count):
        ends[bucket + 1] += ends[bucket]
    places = np.empty(ends[count], dtype=np.int64)
    begin = ends[:count].copy()
    for index in range(len(digits)):
        digit = digits[index]
        if digit:
            bucket = abs(digit) - 1
            places[begin[bucket]] = 2 * index + (1 if digit < 0 else 0)
            begin[bucket] += 1
    return places


@compiled
def _paired(places: Places, ends: Places, left: Places, right: Places) -> int:
    """Pairs within each bucket, the odd one alone; `ends` are then those of the pairs. How many a bucket has at most."""
    made, longest, start = 0, 0, 0
    for bucket in range(len(ends) - 1):
        stop = ends[bucket + 1]
        longest = max(longest, (stop - start + 1) // 2)
        for position in range(start, stop, 2):
            left[made] = places[position]
            right[made] = places[position + 1] if position + 1 < stop else -1
            made += 1
        start = stop
        ends[bucket + 1] = made
    return longest


@dataclass(frozen=True)
class Group:
    """What sums need to know of a group: the words of a coordinate and its zero."""

    words: int
    zero: tuple[np.uint64, ...]

    def scratch(self) -> Words:
        """Room for `add_pairs`."""
        return np.empty((2 * _CHUNK, self.words), dtype=np.uint64)


G1: Final = Group(4, ZERO)
G2: Final = Group(8, ZERO_2)


def _fill(points: Words, digits: NDArray[np.int32], buckets: Words, work: Words, scratch: Words, group: Group) -> None:
    """buckets[k] = the sum of all points whose digit is k + 1, less those whose digit is -(k + 1)."""
    ends = np.empty(len(buckets) + 1, dtype=np.int64)
    places = _by_bucket(digits, ends)
    rows, longest = points, 2
    while longest > 1:
        left, right = np.empty_like(places), np.empty_like(places)
        longest = _paired(places, ends, left, right)
        made = ends[-1]
        add_pairs(rows, left[:made], rows, right[:made], work, scratch, group.zero)
        rows, places = work, np.arange(made) * 2
    filled = ends[1:] > ends[:-1]
    buckets[filled] = work[: ends[-1]]
    buckets[~filled] = 0


def _weighted(rows: Words, groups: int, scratch: Words, group: Group) -> tuple[Words, Words]:
    """Of each of `groups` equal runs of rows: Σ row and Σ (k + 1)·row."""
    length = len(rows) // groups
    plain, weighted = np.zeros((groups, rows.shape[1]), np.uint64), np.zeros((groups, rows.shape[1]), np.uint64)
    own, first = np.arange(groups) * 2, np.arange(groups) * (2 * length)
    for offset in range(length - 1, -1, -1):
        add_pairs(plain, own, rows, first + 2 * offset, plain, scratch, group.zero)
        add_pairs(weighted, own, plain, own, weighted, scratch, group.zero)
    return plain, weighted


def _window_sums(buckets: Words, windows: int, scratch: Words, group: Group) -> Words:
    """Σ (k + 1)·bucket of each window's buckets."""
    strips = min(_STRIPS, len(buckets) // windows)
    length = len(buckets) // windows // strips
    plain, inside = _weighted(buckets, windows * strips, scratch, group)
    # Inside strip s the weights begin at 1 where they ought to begin at s·length + 1.
    whole, steps = _weighted(plain, windows, scratch, group)
    own = np.arange(windows) * 2
    add_pairs(steps, own, whole, own + 1, steps, scratch, group.zero)
    for _ in range(length.bit_length() - 1):
        add_pairs(steps, own, steps, own, steps, scratch, group.zero)
    for strip in range(strips):
        add_pairs(steps, own, inside, (np.arange(windows) * strips + strip) * 2, steps, scratch, group.zero)
    return steps


def window_bits(count: int) -> int:
    """Bits of a digit with which a sum over so many points takes the fewest additions."""

    def additions(bits: int) -> float:
        return -(-(_SCALAR_BITS + 1) // bits) * (count + 1.2 * (1 << bits))

    return min(range(2, 17), key=additions)


def sum_of_products(points: Words, scalars: Words, group: Group, bits: int | None = None) -> tuple[Words, list[int]]:
    """Few points and scalars whose sum of products is Σ scalarᵢ·pointᵢ: one for each window of `bits` bits.

    Points as rows; scalars below 2^254 as rows of four words in plain form."""
    bits = bits or window_bits(len(points))
    windows = -(-(_SCALAR_BITS + 1) // bits)
    digits = signed_digits(scalars, bits, windows)
    each = 1 << (bits - 1)
    buckets = np.empty((windows * each, points.shape[1]), dtype=np.uint64)
    work = np.empty(points.shape, dtype=np.uint64)
    scratch = group.scratch()
    for window in range(windows):
        _fill(points, digits[window], buckets[window * each : (window + 1) * each], work, scratch, group)
    return _window_sums(buckets, windows, scratch, group), [1 << bits * window for window in range(windows)]
