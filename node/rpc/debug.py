"""debug: the raw encodings of what is stored."""

from openledger.evm_ext.block import Block
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.errors import ServerError
from openledger.node.rpc.formats import hex_bytes
from openledger.node.rpc.methods import rpc_method
from openledger.node.rpc.parameters import BLOCK, HASH, BlockReference


class DebugRaw:
    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend
        self._chain = backend.chain

    @rpc_method("debug_getRawHeader", BLOCK, blocking=True)
    def raw_header(self, reference: BlockReference) -> str:
        return hex_bytes(self._backend.existing_header(reference).encode())

    @rpc_method("debug_getRawBlock", BLOCK, blocking=True)
    def raw_block(self, reference: BlockReference) -> str:
        return hex_bytes(self._block(reference).encode())

    @rpc_method("debug_getRawReceipts", BLOCK, blocking=True)
    def raw_receipts(self, reference: BlockReference) -> list[str]:
        """The consensus encodings, whose trie is the block's receipts root."""
        receipts = self._chain.receipts(self._backend.existing_header(reference).hash)
        return [hex_bytes(receipt.encode()) for receipt in receipts]

    @rpc_method("debug_getRawTransaction", HASH, blocking=True)
    def raw_transaction(self, transaction_hash: bytes) -> str | None:
        found = self._backend.mined_transaction(transaction_hash)
        if found is not None:
            block, index = found
            return hex_bytes(block.transactions[index].raw)
        pending = self._backend.pool.get(transaction_hash)
        return None if pending is None else hex_bytes(pending.raw)

    def _block(self, reference: BlockReference) -> Block:
        block = self._chain.block_by_hash(self._backend.existing_header(reference).hash)
        if block is None:
            raise ServerError("block not found")
        return block
