"""`Trie`: lookups, updates and proofs.

Updates are collected on decoded nodes and every changed node is encoded and hashed once, at `commit`:
that is what makes a block's state root cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from openledger.evm_ext import encoding
from openledger.evm_ext.encoding import EMPTY_STRING, encode_bytes, encode_sequence
from openledger.evm_ext.trie.nodes import Branch, Extension, Leaf, item_of, node_from_item
from openledger.evm_ext.trie.paths import decode_path, encode_path, shared_length
from openledger.evm_ext.trie.stored import EMPTY_ROOT, MissingTrieNode, NodeSource, load, lookup, lookup_item, walk
from openledger.genesis.hashing import keccak256


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
            if type(node) is Leaf:
                return node.value if node.path == path else None
            if type(node) is Extension:
                if not path.startswith(node.path):
                    return None
                path = path[len(node.path) :]
                node = node.child
            elif type(node) is Branch:
                if not path:
                    return node.value or None
                node = node.children[int(path[0], 16)]
                path = path[1:]
            else:
                return lookup_item(self._source, self._cache, node, path, self._owner)
        return None

    def set(self, key: bytes, value: bytes) -> None:
        """Give a key a value; empty bytes delete it."""
        if value:
            self._root = self._insert(self._root, key.hex(), value)
        else:
            self.delete(key)

    def update(self, items: Mapping[bytes, bytes]) -> None:
        """Give many keys of one length their (non-empty) values: as `set` for each, but every node is gone through once."""
        paths = sorted((key.hex(), value) for key, value in items.items())
        if paths:
            self._root = self._insert_many(self._root, paths, 0, len(paths), 0)

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
            prefix, is_leaf = decode_path(item[0])
            if is_leaf or not path.startswith(prefix):
                return proof
            reference, path = item[1], path[len(prefix) :]

    # --- updates on decoded nodes -------------------------------------------------------------------

    def _resolve(self, node: Any) -> Any:
        """A node that may be changed, from a hash, a decoded item or a node."""
        if type(node) is bytes:
            return node_from_item(load(self._source, self._cache, node, self._owner))
        if type(node) is list:
            return node_from_item(node)
        return node

    def _insert(self, node: Any, path: str, value: bytes) -> Any:
        if not node:
            return Leaf(path, value)
        self._replace(node)
        node = self._resolve(node)
        kind = type(node)
        if kind is Branch:
            if not path:
                node.value = value
            else:
                index = int(path[0], 16)
                node.put(index, self._insert(node.children[index], path[1:], value))
            return node
        own = node.path
        if kind is Leaf and own == path:
            node.value = value
            return node
        shared = shared_length(own, path)
        if kind is Extension and shared == len(own):
            node.child = self._insert(node.child, path[shared:], value)
            return node
        branch = Branch([b""] * 16, b"")
        if kind is Leaf:
            if shared == len(own):
                branch.value = node.value
            else:
                branch.put(int(own[shared], 16), Leaf(own[shared + 1 :], node.value))
        else:
            rest = own[shared + 1 :]
            branch.put(int(own[shared], 16), Extension(rest, node.child) if rest else node.child)
        if shared == len(path):
            branch.value = value
        else:
            branch.put(int(path[shared], 16), Leaf(path[shared + 1 :], value))
        return Extension(path[:shared], branch) if shared else branch

    def _insert_many(self, node: Any, items: list[tuple[str, bytes]], low: int, high: int, depth: int) -> Any:
        """Sorted items[low:high], whose paths share their first `depth` digits."""
        first, value = items[low]
        if high - low == 1:
            return self._insert(node, first[depth:], value)
        if node:
            self._replace(node)
            branch = self._resolve(node)
            if type(branch) is not Branch:
                for path, value in items[low:high]:
                    branch = self._insert(branch, path[depth:], value)
                return branch
            shared = 0
        else:
            branch = Branch([b""] * 16, b"")
            shared = shared_length(first[depth:], items[high - 1][0][depth:])
        below = depth + shared
        start = low
        while start < high:
            digit = items[start][0][below]
            stop = start + 1
            while stop < high and items[stop][0][below] == digit:
                stop += 1
            index = int(digit, 16)
            branch.put(index, self._insert_many(branch.children[index], items, start, stop, below + 1))
            start = stop
        return Extension(first[depth:below], branch) if shared else branch

    def _remove(self, node: Any, path: str) -> Any:
        if not node:
            return node
        original = node
        node = self._resolve(node)
        kind = type(node)
        if kind is Leaf:
            if node.path != path:
                return original
            self._replace(original)
            return None
        if kind is Extension:
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
            node.put(index, changed)
        self._replace(original)
        return self._collapse_branch(node)

    def _replace(self, node: Any) -> None:
        """Note that the trie does not contain a node any more, if that node is a stored one."""
        if type(node) is bytes:
            self._replaced.append(self._owner + node)

    def _collapse_branch(self, branch: Branch) -> Any:
        present = [index for index, child in enumerate(branch.children) if child]
        if len(present) + bool(branch.value) > 1:
            return branch
        if not present:
            return Leaf("", branch.value) if branch.value else None
        index = present[0]
        return self._merge_extension(Extension(f"{index:x}", branch.children[index]))

    def _merge_extension(self, extension: Extension) -> Any:
        """An extension whose child was changed: joined with a leaf or an extension below it."""
        if not extension.child:
            return None
        child = self._resolve(extension.child)
        if type(child) is Branch:
            extension.child = child if type(extension.child) is not bytes else extension.child
            return extension
        self._replace(extension.child)
        if type(child) is Leaf:
            return Leaf(extension.path + child.path, child.value)
        return Extension(extension.path + child.path, child.child)

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
        if kind is Leaf:
            path = encode_path(node.path, True)
            return encode_sequence((encode_bytes(path), encode_bytes(node.value))), [path, node.value]
        if kind is Extension:
            path = encode_path(node.path, False)
            reference = self._reference(node.child, nodes)
            return encode_sequence((encode_bytes(path), reference)), [path, item_of(reference)]
        return self._encode_branch(node, nodes)

    def _encode_branch(self, branch: Branch, nodes: MutableMapping[bytes, bytes]) -> tuple[bytes, Any]:
        children = branch.children
        for index in branch.changed:
            child = children[index]
            if child and type(child) is not bytes:
                reference = self._reference(child, nodes)
                children[index] = reference[1:] if len(reference) == 33 else item_of(reference)
        try:
            # Nearly always all that is there is a hash.
            if all(children):
                payload = b"\xa0" + b"\xa0".join(children)
            else:
                payload = b"".join([b"\xa0" + child if child else EMPTY_STRING for child in children])
        except TypeError:
            payload = b"".join(
                [
                    encoding.encode(child) if type(child) is list else b"\xa0" + child if child else EMPTY_STRING
                    for child in children
                ]
            )
        return encode_sequence((payload, encode_bytes(branch.value))), [*children, branch.value]
