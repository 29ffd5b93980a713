"""Removing what a pruned chain does not keep, a few blocks with every move of its heads.

A trie node belongs to one place (see `trie.NodeSource`), and a block's diff names the nodes it replaced. Once no state
below block N is wanted, what N replaced is in no wanted state, unless a block above N wrote the very same node again.
So that is deleted, except what any stored block above N wrote; and the mark of the first whole state becomes N in the
same batch. Nothing that a crash could separate, nothing counted, nothing searched for.

What branches wrote that died stays; `openledger db prune` finds it.
"""

from __future__ import annotations

import structlog

from openledger.evm_ext.state.changes import StateDiff
from openledger.evm_ext.state.flat import history_key
from openledger.evm_ext.state.policy import StateHistory
from openledger.evm_ext.state.states import States
from openledger.evm_ext.store import Store, number_key
from openledger.evm_ext.stored_blocks import StoredBlocks

BLOCKS_PER_STEP = 4
MAX_REMEMBERED_NODES = 2_000_000
"""About 300 MB. A chain so far behind when it is opened that its blocks wrote more takes `openledger db prune`."""

_log = structlog.get_logger(__name__)


class Pruner:
    """Prunes one chain's store. Under the chain's write lock."""

    def __init__(self, store: Store, blocks: StoredBlocks, states: States, policy: StateHistory) -> None:
        self._store = store
        self._blocks = blocks
        self._states = states
        self._policy = policy
        self._last_written: dict[bytes, int] | None = None
        self._unknown_up_to = 0
        """No block above this number is stored without saying what it wrote."""
        self._is_too_far_behind = False

    def block_stored(self, number: int, diff: StateDiff) -> None:
        """A block is in the store."""
        if self._last_written is not None:
            _note_written(self._last_written, number, diff)

    def forget(self) -> None:
        """Blocks were deleted: what is remembered of them is wrong."""
        self._last_written = None
        self._unknown_up_to = 0

    def step(self, finalized: int) -> None:
        """Prune as far as the policy says, but not more than `BLOCKS_PER_STEP` blocks of each kind."""
        first = self._states.first_whole
        target = min(finalized - self._policy.keep_blocks, first + BLOCKS_PER_STEP)
        if target > first and not self._is_too_far_behind:
            last_written = self._written_above(first)
            if last_written is not None:
                for number in range(first + 1, target + 1):
                    self._drop_tries_below(number, last_written)
        first = self._states.first_readable
        target = min(finalized - self._policy.keep_changes, self._states.first_whole)
        for number in range(first + 1, min(target, first + BLOCKS_PER_STEP) + 1):
            self._drop_changes_of(number)

    def _drop_tries_below(self, number: int, last_written: dict[bytes, int]) -> None:
        block_hash = self._store.canonical_hash(number)
        diff = None if block_hash is None else self._states.known_diff(block_hash)
        with self._store.database.batch() as batch:
            for key in diff.replaced if diff is not None and number >= self._unknown_up_to else ():
                if last_written.get(key, 0) <= number:
                    batch.delete(b"n" + key)
            batch.put(b"mpruned", number_key(number))
        self._states.tries_dropped(number)
        for _, written_hash in self._store.blocks_from(number, number + 1):
            diff = self._states.known_diff(written_hash)
            for key in diff.written if diff is not None else ():
                if last_written.get(key) == number:
                    del last_written[key]

    def _written_above(self, number: int) -> dict[bytes, int] | None:
        """The highest number of a block above `number` that wrote a node, by the node's key; None if it is too much."""
        if self._last_written is not None:
            return self._last_written
        last_written: dict[bytes, int] = {}
        for stored, block_hash in self._store.blocks_from(number + 1):
            diff = self._store.diff(block_hash)
            if diff is not None:
                _note_written(last_written, stored, diff)
            else:  # stored by an older version, or lost by the disk
                self._unknown_up_to = max(self._unknown_up_to, stored)
            if len(last_written) > MAX_REMEMBERED_NODES:
                self._is_too_far_behind = True
                _log.warning(
                    "pruning_too_far_behind", first_whole=number, advice="stop the node, run openledger db prune"
                )
                return None
        self._last_written = last_written
        return last_written

    def _drop_changes_of(self, number: int) -> None:
        """The history entries of a canonical block, and the blocks beside it that are dead since it is final."""
        canonical = self._store.canonical_hash(number)
        diff = None if canonical is None else self._states.known_diff(canonical)
        dead = [block_hash for _, block_hash in self._store.blocks_from(number, number + 1) if block_hash != canonical]
        with self._store.database.batch() as batch:
            for key, _ in diff.flat() if diff is not None else ():
                batch.delete(history_key(key, number))
            if canonical is not None:
                batch.delete(b"d" + canonical)
            for block_hash in dead:
                self._store.delete_block(batch, number, block_hash)
            batch.put(b"mhistory", number_key(number))
        for block_hash in dead:
            self._blocks.forget(block_hash)
        self._states.changes_dropped(number, [*dead, *([canonical] if canonical else ())])


def _note_written(last_written: dict[bytes, int], number: int, diff: StateDiff) -> None:
    for key in diff.written:
        if last_written.get(key, 0) < number:
            last_written[key] = number
