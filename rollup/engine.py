"""The L2 execution client as the rollup drives it: one writer at a time, blocking work in worker threads."""

from collections.abc import Iterable
from dataclasses import dataclass

import trio

from openledger.evm_ext.block import Block, Header, block_from_payload
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.errors import InvalidBlock, InvalidTransaction
from openledger.evm_ext.payload import ExecutionPayload, PayloadAttributes
from openledger.evm_ext.transactions import DEPOSIT, DepositTransaction, Transaction
from openledger.genesis.genesis import decode_holocene_extra_data
from openledger.rollup.blocks import BlockId, L2BlockRef
from openledger.rollup.codec.batches import SingularBatch
from openledger.rollup.codec.l1_info import InvalidL1Info, L1Info, decode_l1_info
from openledger.rollup.codec.system_config import SystemConfig
from openledger.rollup.config import RollupConfig


class NotARollupBlock(InvalidBlock):
    """An L2 block that does not begin with its L1 attributes deposit."""


@dataclass(frozen=True)
class Heads:
    """The three L2 heads."""

    unsafe: L2BlockRef
    safe: L2BlockRef
    finalized: L2BlockRef


class Engine:
    """A `Chain` with `op` rules seen through rollup eyes.

    `lock` is held by whoever decides on heads (derivation, sequencer, gossip), from looking at them to moving them;
    the methods themselves do not take it.
    """

    def __init__(self, chain: Chain, config: RollupConfig) -> None:
        if chain.genesis_hash != config.l2_genesis.hash:
            raise ValueError(
                f"the L2 data folder starts at 0x{chain.genesis_hash.hex()}, the rollup config at "
                f"0x{config.l2_genesis.hash.hex()}: they belong to different chains"
            )
        self.chain = chain
        self.config = config
        self.lock = trio.Lock()

    # --- looking ---

    def heads(self) -> Heads:
        """Where the three heads stand."""
        return Heads(
            unsafe=self.ref(self.chain.head("unsafe")),
            safe=self.ref(self.chain.head("safe")),
            finalized=self.ref(self.chain.head("finalized")),
        )

    def ref(self, header: Header) -> L2BlockRef:
        """A header's place in the rollup. Raises `NotARollupBlock`."""
        if header.number == self.config.l2_genesis.number:
            return L2BlockRef(
                header.hash, header.number, header.parent_hash, header.timestamp, self.config.l1_genesis, 0
            )
        info = self._l1_info(header.hash)
        return L2BlockRef(
            header.hash,
            header.number,
            header.parent_hash,
            header.timestamp,
            BlockId(info.block_hash, info.number),
            info.sequence_number,
        )

    def payload_ref(self, payload: ExecutionPayload) -> L2BlockRef:
        """The place a payload claims, before it is executed. Raises `NotARollupBlock`."""
        try:
            info = decode_l1_info(DepositTransaction.decode(payload.transactions[0]).data)
        except (IndexError, InvalidTransaction, InvalidL1Info) as error:
            raise NotARollupBlock(
                f"L2 block {payload.block_number} does not begin with its L1 attributes: {error}"
            ) from error
        return L2BlockRef(
            payload.block_hash,
            payload.block_number,
            payload.parent_hash,
            payload.timestamp,
            BlockId(info.block_hash, info.number),
            info.sequence_number,
        )

    def ref_by_number(self, number: int) -> L2BlockRef | None:
        """The canonical block at a height."""
        header = self.chain.header_by_number(number)
        return None if header is None else self.ref(header)

    def ref_by_hash(self, block_hash: bytes) -> L2BlockRef | None:
        """The block with a hash."""
        header = self.chain.header_by_hash(block_hash)
        return None if header is None else self.ref(header)

    def system_config(self, block: L2BlockRef) -> SystemConfig:
        """The system configuration as of an L2 block, read back from the block itself."""
        if block.number == self.config.l2_genesis.number:
            return self.config.genesis_system_config
        header = self.chain.header_by_hash(block.hash)
        if header is None:
            raise NotARollupBlock(f"L2 block {block.number} is not stored")
        info = self._l1_info(block.hash)
        denominator, elasticity = decode_holocene_extra_data(header.extra_data)
        return SystemConfig(
            batcher=info.batcher,
            base_fee_scalar=info.base_fee_scalar,
            blob_base_fee_scalar=info.blob_base_fee_scalar,
            gas_limit=header.gas_limit,
            eip_1559_denominator=denominator,
            eip_1559_elasticity=elasticity,
            operator_fee_scalar=info.operator_fee_scalar,
            operator_fee_constant=info.operator_fee_constant,
        )

    def batch(self, header: Header) -> SingularBatch:
        """What the batcher says of a block: everything that L1 does not say already."""
        block = self._block(header.hash)
        ref = self.ref(header)
        return SingularBatch(
            parent_hash=header.parent_hash,
            epoch_number=ref.l1_origin.number,
            epoch_hash=ref.l1_origin.hash,
            timestamp=header.timestamp,
            transactions=tuple(item.raw for item in block.transactions if item.type != DEPOSIT),
        )

    def matches(self, attributes: PayloadAttributes, header: Header) -> bool:
        """Whether a stored block is what these attributes describe (derivation.md, "L1-consolidation")."""
        params = attributes.eip_1559_params
        if params is None or not any(params):
            params = self.config.eip_1559_denominator.to_bytes(4, "big") + self.config.eip_1559_elasticity.to_bytes(
                4, "big"
            )
        return (
            header.timestamp == attributes.timestamp
            and header.prev_randao == attributes.prev_randao
            and header.fee_recipient == attributes.suggested_fee_recipient
            and header.parent_beacon_block_root == attributes.parent_beacon_block_root
            and header.gas_limit == attributes.gas_limit
            and header.extra_data == b"\0" + params
            and tuple(item.raw for item in self._block(header.hash).transactions) == attributes.transactions
        )

    def _block(self, block_hash: bytes) -> Block:
        block = self.chain.block_by_hash(block_hash)
        if block is None:
            raise NotARollupBlock(f"L2 block 0x{block_hash.hex()} is not stored")
        return block

    def _l1_info(self, block_hash: bytes) -> L1Info:
        transactions = self._block(block_hash).transactions
        if not transactions or transactions[0].type != DEPOSIT:
            raise NotARollupBlock(f"L2 block 0x{block_hash.hex()} does not begin with a deposit")
        try:
            return decode_l1_info(transactions[0].data)
        except InvalidL1Info as error:
            raise NotARollupBlock(f"L2 block 0x{block_hash.hex()}: {error}") from error

    # --- changing ---

    async def build(
        self, parent_hash: bytes, attributes: PayloadAttributes, candidates: Iterable[Transaction] = ()
    ) -> Block:
        """Execute and store a block; heads stay. Raises `InvalidBlock` for attributes that no block can have."""
        return await trio.to_thread.run_sync(self.chain.build, parent_hash, attributes, candidates)

    async def import_payload(self, payload: ExecutionPayload) -> Block:
        """Re-execute, check and store a block; heads stay. Raises `InvalidBlock`, `UnknownParent`."""

        def execute() -> Block:
            block = block_from_payload(payload)
            self.chain.import_block(block)
            return block

        return await trio.to_thread.run_sync(execute)

    async def set_heads(
        self, *, unsafe: bytes | None = None, safe: bytes | None = None, finalized: bytes | None = None
    ) -> None:
        """Move heads, by hash, in one step."""

        def move() -> None:
            self.chain.set_heads(unsafe=unsafe, safe=safe, finalized=finalized)

        await trio.to_thread.run_sync(move)
