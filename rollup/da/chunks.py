"""Reed–Solomon chunks of a blob (EigenDA, encoding/v2): any eighth of them gives the blob back.

A blob of N coefficients is cut into `chunks` cosets of the roots of unity. Chunk i holds the l coefficients of
p mod (X^l - aᵢ), where l = max(1, 8N / chunks) and aᵢ = ω^bitreverse(i) is a root of unity of order `chunks`.

Sorted by residue s modulo l, p = Σ X^s · pₛ(X^l), and coefficient s of chunk i is just pₛ(aᵢ). So encoding is one FFT
of size `chunks` per residue, and reconstruction one interpolation of pₛ per residue, all over the same points.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zksnake._algebra import polynomial_bn254 as _polynomial

from openledger.genesis.counted import counted
from openledger.rollup.da.curve import GROUP_ORDER

# A generator of a coset that holds no root of unity of order 2^k: 5 generates the multiplicative group.
_SHIFT = 5


class ChunksMissing(Exception):
    """Too few chunks are left to give the blob back."""


@dataclass(frozen=True)
class ChunkParameters:
    """How blobs are spread: `chunks` (a power of two) in all, of which 1/`coding_rate` are enough.

    `max_operators` chunks are reserved for rounding when they are assigned (EigenDA, VersionedBlobParams)."""

    chunks: int = 8_192
    coding_rate: int = 8
    max_operators: int = 3_537

    def __post_init__(self) -> None:
        for name, value in (("chunks", self.chunks), ("coding_rate", self.coding_rate)):
            if value < 2 or value & (value - 1):
                raise ValueError(f"{name} must be a power of two and at least 2, got {value}")
        if not 0 < self.max_operators < self.chunks or self.chunks < self.coding_rate:
            raise ValueError(
                f"{self.chunks} chunks cannot serve {self.max_operators} operators at rate {self.coding_rate}"
            )

    def chunk_length(self, elements: int) -> int:
        """Coefficients in each chunk of a blob with so many elements (a power of two)."""
        return max(1, elements * self.coding_rate // self.chunks)

    def needed(self, elements: int) -> int:
        """How many different chunks give the blob back."""
        return elements // self.chunk_length(elements)


def bit_reversed(index: int, size: int) -> int:
    """The log2(size) bits of an index, reversed."""
    return int(format(index, f"0{size.bit_length() - 1}b")[::-1], 2) if size > 1 else 0


def coset_points(parameters: ChunkParameters) -> list[int]:
    """aᵢ of every chunk, by chunk index."""
    roots = _roots(parameters.chunks)
    return [roots[bit_reversed(index, parameters.chunks)] for index in range(parameters.chunks)]


def encode_chunks(coefficients: Sequence[int], parameters: ChunkParameters) -> list[list[int]]:
    """All chunks of a blob (a power of two of integers below r), by index."""
    length, size = parameters.chunk_length(len(coefficients)), parameters.chunks
    if len(coefficients) // length > size:
        raise ValueError(f"a blob of {len(coefficients)} elements does not fit {size} chunks of {length}")
    columns = [_fft(list(coefficients[residue::length]), size) for residue in range(length)]
    order = [bit_reversed(index, size) for index in range(size)]
    return [[column[position] for column in columns] for position in order]


def reconstruct(chunks: Mapping[int, Sequence[int]], elements: int, parameters: ChunkParameters) -> list[int]:
    """The blob of `elements` coefficients, from any `parameters.needed(elements)` chunks that are as they were encoded.

    Raises ChunksMissing; ValueError for a chunk of another length or index."""
    length, size, needed = parameters.chunk_length(elements), parameters.chunks, parameters.needed(elements)
    for index, chunk in chunks.items():
        if not 0 <= index < size or len(chunk) != length:
            raise ValueError(f"chunk {index} with {len(chunk)} coefficients is none of {size} with {length}")
    if len(chunks) < needed:
        raise ChunksMissing(f"{counted(len(chunks), 'chunk is', 'chunks are')} left, {needed} needed")
    positions = {bit_reversed(index, size): chunk for index, chunk in chunks.items()}
    roots = _roots(size)
    # Zero where a chunk is missing; p·z is then known everywhere, and has room in the domain.
    vanishing = _product([roots[position] for position in range(size) if position not in positions])
    known = _fft(vanishing, size)
    shifted = _coset_fft(vanishing, size)
    inverse = _batch_inverse(shifted)
    coefficients = [0] * elements
    for residue in range(length):
        values = [0] * size
        for position, chunk in positions.items():
            values[position] = chunk[residue] * known[position] % GROUP_ORDER
        product = _coset_fft(_ifft(values, size), size)
        quotient = _coset_ifft([left * right % GROUP_ORDER for left, right in zip(product, inverse)], size)
        if any(quotient[needed:]):
            raise ValueError("the chunks are not of one blob: what they give is too long")
        coefficients[residue::length] = quotient[:needed]
    return coefficients


def encode_chunk(proof: bytes, coefficients: Iterable[int]) -> bytes:
    """A chunk as operators keep it ("GNARK" form): proof 32 bytes, then 32 bytes a coefficient, big-endian."""
    return proof + b"".join(value.to_bytes(32, "big") for value in coefficients)


def decode_chunk(data: bytes) -> tuple[bytes, list[int]]:
    """(proof, coefficients) of a kept chunk. Raises ValueError."""
    if len(data) < 64 or len(data) % 32:
        raise ValueError(f"a chunk of {len(data)} bytes is no proof with whole coefficients")
    values = [int.from_bytes(data[start : start + 32], "big") for start in range(32, len(data), 32)]
    if any(value >= GROUP_ORDER for value in values):
        raise ValueError("a coefficient of the chunk is not below the group order")
    return data[:32], values


# --- polynomials over the scalar field ---------------------------------------------------------------


def _fft(coefficients: list[int], size: int) -> list[int]:
    if size == 1:
        return coefficients[:1] or [0]
    values: list[int] = _polynomial.fft(coefficients + [0] * (size - len(coefficients)), size)
    return values


def _ifft(values: list[int], size: int) -> list[int]:
    if size == 1:
        return values
    coefficients: list[int] = _polynomial.ifft(values, size)
    return coefficients + [0] * (size - len(coefficients))


def _coset_fft(coefficients: list[int], size: int) -> list[int]:
    return _fft(_scaled(coefficients, _SHIFT), size)


def _coset_ifft(values: list[int], size: int) -> list[int]:
    return _scaled(_ifft(values, size), pow(_SHIFT, -1, GROUP_ORDER))


def _scaled(coefficients: list[int], by: int) -> list[int]:
    power, scaled = 1, []
    for coefficient in coefficients:
        scaled.append(coefficient * power % GROUP_ORDER)
        power = power * by % GROUP_ORDER
    return scaled


def _roots(size: int) -> list[int]:
    roots: list[Any] = _polynomial.get_all_root_of_unity(size)
    return [int(root) for root in roots]


def _product(zeros: list[int]) -> list[int]:
    """Coefficients of Π (Y - zero), by pairs of halves."""
    polynomials = [[-zero % GROUP_ORDER, 1] for zero in zeros] or [[1]]
    while len(polynomials) > 1:
        paired = [_multiplied(*polynomials[start : start + 2]) for start in range(0, len(polynomials) - 1, 2)]
        polynomials = paired + polynomials[len(paired) * 2 :]
    return polynomials[0]


def _multiplied(left: list[int], right: list[int]) -> list[int]:
    degree = len(left) + len(right) - 1
    if degree <= 16:
        product = [0] * degree
        for index, value in enumerate(left):
            for offset, other in enumerate(right):
                product[index + offset] = (product[index + offset] + value * other) % GROUP_ORDER
        return product
    size = 1 << (degree - 1).bit_length()
    values = [a * b % GROUP_ORDER for a, b in zip(_fft(left, size), _fft(right, size))]
    return _ifft(values, size)[:degree]


def _batch_inverse(values: list[int]) -> list[int]:
    """Inverses of values that are not zero, with one inversion."""
    products, running = [], 1
    for value in values:
        products.append(running)
        running = running * value % GROUP_ORDER
    inverse = pow(running, -1, GROUP_ORDER)
    inverses = [0] * len(values)
    for index in range(len(values) - 1, -1, -1):
        inverses[index] = inverse * products[index] % GROUP_ORDER
        inverse = inverse * values[index] % GROUP_ORDER
    return inverses
