"""KZG proofs that chunks are of the blob that was committed to (EigenDA, encoding/v2; FK20).

The proof of chunk i is [qᵢ(τ)]₁ with p = qᵢ·(X^l - aᵢ) + rᵢ, so e(proof, [τ^l - aᵢ]₂) = e(C - [rᵢ(τ)]₁, G₂).
With the development SRS qᵢ(τ) is a number. With EigenDA's files all proofs are made together: qᵢ(τ) = Σ aᵢ^(k-1)·hₖ, a
polynomial in aᵢ whose coefficients hₖ = [⌊p / X^kl⌋(τ)]₁ come out of one Toeplitz product, both by FFTs over the group
(Feist and Khovratovich, "Fast amortized KZG proofs").
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from zksnake._algebra import polynomial_bn254 as _polynomial

from openledger.rollup.da import curve
from openledger.rollup.da.chunks import ChunkParameters, bit_reversed, coset_points
from openledger.rollup.da.curve import GROUP_ORDER, G1Point, InvalidPoint
from openledger.rollup.da.srs import DevelopmentSrs, FileSrs, Srs

FEWEST_COMPILED = 256
"""Chunks from which on their proofs are made faster compiled than by the library."""

_WINDOW_BITS = 8
_RANDOM_BITS = 128


class ChunkInvalid(ValueError):
    """A chunk is not of the blob that was committed to."""


def prove_chunks(
    coefficients: Sequence[int], chunks: Sequence[Sequence[int]], parameters: ChunkParameters, srs: Srs
) -> list[bytes]:
    """The proof (32 bytes compressed) of every chunk, by index. Takes seconds with EigenDA's files, the first time for
    blobs of a length many seconds more; minutes where nothing is compiled."""
    if isinstance(srs, DevelopmentSrs):
        points = _prove_with_tau(coefficients, chunks, parameters, srs)
    elif isinstance(srs, FileSrs) and srs.compiled and parameters.chunks >= FEWEST_COMPILED:
        return _prove_compiled(coefficients, parameters, srs)
    else:
        points = _prove_fk20(coefficients, parameters, srs)
    return [curve.to_compressed(point) for point in points]


def verify_chunks(
    commitment: G1Point,
    chunks: Mapping[int, tuple[bytes, Sequence[int]]],
    elements: int,
    parameters: ChunkParameters,
    srs: Srs,
) -> None:
    """That all these (proof, coefficients) by index are of the blob with `elements` coefficients behind `commitment`.

    One equation for all of them, weighted by what they hash to. Raises ChunkInvalid; it does not say which is wrong."""
    if not chunks:
        return
    length = parameters.chunk_length(elements)
    points = coset_points(parameters)
    powers = srs.g1_powers(length)
    weights = _weights(commitment, chunks)
    remainder = [0] * length
    proofs: list[Any] = []
    shifted: list[int] = []
    for weight, (index, (proof, coefficients)) in zip(weights, chunks.items()):
        if len(coefficients) != length:
            raise ChunkInvalid(f"chunk {index} has {len(coefficients)} coefficients, not {length}")
        try:
            proofs.append(curve.g1_from_compressed(proof))
        except InvalidPoint as error:
            raise ChunkInvalid(f"the proof of chunk {index} is no point: {error}") from error
        shifted.append(weight * points[index] % GROUP_ORDER)
        for position, coefficient in enumerate(coefficients):
            remainder[position] = (remainder[position] + weight * coefficient) % GROUP_ORDER
    total = sum(weights) % GROUP_ORDER
    left = curve.g1_sum_of_products(proofs, weights)
    right = curve.g1_sum_of_products(
        [curve.g1_from_integers(commitment), *powers, *proofs],
        [total, *((-value) % GROUP_ORDER for value in remainder), *shifted],
    )
    if not curve.pairings_cancel((left, srs.g2_power(length)), (right, curve.g2_generator())):
        raise ChunkInvalid("at least one chunk is not of the blob that was committed to")


def _weights(commitment: G1Point, chunks: Mapping[int, tuple[bytes, Sequence[int]]]) -> list[int]:
    """One weight a chunk, fixed by all of them together, so that nobody can choose chunks whose faults cancel."""
    digest = hashlib.sha256(commitment.x.to_bytes(32, "big") + commitment.y.to_bytes(32, "big"))
    for index, (proof, coefficients) in chunks.items():
        digest.update(index.to_bytes(4, "big") + proof + b"".join(value.to_bytes(32, "big") for value in coefficients))
    seed = digest.digest()
    return [
        int.from_bytes(hashlib.sha256(seed + index.to_bytes(4, "big")).digest()[: _RANDOM_BITS // 8], "big") | 1
        for index in range(len(chunks))
    ]


# --- with a known τ --------------------------------------------------------------------------------------


def _prove_with_tau(
    coefficients: Sequence[int], chunks: Sequence[Sequence[int]], parameters: ChunkParameters, srs: DevelopmentSrs
) -> list[Any]:
    length = parameters.chunk_length(len(coefficients))
    value = srs.evaluate(list(coefficients))
    shifted = pow(srs.tau, length, GROUP_ORDER)
    points = []
    for point, chunk in zip(coset_points(parameters), chunks):
        quotient = (value - srs.evaluate(list(chunk))) * pow(shifted - point, -1, GROUP_ORDER) % GROUP_ORDER
        points.append(_times_generator(quotient))
    return points


@lru_cache(maxsize=1)
def _generator_table() -> list[list[Any]]:
    """Multiples of the generator by digit and window: a product is then a sum of 32 points."""
    table, base = [], curve.g1_generator()
    for _ in range(256 // _WINDOW_BITS):
        row = [base * 0]
        for _ in range((1 << _WINDOW_BITS) - 1):
            row.append(row[-1] + base)
        table.append(row)
        base = row[-1] + base
    return table


def _times_generator(scalar: int) -> Any:
    table = _generator_table()
    total = table[0][scalar & 0xFF]
    for window in range(1, len(table)):
        scalar >>= _WINDOW_BITS
        if scalar & 0xFF:
            total = total + table[window][scalar & 0xFF]
    return total


# --- FK20 ------------------------------------------------------------------------------------------------


def _prove_compiled(coefficients: Sequence[int], parameters: ChunkParameters, srs: FileSrs) -> list[bytes]:
    from openledger.rollup.da.native import points, transforms

    length = parameters.chunk_length(len(coefficients))
    transformed = srs.transformed_powers(len(coefficients), length)
    proofs = points.compressed(transforms.prove(coefficients, length, parameters.chunks, transformed))
    return [proofs[start : start + 32] for start in range(0, len(proofs), 32)]


def _prove_fk20(coefficients: Sequence[int], parameters: ChunkParameters, srs: Srs) -> list[Any]:
    length = parameters.chunk_length(len(coefficients))
    blocks = len(coefficients) // length
    quotients = _toeplitz(coefficients, length, blocks, srs.g1_powers(len(coefficients)))
    infinity = curve.g1_generator() * 0
    evaluated = _group_fft(quotients + [infinity] * (parameters.chunks - len(quotients)), inverse=False)
    return [evaluated[bit_reversed(index, parameters.chunks)] for index in range(parameters.chunks)]


def _toeplitz(coefficients: Sequence[int], length: int, blocks: int, powers: list[Any]) -> list[Any]:
    """h₁ … with hₖ = Σ over j ≥ k·l of coefficient j times [τ^(j - kl)]₁.

    For each residue s of j modulo l, hₖ is a correlation of the coefficients with the powers: a cyclic product of twice
    the size holds it. The products are summed over the residues before the one transform back.
    """
    if blocks < 2:
        return []
    size = 2 * blocks
    infinity = curve.g1_generator() * 0
    scalars: list[list[int]] = []
    points: list[list[Any]] = []
    for residue in range(length):
        column = list(coefficients[residue::length])
        # position (b - a) of the cyclic product takes coefficient block b with power block a: reverse the powers
        scalars.append(_polynomial.fft(column + [0] * (size - blocks), size))
        reversed_powers = [powers[residue]] + [infinity] * (size - 1)
        for block in range(1, blocks):
            reversed_powers[size - block] = powers[block * length + residue]
        points.append(_group_fft(reversed_powers, inverse=False))
    product = [
        curve.g1_sum_of_products([column[row] for column in points], [column[row] for column in scalars])
        for row in range(size)
    ]
    return _group_fft(product, inverse=True)[1:blocks]


def _group_fft(points: list[Any], *, inverse: bool) -> list[Any]:
    """The FFT over points instead of numbers, on the natural-order roots of unity of their (power of two) number."""
    size = len(points)
    roots = [int(root) for root in _polynomial.get_all_root_of_unity(size)]
    if inverse:
        roots = [roots[0], *reversed(roots[1:])]
    values = [points[bit_reversed(index, size)] for index in range(size)]
    half = 1
    while half < size:
        stride = size // (2 * half)
        for start in range(0, size, 2 * half):
            for offset in range(half):
                upper, lower = values[start + offset], values[start + offset + half]
                if offset and not lower.is_zero():
                    lower = lower * roots[offset * stride]
                values[start + offset], values[start + offset + half] = upper + lower, upper + (-lower)
        half *= 2
    if inverse:
        scale = pow(size, -1, GROUP_ORDER)
        values = [value * scale for value in values]
    return values
