"""Merkle-Patricia tries: lookups, batched updates, bulk roots of ordered lists, and proofs.

| file | is |
|---|---|
| `trie.py` | `Trie`: one trie that is read, changed in memory and committed |
| `nodes.py`, `paths.py` | what it changes; hex digits and their encoding |
| `stored.py` | nodes as the store has them: looked up, walked, checked |
| `roots.py` | roots of whole tries at once |

Source: Yellow Paper, appendices C and D. The tests compare with the `trie` library.
"""

from openledger.evm_ext.trie.roots import ordered_root, root_of
from openledger.evm_ext.trie.stored import (
    EMPTY_ROOT,
    DamagedTrieNode,
    MissingTrieNode,
    NodeSource,
    child_by_digit,
    load_item,
    lookup,
    walk,
)
from openledger.evm_ext.trie.trie import Trie

__all__ = [
    "EMPTY_ROOT",
    "DamagedTrieNode",
    "MissingTrieNode",
    "NodeSource",
    "Trie",
    "child_by_digit",
    "load_item",
    "lookup",
    "ordered_root",
    "root_of",
    "walk",
]
