"""Builds a block every block time, on the newest L1 origin that the rules allow (derivation.md; op-node's origin selection)."""

import math
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import structlog
import trio

from openledger.evm_ext.block import Header, payload_from_block
from openledger.evm_ext.errors import ExecutionError
from openledger.evm_ext.payload import ExecutionPayload, PayloadAttributes
from openledger.evm_ext.pool import TransactionPool
from openledger.evm_ext.transactions import Transaction
from openledger.rollup.blocks import L2BlockRef
from openledger.rollup.clock import Clock, WallClock
from openledger.rollup.derivation.attributes_builder import AttributesBuilder
from openledger.rollup.derivation.errors import DerivationError
from openledger.rollup.engine import Engine
from openledger.rollup.l1.source import L1Error, L1Source, L1Unavailable

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class DataLimit:
    """The most bytes of pool transactions in a block, and in one of them: the DA layer is behind."""

    block_bytes: int
    transaction_bytes: int


BlockCallback = Callable[[ExecutionPayload], Awaitable[None]]

BEHIND_S = 20
AHEAD_S = 5
LONGEST_SLEEP_S = 1.0
"""Somebody may set the clock while the next block's time is waited for."""
RETRY_S = 0.5
L1_PATIENCE_S = 1.0


class Sequencer:
    """Extends the unsafe head, whatever it is. `on_block` callbacks see each block after it became the head.

    `l1_confirmations` is how far the L1 origin stays behind L1's head, so that short L1 reorgs do not reach L2. After
    `build_time_s` no further transaction of the pool is begun; the rest waits for the next block. `data_limit` bounds the
    bytes of pool transactions while the batcher cannot keep up.
    """

    def __init__(
        self,
        engine: Engine,
        pool: TransactionPool,
        l1: L1Source,
        *,
        l1_confirmations: int = 0,
        build_time_s: float = 1.0,
        data_limit: Callable[[], DataLimit | None] = lambda: None,
        clock: Clock | None = None,
    ) -> None:
        self.on_block: list[BlockCallback] = []
        self.problem: str | None = None
        self._engine = engine
        self._pool = pool
        self._l1 = l1
        self._confirmations = l1_confirmations
        self._build_time_s = build_time_s
        self._data_limit = data_limit
        # While catching up many L2 blocks see the same next L1 block.
        self._following: Header | None = None
        self._builder = AttributesBuilder(engine.config, l1)
        self._clock = clock or WallClock()

    def status(self) -> str | None:
        """What keeps blocks from coming at their time; None if nothing does.

        After a pause the clock has to be caught up with first, and whoever asks for the newest state gets an old one.
        """
        behind = self._clock.now() - self._engine.chain.head("unsafe").timestamp
        if self.problem is None and self._is_ahead(-behind):
            return (
                f"the newest block is {-behind:.0f} s ahead of this machine's clock, which is wrong or was: "
                "no block is built until then"
            )
        if self.problem is None and behind > BEHIND_S:
            return f"building the blocks of a pause: {behind:.0f} s of it are left"
        return self.problem

    async def run(
        self,
        *,
        ready: trio.Event | None = None,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Build blocks until cancelled; after a pause, back to back until the clock is reached.

        A sequencer with an empty chain first waits for `ready`, that is until derivation has seen all of L1:
        there may be blocks of its own that it has forgotten.
        """
        task_status.started()
        if ready is not None and self._engine.chain.head("unsafe").number == self._engine.config.l2_genesis.number:
            self.problem = "waiting until derivation has read all of L1: it may hold blocks that were forgotten here"
            await ready.wait()
            self.problem = None
        waits_for_clock = False
        while True:
            due = self._engine.chain.head("unsafe").timestamp + self._engine.config.block_time
            wait = due - self._clock.now()
            if self._is_ahead(wait - self._engine.config.block_time) is not waits_for_clock:
                waits_for_clock = not waits_for_clock
                if waits_for_clock:
                    log.warning(
                        "waiting for the clock to reach the newest block: is the clock right?", seconds=int(wait)
                    )
                else:
                    log.info("the clock has reached the newest block, blocks go on")
            if wait > 0:
                await self._clock.sleep(min(wait, LONGEST_SLEEP_S))
                continue
            try:
                payload = await self.produce_block(self._clock.now())
            except (L1Error, DerivationError, ExecutionError) as error:
                problem = f"{type(error).__name__}: {error}"
                if problem != self.problem:
                    log.warning("block production waits", problem=problem)
                    self.problem = problem
                await self._clock.sleep(RETRY_S)
                continue
            self.problem = None
            if payload is None:
                await self._clock.sleep(0)

    def _is_ahead(self, seconds: float) -> bool:
        """Whether a newest block that many seconds ahead of the clock means that the clock is wrong, or was."""
        return seconds > max(AHEAD_S, 2 * self._engine.config.block_time)

    async def produce_block(self, now: float) -> ExecutionPayload | None:
        """Build the next block if it is due at `now`, make it the unsafe head and tell `on_block`.

        None if it is not due, or the head moved meanwhile. Raises `L1Unavailable` when the rules demand a newer L1
        origin and L1 cannot give it, `ResetRequired` while an L1 reorg has not been digested by derivation.
        """
        engine = self._engine
        head = engine.ref(engine.chain.head("unsafe"))
        timestamp = head.timestamp + engine.config.block_time
        if timestamp > now:
            return None
        attributes = await self._attributes(head, timestamp)
        async with engine.lock:
            parent = engine.chain.head("unsafe")
            if parent.hash != head.hash:
                return None
            block = await engine.build(head.hash, attributes, () if attributes.no_tx_pool else self._candidates(parent))
            await engine.set_heads(unsafe=block.hash)
        payload = payload_from_block(block)
        for callback in self.on_block:
            await callback(payload)
        return payload

    def _candidates(self, parent: Header) -> Iterator[Transaction]:
        """The pool's transactions, best first, until the time for building is over. Runs in the building thread."""
        deadline = time.monotonic() + self._build_time_s
        limit = self._data_limit()
        room = math.inf if limit is None else limit.block_bytes
        for transaction in self._pool.pending(self._engine.chain.next_base_fee(parent.hash)):
            if time.monotonic() > deadline:
                log.info("block closed for time", number=parent.number + 1, limit_s=self._build_time_s)
                return
            size = len(transaction.raw)
            if limit is not None and (size > limit.transaction_bytes or size > room):
                continue
            room -= size
            yield transaction

    async def _attributes(self, head: L2BlockRef, timestamp: int) -> PayloadAttributes:
        """Attributes on the next L1 origin if its time has come and L1 tells all about it, else on the current one."""
        current = await self._l1.header_by_hash(head.l1_origin.hash)
        must_move = timestamp > current.timestamp + self._engine.config.max_sequencer_drift
        try:
            # An L1 that hangs must not hold up a block that can do without it.
            with trio.fail_after(math.inf if must_move else L1_PATIENCE_S):
                following = await self._next_origin(current, timestamp, must_move)
                if following is not None and following.timestamp <= timestamp:
                    return await self._build_attributes(head, timestamp, following)
        except (L1Unavailable, trio.TooSlowError) as error:
            if must_move:
                raise
            log.debug("staying on the L1 origin", number=current.number, reason=str(error))
        else:
            if following is None and must_move:
                raise L1Unavailable(
                    f"L2 block {head.number + 1} is more than {self._engine.config.max_sequencer_drift} s ahead of L1 "
                    f"block {current.number}, and L1 has no next block yet"
                )
        return await self._build_attributes(head, timestamp, current)

    async def _build_attributes(self, head: L2BlockRef, timestamp: int, origin: Header) -> PayloadAttributes:
        # Past the drift only empty blocks are valid, until the next origin's time is reached.
        no_tx_pool = timestamp > origin.timestamp + self._engine.config.max_sequencer_drift
        return await self._builder.build(head, self._engine.system_config(head), origin, no_tx_pool=no_tx_pool)

    async def _next_origin(self, current: Header, timestamp: int, must_move: bool) -> Header | None:
        """The L1 block after `current`, if it is there and deep enough."""
        seen = self._following
        if seen is not None and seen.parent_hash == current.hash and seen.timestamp > timestamp:
            # Its time has not come. Before it is built on, L1 is asked again: it may have been dropped since.
            return seen
        following = await self._l1.header_by_number(current.number + 1)
        if following is not None and self._confirmations and not must_move:
            deep = await self._l1.header_by_number(following.number + self._confirmations)
            following = following if deep is not None else None
        self._following = following
        return following
