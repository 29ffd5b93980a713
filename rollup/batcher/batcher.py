"""Brings the sequencer's blocks to L1: unsafe blocks become batches, batches a channel, and the channel takes one of the
routes (OP-Stack batcher.md, alt-da.md).

Nothing is remembered across restarts but what L1 and the safe head say: whatever is not safe yet is posted again, and
batches that arrive twice are skipped by derivation as past ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from openledger.rollup.batcher.channel_builder import BuiltChannel, ChannelBuilder, cut_payloads
from openledger.rollup.batcher.routes import BlobRoute, CalldataRoute, DARoute, DASink, Failover, Route
from openledger.rollup.batcher.settings import BatcherSettings
from openledger.rollup.blocks import BlockId, L2BlockRef
from openledger.rollup.clock import Clock, WallClock
from openledger.rollup.da.client import DAError
from openledger.rollup.engine import Engine
from openledger.rollup.l1.source import L1Error, L1Submitter
from openledger.rollup.l1.transactions import L1Sender, L1TransactionLost
from openledger.rollup.sequencer import DataLimit

log = structlog.get_logger(__name__)


@dataclass
class BatcherCounts:
    """What was done since the start. Bytes are those of batches before compression and of channels after it."""

    channels: int = 0
    blocks: int = 0
    batch_bytes: int = 0
    channel_bytes: int = 0
    reposts: int = 0


class Batcher:
    """Posts for one sequencer. `current_l1` tells how far this node's own derivation has read L1, `may_post` whether it
    has come to L1's tip: before, blocks that are on L1 do not look safe yet and would be posted again."""

    def __init__(
        self,
        engine: Engine,
        l1: L1Submitter,
        da: DASink,
        private_key: bytes,
        *,
        current_l1: Callable[[], int | None] = lambda: None,
        may_post: Callable[[], bool] = lambda: True,
        settings: BatcherSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.problem: str | None = None
        self.counts = BatcherCounts()
        self._engine = engine
        self._settings = settings or BatcherSettings()
        self._clock = clock or WallClock()
        self._sender = L1Sender(l1, engine.config.l1_chain_id, private_key, self._clock)
        self._builder = ChannelBuilder(engine, self._settings)
        inbox = engine.config.batch_inbox
        fallbacks: dict[str, Route | None] = {
            "none": None,
            "calldata": CalldataRoute(self._sender, inbox, self._settings),
            "blobs": BlobRoute(self._sender, inbox, self._settings),
        }
        self.routes = Failover(
            DARoute(da, self._sender, inbox, self._settings, self._clock),
            fallbacks[self._settings.fallback],
            self._settings,
            self._clock,
        )
        self._current_l1 = current_l1
        self._may_post = may_post
        self._unposted: BuiltChannel | None = None
        self._submitted: BlockId | None = None
        self._included_at: int | None = None
        self._waiting_since: float | None = None
        # Bytes of transactions in the blocks after the last posted one, by height.
        self._backlog: dict[int, int] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Post until cancelled. Trouble with L1 or DA is logged, shown in `problem`, and waited out."""
        task_status.started()
        if self._settings.dry_run:
            log.warning("dry run: channels are built and measured, nothing is posted")
        failures = 0
        while True:
            try:
                posted = await self.step()
            except (L1Error, L1TransactionLost, DAError) as error:
                failures += 1
                problem = f"{type(error).__name__}: {error}"
                if problem != self.problem:
                    log.warning("batcher waits", problem=problem)
                    self.problem = problem
                await self._clock.sleep(min(self._settings.max_backoff_s, 0.5 * 2 ** min(failures - 1, 8)))
                continue
            failures = 0
            if self.problem is not None:
                log.info("batcher goes on", after=self.problem)
                self.problem = None
            if not posted:
                await self._clock.sleep(self._settings.poll_interval_s)

    async def step(self, *, flush: bool = False) -> bool:
        """Close and post one channel if one is due (or `flush` asks for it); whether anything was posted.

        Returns once L1 has included it. Raises `L1Error`, `L1TransactionLost` and `DAError`; nothing is lost by that.
        """
        if not self._may_post():
            return False
        last = self._resume_point()
        head = self._engine.chain.head("unsafe")
        waiting = head.number - last.number
        if waiting <= 0:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = self._clock.now()
        age = self._clock.now() - self._waiting_since
        if not flush and waiting < self._settings.max_channel_blocks and age < self._settings.max_channel_duration_s:
            return False
        channel = self._unposted
        if channel is None or not self._stands(channel, last):
            channel = await trio.to_thread.run_sync(self._builder.build, last.number + 1, head.number)
        if channel is None:
            self._submitted = None  # the chain was reorganised while it was read
            return False
        if self._settings.dry_run:
            payloads = cut_payloads(channel, self._settings.max_frame_bytes, self._settings.max_payload_bytes)
            self._posted(channel, None, "none (dry run)", payloads=len(payloads))
            return True
        route = self.routes.current
        # Should it fail, the same channel goes again: a part of it may be where it belongs already, and paid for.
        self._unposted = channel
        included = await self.routes.post(channel)
        self._unposted = None
        self._posted(channel, included.block_number, route, l1_block=included.block_number)
        return True

    def _stands(self, channel: BuiltChannel, last: BlockId) -> bool:
        """Whether a channel still is what follows the last block that need not be posted."""
        first = self._engine.chain.header_by_number(channel.first)
        newest = self._engine.chain.header_by_number(channel.newest.number)
        return (
            first is not None
            and newest is not None
            and first.parent_hash == last.hash
            and newest.hash == channel.newest.hash
        )

    def _posted(self, channel: BuiltChannel, included_at: int | None, route: str, **said: object) -> None:
        self._submitted, self._included_at = channel.newest, included_at
        self._waiting_since = None
        self.counts.channels += 1
        self.counts.blocks += channel.block_count
        self.counts.batch_bytes += channel.raw_bytes
        self.counts.channel_bytes += len(channel.data)
        log.info(
            "channel posted",
            first=channel.first,
            last=channel.newest.number,
            bytes=len(channel.data),
            batch_bytes=channel.raw_bytes,
            route=route,
            **said,
        )

    # --- how much waits ---

    def backlog(self) -> tuple[int, int]:
        """(blocks, bytes of transactions) that are on no route to L1 yet."""
        submitted = self._submitted
        last = max(self._engine.chain.head("safe").number, 0 if submitted is None else submitted.number)
        head = self._engine.chain.head("unsafe").number
        # The thread that builds blocks asks, and whoever reads metrics: each works on a copy of what is known.
        for number in list(self._backlog):
            if not last < number <= head:
                self._backlog.pop(number, None)
        for number in range(last + 1, head + 1):
            if number not in self._backlog:
                block = self._engine.chain.block_by_number(number)
                self._backlog[number] = 0 if block is None else sum(len(item.raw) for item in block.transactions)
        return head - last, sum(list(self._backlog.values()))

    def data_limit(self) -> DataLimit | None:
        """What the sequencer is to keep to, so that the backlog does not grow without end; None while all is well."""
        settings = self._settings
        if not settings.throttle_backlog_bytes or self.backlog()[1] < settings.throttle_backlog_bytes:
            return None
        return DataLimit(settings.throttle_block_bytes, settings.throttle_transaction_bytes)

    def _resume_point(self) -> BlockId:
        """The last block that need not be posted: the safe head, or what was posted beyond it and still stands."""
        safe: L2BlockRef = self._engine.ref(self._engine.chain.head("safe"))
        submitted = self._submitted
        if submitted is None or submitted.number <= safe.number:
            self._submitted = None
            return safe.id
        canonical = self._engine.chain.header_by_number(submitted.number)
        current_l1 = self._current_l1()
        if canonical is None or canonical.hash != submitted.hash:
            reason = "the unsafe chain was reorganised"
        elif (
            current_l1 is not None
            and self._included_at is not None
            and current_l1 > self._included_at + self._settings.safe_head_patience
        ):
            reason = "derivation passed the channel without taking it up"
        else:
            return submitted
        log.warning("posting again from the safe head", reason=reason, safe=safe.number, posted=submitted.number)
        self.counts.reposts += 1
        self._submitted = None
        return safe.id
