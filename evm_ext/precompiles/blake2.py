"""BLAKE2F at 0x09: the compression function of BLAKE2b with a number of rounds of the caller's choice (EIP-152).

Input, 213 bytes: rounds 4 (big endian) || state 64 || message block 128 || offset counters 16 (all little endian) ||
final flag 1. One gas a round.

On machines without a build of `blake2b-py` the function below it does the same, about a thousand times slower.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from openledger.evm_ext.precompiles.precompile import PrecompileFailed

INPUT_BYTES = 213

_MASK = (1 << 64) - 1
_INITIAL_VECTOR = (
    0x6A09E667F3BCC908,
    0xBB67AE8584CAA73B,
    0x3C6EF372FE94F82B,
    0xA54FF53A5F1D36F1,
    0x510E527FADE682D1,
    0x9B05688C2B3E6C1F,
    0x1F83D9ABFB41BD6B,
    0x5BE0CD19137E2179,
)
_PERMUTATIONS = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
_COLUMNS_AND_DIAGONALS = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)

Words = tuple[int, ...]


def _portable_compress(rounds: int, state: Words, block: Words, offset: Words, final: bool) -> bytes:
    v = [*state, *_INITIAL_VECTOR]
    v[12] ^= offset[0]
    v[13] ^= offset[1]
    if final:
        v[14] ^= _MASK
    schedule = [tuple(block[index] for index in permutation) for permutation in _PERMUTATIONS]
    for number in range(rounds):
        words = iter(schedule[number % 10])
        for ia, ib, ic, id_ in _COLUMNS_AND_DIAGONALS:
            a, b, c, d = v[ia], v[ib], v[ic], v[id_]
            a = (a + b + next(words)) & _MASK
            d ^= a
            d = (d >> 32 | d << 32) & _MASK
            c = (c + d) & _MASK
            b ^= c
            b = (b >> 24 | b << 40) & _MASK
            a = (a + b + next(words)) & _MASK
            d ^= a
            d = (d >> 16 | d << 48) & _MASK
            c = (c + d) & _MASK
            b ^= c
            b = (b >> 63 | b << 1) & _MASK
            v[ia], v[ib], v[ic], v[id_] = a, b, c, d
    return struct.pack("<8Q", *(state[i] ^ v[i] ^ v[i + 8] for i in range(8)))


def _fastest() -> Callable[[int, Words, Words, Words, bool], bytes]:
    try:
        from blake2b import compress
    except ImportError:  # no build for this machine's processor
        return _portable_compress
    return compress  # type: ignore[no-any-return]


_compress = _fastest()


def blake2f_gas(data: bytes) -> int:
    """The rounds. Raises PrecompileFailed for input of another length or an unknown final flag."""
    if len(data) != INPUT_BYTES:
        raise PrecompileFailed(f"BLAKE2F: {len(data)} bytes of input, {INPUT_BYTES} are needed")
    if data[-1] > 1:
        raise PrecompileFailed(f"BLAKE2F: final flag {data[-1]}, 0 or 1 is needed")
    return int.from_bytes(data[:4], "big")


def blake2f(data: bytes) -> bytes:
    """The new state, 64 bytes, of an input that `blake2f_gas` has taken."""
    words = struct.unpack("<26Q", data[4:212])
    rounds = int.from_bytes(data[:4], "big")
    return bytes(_compress(rounds, words[:8], words[8:24], words[24:], data[-1] == 1))
