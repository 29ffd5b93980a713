"""Merkle-Patricia tries: lookups, batched updates, bulk roots of ordered lists, and proofs.

Updates are collected on decoded nodes and every changed node is encoded and hashed once, at `commit`:
that is what makes a block's state root cheap. Paths are strings of hex digits, one per nibble.
Source: Yellow Paper, appendix D. The tests compare with the `trie` library.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

from openledger.evm_ext import encoding
from openledger.evm_ext.encoding import EMPTY_STRING, encode_bytes, encode_sequence, encode_uint
from openledger.evm_ext.errors import DatabaseCorrupt
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


class Trie:
    """One trie, read from `source` and changed in memory until `commit`.

    Keys are used as they are (callers hash them); values are non-empty bytes. Not safe for concurrent
    use. `cache` holds decoded nodes by hash and may be shared between tries and threads.
    """

    def __init__(
        self,
        source: NodeSource,
        root: bytes,
        cache: MutableMapping[bytes, Any] | None = None,
        owner: bytes = b"",
    ) -> None:
        self._source = source
        self._owner = owner
        self._replaced: list[bytes] = []
        self._cache: MutableMapping[bytes, Any] = {} if cache is None else cache
        self._root: Any = None if root == EMPTY_ROOT else root

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, None if it has none. Sees updates that are not committed."""
        node = self._root
        path = key.hex()
        while node:
            if type(node) is bytes:
                return lookup(self._source, self._cache, node, path, self._owner)
            if type(node) is _Leaf:
                return node.value if node.path == path else None
            if type(node) is _Extension:
                if not path.startswith(node.path):
                    return None
                path = path[len(node.path) :]
                node = node.child
            elif type(node) is _Branch:
                if not path:
                    return node.value or None
                node = node.children[int(path[0], 16)]
                path = path[1:]
            else:
                return _lookup_item(self._source, self._cache, node, path, self._owner)
        return None

    def set(self, key: bytes, value: bytes) -> None:
        """Give a key a value; empty bytes delete it."""
        if value:
            self._root = self._insert(self._root, key.hex(), value)
        else:
            self.delete(key)

    def delete(self, key: bytes) -> None:
        """Take a key away; a key that has no value is left alone."""
        self._root = self._remove(self._root, key.hex())

    def commit(self, nodes: MutableMapping[bytes, bytes]) -> bytes:
        """The root after all updates. Every changed node of 32 bytes or more goes to `nodes` by its key."""
        root = self._root
        if root is None:
            return EMPTY_ROOT
        if type(root) is bytes:
            return root
        encoded, item = self._encode(root, nodes)
        digest = keccak256(encoded)
        nodes[self._owner + digest] = encoded
        self._cache[digest] = item
        self._root = digest
        return digest

    @property
    def replaced(self) -> list[bytes]:
        """Keys of the stored nodes that the trie after `commit` does not contain where it had them before.

        One that was given back its old content is in `commit`'s nodes too, and has to be kept."""
        return self._replaced

    def entries(self, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All keys from `start` on and their values, of a committed trie, in the order of the keys."""
        root = b"" if self._root is None else self._root
        for path, _, value in walk(self._source, root, self._owner, start.hex()):
            if value is not None:
                yield bytes.fromhex(path), value

    def node_keys(self) -> Iterator[bytes]:
        """The keys of all nodes of a committed trie."""
        for _, node_hash, _ in walk(self._source, b"" if self._root is None else self._root, self._owner):
            if node_hash:
                yield self._owner + node_hash

    def proof(self, key: bytes) -> list[bytes]:
        """Encoded nodes from the root towards the key, for a committed trie (EIP-1186); embedded nodes
        are inside their parents. Proves absence too. Empty for the empty trie."""
        if self._root is None:
            return []
        path = key.hex()
        proof: list[bytes] = []
        reference: Any = self._root
        while True:
            if type(reference) is bytes:
                raw = self._source(self._owner + reference)
                if raw is None:
                    raise MissingTrieNode(reference, self._owner)
                proof.append(raw)
                item: Any = encoding.decode_list(raw)
            else:
                item = reference
            if len(item) == 17:
                if not path or not item[int(path[0], 16)]:
                    return proof
                reference, path = item[int(path[0], 16)], path[1:]
                continue
            prefix, is_leaf = _decode_path(item[0])
            if is_leaf or not path.startswith(prefix):
                return proof
            reference, path = item[1], path[len(prefix) :]

    # --- updates on decoded nodes -------------------------------------------------------------------

    def _resolve(self, node: Any) -> Any:
        """A node that may be changed, from a hash, a decoded item or a node."""
        if type(node) is bytes:
            return _node_from_item(_load(self._source, self._cache, node, self._owner))
        if type(node) is list:
            return _node_from_item(node)
        return node

    def _insert(self, node: Any, path: str, value: bytes) -> Any:
        if not node:
            return _Leaf(path, value)
        self._replace(node)
        node = self._resolve(node)
        kind = type(node)
        if kind is _Branch:
            if not path:
                node.value = value
            else:
                index = int(path[0], 16)
                node.children[index] = self._insert(node.children[index], path[1:], value)
            return node
        own = node.path
        if kind is _Leaf and own == path:
            node.value = value
            return node
        shared = _shared_length(own, path)
        if kind is _Extension and shared == len(own):
            node.child = self._insert(node.child, path[shared:], value)
            return node
        branch = _Branch([None] * 16, b"")
        if kind is _Leaf:
            if shared == len(own):
                branch.value = node.value
            else:
                branch.children[int(own[shared], 16)] = _Leaf(own[shared + 1 :], node.value)
        else:
            rest = own[shared + 1 :]
            branch.children[int(own[shared], 16)] = _Extension(rest, node.child) if rest else node.child
        if shared == len(path):
            branch.value = value
        else:
            branch.children[int(path[shared], 16)] = _Leaf(path[shared + 1 :], value)
        return _Extension(path[:shared], branch) if shared else branch

    def _remove(self, node: Any, path: str) -> Any:
        if not node:
            return node
        original = node
        node = self._resolve(node)
        kind = type(node)
        if kind is _Leaf:
            if node.path != path:
                return original
            self._replace(original)
            return None
        if kind is _Extension:
            if not path.startswith(node.path):
                return original
            child = self._remove(node.child, path[len(node.path) :])
            if child is node.child:
                return original
            self._replace(original)
            node.child = child
            return self._merge_extension(node)
        if not path:
            if not node.value:
                return original
            node.value = b""
        else:
            index = int(path[0], 16)
            child = node.children[index]
            changed = self._remove(child, path[1:])
            if changed is child and (not child or type(child) in (bytes, list)):
                return original
            node.children[index] = changed
        self._replace(original)
        return self._collapse_branch(node)

    def _replace(self, node: Any) -> None:
        """Note that the trie does not contain a node any more, if that node is a stored one."""
        if type(node) is bytes:
            self._replaced.append(self._owner + node)

    def _collapse_branch(self, branch: _Branch) -> Any:
        present = [index for index, child in enumerate(branch.children) if child]
        if len(present) + bool(branch.value) > 1:
            return branch
        if not present:
            return _Leaf("", branch.value) if branch.value else None
        index = present[0]
        return self._merge_extension(_Extension(f"{index:x}", branch.children[index]))

    def _merge_extension(self, extension: _Extension) -> Any:
        """An extension whose child was changed: joined with a leaf or an extension below it."""
        if not extension.child:
            return None
        child = self._resolve(extension.child)
        if type(child) is _Branch:
            extension.child = child if type(extension.child) is not bytes else extension.child
            return extension
        self._replace(extension.child)
        if type(child) is _Leaf:
            return _Leaf(extension.path + child.path, child.value)
        return _Extension(extension.path + child.path, child.child)

    # --- encoding -----------------------------------------------------------------------------------

    def _reference(self, node: Any, nodes: MutableMapping[bytes, bytes]) -> bytes:
        if not node:
            return EMPTY_STRING
        if type(node) is bytes:
            return b"\xa0" + node
        if type(node) is list:
            return encoding.encode(node)
        encoded, item = self._encode(node, nodes)
        if len(encoded) < 32:
            return encoded
        digest = keccak256(encoded)
        nodes[self._owner + digest] = encoded
        # The next block goes through the nodes that this one made.
        self._cache[digest] = item
        return b"\xa0" + digest

    def _encode(self, node: Any, nodes: MutableMapping[bytes, bytes]) -> tuple[bytes, Any]:
        """The encoding of a node and the item it stands for, as `encoding.decode` would give it."""
        kind = type(node)
        if kind is list:
            return encoding.encode(node), node
        if kind is _Leaf:
            path = _encode_path(node.path, True)
            return encode_sequence((encode_bytes(path), encode_bytes(node.value))), [path, node.value]
        if kind is _Extension:
            path = _encode_path(node.path, False)
            reference = self._reference(node.child, nodes)
            return encode_sequence((encode_bytes(path), reference)), [path, _item(reference)]
        # Nearly all children are absent or unchanged: no call for them.
        parts = [
            EMPTY_STRING if not child else b"\xa0" + child if type(child) is bytes else self._reference(child, nodes)
            for child in node.children
        ]
        item: list[Any] = [
            b"" if part == EMPTY_STRING else part[1:] if len(part) == 33 else _item(part) for part in parts
        ]
        item.append(node.value)
        parts.append(encode_bytes(node.value))
        return encode_sequence(parts), item


def _item(reference: bytes) -> Any:
    """What a branch or an extension holds of a child: its hash, or the child itself where it is short."""
    return encoding.decode(reference)


class _Leaf:
    __slots__ = ("path", "value")

    def __init__(self, path: str, value: bytes) -> None:
        self.path = path
        self.value = value


class _Extension:
    __slots__ = ("child", "path")

    def __init__(self, path: str, child: Any) -> None:
        self.path = path
        self.child = child


class _Branch:
    """`children` are nodes, hashes, decoded nodes, or nothing: None, or the empty bytes of an encoded branch."""

    __slots__ = ("children", "value")

    def __init__(self, children: list[Any], value: bytes) -> None:
        self.children = children
        self.value = value


def lookup(
    source: NodeSource, cache: MutableMapping[bytes, Any], root: bytes, path: str, owner: bytes = b""
) -> bytes | None:
    """The value at `path` (hex digits) below a stored root; None if there is none.

    Raises `MissingTrieNode`. Touches only `source` and `cache`, so any thread may call it."""
    if root == EMPTY_ROOT:
        return None
    return _lookup_item(source, cache, _load(source, cache, root, owner), path, owner)


def _lookup_item(
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
            prefix, is_leaf = _decode_path(item[0])
            if is_leaf:
                return item[1] if path[position:] == prefix else None
            if not path.startswith(prefix, position):
                return None
            position += len(prefix)
            child = item[1]
        if not child:
            return None
        item = _load(source, cache, child, owner) if type(child) is bytes else child


def _load(source: NodeSource, cache: MutableMapping[bytes, Any], node_hash: bytes, owner: bytes) -> Any:
    item = cache.get(node_hash)
    if item is None:
        item = encoding.decode(_checked(source, node_hash, owner))
        cache[node_hash] = item
    return item


def _checked(source: NodeSource, node_hash: bytes, owner: bytes) -> bytes:
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
            encoded = _checked(source, item, owner)
            yield path, item, None
            item = encoding.decode(encoded)
        if len(item) == 17:
            if item[16] and path >= start:
                yield path, b"", item[16]
            stack.extend((path + f"{index:x}", item[index]) for index in range(15, -1, -1) if item[index])
            continue
        prefix, is_leaf = _decode_path(item[0])
        if not is_leaf:
            stack.append((path + prefix, item[1]))
        elif path + prefix >= start:
            yield path + prefix, b"", item[1]


def load_item(source: NodeSource, reference: Any, owner: bytes = b"") -> Any:
    """The decoded node that a reference (a hash, an embedded node, None) stands for. Raises as `walk`."""
    return encoding.decode(_checked(source, reference, owner)) if type(reference) is bytes else reference


def child_by_digit(item: Any) -> tuple[bytes, dict[str, Any]]:
    """The value at a decoded node and its children by the next digit of the path, as if it were a branch."""
    if item is None:
        return b"", {}
    if len(item) == 17:
        return item[16], {f"{index:x}": child for index, child in enumerate(item[:16]) if child}
    path, is_leaf = _decode_path(item[0])
    if not path:
        return item[1], {}
    if not is_leaf and len(path) == 1:
        return b"", {path: item[1]}
    return b"", {path[0]: [_encode_path(path[1:], is_leaf), item[1]]}


def _node_from_item(item: Any) -> _Leaf | _Extension | _Branch:
    if len(item) == 17:
        return _Branch(item[:16], item[16])
    path, is_leaf = _decode_path(item[0])
    return _Leaf(path, item[1]) if is_leaf else _Extension(path, item[1])


def _shared_length(left: str, right: str) -> int:
    limit = min(len(left), len(right))
    length = 0
    while length < limit and left[length] == right[length]:
        length += 1
    return length


def _encode_path(path: str, is_leaf: bool) -> bytes:
    """Hex-prefix encoding."""
    if len(path) & 1:
        return bytes.fromhex(("3" if is_leaf else "1") + path)
    return bytes.fromhex(("20" if is_leaf else "00") + path)


def _decode_path(encoded: bytes) -> tuple[str, bool]:
    digits = encoded.hex()
    flag = int(digits[0], 16)
    return digits[1:] if flag & 1 else digits[2:], bool(flag & 2)


# --- roots of lists -----------------------------------------------------------------------------------


def ordered_root(values: Sequence[bytes]) -> bytes:
    """Root of the trie from rlp(index) to the values: transactions, receipts, withdrawals."""
    if not values:
        return EMPTY_ROOT
    items = sorted((encode_uint(index).hex(), value) for index, value in enumerate(values))
    return keccak256(_bulk_encode(items, 0, len(items), 0))


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
        return encode_sequence((encode_bytes(_encode_path(first[depth:], True)), encode_bytes(value)))
    last = items[high - 1][0]
    shared = depth + _shared_length(first[depth:], last[depth:])
    if shared > depth:
        return encode_sequence(
            (
                encode_bytes(_encode_path(first[depth:shared], False)),
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
