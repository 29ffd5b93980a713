"""`States`: which states a store has, how they are read, and how the flat tables follow the head."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from lru import LRU

from openledger.evm_ext.block import Header
from openledger.evm_ext.database import REPAIR_HINT
from openledger.evm_ext.errors import DatabaseCorrupt, StatePruned
from openledger.evm_ext.state.changes import DELETED, StateDiff
from openledger.evm_ext.state.difference import diff_of_tries, state_difference
from openledger.evm_ext.state.flat import FlatReader, FlatView, RecentValues, history_key
from openledger.evm_ext.state.reader import StateDatabase, StateReader
from openledger.evm_ext.state.retrace import retrace
from openledger.evm_ext.store import Store, number_key
from openledger.evm_ext.trie import EMPTY_ROOT

MAX_OVERLAY_BLOCKS = 128
_RECENT_DIFFS = 64


@dataclass(frozen=True)
class HeadMove:
    """What the flat tables have to become for another unsafe head.

    `values` are the flat values that change, `writes` everything for the batch of the move, marks included."""

    head: Header
    first: int
    values: dict[bytes, bytes]
    writes: list[tuple[bytes, bytes | None]]


class States:
    """The states of one store. `reader` may be called from any thread, the rest under the chain's write lock."""

    def __init__(self, store: Store, header_of: Callable[[bytes], Header]) -> None:
        """`header_of` gives a stored header and raises `DatabaseCorrupt` for another hash.

        Raises `DatabaseCorrupt` if the flat tables do not belong to the unsafe head."""
        self._store = store
        self._header_of = header_of
        self._database = StateDatabase(self._node, store.code)
        self._diffs: MutableMapping[bytes, StateDiff] = cast("MutableMapping[bytes, StateDiff]", LRU(_RECENT_DIFFS))
        self._recent = RecentValues()
        self.first_whole = store.number_mark("pruned") or 0
        """The lowest number whose canonical block's tries are all stored."""
        base, first = store.mark("base"), store.number_mark("history")
        if base is None or first is None or base != store.head("unsafe"):
            raise DatabaseCorrupt(
                f"the flat tables in {store.path} do not hold the state of the unsafe head: {REPAIR_HINT}"
            )
        self._view = FlatView(store.database.snapshot(), base, first, self._recent.generation)
        self._base_reader: FlatReader | None = None

    # --- reading ----------------------------------------------------------------------------------------

    def reader(self, header: Header) -> StateReader:
        """The state after a stored block. Raises `StatePruned`, `MissingTrieNode`."""
        view = self._view
        if header.hash == view.base_hash:
            base_reader = self._base_reader
            if base_reader is None or base_reader.view is not view:
                base_reader = self._base_reader = FlatReader(
                    self._database,
                    view,
                    self._recent,
                    header.state_root,
                    None,
                    pruned=partial(self._pruned, header, header),
                )
            return base_reader
        overlay: list[StateDiff] = []
        at = header
        while True:
            is_base = at.hash == view.base_hash
            if is_base or view.has(at):
                return FlatReader(
                    self._database,
                    view,
                    self._recent,
                    header.state_root,
                    None if is_base else at.number,
                    overlay,
                    partial(self._pruned, header, at),
                )
            diff = self.known_diff(at.hash)
            if diff is None or at.number == 0 or len(overlay) == MAX_OVERLAY_BLOCKS:
                break
            overlay.append(diff)
            at = self._header_of(at.parent_hash)
        root = header.state_root
        if root != EMPTY_ROOT and self._store.node(root) is None:
            raise self.missing(header)
        return self._database.reader(root)

    def missing(self, header: Header) -> StatePruned | DatabaseCorrupt:
        """The error for a state that is not there."""
        return self._pruned(header, header) or DatabaseCorrupt(
            f"missing trie node {header.state_root.hex()}: the state of block {header.number} "
            f"(0x{header.hash.hex()}) is not stored: {REPAIR_HINT}"
        )

    def require_tries(self, header: Header) -> None:
        """Blocks may be stored on top of this one: all of its tries are on disk. Raises `StatePruned`.

        Nodes in memory could hide that some are not."""
        ancestor = header
        while self.first_whole and self._store.canonical_hash(ancestor.number) != ancestor.hash:
            ancestor = self._header_of(ancestor.parent_hash)
        error = self._pruned(header, ancestor)
        if error is not None:
            raise error

    def _pruned(self, header: Header, ancestor: Header) -> StatePruned | None:
        if ancestor.number < self.first_whole:
            return StatePruned(header.number, header.hash, header.state_root)
        return None

    @property
    def first_readable(self) -> int:
        """The lowest number whose canonical block's accounts and words can be read without a trie."""
        return self._view.first

    def known_diff(self, block_hash: bytes) -> StateDiff | None:
        """What a block changes, if that is stored."""
        diff = self._diffs.get(block_hash)
        if diff is None:
            diff = self._store.diff(block_hash)
            if diff is not None:
                self._diffs[block_hash] = diff
        return diff

    def remember(self, block_hash: bytes, diff: StateDiff) -> None:
        """The diff of a block that was just stored."""
        self._diffs[block_hash] = diff

    def _node(self, key: bytes) -> bytes | None:
        return self._store.node(key)

    # --- following the head -------------------------------------------------------------------------------

    def plan(self, removed: Sequence[Header], added: Sequence[Header], head: Header) -> HeadMove:
        """What a move of the unsafe head does to the flat tables: `removed` (newest first) are undone, `added`
        (oldest first) are done. Raises `MissingTrieNode` if neither history nor tries tell how."""
        values: dict[bytes, bytes] = {}
        writes: list[tuple[bytes, bytes | None]] = []
        first = self._view.first
        for header in removed:
            if header.number > first:
                self._undo(header, values, writes)
            else:
                self._undo_by_tries(header, values)
                first = header.number - 1
        for header in added:
            for key, value in self._diff(header).flat():
                old = values.get(key)
                if old is None:
                    old = self._base_value(key)
                if old != value:
                    writes.append((history_key(key, header.number), old))
                    values[key] = value
        writes += [(key, value or None) for key, value in values.items()]
        writes.append((b"mbase", head.hash))
        if first != self._view.first:
            writes.append((b"mhistory", number_key(first)))
        return HeadMove(head, first, values, writes)

    def moved(self, move: HeadMove) -> None:
        """The move is on disk: readers made from now on see it."""
        generation = self._recent.move(move.values)
        self._view = FlatView(self._store.database.snapshot(), move.head.hash, move.first, generation)
        self._base_reader = None  # it would keep the old snapshot

    def _undo(self, header: Header, values: dict[bytes, bytes], writes: list[tuple[bytes, bytes | None]]) -> None:
        for key, _ in self._diff(header).flat():
            replaced = history_key(key, header.number)
            old = self._store.database.get(replaced)
            if old is not None:
                values[key] = old
                writes.append((replaced, None))

    def _undo_by_tries(self, header: Header, values: dict[bytes, bytes]) -> None:
        parent = self._header_of(header.parent_hash)
        for key, old, _ in state_difference(self._node, parent.state_root, header.state_root):
            values[key] = old

    def _diff(self, header: Header) -> StateDiff:
        """What a block changes; of a block stored by an older version, from its tries."""
        diff = self.known_diff(header.hash)
        if diff is None:
            parent = self._header_of(header.parent_hash)
            diff = diff_of_tries(self._node, parent.state_root, header.state_root)
        return diff

    def _base_value(self, key: bytes) -> bytes:
        value = self._recent.get(self._recent.generation, key)
        return self._store.database.get(key) or DELETED if value is None else value

    # --- pruning ------------------------------------------------------------------------------------------

    def tries_dropped(self, first_whole: int) -> None:
        """The tries of states below a number are not whole any more, or that number's became whole again."""
        self.first_whole = first_whole

    def changes_dropped(self, first: int, dropped: Sequence[bytes]) -> None:
        """The history now begins with the state after block `first`; the diffs of some blocks are gone."""
        for block_hash in dropped:
            self.forget(block_hash)
        view = self._view
        self._view = FlatView(self._store.database.snapshot(), view.base_hash, first, view.generation)
        self._base_reader = None

    def forget(self, block_hash: bytes) -> None:
        """A block was deleted, or its diff."""
        cast("LRU[bytes, StateDiff]", self._diffs).pop(block_hash, None)

    def retraced(self, head: Header, move: HeadMove) -> dict[bytes, bytes]:
        """The trie nodes that the state a move goes back to lacks. Raises `DatabaseCorrupt`."""
        return retrace(self._node, head.state_root, move.values, move.head.state_root)
