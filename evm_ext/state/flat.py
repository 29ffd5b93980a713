"""Accounts and storage words in flat tables: one lookup where a trie takes one for every level.

The tables hold the state of one block, the base, which is the unsafe head: `a || keccak(address)` and
`s || keccak(address) || keccak(slot)`. Beside them is their history: for every canonical block that changed a value,
the value before, under the same key with the capital letter and the block's number. So the value after block N is the
oldest one that a block above N replaced, or else the one in the table: one seek however old the block is.

A reader works on a LevelDB snapshot, so what it sees never changes while blocks are imported, heads move and history is
pruned. The state of a block that is not canonical is what its own branch changed, laid over the canonical ancestor.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, MutableMapping, Sequence
from functools import lru_cache
from typing import cast

from lru import LRU

from openledger.evm_ext import encoding
from openledger.evm_ext.block import Header
from openledger.evm_ext.database import Snapshot
from openledger.evm_ext.errors import StatePruned
from openledger.evm_ext.state.account import Account, decode_account
from openledger.evm_ext.state.changes import StateDiff
from openledger.evm_ext.state.reader import StateDatabase
from openledger.evm_ext.trie import EMPTY_ROOT, Trie
from openledger.genesis.hashing import keccak256

RECENT_VALUES = 131_072
HASHED_ADDRESSES = 32_768
DECODED_ACCOUNTS = 16_384

_hashed: MutableMapping[bytes, bytes] = cast("MutableMapping[bytes, bytes]", LRU(HASHED_ADDRESSES))


_decoded_account = lru_cache(maxsize=DECODED_ACCOUNTS)(decode_account)


def hashed_address(address: bytes) -> bytes:
    """keccak256(address), remembered: the same addresses come again and again."""
    found = _hashed.get(address)
    if found is None:
        found = _hashed[address] = keccak256(address)
    return found


def history_prefix(flat_key: bytes) -> bytes:
    """Where the history of a flat key begins; the number of the block that replaced the value follows."""
    return (b"A" if flat_key[0] == 0x61 else b"S") + flat_key[1:]


def history_key(flat_key: bytes, number: int) -> bytes:
    return history_prefix(flat_key) + number.to_bytes(8, "big")


def decode_word(raw: bytes) -> int:
    """A storage word from its RLP; 0 for nothing."""
    if len(raw) == 1 and raw[0] < 0x80:
        return raw[0]
    return encoding.to_uint(encoding.decode(raw)) if raw else 0


class FlatView:
    """The flat tables and their history at one moment. Any thread may read."""

    __slots__ = ("base_hash", "first", "generation", "snapshot")

    def __init__(self, snapshot: Snapshot, base_hash: bytes, first: int, generation: int) -> None:
        """`first` is the lowest number whose canonical block's state the history still gives."""
        self.snapshot = snapshot
        self.base_hash = base_hash
        self.first = first
        self.generation = generation

    def value(self, key: bytes) -> bytes:
        """The value at the base, empty if there is none."""
        return self.snapshot.get(key) or b""

    def replaced_after(self, key: bytes, number: int) -> bytes | None:
        """The value after the canonical block with a number, which is not below `first`, if it is another than the
        base's; None if no block since then changed it."""
        prefix = history_prefix(key)
        found = self.snapshot.first(prefix + (number + 1).to_bytes(8, "big"))
        return found[1] if found is not None and found[0].startswith(prefix) else None

    def has(self, header: Header) -> bool:
        """Whether the history gives the state of a block."""
        number = header.number
        return number >= self.first and self.snapshot.get(b"i" + number.to_bytes(8, "big")) == header.hash


class RecentValues:
    """Values of the base that were read or written lately, for whoever reads that very base.

    Every move of the base begins a new generation. A reader checks the generation after it took a value, the
    mover changes it before the first value: so nobody gets a value of another generation than his own."""

    def __init__(self) -> None:
        self._values: MutableMapping[bytes, bytes] = cast("MutableMapping[bytes, bytes]", LRU(RECENT_VALUES))
        self._lock = threading.Lock()
        self.generation = 0

    def get(self, generation: int, key: bytes) -> bytes | None:
        """A value (empty: known to be nothing), None if it is not remembered."""
        value = self._values.get(key)
        return value if self.generation == generation else None

    def put(self, generation: int, key: bytes, value: bytes) -> None:
        with self._lock:
            if self.generation == generation:
                self._values[key] = value

    def move(self, changed: MutableMapping[bytes, bytes]) -> int:
        """The base moved and these values changed; the new generation."""
        with self._lock:
            self.generation += 1
            for key, value in changed.items():
                self._values[key] = value
            return self.generation


class FlatReader:
    """Reads the state of one block from the flat tables; its tries from their nodes. Implements `StateReader`."""

    def __init__(
        self,
        database: StateDatabase,
        view: FlatView,
        recent: RecentValues,
        root: bytes,
        number: int | None,
        overlay: Sequence[StateDiff] = (),
        pruned: Callable[[], StatePruned | None] = lambda: None,
    ) -> None:
        """`number` is that of the canonical block to start from, None for the base; `overlay` holds what the
        branch from there to the block changed, newest first. `pruned` gives the error for a trie node that is not
        stored, None if nothing explains that."""
        self._database = database
        self._view = view
        self._recent = recent
        self._root = root
        self._number = number
        self._overlay = overlay
        self._pruned = pruned

    @property
    def root(self) -> bytes:
        return self._root

    @property
    def view(self) -> FlatView:
        return self._view

    def account(self, address: bytes) -> Account | None:
        key = hashed_address(address)
        for diff in self._overlay:
            raw = diff.accounts.get(key)
            if raw is not None:
                break
        else:
            raw = self._value(b"a" + key)
        return _decoded_account(raw) if raw else None

    def storage(self, address: bytes, storage_root: bytes, slot: int) -> int:
        """`storage_root` is the account's in this state, or that of nothing."""
        if storage_root == EMPTY_ROOT:
            return 0
        owner, key = hashed_address(address), keccak256(slot.to_bytes(32, "big"))
        for diff in self._overlay:
            slots = diff.slots.get(owner)
            if slots is not None:
                raw = slots.get(key)
                if raw is not None:
                    return decode_word(raw)
        return decode_word(self._value(b"s" + owner + key))

    def _value(self, key: bytes) -> bytes:
        view = self._view
        if self._number is not None:
            replaced = view.replaced_after(key, self._number)
            if replaced is not None:
                return replaced
        value = self._recent.get(view.generation, key)
        if value is None:
            value = view.value(key)
            self._recent.put(view.generation, key, value)
        return value

    def code(self, code_hash: bytes) -> bytes:
        return self._database.code(code_hash)

    def account_trie(self) -> Trie:
        """Its use raises `StatePruned` where the store keeps only what blocks replaced."""
        return Trie(self._node, self._root, self._database.nodes)

    def storage_trie(self, address: bytes, storage_root: bytes) -> Trie:
        """As `account_trie`."""
        return Trie(self._node, storage_root, self._database.nodes, hashed_address(address))

    def _node(self, key: bytes) -> bytes | None:
        node = self._database.node(key)
        if node is None:  # pruned since this reader was made, or before
            node = self._view.snapshot.get(b"n" + key)
        if node is None:
            error = self._pruned()
            if error is not None:
                raise error
        return node
