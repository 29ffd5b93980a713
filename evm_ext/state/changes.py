"""What one block changes: in the tries, in the flat tables, and how that is written down.

The record of a block's changes (`StateDiff`) is what moves the flat tables forward and back when heads move, and what
tells a pruning store which trie nodes nobody needs any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from openledger.evm_ext import encoding
from openledger.evm_ext.encoding import InvalidRLP, Item, encode_bytes, encode_sequence

DELETED = b""
"""Stands for an account or a slot that is not there."""


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
        """rlp([[key, value]…, [owner, [key, value]…]…, [node key…], [node key…]]), flat lists in that order."""
        return encode_sequence(
            (
                _encode_pairs(self.accounts),
                encode_sequence(
                    part for owner, slots in self.slots.items() for part in (encode_bytes(owner), _encode_pairs(slots))
                ),
                encode_sequence(map(encode_bytes, self.written)),
                encode_sequence(map(encode_bytes, self.replaced)),
            )
        )

    @classmethod
    def decode(cls, raw: bytes) -> StateDiff:
        """The inverse of `encode`. Raises `InvalidRLP`."""
        accounts, slots, written, replaced = encoding.to_list(encoding.decode(raw), 4)
        owners = encoding.to_list(slots)
        if len(owners) % 2:
            raise InvalidRLP("an owner has no slots")
        return cls(
            _pairs(accounts),
            {encoding.to_bytes(owner, 32): _pairs(of) for owner, of in zip(owners[::2], owners[1::2])},
            tuple(encoding.to_bytes(key) for key in encoding.to_list(written)),
            tuple(encoding.to_bytes(key) for key in encoding.to_list(replaced)),
        )

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


def _encode_pairs(pairs: Mapping[bytes, bytes]) -> bytes:
    return encode_sequence(encode_bytes(part) for pair in pairs.items() for part in pair)


def _pairs(item: Item) -> dict[bytes, bytes]:
    parts = encoding.to_list(item)
    if len(parts) % 2:
        raise InvalidRLP("a key has no value")
    return {encoding.to_bytes(key, 32): encoding.to_bytes(value) for key, value in zip(parts[::2], parts[1::2])}
