"""Rotary tables of models whose own is not shipped: made at import by integer arithmetic, the same bytes everywhere.

    angle of pair i at position p = p * f[i];   f[i] = base**(-2i / D), then the model's scaling:

| scaling | f[i] becomes |
|---|---|
| none | itself |
| factors c (a GGUF's `rope_freqs`) | `f / c[i]` |
| llama3 (factor, low, high, L) | with w = 2 pi / f: itself for `w < L / high`; `f / factor` for `w > L / low`; else `(1 - t) * f / factor + t * f`, `t = (L / w - low) / (high - low)` |

Every entry is the binary32 nearest to the cosine or sine of that real angle, binary32 and binary64 constants of the file taken
as the numbers they are. Numbers here are integers in units of 2**-256; a step along the circle adds an error below 2**-254, so
after 2**17 positions all errors are below 2**-230, far from where they could move a rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import inf, isqrt
from typing import Any, Final

import numpy as np

BITS: Final = 256
ONE: Final = 1 << BITS
MAX_POSITIONS: Final = 1 << 17
"""Longer contexts are served up to here."""

_TOP: Final = 60
"""Bits below one that are rounded to binary32."""


@dataclass(frozen=True)
class Llama3Scaling:
    """The parameters of `rope_type` llama3: frequencies below `low`/L turn `factor` times slower."""

    factor: float
    low: float
    high: float
    original_context: int


Scaling = Llama3Scaling | tuple[float, ...] | None
"""How frequencies are scaled: a rule, a divisor per pair, or not at all."""


def rotary_table(base: float, dimensions: int, positions: int, scaling: Scaling = None) -> Any:
    """binary32 [positions, dimensions / 2, 2]: cosine, sine. `base` above 1. Raises `ValueError` for constants that make no
    sense."""
    table = np.empty((positions, dimensions // 2, 2), np.float32)
    for pair, frequency in enumerate(scaled(frequencies(base, dimensions), scaling)):
        table[:, pair] = _circle(frequency, positions)
    return table


def frequencies(base: float, dimensions: int) -> list[int]:
    """base**(-2i / dimensions) for each pair, in units of 2**-256."""
    if not base > 1:
        raise ValueError(f"a rotary base of {base} is not above 1")
    exact = Fraction(base)
    pairs = dimensions // 2
    root = _root((exact.numerator << (BITS * pairs)) // exact.denominator, pairs)
    found, power = [], ONE
    for _ in range(pairs):
        found.append(power)
        power = (power << BITS) // root
    return found


def scaled(plain: Sequence[int], scaling: Scaling) -> list[int]:
    """Frequencies after the model's scaling."""
    if scaling is None:
        return list(plain)
    if isinstance(scaling, tuple):
        if len(scaling) != len(plain) or not all(0 < value < inf for value in scaling):
            raise ValueError(f"{len(scaling)} rotary factors do not fit {len(plain)} pairs, or are not positive")
        return [_divided(f, Fraction(value)) for f, value in zip(plain, scaling)]
    if not 1 <= scaling.factor < inf or not 0 < scaling.low < scaling.high < inf or scaling.original_context < 1:
        raise ValueError(f"the rotary scaling {scaling} makes no sense")
    factor, low, high = Fraction(scaling.factor), Fraction(scaling.low), Fraction(scaling.high)
    found = []
    for f in plain:
        turns = scaling.original_context * f / Fraction(2 * pi())  # L / w: turns within the original context
        slow = _divided(f, factor)
        if turns > high:
            found.append(f)
        elif turns < low:
            found.append(slow)
        else:
            share = (turns - low) / (high - low)
            found.append(int((1 - share) * slow + share * f))
    return found


def pi() -> int:
    """Pi in units of 2**-256, by Machin's formula."""

    def arctangent(inverse: int) -> int:
        term = (ONE << 16) // inverse
        total, k = term, 1
        while term:
            term //= -inverse * inverse
            k += 2
            total += term // k
        return total

    return 4 * (4 * arctangent(5) - arctangent(239)) >> 16


def _divided(value: int, divisor: Fraction) -> int:
    return value * divisor.denominator // divisor.numerator


def _root(value: int, degree: int) -> int:
    """The largest integer whose power is at most `value`."""
    if degree == 1:
        return value
    if degree == 2:
        return isqrt(value)
    guess = 1 << -(-value.bit_length() // degree)
    while True:
        better = ((degree - 1) * guess + value // guess ** (degree - 1)) // degree
        if better >= guess:
            return guess
        guess = better


def _circle(frequency: int, positions: int) -> Any:
    """binary32 [positions, 2]: the cosine and sine of 0, f, 2f, …"""
    c, s = _cosine_sine(frequency)
    x, y = ONE, 0
    down = BITS - _TOP
    cut = np.empty((positions, 2), np.int64)
    for position in range(positions):
        cut[position, 0] = x >> down
        cut[position, 1] = y >> down
        x, y = (x * c - y * s) >> BITS, (x * s + y * c) >> BITS
    # No cosine or sine of another position is a fraction: a last bit of one stands for all that was cut, so one rounding is right.
    cut[1:] |= 1
    return cut.astype(np.float32) * np.float32(2.0**-_TOP)


def _cosine_sine(angle: int) -> tuple[int, int]:
    """Of an angle of at most 1, by their series."""
    totals = [0, 0]
    term, k = ONE, 0
    while term:
        totals[k % 2] += term if k % 4 < 2 else -term
        k += 1
        term = (term * angle >> BITS) // k
    return totals[0], totals[1]
