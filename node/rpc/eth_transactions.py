"""eth: transactions and receipts, and the way in for signed transactions."""

import trio

from openledger.evm_ext.block import Block
from openledger.evm_ext.errors import InvalidTransaction
from openledger.evm_ext.transactions import decode_transaction
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.errors import NOT_MINED_IN_TIME, RpcError, ServerError
from openledger.node.rpc.formats import Json, hex_bytes, receipt_json, transaction_json
from openledger.node.rpc.methods import Parameter, rpc_method
from openledger.node.rpc.parameters import BLOCK_NUMBER, BYTES, HASH, INDEX, BlockReference, decode_count

_POLL_S = 0.02
_DEFAULT_WAIT_MS = 20_000
_FIRST_OF_A_LIST = b"\xc0"
"""Transactions of type 0 begin with this or more; the others always name their chain."""


class EthTransactions:
    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend
        self._chain = backend.chain
        self._pool = backend.pool

    @rpc_method("eth_sendRawTransaction", BYTES)
    async def send_raw_transaction(self, raw: bytes) -> str:
        """Answered when the transaction is on disk: it survives a crash of the node."""
        return hex_bytes(await self._send(raw))

    @rpc_method("eth_sendRawTransactionSync", BYTES, Parameter(decode_count).optional(_DEFAULT_WAIT_MS))
    async def send_raw_transaction_sync(self, raw: bytes, wait_ms: int) -> Json:
        """Answered with the receipt when the transaction is in a block (EIP-7966)."""
        transaction_hash = await self._send(raw)
        wait_s = min(wait_ms / 1000, self._backend.limits.receipt_wait_s)
        looked_at = None
        with trio.move_on_after(wait_s):
            while True:
                head = self._chain.head().hash
                if head != looked_at:
                    looked_at = head
                    receipt = await trio.to_thread.run_sync(self.transaction_receipt, transaction_hash)
                    if receipt is not None:
                        return receipt
                await trio.sleep(_POLL_S)
        raise RpcError(
            NOT_MINED_IN_TIME,
            f"The transaction was added to the transaction pool but wasn't processed in {wait_s:g}s",
            hex_bytes(transaction_hash),
        )

    async def _send(self, raw: bytes) -> bytes:
        try:
            if not self._backend.allow_unprotected:
                await trio.to_thread.run_sync(self._require_protection, raw)
            if self._backend.submit is not None:
                return await self._backend.submit(raw)
            return await trio.to_thread.run_sync(self._pool.add, raw)
        except InvalidTransaction as error:
            raise ServerError(str(error)) from error

    def _require_protection(self, raw: bytes) -> None:
        """Raises ServerError in geth's words, and InvalidTransaction."""
        chain = self._chain
        if raw[:1] < _FIRST_OF_A_LIST or not chain.rules.after(chain.head()).has_replay_protection:
            return
        if decode_transaction(raw).chain_id is None:
            raise ServerError("only replay-protected (EIP-155) transactions allowed over RPC")

    @rpc_method("eth_getTransactionByHash", HASH, blocking=True)
    def transaction_by_hash(self, transaction_hash: bytes) -> Json | None:
        found = self._backend.mined_transaction(transaction_hash)
        if found is not None:
            return self._transaction(*found)
        pending = self._pool.get(transaction_hash)
        return None if pending is None else transaction_json(pending, None)

    @rpc_method("eth_getTransactionReceipt", HASH, blocking=True)
    def transaction_receipt(self, transaction_hash: bytes) -> Json | None:
        found = self._backend.mined_transaction(transaction_hash)
        if found is None:
            return None
        block, index = found
        return receipt_json(block, self._chain.receipts(block.hash), index)

    @rpc_method("eth_getTransactionByBlockHashAndIndex", HASH, INDEX, blocking=True)
    def transaction_by_block_hash(self, block_hash: bytes, index: int) -> Json | None:
        return self._transaction_at(BlockReference(hash=block_hash), index)

    @rpc_method("eth_getTransactionByBlockNumberAndIndex", BLOCK_NUMBER, INDEX, blocking=True)
    def transaction_by_block_number(self, reference: BlockReference, index: int) -> Json | None:
        return self._transaction_at(reference, index)

    @rpc_method("eth_getRawTransactionByHash", HASH, blocking=True)
    def raw_transaction(self, transaction_hash: bytes) -> str | None:
        found = self._backend.mined_transaction(transaction_hash)
        if found is not None:
            block, index = found
            return hex_bytes(block.transactions[index].raw)
        pending = self._pool.get(transaction_hash)
        return None if pending is None else hex_bytes(pending.raw)

    @rpc_method("eth_getRawTransactionByBlockHashAndIndex", HASH, INDEX, blocking=True)
    def raw_transaction_by_block_hash(self, block_hash: bytes, index: int) -> str | None:
        return self._raw_at(BlockReference(hash=block_hash), index)

    @rpc_method("eth_getRawTransactionByBlockNumberAndIndex", BLOCK_NUMBER, INDEX, blocking=True)
    def raw_transaction_by_block_number(self, reference: BlockReference, index: int) -> str | None:
        return self._raw_at(reference, index)

    def _raw_at(self, reference: BlockReference, index: int) -> str | None:
        block = self._block(reference)
        return None if block is None or index >= len(block.transactions) else hex_bytes(block.transactions[index].raw)

    def _transaction_at(self, reference: BlockReference, index: int) -> Json | None:
        block = self._block(reference)
        return None if block is None or index >= len(block.transactions) else self._transaction(block, index)

    def _block(self, reference: BlockReference) -> Block | None:
        header = self._backend.header(reference)
        return None if header is None else self._chain.block_by_hash(header.hash)

    def _transaction(self, block: Block, index: int) -> Json:
        transaction = block.transactions[index]
        receipt = self._chain.receipts(block.hash)[index] if transaction.deposit is not None else None
        return transaction_json(transaction, block.header, index, receipt)
