"""Nodes that are being changed. A stored node is decoded into one of these when an update comes to it.

Beside them a reference is bytes (the hash of a stored node), a list (a decoded node that stands in its parent), or
nothing.
"""

from __future__ import annotations

from typing import Any

from openledger.evm_ext import encoding
from openledger.evm_ext.trie.paths import decode_path


class Leaf:
    __slots__ = ("path", "value")

    def __init__(self, path: str, value: bytes) -> None:
        self.path = path
        self.value = value


class Extension:
    __slots__ = ("child", "path")

    def __init__(self, path: str, child: Any) -> None:
        self.path = path
        self.child = child


class Branch:
    """`children` are nodes, hashes, decoded nodes, or nothing, which is empty bytes here. `changed` are the places of those
    that were put there since; a place may be named twice."""

    __slots__ = ("changed", "children", "value")

    def __init__(self, children: list[Any], value: bytes) -> None:
        self.children = children
        self.value = value
        self.changed: list[int] = []

    def put(self, index: int, child: Any) -> None:
        self.children[index] = child or b""
        self.changed.append(index)


def node_from_item(item: Any) -> Leaf | Extension | Branch:
    if len(item) == 17:
        return Branch(item[:16], item[16])
    path, is_leaf = decode_path(item[0])
    return Leaf(path, item[1]) if is_leaf else Extension(path, item[1])


def item_of(reference: bytes) -> Any:
    """What a branch or an extension holds of a child: its hash, or the child itself where it is short."""
    return encoding.decode(reference)
