"""Where the state of a block is read from.

`StateReader` is the seam: execution, calls and proofs know nothing else of how state is kept. `TrieReader` needs
nothing but trie nodes; `flat.FlatReader` takes accounts and words from flat tables.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from lru import LRU

from openledger.evm_ext import encoding
from openledger.evm_ext.errors import DatabaseCorrupt
from openledger.evm_ext.state.account import EMPTY_CODE_HASH, Account, decode_account
from openledger.evm_ext.trie import EMPTY_ROOT, NodeSource, Trie, lookup
from openledger.genesis.hashing import keccak256

NODE_CACHE_ENTRIES = 32_768
CODE_CACHE_ENTRIES = 1_024


class MissingCode(DatabaseCorrupt):
    """An account has code that is not stored."""


class StateReader(Protocol):
    """One state, fixed forever. Every method may be called from any thread."""

    @property
    def root(self) -> bytes: ...

    def account(self, address: bytes) -> Account | None:
        """The account, None if there is none."""

    def storage(self, address: bytes, storage_root: bytes, slot: int) -> int:
        """A storage word of an account with that storage root; 0 if nothing is there."""

    def code(self, code_hash: bytes) -> bytes:
        """The code with this hash."""

    def account_trie(self) -> Trie:
        """The state trie, to be changed and committed."""

    def storage_trie(self, address: bytes, storage_root: bytes) -> Trie:
        """An account's storage trie, to be changed and committed."""


def _node_cache() -> MutableMapping[bytes, Any]:
    return cast(MutableMapping[bytes, Any], LRU(NODE_CACHE_ENTRIES))


def _code_cache() -> MutableMapping[bytes, bytes]:
    return cast(MutableMapping[bytes, bytes], LRU(CODE_CACHE_ENTRIES))


@dataclass(frozen=True)
class StateDatabase:
    """Sources of trie nodes and code, with the caches all readers share."""

    node: NodeSource
    load_code: NodeSource
    nodes: MutableMapping[bytes, Any] = field(default_factory=_node_cache)
    codes: MutableMapping[bytes, bytes] = field(default_factory=_code_cache)

    def reader(self, root: bytes) -> TrieReader:
        return TrieReader(self, root)

    def code(self, code_hash: bytes) -> bytes:
        """Raises `MissingCode`."""
        if code_hash == EMPTY_CODE_HASH:
            return b""
        code = self.codes.get(code_hash)
        if code is None:
            code = self.load_code(code_hash)
            if code is None:
                raise MissingCode(f"the code with hash 0x{code_hash.hex()} is not stored")
            self.codes[code_hash] = code
        return code


class TrieReader:
    """Reads a state from its trie. Implements `StateReader`."""

    def __init__(self, database: StateDatabase, root: bytes) -> None:
        self._database = database
        self._root = root

    @property
    def root(self) -> bytes:
        return self._root

    def account(self, address: bytes) -> Account | None:
        raw = lookup(self._database.node, self._database.nodes, self._root, keccak256(address).hex())
        return None if raw is None else decode_account(raw)

    def storage(self, address: bytes, storage_root: bytes, slot: int) -> int:
        if storage_root == EMPTY_ROOT:
            return 0
        path = keccak256(slot.to_bytes(32, "big")).hex()
        raw = lookup(self._database.node, self._database.nodes, storage_root, path, keccak256(address))
        return 0 if raw is None else encoding.to_uint(encoding.decode(raw))

    def code(self, code_hash: bytes) -> bytes:
        return self._database.code(code_hash)

    def account_trie(self) -> Trie:
        return Trie(self._database.node, self._root, self._database.nodes)

    def storage_trie(self, address: bytes, storage_root: bytes) -> Trie:
        return Trie(self._database.node, storage_root, self._database.nodes, keccak256(address))
