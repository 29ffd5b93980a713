"""The fingerprint of an answer in the mode `bf16`: what its last hidden states were, in 258 bytes per 32 tokens.

Of the last hidden states of up to 32 generated tokens, one after the other as one vector, the 128 elements of the largest
magnitude as bf16 (ties: the earlier one) are points (index, 16 bits of the value). Through them goes one polynomial modulo a
prime: its 128 coefficients (u16, little-endian, constant first) after the prime (u16) say all points without their order.
The prime is the first of `PRIMES` under which no two indices are the same; all are larger than the bits of any finite bf16.

Who verifies runs the tokens by teacher forcing, takes its own 128 largest elements, asks the polynomial for the values there
and counts exponents that differ. Honest machines differ in a few, at the border of the 128; see kernels/README.md for what
this can tell apart and what not.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

PERIOD: Final = 32
POINTS: Final = 128
COMMITMENT_BYTES: Final = 258
PRIMES: Final = (65521, 65519, 65497, 65479, 65449, 65447, 65437, 65423, 65419, 65413)
MOST_APART: Final = 32
"""Exponents of 128 that may differ. Measured on one CPU: honest runs in another batch 0 to 1, int8 weights in place of bf16
11, a missing adapter of random numbers 105; the room in between is for devices that were not measured."""


@dataclass(frozen=True)
class Difference:
    """Of a verifier's `points` largest elements: in how many the exponent is not the one committed to, and by how much the
    7-bit mantissas of the others differ on average."""

    points: int
    exponents: int
    mantissa: float

    @property
    def honest(self) -> bool:
        """Whether it is within what machines differ by."""
        return self.exponents * POINTS <= MOST_APART * self.points


@dataclass
class ActivationLog:
    """The fingerprint of an answer as it grows: `add` the last hidden state (binary32 [D]) that each token was drawn from."""

    done: list[bytes] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)

    def add(self, hidden: Any) -> None:
        self.rows.append(np.array(hidden, np.float32))
        if len(self.rows) == PERIOD:
            self.done.append(commit(np.stack(self.rows)))
            self.rows.clear()

    @property
    def commitments(self) -> bytes:
        """258 bytes for every 32 tokens and for what is left."""
        return b"".join(self.done) + (commit(np.stack(self.rows)) if self.rows else b"")


def commit(hidden: Any) -> bytes:
    """The 258 bytes of up to 32 last hidden states, binary32 [tokens, D], finite."""
    bits = _bits(hidden)
    index = _largest(bits)
    prime = next((p for p in PRIMES if len(np.unique(index % p)) == len(index)), PRIMES[0])
    _, first = np.unique(index % prime, return_index=True)
    points = index[np.sort(first)]
    return np.array([prime, *_interpolate(points % prime, bits[points], prime)], "<u2").tobytes()


def compare(commitment: bytes, hidden: Any) -> Difference:
    """How far own last hidden states are from a commitment. Raises `ValueError` for bytes that are none."""
    if len(commitment) != COMMITMENT_BYTES:
        raise ValueError(f"a commitment to activations has {COMMITMENT_BYTES} bytes, not {len(commitment)}")
    prime, *coefficients = (int(value) for value in np.frombuffer(commitment, "<u2"))
    if prime not in PRIMES or max(coefficients) >= prime:
        raise ValueError("these bytes are no commitment to activations: the modulus is not one of the primes")
    bits = _bits(hidden)
    index = _largest(bits)
    x = index % prime
    claimed = np.zeros(len(x), np.int64)
    for coefficient in reversed(coefficients):
        claimed = (claimed * x + coefficient) % prime
    own = bits[index]
    same = (own >> 7) == (claimed >> 7)
    apart = np.abs((own & 127) - (claimed & 127))[same]
    return Difference(len(x), int((~same).sum()), float(apart.mean()) if len(apart) else 0.0)


def compare_all(commitments: bytes, hidden: Any) -> list[Difference]:
    """As `compare`, of a whole answer: `hidden` [tokens, D]. Raises `ValueError`."""
    periods = -(-len(hidden) // PERIOD)
    if len(commitments) != periods * COMMITMENT_BYTES:
        raise ValueError(
            f"{len(hidden)} tokens have {periods * COMMITMENT_BYTES} bytes of activation fingerprint, not {len(commitments)}"
        )
    return [
        compare(
            commitments[at * COMMITMENT_BYTES : (at + 1) * COMMITMENT_BYTES], hidden[at * PERIOD : (at + 1) * PERIOD]
        )
        for at in range(periods)
    ]


def _bits(hidden: Any) -> Any:
    """binary32, rounded to bf16, half to even: its 16 bits as int64."""
    wide = np.ascontiguousarray(hidden, np.float32).reshape(-1).view(np.uint32).astype(np.int64)
    return (wide + 0x7FFF + ((wide >> 16) & 1)) >> 16


def _largest(bits: Any) -> Any:
    return np.argsort(-(bits & 0x7FFF), kind="stable")[:POINTS]


def _interpolate(x: Any, y: Any, prime: int) -> Any:
    """Coefficients of the polynomial through the points, padded with zeros: divided differences, then expanded."""
    count = len(x)
    differences = y % prime
    for step in range(1, count):
        gap = _inverse((x[step:] - x[:-step]) % prime, prime)
        differences[step:] = (differences[step:] - differences[step - 1 : -1]) % prime * gap % prime
    coefficients = np.zeros(POINTS, np.int64)
    for at in range(count - 1, -1, -1):
        shifted = np.concatenate(([0], coefficients[:-1]))
        coefficients = (shifted - coefficients * x[at]) % prime
        coefficients[0] = (coefficients[0] + differences[at]) % prime
    return coefficients


def _inverse(values: Any, prime: int) -> Any:
    """By Fermat: value ** (prime - 2)."""
    result, power, exponent = np.ones_like(values), values, prime - 2
    while exponent:
        if exponent & 1:
            result = result * power % prime
        power = power * power % prime
        exponent >>= 1
    return result
