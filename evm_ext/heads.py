"""The heads of a chain: unsafe, safe and finalized, moved together with everything that follows them on disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import structlog

from openledger.evm_ext.block import Block, Header
from openledger.evm_ext.database import REPAIR_HINT
from openledger.evm_ext.errors import (
    DatabaseCorrupt,
    DiskFull,
    InconsistentHeads,
    StatePruned,
    UnknownBlock,
    WriteFailed,
)
from openledger.evm_ext.state.policy import StateHistory
from openledger.evm_ext.state.pruning import Pruner
from openledger.evm_ext.state.states import States
from openledger.evm_ext.store import Store, number_key
from openledger.evm_ext.stored_blocks import StoredBlocks

Label = Literal["unsafe", "safe", "finalized"]
LABELS: tuple[Label, ...] = ("unsafe", "safe", "finalized")

ROLLBACK_STEP_BLOCKS = 256

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class HeadChange:
    """A head moved. For "unsafe", `removed` (newest first) left the canonical chain and `added` (oldest
    first) joined it; for the other labels both are empty. All values are block hashes."""

    label: Label
    old: bytes
    new: bytes
    added: tuple[bytes, ...] = ()
    removed: tuple[bytes, ...] = ()


class Heads:
    """The heads of one store. Moved under the chain's write lock; any thread may read them."""

    def __init__(self, store: Store, blocks: StoredBlocks, states: States, policy: StateHistory) -> None:
        """Raises `DatabaseCorrupt` if a head is missing."""
        self._store = store
        self._blocks = blocks
        self._states = states
        self._heads: dict[Label, Header] = {}
        self.pruner = Pruner(store, blocks, states, policy) if policy.mode == "pruned" else None
        for label in LABELS:
            block_hash = store.head(label)
            header = None if block_hash is None else store.header(block_hash)
            if header is None:
                raise DatabaseCorrupt(
                    f"the {label} head in {store.path} is missing: {REPAIR_HINT}, or sync from an empty folder"
                )
            self._heads[label] = header

    def __getitem__(self, label: Label) -> Header:
        return self._heads[label]

    def move(self, unsafe: bytes | None, safe: bytes | None, finalized: bytes | None) -> list[HeadChange]:
        """As `Chain.set_heads` says; what changed."""
        old = self._heads
        new: dict[Label, Header] = dict(old)
        for label, block_hash in zip(LABELS, (unsafe, safe, finalized)):
            if block_hash is not None:
                header = self._blocks.find_header(block_hash)
                if header is None:
                    raise UnknownBlock(f"the new {label} head 0x{block_hash.hex()} is not stored")
                new[label] = header
        added, removed = self._path(old["unsafe"], new["unsafe"])
        self._check_consistent(new, added, removed)
        changes = self._put(new, added, removed)
        if removed:
            _log.info("chain_reorganised", depth=len(removed), head="0x" + new["unsafe"].hash.hex())
        if changes:
            self._prune()
        return changes

    def _prune(self) -> None:
        """The heads have moved already: what goes wrong here must not look as if they had not."""
        if self.pruner is None:
            return
        try:
            self.pruner.step(self._heads["finalized"].number)
        except (DiskFull, WriteFailed) as error:
            _log.warning("pruning_waits", reason=str(error))
        except DatabaseCorrupt as error:
            _log.error("pruning_stopped", reason=str(error), advice="stop the node, run openledger db check")
            self.pruner = None

    def roll_back(self, target: Header) -> list[HeadChange]:
        """As `Chain.rollback` says; what changed, of all steps in order."""
        head = self._heads["unsafe"]
        if self._store.canonical_hash(target.number) != target.hash:
            raise InconsistentHeads(
                f"block {target.number} (0x{target.hash.hex()}) is not an ancestor of the unsafe head {head.number} "
                f"(0x{head.hash.hex()}): only to one of those can a chain be rolled back"
            )
        if target.number < min(self._states.first_readable, self._states.first_whole):
            raise StatePruned(target.number, target.hash, target.state_root)
        changes: list[HeadChange] = []
        while head.number > target.number:
            number = max(target.number, head.number - ROLLBACK_STEP_BLOCKS)
            block_hash = self._store.canonical_hash(number)
            head = target if block_hash is None else self._blocks.header(block_hash)
            changes += self._step_back(head)
            _log.info("chain_rolled_back", head=head.number, target=target.number)
        return changes

    def _step_back(self, target: Header) -> list[HeadChange]:
        old = self._heads
        new = {label: min(old[label], target, key=lambda header: header.number) for label in LABELS}
        _, removed = self._path(old["unsafe"], target)
        return self._put(new, [], removed)

    def _put(self, new: dict[Label, Header], added: list[Block], removed: list[Block]) -> list[HeadChange]:
        """Write a move of the heads, in one batch."""
        old = self._heads
        moved: dict[str, bytes] = {label: new[label].hash for label in LABELS if new[label].hash != old[label].hash}
        if not moved:
            return []
        if added or removed:
            self._put_unsafe(moved, new["unsafe"], added, removed)
        else:
            self._store.put_heads(moved, (), ())
        self._heads = new
        return [
            HeadChange(
                label,
                old[label].hash,
                new[label].hash,
                tuple(block.hash for block in added) if label == "unsafe" else (),
                tuple(block.hash for block in removed) if label == "unsafe" else (),
            )
            for label in LABELS
            if label in moved
        ]

    def _put_unsafe(self, moved: Mapping[str, bytes], head: Header, added: list[Block], removed: list[Block]) -> None:
        move = self._states.plan([block.header for block in removed], [block.header for block in added], head)
        dropped: list[tuple[int, bytes]] = []
        if head.number < self._states.first_whole:
            # The tries of the blocks above are not whole any more, so nobody may build on those blocks again.
            nodes = self._states.retraced(self._heads["unsafe"], move)
            move.writes.extend((b"n" + key, node) for key, node in nodes.items())
            move.writes.append((b"mpruned", number_key(head.number)))
            dropped = list(self._store.blocks_from(head.number + 1))
        self._store.put_heads(moved, added, removed, move.writes, forgotten=dropped)
        self._states.moved(move)
        if dropped:
            for _, block_hash in dropped:
                self._blocks.forget(block_hash)
                self._states.forget(block_hash)
            self._states.tries_dropped(head.number)
            if self.pruner is not None:
                self.pruner.forget()

    def _path(self, old: Header, new: Header) -> tuple[list[Block], list[Block]]:
        """Blocks that join (oldest first) and leave (newest first) when the head moves."""
        added: list[bytes] = []
        removed: list[bytes] = []
        while old.hash != new.hash:
            if new.number >= old.number:
                added.append(new.hash)
                new = self._blocks.header(new.parent_hash)
            else:
                removed.append(old.hash)
                old = self._blocks.header(old.parent_hash)
        return [self._blocks.block(item) for item in reversed(added)], [self._blocks.block(item) for item in removed]

    def _check_consistent(self, heads: Mapping[Label, Header], added: list[Block], removed: list[Block]) -> None:
        joining = {block.number: block.hash for block in added}
        leaving = {block.number for block in removed}
        for label, limit in (("safe", "unsafe"), ("finalized", "safe")):
            header, above = heads[label], heads[limit]  # type: ignore[index]
            canonical = joining.get(header.number)
            if canonical is None and header.number not in leaving:
                canonical = self._store.canonical_hash(header.number)
            if canonical != header.hash or header.number > above.number:
                raise InconsistentHeads(
                    f"the {label} head {header.number} (0x{header.hash.hex()}) would not be below the "
                    f"{limit} head {above.number} (0x{above.hash.hex()}) on the canonical chain"
                )
