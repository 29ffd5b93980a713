"""Moves the heads: derives the safe chain from L1 and DA, consolidates or replaces unsafe blocks, finalizes with L1.

Runs on every node. A sequencer feeds it unsafe blocks by building them, a validator through gossip (`insert_unsafe`).
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog
import trio

from openledger.evm_ext.block import Block, Header
from openledger.evm_ext.errors import DiskFull, InvalidBlock, UnknownParent, WriteFailed
from openledger.evm_ext.payload import ExecutionPayload, PayloadAttributes
from openledger.evm_ext.transactions import DEPOSIT
from openledger.rollup.blocks import L2BlockRef, header_id
from openledger.rollup.clock import Clock, WallClock
from openledger.rollup.da.client import DAError
from openledger.rollup.derivation.errors import CriticalDerivationError, ResetRequired
from openledger.rollup.derivation.l1_retrieval import DASource
from openledger.rollup.derivation.pipeline import DerivationPipeline, DerivedAttributes, Progress
from openledger.rollup.engine import Engine
from openledger.rollup.finality import FinalityTracker
from openledger.rollup.l1.beacon import BlobSource, NoBeacon
from openledger.rollup.l1.source import L1Error, L1Source
from openledger.rollup.sync_start import find_sync_start
from openledger.rollup.sync_status import SyncStatus
from openledger.rollup.unsafe_queue import UnsafeQueue

log = structlog.get_logger(__name__)

GapCallback = Callable[[int, int], Awaitable[None]]

PASSING_TROUBLE = (L1Error, DAError, DiskFull, WriteFailed)
"""What a step can be repeated after: nothing that derivation has read so far is lost."""

# How many L1 blocks derivation may pass between two looks at L1's own heads while it catches up.
L1_HEADS_EVERY = 32


class Driver:
    """Derivation for one node.

    `request_range(first, last)` is asked, when set, to fetch the unsafe blocks of a gap and hand them to
    `insert_unsafe`.
    """

    def __init__(
        self,
        engine: Engine,
        l1: L1Source,
        da: DASource,
        *,
        blobs: BlobSource | None = None,
        poll_interval_s: float = 1.0,
        max_backoff_s: float = 8.0,
        clock: Clock | None = None,
    ) -> None:
        self.engine = engine
        self.request_range: GapCallback | None = None
        heads = engine.heads()
        self.status = SyncStatus(heads.unsafe, heads.safe, heads.finalized)
        self.caught_up = trio.Event()
        """Set once derivation has first reached the tip of L1."""
        self.at_tip = False
        """Whether derivation has reached the tip of L1 since it last started: only then the safe head means something to
        a batcher."""
        self._l1 = l1
        self._da = da
        self._blobs = blobs or NoBeacon()
        self._poll_interval_s = poll_interval_s
        self._max_backoff_s = max_backoff_s
        self._clock = clock or WallClock()
        self._pipeline: DerivationPipeline | None = None
        self._derived = heads.safe
        self._unapplied: DerivedAttributes | None = None
        self._finality = FinalityTracker()
        self._queue = UnsafeQueue()
        self._filling_gap = False
        self._until_l1_heads = 0

    # --- derivation ---

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Derive until cancelled. Trouble with L1, DA or the disk is logged, shown in `status.problem`, and waited out."""
        task_status.started()
        failures = 0
        while True:
            try:
                progress = await self.step()
            except (*PASSING_TROUBLE, CriticalDerivationError) as error:
                failures += 1
                self._report(error)
                await self._clock.sleep(min(self._max_backoff_s, 0.5 * 2 ** min(failures - 1, 8)))
                continue
            failures = 0
            if self.status.problem is not None:
                log.info("derivation goes on", after=self.status.problem)
                self.status.problem = None
            if progress is Progress.AT_TIP:
                await self._clock.sleep(self._poll_interval_s)

    async def step(self) -> Progress | None:
        """One step of derivation: a block derived (None), or how the pipeline moved.

        Raises `L1Error`, `DAError`, `DiskFull`, `WriteFailed` and `CriticalDerivationError`; the step can be repeated.
        An L1 reorg resets the pipeline within the step.
        """
        try:
            return await self._step()
        except PASSING_TROUBLE:
            raise
        except ResetRequired as reset:
            log.warning("derivation starts again", reason=str(reset))
            self.status.resets += 1
            self._pipeline = None
            return None
        except BaseException:
            self._pipeline = None  # nobody knows how far it came
            raise

    async def _step(self) -> Progress | None:
        if self._pipeline is None:
            self._pipeline = await self._reset()
        pipeline = self._pipeline
        origin = pipeline.origin
        outcome = self._unapplied or await pipeline.step(self._derived)
        if isinstance(outcome, DerivedAttributes):
            # The pipeline yields a block once. On a full disk it waits here: without it all later ones would be dropped,
            # and this node would derive another chain.
            self._unapplied = outcome
            async with self.engine.lock:
                await self._apply(pipeline, outcome)
            self._unapplied = None
            return None
        self._finality.derived(header_id(origin), self._derived)
        self.status.current_l1 = pipeline.origin
        self._until_l1_heads -= 1
        if outcome is Progress.AT_TIP or self._until_l1_heads <= 0:
            self._until_l1_heads = L1_HEADS_EVERY
            await self._follow_l1_heads()
        if outcome is Progress.AT_TIP:
            self.at_tip = True
            self.caught_up.set()
        return outcome

    async def derive_to_tip(self) -> L2BlockRef:
        """Step until L1 has nothing more; the last block derived."""
        while await self.step() is not Progress.AT_TIP:
            pass
        return self._derived

    async def _reset(self) -> DerivationPipeline:
        async with self.engine.lock:
            start = await find_sync_start(self.engine, self._l1)
            heads = self.engine.heads()
            self.status.head_l1 = None
            if start.unsafe.hash != heads.unsafe.hash:
                log.warning(
                    "unsafe head moves back: L1 dropped the origin of later blocks",
                    old=heads.unsafe.number,
                    new=start.unsafe.number,
                )
                self.status.reorgs += 1
            # What is safe is what the L1 of now gives. A block above the starting point may have come out of a span or
            # a channel that this L1 no longer has, even if its own origin still stands: it has to be derived again.
            await self.engine.set_heads(unsafe=start.unsafe.hash, safe=start.safe.hash)
            self._derived = start.safe
            self._unapplied = None
            self.at_tip = False
            self._finality.reset()
            self._show_heads()
        log.info("derivation starts", l2_safe=start.safe.number, l1_origin=start.l1_origin.number)
        return DerivationPipeline(
            self.engine.config,
            self._l1,
            self._da,
            start.l1_origin,
            start.system_config,
            self.engine.system_config,
            self.engine.ref_by_number,
            self._blobs,
        )

    async def _apply(self, pipeline: DerivationPipeline, derived: DerivedAttributes) -> None:
        """Make the derived block safe: the unsafe block if it is the same one, else a new block in its place."""
        chain, parent = self.engine.chain, derived.parent
        canonical = chain.header_by_number(parent.number)
        if canonical is None or canonical.hash != parent.hash:
            raise ResetRequired(f"L2 block {parent.number} is no longer canonical")
        head = chain.head("unsafe")
        existing = chain.header_by_number(parent.number + 1) if head.number > parent.number else None
        attributes = derived.attributes
        if existing is None or not self.engine.matches(attributes, existing):
            try:
                block = await self.engine.build(parent.hash, attributes)
            except InvalidBlock as error:
                # holocene/derivation.md: an invalid payload is replaced, and the rest of its channel is dropped.
                log.warning("derived block is invalid, deposits only", number=parent.number + 1, reason=str(error))
                pipeline.flush_channel()
                attributes = _deposits_only(attributes)
                if existing is None or not self.engine.matches(attributes, existing):
                    block = await self._build_deposits_only(parent, attributes)
                    existing = await self._adopt(block, reorg=existing is not None)
            else:
                existing = await self._adopt(block, reorg=existing is not None)
        if existing.number > chain.head("safe").number:
            await self.engine.set_heads(safe=existing.hash)
        self._derived = self.engine.ref(existing)
        self._queue.drop_up_to(existing.number)
        self._show_heads()

    async def _build_deposits_only(self, parent: L2BlockRef, attributes: PayloadAttributes) -> Block:
        try:
            return await self.engine.build(parent.hash, attributes)
        except InvalidBlock as error:
            raise CriticalDerivationError(
                f"L2 block {parent.number + 1} cannot even hold its deposits: {error}"
            ) from error

    async def _adopt(self, block: Block, *, reorg: bool) -> Header:
        """Make a derived block the unsafe and safe head."""
        if reorg:
            self.status.reorgs += 1
            log.warning("unsafe chain replaced by the derived one", number=block.number)
        await self.engine.set_heads(unsafe=block.hash, safe=block.hash)
        return block.header

    async def _follow_l1_heads(self) -> None:
        """Look at L1's own heads, which move only when its newest block does."""
        status = self.status
        latest = await self._l1.header_by_label("latest")
        if status.head_l1 is None or status.finalized_l1 is None or status.head_l1.hash != latest.hash:
            await self._check_unsafe_origin()
            status.safe_l1 = await self._l1.header_by_label("safe")
            status.finalized_l1 = await self._l1.header_by_label("finalized")
            status.head_l1 = latest
        final = self._finality.finalized(status.finalized_l1.number)
        async with self.engine.lock:
            if final is not None and final.number > self.engine.chain.head("finalized").number:
                await self.engine.set_heads(finalized=final.hash)
            self._show_heads()

    async def _check_unsafe_origin(self) -> None:
        """Unsafe blocks may stand on L1 blocks that derivation has not read yet, and that L1 has dropped."""
        origin = self.engine.ref(self.engine.chain.head("unsafe")).l1_origin
        canonical = await self._l1.header_by_number(origin.number)
        if canonical is not None and canonical.hash != origin.hash:
            raise ResetRequired(f"L1 block {origin.number}, origin of the unsafe head, is now another one")

    # --- unsafe blocks from elsewhere ---

    async def insert_unsafe(self, payload: ExecutionPayload) -> None:
        """Take an unsafe block from a peer, whose signature has been checked.

        It becomes the unsafe head if it extends it; one that is ahead waits in a bounded queue and the gap is asked
        for. Raises `InvalidBlock` if the block itself breaks a rule (`NotARollupBlock`: it does not begin with its L1
        attributes).
        """
        self.engine.payload_ref(payload)
        async with self.engine.lock:
            if payload.block_number <= self.engine.chain.head("unsafe").number:
                return
            self._queue.add(payload)
            await self._import_queued()
            self._show_heads()
        await self._ask_for_gap()

    async def _import_queued(self) -> None:
        head = self.engine.chain.head("unsafe")
        while (payload := self._queue.take_child(head.hash)) is not None:
            try:
                block = await self.engine.import_payload(payload)
            except (InvalidBlock, UnknownParent) as error:
                log.warning("unsafe block refused", number=payload.block_number, reason=str(error))
                raise
            await self.engine.set_heads(unsafe=block.hash)
            head = block.header
        self._queue.drop_up_to(head.number)

    async def _ask_for_gap(self) -> None:
        lowest = self._queue.lowest()
        if lowest is None or self.request_range is None or self._filling_gap:
            return
        first = self.engine.chain.head("unsafe").number + 1
        if lowest.block_number > first:
            self._filling_gap = True
            try:
                await self.request_range(first, lowest.block_number - 1)
            finally:
                self._filling_gap = False

    # --- telling ---

    def _show_heads(self) -> None:
        heads = self.engine.heads()
        self.status.unsafe_l2, self.status.safe_l2, self.status.finalized_l2 = heads.unsafe, heads.safe, heads.finalized
        waiting = self._queue.lowest()
        self.status.queued_unsafe_l2 = None if waiting is None else self.engine.payload_ref(waiting)

    def _report(self, error: Exception) -> None:
        problem = f"{type(error).__name__}: {error}"
        if problem != self.status.problem:
            log.warning("derivation waits", problem=problem)
            self.status.problem = problem


def _deposits_only(attributes: PayloadAttributes) -> PayloadAttributes:
    """The same payload without the sequencer's transactions (holocene/derivation.md)."""
    deposits = tuple(raw for raw in attributes.transactions if raw[0] == DEPOSIT)
    return replace(attributes, transactions=deposits)
