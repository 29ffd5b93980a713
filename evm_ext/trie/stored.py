"""Stored nodes: where they come from, and reading a trie without changing it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, MutableMapping
from typing import Any, TypeAlias

from openledger.evm_ext import encoding
from openledger.evm_ext.encoding import EMPTY_STRING
from openledger.evm_ext.errors import DatabaseCorrupt
from openledger.evm_ext.trie.paths import decode_path, encode_path
from openledger.genesis.hashing import keccak256

EMPTY_ROOT = keccak256(EMPTY_STRING)

NodeSource: TypeAlias = Callable[[bytes], "bytes | None"]
"""Gives the encoding of the node with a key, `owner || hash`, None if it is not stored.

The owner is empty for the account trie and the hashed address for a storage trie. So every node belongs to one place:
keys of a trie are hashes themselves, and two different places below them never hold the same node."""


class MissingTrieNode(DatabaseCorrupt):
    """A node that the trie refers to is not stored: the database lacks part of this state."""

    def __init__(self, node_hash: bytes, owner: bytes = b"") -> None:
        where = f" (storage of the account with hash 0x{owner.hex()})" if owner else ""
        super().__init__(f"missing trie node {node_hash.hex()}{where}: it is not stored")
        self.node_hash = node_hash


class DamagedTrieNode(DatabaseCorrupt):
    """What is stored for a trie node is not what was written."""

    def __init__(self, node_hash: bytes, owner: bytes = b"") -> None:
        where = f" (storage of the account with hash 0x{owner.hex()})" if owner else ""
        super().__init__(f"trie node 0x{node_hash.hex()}{where} is damaged: what is stored has another hash")
        self.node_hash = node_hash


def lookup(
    source: NodeSource, cache: MutableMapping[bytes, Any], root: bytes, path: str, owner: bytes = b""
) -> bytes | None:
    """The value at `path` (hex digits) below a stored root; None if there is none.

    Raises `MissingTrieNode`. Touches only `source` and `cache`, so any thread may call it."""
    if root == EMPTY_ROOT:
        return None
    return lookup_item(source, cache, load(source, cache, root, owner), path, owner)


def lookup_item(
    source: NodeSource, cache: MutableMapping[bytes, Any], item: Any, path: str, owner: bytes
) -> bytes | None:
    position = 0
    while True:
        if len(item) == 17:
            if position == len(path):
                return item[16] or None
            child = item[int(path[position], 16)]
            position += 1
        else:
            prefix, is_leaf = decode_path(item[0])
            if is_leaf:
                return item[1] if path[position:] == prefix else None
            if not path.startswith(prefix, position):
                return None
            position += len(prefix)
            child = item[1]
        if not child:
            return None
        item = load(source, cache, child, owner) if type(child) is bytes else child


def load(source: NodeSource, cache: MutableMapping[bytes, Any], node_hash: bytes, owner: bytes) -> Any:
    item = cache.get(node_hash)
    if item is None:
        item = encoding.decode(checked(source, node_hash, owner))
        cache[node_hash] = item
    return item


def checked(source: NodeSource, node_hash: bytes, owner: bytes) -> bytes:
    """A node as it is stored, if it is stored and still what it was."""
    raw = source(owner + node_hash)
    if raw is None:
        raise MissingTrieNode(node_hash, owner)
    if keccak256(raw) != node_hash:
        raise DamagedTrieNode(node_hash, owner)
    return raw


def walk(
    source: NodeSource, root: bytes, owner: bytes = b"", start: str = "", skip: Collection[bytes] = ()
) -> Iterator[tuple[str, bytes, bytes | None]]:
    """Every node below a stored root, in the order of paths: (path, hash, None) of a node that is stored by itself,
    (path, b"", value) for each value at `start` or behind it; only nodes on the way there, and nothing below nodes
    whose keys are in `skip`.

    Raises `MissingTrieNode`, `DamagedTrieNode`."""
    stack: list[tuple[str, Any]] = [("", root)] if root and root != EMPTY_ROOT else []
    while stack:
        path, item = stack.pop()
        if path < start[: len(path)]:
            continue
        if type(item) is bytes:
            if owner + item in skip:
                continue
            encoded = checked(source, item, owner)
            yield path, item, None
            item = encoding.decode(encoded)
        if len(item) == 17:
            if item[16] and path >= start:
                yield path, b"", item[16]
            stack.extend((path + f"{index:x}", item[index]) for index in range(15, -1, -1) if item[index])
            continue
        prefix, is_leaf = decode_path(item[0])
        if not is_leaf:
            stack.append((path + prefix, item[1]))
        elif path + prefix >= start:
            yield path + prefix, b"", item[1]


def load_item(source: NodeSource, reference: Any, owner: bytes = b"") -> Any:
    """The decoded node that a reference (a hash, an embedded node, None) stands for. Raises as `walk`."""
    return encoding.decode(checked(source, reference, owner)) if type(reference) is bytes else reference


def child_by_digit(item: Any) -> tuple[bytes, dict[str, Any]]:
    """The value at a decoded node and its children by the next digit of the path, as if it were a branch."""
    if item is None:
        return b"", {}
    if len(item) == 17:
        return item[16], {f"{index:x}": child for index, child in enumerate(item[:16]) if child}
    path, is_leaf = decode_path(item[0])
    if not path:
        return item[1], {}
    if not is_leaf and len(path) == 1:
        return b"", {path: item[1]}
    return b"", {path[0]: [encode_path(path[1:], is_leaf), item[1]]}
