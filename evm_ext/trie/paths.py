"""Paths through a trie: strings of hex digits, one per nibble, and their hex-prefix encoding (Yellow Paper, C)."""

from __future__ import annotations


def shared_length(left: str, right: str) -> int:
    limit = min(len(left), len(right))
    length = 0
    while length < limit and left[length] == right[length]:
        length += 1
    return length


def encode_path(path: str, is_leaf: bool) -> bytes:
    """Hex-prefix encoding."""
    if len(path) & 1:
        return bytes.fromhex(("3" if is_leaf else "1") + path)
    return bytes.fromhex(("20" if is_leaf else "00") + path)


def decode_path(encoded: bytes) -> tuple[str, bool]:
    digits = encoded.hex()
    flag = int(digits[0], 16)
    return digits[1:] if flag & 1 else digits[2:], bool(flag & 2)
