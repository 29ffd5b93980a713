"""What one block changes: in the tries, in the flat tables, and how that is written down.

The record of a block's changes (`StateDiff`) is what moves the flat tables forward and back when heads move, and what
tells a pruning store which trie nodes nobody needs any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

DELETED = b""
"""Stands for an account or a slot that is not there."""

_LENGTHS = [bytes((length,)) for length in range(256)]


@dataclass(frozen=True)
class StateDiff:
    """The values after a block of everything it touched, by hashed keys.

    `accounts`: keccak(address) -> account RLP. `slots`: keccak(address) -> keccak(slot) -> the word without leading
    zeros, RLP as in the trie. `DELETED` where there is nothing any more. `written` and `replaced` are the keys
    (`owner || hash`) of the trie nodes that the block brought and of those its parent's state had in their place.
    """

    accounts: Mapping[bytes, bytes] = field(default_factory=dict)
    slots: Mapping[bytes, Mapping[bytes, bytes]] = field(default_factory=dict)
    written: tuple[bytes, ...] = ()
    replaced: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """As it is stored: accounts, slots by owner, keys written, keys replaced; numbers of them in 4 bytes."""
        owners = [part for owner, slots in self.slots.items() for part in (owner, *_encode_pairs(slots))]
        return b"".join(
            (
                *_encode_pairs(self.accounts),
                _encode_number(len(self.slots)),
                *owners,
                *_encode_keys(self.written),
                *_encode_keys(self.replaced),
            )
        )

    @classmethod
    def decode(cls, raw: bytes) -> StateDiff:
        """The inverse of `encode`. Raises ValueError."""
        reader = _Reader(raw)
        accounts = reader.pairs()
        slots = {reader.take(32): reader.pairs() for _ in range(reader.number())}
        diff = cls(accounts, slots, reader.keys(), reader.keys())
        if reader.position != len(raw):
            raise ValueError(f"{len(raw) - reader.position} bytes follow the changes")
        return diff

    def flat(self) -> list[tuple[bytes, bytes]]:
        """(key in the flat tables, new value) of everything changed: `a || account`, `s || account || slot`."""
        changed = [(b"a" + key, value) for key, value in self.accounts.items()]
        for owner, slots in self.slots.items():
            prefix = b"s" + owner
            changed += [(prefix + key, value) for key, value in slots.items()]
        return changed


@dataclass(frozen=True)
class StateChanges:
    """What a block adds to the store: the new root, trie nodes by key, code by hash, and the diff."""

    root: bytes
    nodes: Mapping[bytes, bytes]
    codes: Mapping[bytes, bytes]
    diff: StateDiff = field(default_factory=StateDiff)


def _encode_number(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _encode_pairs(pairs: Mapping[bytes, bytes]) -> list[bytes]:
    """Keys of 32 bytes, each with its value behind one byte for the length."""
    parts = [_encode_number(len(pairs))]
    for key, value in pairs.items():
        parts += (key, _LENGTHS[len(value)], value)
    return parts


def _encode_keys(keys: Sequence[bytes]) -> list[bytes]:
    """Those of 32 bytes, of the account trie, and those of 64, of storage tries."""
    short = [key for key in keys if len(key) == 32]
    long = [key for key in keys if len(key) == 64]
    return [_encode_number(len(short)), *short, _encode_number(len(long)), *long]


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.position = 0

    def take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self._raw):
            raise ValueError("the changes end in the middle")
        taken = self._raw[self.position : end]
        self.position = end
        return taken

    def number(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def pairs(self) -> dict[bytes, bytes]:
        return {self.take(32): self.take(self.take(1)[0]) for _ in range(self.number())}

    def keys(self) -> tuple[bytes, ...]:
        return tuple(self.take(length) for length in (32, 64) for _ in range(self.number()))
