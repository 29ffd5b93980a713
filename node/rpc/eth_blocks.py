"""eth: the chain's identity, its heads and its blocks."""

from typing import Any

from openledger.evm_ext.block import Block, HeaderForm
from openledger.evm_ext.receipts import Receipt
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.formats import Json, block_json, header_json, receipts_json, uncle_json
from openledger.node.rpc.methods import rpc_method
from openledger.node.rpc.parameters import BLOCK, BLOCK_NUMBER, BOOLEAN, HASH, INDEX, BlockReference


class EthBlocks:
    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend
        self._chain = backend.chain

    @rpc_method("eth_chainId")
    def chain_id(self) -> str:
        return hex(self._chain.chain_id)

    @rpc_method("eth_blockNumber")
    def block_number(self) -> str:
        return hex(self._chain.head().number)

    @rpc_method("eth_syncing")
    def syncing(self) -> Json | bool:
        progress = self._backend.syncing()
        if progress is None:
            return False
        return {
            "startingBlock": hex(progress.starting_block),
            "currentBlock": hex(progress.current_block),
            "highestBlock": hex(progress.highest_block),
        }

    @rpc_method("eth_accounts")
    def accounts(self) -> list[str]:
        """Always empty: the node holds no user's keys."""
        return []

    @rpc_method("eth_getBlockByNumber", BLOCK_NUMBER, BOOLEAN.optional(False), blocking=True)
    def block_by_number(self, reference: BlockReference, full: bool) -> Json | None:
        if reference.label == "pending":
            return self._pending_block()
        return self._block(reference, full)

    @rpc_method("eth_getBlockByHash", HASH, BOOLEAN.optional(False), blocking=True)
    def block_by_hash(self, block_hash: bytes, full: bool) -> Json | None:
        return self._block(BlockReference(hash=block_hash), full)

    @rpc_method("eth_getHeaderByNumber", BLOCK_NUMBER)
    def header_by_number(self, reference: BlockReference) -> Json | None:
        header = None if reference.label == "pending" else self._backend.header(reference)
        return None if header is None else header_json(header)

    @rpc_method("eth_getHeaderByHash", HASH)
    def header_by_hash(self, block_hash: bytes) -> Json | None:
        header = self._chain.header_by_hash(block_hash)
        return None if header is None else header_json(header)

    @rpc_method("eth_getBlockTransactionCountByNumber", BLOCK_NUMBER)
    def transaction_count_by_number(self, reference: BlockReference) -> str | None:
        block = self._stored_block(reference)
        return None if block is None else hex(len(block.transactions))

    @rpc_method("eth_getBlockTransactionCountByHash", HASH)
    def transaction_count_by_hash(self, block_hash: bytes) -> str | None:
        return self.transaction_count_by_number(BlockReference(hash=block_hash))

    @rpc_method("eth_getBlockReceipts", BLOCK, blocking=True)
    def block_receipts(self, reference: BlockReference) -> list[Json] | None:
        block = self._stored_block(reference)
        return None if block is None else receipts_json(block, self._receipts(block))

    @rpc_method("eth_getUncleCountByBlockNumber", BLOCK_NUMBER)
    def uncle_count_by_number(self, reference: BlockReference) -> str | None:
        block = self._stored_block(reference)
        return None if block is None else hex(len(block.uncles))

    @rpc_method("eth_getUncleCountByBlockHash", HASH)
    def uncle_count_by_hash(self, block_hash: bytes) -> str | None:
        return self.uncle_count_by_number(BlockReference(hash=block_hash))

    @rpc_method("eth_getUncleByBlockNumberAndIndex", BLOCK_NUMBER, INDEX)
    def uncle_by_number(self, reference: BlockReference, index: int) -> Json | None:
        block = self._stored_block(reference)
        return None if block is None or index >= len(block.uncles) else uncle_json(block.uncles[index])

    @rpc_method("eth_getUncleByBlockHashAndIndex", HASH, INDEX)
    def uncle_by_hash(self, block_hash: bytes, index: int) -> Json | None:
        return self.uncle_by_number(BlockReference(hash=block_hash), index)

    def _block(self, reference: BlockReference, full: bool) -> Json | None:
        block = self._stored_block(reference)
        if block is None:
            return None
        has_deposits = full and any(item.deposit is not None for item in block.transactions)
        return block_json(block, full, self._receipts(block) if has_deposits else ())

    def _stored_block(self, reference: BlockReference) -> Block | None:
        header = self._backend.header(reference)
        return None if header is None else self._chain.block_by_hash(header.hash)

    def _receipts(self, block: Block) -> tuple[Receipt, ...]:
        return self._chain.receipts(block.hash)

    def _pending_block(self) -> Json:
        """The frame of the next block: what is not known before it is built is null."""
        head = self._chain.head()
        body: dict[str, Any] = header_json(head)
        unknown = ("hash", "nonce", "stateRoot", "receiptsRoot", "transactionsRoot", "miner", "withdrawalsRoot")
        body |= dict.fromkeys(unknown)
        body["number"] = hex(head.number + 1)
        body["parentHash"] = "0x" + head.hash.hex()
        body["timestamp"] = hex(head.timestamp + 1)
        body["baseFeePerGas"] = hex(self._chain.next_base_fee(head.hash))
        body["gasUsed"] = "0x0"
        body["logsBloom"] = "0x" + "00" * 256
        body |= {"size": "0x0", "uncles": [], "transactions": []}
        if head.form >= HeaderForm.SHANGHAI:
            body["withdrawals"] = []
        return body
