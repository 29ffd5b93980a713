"""`openledger db prune`: old states of a closed store removed by marking what is wanted and deleting the rest.

A node that prunes as it goes leaves only what died branches wrote; this finds that, and it is the way from an archive
to a pruned store. The mark of the first whole state is on disk before anything is deleted, so an interruption at any
moment leaves a sound store, and running it again goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from openledger.evm_ext.block import Header
from openledger.evm_ext.database import REPAIR_HINT
from openledger.evm_ext.errors import DatabaseCorrupt
from openledger.evm_ext.integrity import Progress, no_progress
from openledger.evm_ext.state.account import decode_account
from openledger.evm_ext.state.flat import history_key
from openledger.evm_ext.state.policy import StateHistory
from openledger.evm_ext.store import Store, number_key
from openledger.evm_ext.trie import walk

_BATCH_ENTRIES = 5_000
_REPORT_EVERY = 10_000


@dataclass(frozen=True)
class Swept:
    """What was removed, and the size of the folder before and after."""

    nodes: int
    blocks: int
    changes: int
    bytes_before: int
    bytes_after: int
    first_whole: int
    first_readable: int


def sweep(store: Store, policy: StateHistory, progress: Progress = no_progress) -> Swept:
    """Remove every trie node that no kept state has, and changes and dead branches as old as the policy says.

    Kept are the states of `policy.keep_blocks` blocks below the finalized head and of all blocks above it. The keys
    of all nodes of those are held in memory: about 150 bytes for each account and each slot.

    Raises `MissingTrieNode`, `DamagedTrieNode` and other `DatabaseCorrupt`; nothing was deleted then."""
    before = store.database.size_bytes()
    finalized = _head(store, "finalized")
    first_whole = max(store.number_mark("pruned") or 0, finalized.number - policy.keep_blocks, 0)
    first_readable = max(store.number_mark("history") or 0, min(finalized.number - policy.keep_changes, first_whole), 0)
    wanted = _wanted(store, first_whole, progress)
    with store.database.batch(sync=True) as batch:
        batch.put(b"mpruned", number_key(first_whole))
    nodes = 0
    for keys in _groups(key for key in store.database.keys(b"n", b"o") if key[1:] not in wanted):
        nodes += len(keys)
        with store.database.batch() as batch:
            for key in keys:
                batch.delete(key)
        progress("deleted nodes", nodes, 0)
    changes, blocks = _drop_changes(store, first_readable, progress)
    store.database.compact()
    return Swept(nodes, blocks, changes, before, store.database.size_bytes(), first_whole, first_readable)


def _head(store: Store, label: str) -> Header:
    block_hash = store.head(label)
    header = None if block_hash is None else store.header(block_hash)
    if header is None:
        raise DatabaseCorrupt(f"the {label} head in {store.path} is missing: {REPAIR_HINT}")
    return header


def _wanted(store: Store, first_whole: int, progress: Progress) -> set[bytes]:
    """The keys, without their letter, of all nodes of kept states."""
    wanted: set[bytes] = set()
    # Branches that left the chain below `first_whole` may have lost nodes already; they are dead.
    living: set[bytes] = set()
    for number, block_hash in store.blocks_from(first_whole):
        header = store.header(block_hash)
        if header is None:
            raise DatabaseCorrupt(f"block {number} (0x{block_hash.hex()}) is missing: {REPAIR_HINT}")
        canonical = store.canonical_hash(number) == block_hash
        if (number == first_whole and not canonical) or (number > first_whole and header.parent_hash not in living):
            continue
        living.add(block_hash)
        _mark_state(store, header, wanted, progress)
    return wanted


def _mark_state(store: Store, header: Header, wanted: set[bytes], progress: Progress) -> None:
    for path, node_hash, raw in walk(store.node, header.state_root, skip=wanted):
        if raw is None:
            wanted.add(node_hash)
        else:
            owner = bytes.fromhex(path)
            for _, storage_hash, word in walk(store.node, decode_account(raw).storage_root, owner, skip=wanted):
                if word is None:
                    wanted.add(owner + storage_hash)
                    if store.has_ownerless_nodes:
                        wanted.add(storage_hash)
        if len(wanted) % _REPORT_EVERY == 0:
            progress("marked nodes", len(wanted), 0)


def _drop_changes(store: Store, first_readable: int, progress: Progress) -> tuple[int, int]:
    """History entries, diffs and dead blocks up to `first_readable`: how many entries, how many blocks."""
    changes = blocks = 0
    for number, block_hash in store.blocks_from(0, first_readable + 1):
        canonical = store.canonical_hash(number) == block_hash
        diff = store.diff(block_hash)
        with store.database.batch() as batch:
            if not canonical:
                store.delete_block(batch, number, block_hash)
                blocks += 1
            elif diff is not None and number:
                for key, _ in diff.flat():
                    batch.delete(history_key(key, number))
                    changes += 1
                batch.delete(b"d" + block_hash)
            batch.put(b"mhistory", number_key(max(number, store.number_mark("history") or 0)))
        progress("dropped changes", number, first_readable)
    return changes, blocks


def _groups(keys: Iterator[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    for key in keys:
        group.append(key)
        if len(group) == _BATCH_ENTRIES:
            yield group
            group = []
    if group:
        yield group
