"""Stage 6: picks the batch that is the next L2 block, or makes an empty one when the sequencing window has run out
(holocene/derivation.md, "Batch queue")."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import structlog

from openledger.evm_ext.block import Header
from openledger.rollup.blocks import L2BlockRef
from openledger.rollup.codec.batches import SingularBatch
from openledger.rollup.codec.span_batches import SpanBatch
from openledger.rollup.config import RollupConfig
from openledger.rollup.derivation.batch_checks import Validity, check_singular_batch, check_span_batch
from openledger.rollup.derivation.errors import CriticalDerivationError, ResetRequired

log = structlog.get_logger(__name__)


class BatchStage:
    """Follows the L1 origin and keeps the L1 blocks from the safe head's epoch to it."""

    def __init__(
        self,
        config: RollupConfig,
        origin: Header,
        pull: Callable[[], Awaitable[SingularBatch | SpanBatch | None]],
        flush: Callable[[], None],
        safe_block: Callable[[int], L2BlockRef | None],
    ) -> None:
        """`pull` yields the next batch of the current L1 block or None, `flush` drops the channel it comes from.

        `safe_block` finds blocks of the safe chain by height.
        """
        self._config = config
        self._pull = pull
        self._flush_channel = flush
        self._safe_block = safe_block
        self._span: Iterator[SingularBatch] = iter(())
        self._origin = origin
        self._epochs: list[Header] = [origin]

    async def next_batch(self, parent: L2BlockRef, origin: Header) -> SingularBatch | None:
        """The batch after `parent` while the pipeline stands at L1 block `origin`; None if the block has none.

        Raises `ResetRequired` if `parent` and the L1 blocks seen do not belong together.
        """
        self._follow(parent, origin)
        if origin.number <= parent.l1_origin.number:
            # What was included at or before the safe head's epoch can only speak of blocks that are already safe.
            while await self._pull() is not None:
                pass
            return None
        if len(self._epochs) < 2:
            raise CriticalDerivationError(f"no L1 block after epoch {parent.l1_origin.number} at {origin.number}")
        epoch = self._epochs[0]
        if parent.l1_origin.hash != epoch.hash and parent.l1_origin.number + 1 != epoch.number:
            raise ResetRequired(f"safe head {parent.number} is not of epoch {epoch.number} or the one before")
        while (batch := await self._candidate(parent)) is not None:
            verdict = check_singular_batch(self._config, self._epochs, parent, batch, origin.number)
            if verdict.validity is Validity.ACCEPT:
                return batch
            if verdict.validity is Validity.PAST:
                log.debug("past batch skipped", reason=verdict.reason)
                continue
            log.warning("batch dropped, and its channel", reason=verdict.reason, l1_block=origin.number)
            self.flush()
        return self._empty_batch(parent)

    def flush(self) -> None:
        """Drop the rest of the span and of the channel that it came from."""
        self._span = iter(())
        self._flush_channel()

    async def _candidate(self, parent: L2BlockRef) -> SingularBatch | None:
        """The next singular batch, out of a span or on its own; None when the current L1 block has no more."""
        while True:
            unfolded = next(self._span, None)
            if unfolded is not None:
                return replace(unfolded, parent_hash=parent.hash)
            batch = await self._pull()
            if not isinstance(batch, SpanBatch):
                return batch
            verdict = check_span_batch(self._config, self._epochs, parent, batch, self._origin.number, self._safe_block)
            if verdict.validity is Validity.ACCEPT:
                self._span = self._unfold(batch, parent)
            elif verdict.validity is Validity.PAST:
                log.debug("past span batch skipped", reason=verdict.reason)
            else:
                log.warning("span batch dropped, and its channel", reason=verdict.reason)
                self.flush()

    def _unfold(self, batch: SpanBatch, parent: L2BlockRef) -> Iterator[SingularBatch]:
        """The blocks of a span that come after `parent`; their parent hashes are filled in as they are tried."""
        hashes = {epoch.number: epoch.hash for epoch in self._epochs}
        timestamp = self._config.l2_genesis_time + batch.relative_timestamp
        for epoch_number, transactions in batch.blocks():
            if timestamp > parent.timestamp:
                # An epoch that is not buffered has no hash here, and so the batch's epoch check fails.
                yield SingularBatch(b"", epoch_number, hashes.get(epoch_number, b""), timestamp, transactions)
            timestamp += self._config.block_time

    def _follow(self, parent: L2BlockRef, origin: Header) -> None:
        if origin.hash != self._origin.hash:
            self._origin = origin
            if origin.number >= parent.l1_origin.number:
                self._epochs.append(origin)
            else:
                self._epochs.clear()
        if self._epochs and parent.l1_origin.number > self._epochs[0].number:
            for index, epoch in enumerate(self._epochs):
                if epoch.number == parent.l1_origin.number:
                    del self._epochs[:index]
                    break

    def _empty_batch(self, parent: L2BlockRef) -> SingularBatch | None:
        """The automatic empty batch, due once the current epoch's sequencing window has passed without a batch."""
        epoch = self._epochs[0]
        if epoch.number + self._config.seq_window_size > self._origin.number or len(self._epochs) < 2:
            return None
        next_epoch = self._epochs[1]
        timestamp = parent.timestamp + self._config.block_time
        if timestamp < next_epoch.timestamp or epoch.number == parent.l1_origin.number + 1:
            log.warning("sequencing window expired, empty batch", epoch=epoch.number, timestamp=timestamp)
            return SingularBatch(parent.hash, epoch.number, epoch.hash, timestamp)
        del self._epochs[0]
        return None
