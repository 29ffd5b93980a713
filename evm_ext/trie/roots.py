"""Roots of whole tries at once, from sorted items: nothing is stored and nothing looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from openledger.evm_ext.encoding import EMPTY_STRING, encode_bytes, encode_sequence, encode_uint
from openledger.evm_ext.trie.paths import encode_path, shared_length
from openledger.evm_ext.trie.stored import EMPTY_ROOT
from openledger.genesis.hashing import keccak256

_SHORT_LEAF_PATHS = {path: encode_bytes(encode_path(path, True)) for path in ("", *"0123456789abcdef")}


def ordered_root(values: Sequence[bytes]) -> bytes:
    """Root of the trie from rlp(index) to the values: transactions, receipts, withdrawals."""
    if not values:
        return EMPTY_ROOT
    number = len(values)
    paths = _ordered_paths(1 << (number - 1).bit_length())
    items = [(path, values[index]) for path, index in paths if index < number]
    return keccak256(_bulk_encode(items, 0, len(items), 0))


@lru_cache(maxsize=8)
def _ordered_paths(number: int) -> tuple[tuple[str, int], ...]:
    """The paths of the first so many indexes, sorted; each with its index."""
    return tuple(sorted((encode_uint(index).hex(), index) for index in range(number)))


def root_of(items: Mapping[bytes, bytes]) -> bytes:
    """Root of the trie with exactly these keys and (non-empty) values."""
    if not items:
        return EMPTY_ROOT
    pairs = sorted((key.hex(), value) for key, value in items.items())
    return keccak256(_bulk_encode(pairs, 0, len(pairs), 0))


def _bulk_encode(items: list[tuple[str, bytes]], low: int, high: int, depth: int) -> bytes:
    """The node over sorted items[low:high], which share their first `depth` digits."""
    first, value = items[low]
    if high - low == 1:
        path = _SHORT_LEAF_PATHS.get(first[depth:]) or encode_bytes(encode_path(first[depth:], True))
        return encode_sequence((path, encode_bytes(value)))
    last = items[high - 1][0]
    shared = depth + shared_length(first[depth:], last[depth:])
    if shared > depth:
        return encode_sequence(
            (
                encode_bytes(encode_path(first[depth:shared], False)),
                _bulk_reference(items, low, high, shared),
            )
        )
    parts = [EMPTY_STRING] * 17
    start = low
    if len(first) == depth:
        parts[16] = encode_bytes(value)
        start += 1
    while start < high:
        digit = items[start][0][depth]
        stop = start + 1
        while stop < high and items[stop][0][depth] == digit:
            stop += 1
        parts[int(digit, 16)] = _bulk_reference(items, start, stop, depth + 1)
        start = stop
    return encode_sequence(parts)


def _bulk_reference(items: list[tuple[str, bytes]], low: int, high: int, depth: int) -> bytes:
    encoded = _bulk_encode(items, low, high, depth)
    return encoded if len(encoded) < 32 else b"\xa0" + keccak256(encoded)
