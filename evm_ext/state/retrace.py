"""The tries of an old state, from those of a newer one and the values that have to be put back."""

from __future__ import annotations

from collections.abc import Mapping

from openledger.evm_ext.errors import DatabaseCorrupt
from openledger.evm_ext.state.account import EMPTY_ACCOUNT, Account, decode_account
from openledger.evm_ext.trie import NodeSource, Trie


def retrace(source: NodeSource, root: bytes, values: Mapping[bytes, bytes], expected_root: bytes) -> dict[bytes, bytes]:
    """The trie nodes, by key, that a state lacks whose values differ from those under `root` by `values`: flat keys,
    empty where there was nothing.

    Raises `DatabaseCorrupt` if the roots of the old state do not come out."""
    nodes: dict[bytes, bytes] = {}
    slots: dict[bytes, dict[bytes, bytes]] = {}
    for key, value in values.items():
        if key[:1] == b"s":
            slots.setdefault(key[1:33], {})[key[33:]] = value
    trie = Trie(source, root)
    for owner, changed in slots.items():
        before, after = _account(trie.get(owner)), _account(values.get(b"a" + owner, b""))
        storage = Trie(source, before.storage_root, owner=owner)
        for set_first in (True, False):
            for slot, word in changed.items():
                if bool(word) is set_first:
                    storage.set(slot, word)
        storage_root = storage.commit(nodes)
        if storage_root != after.storage_root:
            raise DatabaseCorrupt(
                f"the history of the account with hash 0x{owner.hex()} leads to the storage root "
                f"0x{storage_root.hex()}, not 0x{after.storage_root.hex()}"
            )
    for set_first in (True, False):
        for key, value in values.items():
            if key[:1] == b"a" and bool(value) is set_first:
                trie.set(key[1:], value)
    found = trie.commit(nodes)
    if found != expected_root:
        raise DatabaseCorrupt(f"history leads to the state root 0x{found.hex()}, not 0x{expected_root.hex()}")
    return nodes


def _account(raw: bytes | None) -> Account:
    return decode_account(raw) if raw else EMPTY_ACCOUNT
