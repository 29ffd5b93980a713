"""The embedded L1 of a development network: our execution client under plain Ethereum rules, and a block producer."""

import structlog
import trio

from openledger.evm_ext.block import Block
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.pool import TransactionPool
from openledger.genesis.hashing import keccak256
from openledger.rollup.clock import Clock, WallClock

log = structlog.get_logger(__name__)

SAFE_DISTANCE = 2
FINALIZED_DISTANCE = 4


class DevL1:
    """Produces a block every `block_time_s`; `safe` and `finalized` trail the head by two and four blocks.

    All it knows is in the chain's folder, so it goes on from there after any death. Time that passed while it was off
    is not filled with blocks: the next one simply is later.
    """

    def __init__(
        self,
        chain: Chain,
        pool: TransactionPool,
        block_time_s: int,
        *,
        fee_recipient: bytes = bytes(20),
        clock: Clock | None = None,
    ) -> None:
        self.chain = chain
        self.pool = pool
        self._block_time_s = block_time_s
        self._fee_recipient = fee_recipient
        self._clock = clock or WallClock()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Produce blocks until cancelled."""
        task_status.started()
        while True:
            wait = self.chain.head().timestamp + self._block_time_s - self._clock.now()
            if wait > 0:
                await self._clock.sleep(min(wait, 1.0))  # the clock may be set meanwhile
                continue
            await self.produce_block(self._clock.now())

    async def produce_block(self, now: float) -> Block:
        """One block at `now` (or one second after its parent, if that is later), with what the pool has."""
        return await trio.to_thread.run_sync(self._produce, int(now))

    def _produce(self, now: int) -> Block:
        parent = self.chain.head()
        attributes = PayloadAttributes(
            timestamp=max(parent.timestamp + 1, now),
            # No beacon chain stands behind this L1: both values only have to differ from block to block.
            prev_randao=keccak256(b"prev_randao" + parent.hash),
            suggested_fee_recipient=self._fee_recipient,
            parent_beacon_block_root=keccak256(b"parent_beacon_block_root" + parent.hash),
        )
        block = self.chain.build(parent.hash, attributes, self.pool.pending(self.chain.next_base_fee(parent.hash)))
        self.chain.set_heads(unsafe=block.hash, safe=self._behind(block, SAFE_DISTANCE))
        self.chain.set_heads(finalized=self._behind(block, FINALIZED_DISTANCE))
        return block

    def _behind(self, block: Block, distance: int) -> bytes | None:
        """Hash of the ancestor at a distance; None (leave the label) if there is none."""
        header = block.header
        for _ in range(distance):
            parent = self.chain.header_by_hash(header.parent_hash)
            if parent is None:
                return None
            header = parent
        return header.hash
