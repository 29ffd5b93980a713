"""eth: what a transaction has to pay to get in, and what others paid."""

from dataclasses import dataclass

from openledger.evm_ext import fees
from openledger.evm_ext.block import Block, Header
from openledger.evm_ext.header_rules import child_excess_blob_gas
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.errors import InvalidParams
from openledger.node.rpc.formats import Json
from openledger.node.rpc.methods import rpc_method
from openledger.node.rpc.parameters import BLOCK_NUMBER, COUNT, PERCENTILES, BlockReference

SAMPLED_BLOCKS = 20
SAMPLED_PER_BLOCK = 3
SAMPLE_PERCENTILE = 60
"""geth's gas price oracle: of the smallest tips of recent blocks, the 60th percentile."""


@dataclass(frozen=True, slots=True)
class _BlockFees:
    """One block's part of a fee history."""

    gas_used_ratio: float
    blob_gas_used_ratio: float
    rewards: list[str]


class EthFees:
    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend
        self._chain = backend.chain
        self._tip_of: tuple[bytes, int] = (b"", 0)

    @rpc_method("eth_gasPrice", blocking=True)
    def gas_price(self) -> str:
        return hex(self._suggested_tip() + self._chain.next_base_fee(self._chain.head().hash))

    @rpc_method("eth_maxPriorityFeePerGas", blocking=True)
    def max_priority_fee_per_gas(self) -> str:
        return hex(self._suggested_tip())

    @rpc_method("eth_baseFee")
    def base_fee(self) -> str:
        """What the next block's base fee will be."""
        return hex(self._chain.next_base_fee(self._chain.head().hash))

    @rpc_method("eth_blobBaseFee")
    def blob_base_fee(self) -> str:
        """What blob gas costs in the newest block; 0 where there are no blobs."""
        return hex(self._blob_fee(self._chain.head()))

    @rpc_method("eth_feeHistory", COUNT, BLOCK_NUMBER, PERCENTILES.optional(()), blocking=True)
    def fee_history(self, count: int, newest: BlockReference, percentiles: tuple[float, ...]) -> Json:
        limits = self._backend.limits
        if len(percentiles) > limits.fee_history_percentiles:
            raise InvalidParams(f"over the query limit: {limits.fee_history_percentiles} percentiles")
        last = self._backend.existing_header(newest)
        count = min(count, limits.fee_history_blocks, last.number + 1)
        if count == 0:
            return {"oldestBlock": "0x0", "gasUsedRatio": []}
        headers = self._ancestors(last, count)
        parts = [self._block_fees(header, percentiles) for header in headers]
        history: Json = {
            "oldestBlock": hex(headers[0].number),
            "baseFeePerGas": [hex(header.base_fee_per_gas) for header in headers]
            + [hex(self._chain.next_base_fee(last.hash))],
            "gasUsedRatio": [part.gas_used_ratio for part in parts],
            "baseFeePerBlobGas": [hex(self._blob_fee(header)) for header in headers] + [hex(self._next_blob_fee(last))],
            "blobGasUsedRatio": [part.blob_gas_used_ratio for part in parts],
        }
        if percentiles:
            history["reward"] = [part.rewards for part in parts]
        return history

    def _ancestors(self, last: Header, count: int) -> list[Header]:
        headers = [last]
        while len(headers) < count:
            parent = self._chain.header_by_hash(headers[-1].parent_hash)
            if parent is None:
                break
            headers.append(parent)
        return headers[::-1]

    def _block_fees(self, header: Header, percentiles: tuple[float, ...]) -> _BlockFees:
        rewards: list[str] = []
        if percentiles:
            block = self._chain.block_by_hash(header.hash)
            rewards = [hex(tip) for tip in self._reward_percentiles(block, percentiles)] if block else []
        most_blob_gas = self._chain.rules.of(header).max_blob_gas
        return _BlockFees(
            gas_used_ratio=header.gas_used / header.gas_limit if header.gas_limit else 0.0,
            blob_gas_used_ratio=header.blob_gas_used / most_blob_gas if most_blob_gas else 0.0,
            rewards=rewards,
        )

    def _blob_fee(self, header: Header) -> int:
        rules = self._chain.rules.of(header)
        if not rules.has_beacon_root:
            return 0
        return fees.blob_base_fee(header.excess_blob_gas, rules.blobs.base_fee_update_fraction)

    def _next_blob_fee(self, header: Header) -> int:
        rules = self._chain.rules.after(header)
        if not rules.has_beacon_root:
            return 0
        excess = child_excess_blob_gas(self._chain.rules, header)
        return fees.blob_base_fee(excess, rules.blobs.base_fee_update_fraction)

    def _reward_percentiles(self, block: Block, percentiles: tuple[float, ...]) -> list[int]:
        """Tips at percentiles of the block's gas, cheapest first (execution-apis, eth_feeHistory)."""
        base_fee = block.header.base_fee_per_gas
        receipts = self._chain.receipts(block.hash)
        tips = sorted(
            (max(0, transaction.effective_tip(base_fee)), receipt.gas_used)
            for transaction, receipt in zip(block.transactions, receipts, strict=True)
            if transaction.deposit is None
        )
        if not tips:
            return [0] * len(percentiles)
        total = sum(gas for _, gas in tips)
        rewards: list[int] = []
        index, reached = 0, tips[0][1]
        for percentile in percentiles:
            threshold = int(total * percentile / 100)
            while reached < threshold and index < len(tips) - 1:
                index += 1
                reached += tips[index][1]
            rewards.append(tips[index][0])
        return rewards

    def _suggested_tip(self) -> int:
        head = self._chain.head()
        known_for, tip = self._tip_of
        if known_for == head.hash:
            return tip
        tips: list[int] = []
        for header in self._ancestors(head, min(SAMPLED_BLOCKS, head.number + 1)):
            block = self._chain.block_by_hash(header.hash) if header.gas_used else None
            if block is None:
                continue
            paid = (item.effective_tip(header.base_fee_per_gas) for item in block.transactions if not item.deposit)
            tips += sorted(tip for tip in paid if tip > 0)[:SAMPLED_PER_BLOCK]
        tips.sort()
        tip = tips[(len(tips) - 1) * SAMPLE_PERCENTILE // 100] if tips else 0
        tip = max(tip, self._backend.minimum_tip_wei)
        self._tip_of = (head.hash, tip)
        return tip
