"""The stages, joined: one step either yields the next L2 block's attributes or moves on along L1."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import trio

from openledger.evm_ext.block import Header
from openledger.evm_ext.payload import PayloadAttributes
from openledger.rollup.blocks import L2BlockRef
from openledger.rollup.codec.batches import SingularBatch
from openledger.rollup.codec.span_batches import SpanBatch
from openledger.rollup.codec.system_config import SystemConfig
from openledger.rollup.config import RollupConfig
from openledger.rollup.derivation.attributes_builder import AttributesBuilder
from openledger.rollup.derivation.batch_stage import BatchStage
from openledger.rollup.derivation.channel_assembler import ChannelAssembler
from openledger.rollup.derivation.channel_reader import ChannelReader
from openledger.rollup.derivation.frame_queue import FrameQueue
from openledger.rollup.derivation.l1_retrieval import DASource, L1Retrieval
from openledger.rollup.derivation.l1_traversal import L1Traversal
from openledger.rollup.l1.beacon import BlobSource
from openledger.rollup.l1.source import L1Source

# Above this, decompression would hold up the event loop for more than a few milliseconds.
LARGE_CHANNEL_BYTES = 64 * 1024


class Progress(Enum):
    """A step that yielded no block."""

    ADVANCED = "moved to the next L1 block"
    AT_TIP = "L1 has no further block"


@dataclass(frozen=True)
class DerivedAttributes:
    """Attributes of the block after `parent`, derived from L1 up to `derived_from`."""

    parent: L2BlockRef
    attributes: PayloadAttributes
    derived_from: Header


class DerivationPipeline:
    """Derives from one L1 block on. Deterministic: the same L1, DA data and parents give the same attributes.

    `origin` and `system_config` belong together: a canonical L1 block old enough that no channel that is still
    needed was opened before it, and the configuration as of that block. `system_config_of` and `safe_block` look up
    derived L2 blocks, by reference and by height. To reset, make a new pipeline.
    """

    def __init__(
        self,
        config: RollupConfig,
        l1: L1Source,
        da: DASource,
        origin: Header,
        system_config: SystemConfig,
        system_config_of: Callable[[L2BlockRef], SystemConfig],
        safe_block: Callable[[int], L2BlockRef | None],
        blobs: BlobSource,
    ) -> None:
        self._traversal = L1Traversal(config, l1, origin, system_config)
        self._retrieval = L1Retrieval(l1, da, config.batch_inbox, blobs)
        self._frames = FrameQueue()
        self._assembler = ChannelAssembler(config.channel_timeout)
        self._reader = ChannelReader(config.l2_chain_id)
        self._batches = BatchStage(config, origin, self._pull_batch, self._reader.flush, safe_block)
        self._builder = AttributesBuilder(config, l1)
        self._system_config_of = system_config_of
        self._l1 = l1
        self._held: SingularBatch | None = None

    @property
    def origin(self) -> Header:
        """The L1 block the pipeline stands at."""
        return self._traversal.origin

    async def step(self, parent: L2BlockRef) -> DerivedAttributes | Progress:
        """One step, with `parent` the last block derived.

        Safe to repeat after `L1Unavailable` or `DAError`: nothing read so far is lost. Raises `ResetRequired` and
        `CriticalDerivationError`.
        """
        if self._held is None or self._held.parent_hash != parent.hash:
            self._held = await self._batches.next_batch(parent, self.origin)
        batch = self._held
        if batch is None:
            return Progress.ADVANCED if await self._traversal.advance() else Progress.AT_TIP
        epoch = await self._l1.header_by_hash(batch.epoch_hash)
        attributes = await self._builder.build(parent, self._system_config_of(parent), epoch, batch.transactions)
        self._held = None
        return DerivedAttributes(parent, attributes, self.origin)

    def flush_channel(self) -> None:
        """Drop the rest of the current channel: its last block turned out to be invalid (Holocene)."""
        self._batches.flush()

    async def _pull_batch(self) -> SingularBatch | SpanBatch | None:
        """The next batch of the current L1 block, through all stages before the batch stage."""
        while (batch := self._reader.next_batch()) is None:
            channel = await self._pull_channel()
            if channel is None:
                return None
            if len(channel) > LARGE_CHANNEL_BYTES:
                await trio.to_thread.run_sync(self._reader.open, channel)
            else:
                self._reader.open(channel)
        return batch

    async def _pull_channel(self) -> bytes | None:
        origin = self.origin
        self._assembler.expire(origin.number)
        while True:
            while (frame := self._frames.next_frame()) is not None:
                channel = self._assembler.add(frame, origin.number)
                if channel is not None:
                    return channel
            data = await self._retrieval.next_data(origin, self._traversal.system_config.batcher)
            if data is None:
                return None
            self._frames.add(data)
