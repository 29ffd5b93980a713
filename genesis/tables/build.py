"""Builds the numeric tables with arbitrary precision: `python -m openledger.genesis.tables.build`.

For developers; needs `mpmath`. The committed bytes are what counts: a rebuild must reproduce them.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import mpmath  # type: ignore[import-untyped]

STEPS = 4096
POSITIONS = 8192
ROTARY = ((100000, 64),)
DIGITS = 60


def binary32(value: mpmath.mpf) -> bytes:
    """The nearest binary32 (ties to even) of a normal number below 2 in magnitude."""
    if value == 0:
        return struct.pack("<f", 0.0)
    exact = Fraction(int(mpmath.nint(value * mpmath.mpf(2) ** 180)), 2**180)
    exponent = 0
    while abs(exact) * 2**exponent < 2**23:
        exponent += 1
    scaled = exact * 2**exponent
    return struct.pack("<f", round(scaled) / 2**exponent)


def exp_table() -> Iterator[bytes]:
    for i in range(22 * STEPS + 1):
        yield struct.pack("<I", int(mpmath.nint(2**30 * mpmath.exp(-mpmath.mpf(i) / STEPS))))


def sigmoid_table() -> Iterator[bytes]:
    for i in range(16 * STEPS + 1):
        yield binary32(1 / (1 + mpmath.exp(mpmath.mpf(i) / STEPS)))


def normal_table() -> Iterator[bytes]:
    for i in range(6 * STEPS + 1):
        yield binary32(mpmath.erfc(mpmath.mpf(i) / STEPS / mpmath.sqrt(2)) / 2)


def rotary_table(base: int, dimensions: int) -> Iterator[bytes]:
    frequencies = [mpmath.power(base, -mpmath.mpf(2 * pair) / dimensions) for pair in range(dimensions // 2)]
    for position in range(POSITIONS):
        for frequency in frequencies:
            cosine, sine = mpmath.cos_sin(position * frequency)
            yield binary32(cosine) + binary32(sine)


def main() -> None:
    mpmath.mp.dps = DIGITS
    folder = Path(__file__).parent
    (folder / "exp.bin").write_bytes(b"".join(exp_table()))
    (folder / "sigmoid.bin").write_bytes(b"".join(sigmoid_table()))
    (folder / "normal.bin").write_bytes(b"".join(normal_table()))
    for base, dimensions in ROTARY:
        (folder / f"rotary-{base}-{dimensions}.bin").write_bytes(b"".join(rotary_table(base, dimensions)))


if __name__ == "__main__":
    main()
