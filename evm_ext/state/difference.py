"""What differs between two states, from their tries alone: only the parts that differ are read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from openledger.evm_ext.state.account import EMPTY_ACCOUNT, decode_account
from openledger.evm_ext.state.changes import DELETED, StateDiff
from openledger.evm_ext.trie import EMPTY_ROOT, NodeSource, child_by_digit, load_item


def state_difference(source: NodeSource, old_root: bytes, new_root: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(flat key, old value, new value) of every account and storage word that two states do not share; a value is
    empty where a state has none. Raises `MissingTrieNode`, `DamagedTrieNode`."""
    for key, old, new in trie_difference(source, old_root, new_root, b""):
        yield b"a" + key, old, new
        old_storage = (decode_account(old) if old else EMPTY_ACCOUNT).storage_root
        new_storage = (decode_account(new) if new else EMPTY_ACCOUNT).storage_root
        for slot, old_word, new_word in trie_difference(source, old_storage, new_storage, key):
            yield b"s" + key + slot, old_word, new_word


def diff_of_tries(source: NodeSource, old_root: bytes, new_root: bytes) -> StateDiff:
    """The diff that leads from one state to another; it does not say which nodes it wrote and replaced."""
    accounts: dict[bytes, bytes] = {}
    slots: dict[bytes, dict[bytes, bytes]] = {}
    for key, _, new in state_difference(source, old_root, new_root):
        if len(key) == 33:
            accounts[key[1:]] = new
        else:
            slots.setdefault(key[1:33], {})[key[33:]] = new
    return StateDiff(accounts, slots)


def trie_difference(
    source: NodeSource, old_root: bytes, new_root: bytes, owner: bytes
) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(key, old value, new value) of what two tries of one owner do not share, in the order of keys."""
    stack: list[tuple[str, Any, Any]] = [("", _reference(old_root), _reference(new_root))]
    while stack:
        path, old, new = stack.pop()
        if old == new:
            continue
        old_value, old_children = child_by_digit(load_item(source, old, owner))
        new_value, new_children = child_by_digit(load_item(source, new, owner))
        if old_value != new_value:
            yield bytes.fromhex(path), old_value or DELETED, new_value or DELETED
        for digit in sorted(old_children.keys() | new_children.keys(), reverse=True):
            stack.append((path + digit, old_children.get(digit), new_children.get(digit)))


def _reference(root: bytes) -> bytes | None:
    return None if root == EMPTY_ROOT else root
