"""Stage 6: picks the batch that is the next L2 block, or makes an empty one when the sequencing window has run out
(holocene/derivation.md, "Batch queue")."""

from collections.abc import Awaitable, Callable

import structlog

from openledger.evm_ext.block import Header
from openledger.rollup.blocks import L2BlockRef
from openledger.rollup.codec.batches import SingularBatch
from openledger.rollup.config import RollupConfig
from openledger.rollup.derivation.batch_checks import Validity, check_singular_batch
from openledger.rollup.derivation.errors import CriticalDerivationError, ResetRequired

log = structlog.get_logger(__name__)


class BatchStage:
    """Follows the L1 origin and keeps the L1 blocks from the safe head's epoch to it."""

    def __init__(
        self,
        config: RollupConfig,
        origin: Header,
        pull: Callable[[], Awaitable[SingularBatch | None]],
        flush: Callable[[], None],
    ) -> None:
        """`pull` yields the next batch of the current L1 block or None, `flush` drops the channel it comes from."""
        self._config = config
        self._pull = pull
        self._flush = flush
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
        while (batch := await self._pull()) is not None:
            verdict = check_singular_batch(self._config, self._epochs, parent, batch, origin.number)
            if verdict.validity is Validity.ACCEPT:
                return batch
            if verdict.validity is Validity.PAST:
                log.debug("past batch skipped", reason=verdict.reason)
                continue
            log.warning("batch dropped, and its channel", reason=verdict.reason, l1_block=origin.number)
            self._flush()
        return self._empty_batch(parent)

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
