"""L1 in this process: the same view that `client` gives, over a `Chain` with plain Ethereum rules."""

import trio

from openledger.evm_ext.block import Header
from openledger.evm_ext.calls import CallRequest
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.errors import AlreadyKnown, InvalidTransaction
from openledger.evm_ext.pool import TransactionPool
from openledger.evm_ext.receipts import Receipt
from openledger.genesis.hardforks import Hardfork
from openledger.genesis.hashing import keccak256
from openledger.rollup.l1.source import Inclusion, L1BlockMissing, L1CallFailed, L1Fees, L1TransactionRejected, Label

PRIORITY_FEE_WEI = 1_000_000_000


class LocalL1:
    """An `L1Source` and `L1Submitter` over a chain and its pool."""

    def __init__(self, chain: Chain, pool: TransactionPool) -> None:
        self._chain = chain
        self._pool = pool

    async def header_by_number(self, number: int) -> Header | None:
        """See `L1Source`."""
        return self._chain.header_by_number(number)

    async def header_by_hash(self, block_hash: bytes) -> Header:
        """See `L1Source`."""
        header = self._chain.header_by_hash(block_hash)
        if header is None:
            raise L1BlockMissing(f"L1 block 0x{block_hash.hex()} is not stored")
        return header

    async def header_by_label(self, label: Label) -> Header:
        """See `L1Source`."""
        return self._chain.head("unsafe" if label == "latest" else label)

    async def transactions(self, header: Header) -> tuple[bytes, ...]:
        """See `L1Source`."""
        block = await trio.to_thread.run_sync(self._chain.block_by_hash, header.hash)
        if block is None:
            raise L1BlockMissing(f"L1 block 0x{header.hash.hex()} is not stored")
        return tuple(transaction.raw for transaction in block.transactions)

    async def receipts(self, header: Header) -> tuple[Receipt, ...]:
        """See `L1Source`."""
        return await trio.to_thread.run_sync(self._chain.receipts, header.hash)

    async def nonce(self, address: bytes, *, pending: bool) -> int:
        """See `L1Submitter`."""
        if pending:
            return self._pool.pending_nonce(address)
        return self._chain.state(self._chain.head().hash).nonce(address)

    async def fees(self) -> L1Fees:
        """See `L1Submitter`."""
        return L1Fees(self._chain.next_base_fee(self._chain.head().hash), PRIORITY_FEE_WEI)

    async def wants_cell_proofs(self) -> bool:
        """See `L1Submitter`."""
        return self._chain.rules.after(self._chain.head()).fork >= Hardfork.OSAKA

    async def send_transaction(self, raw: bytes) -> bytes:
        """See `L1Submitter`."""
        try:
            return await trio.to_thread.run_sync(self._pool.add, raw)
        except AlreadyKnown:
            return keccak256(raw)
        except InvalidTransaction as error:
            raise L1TransactionRejected(str(error)) from error

    async def inclusion(self, transaction_hash: bytes) -> Inclusion | None:
        """See `L1Submitter`."""
        location = self._chain.transaction_location(transaction_hash)
        if location is None:
            return None
        block_hash, index = location
        header = self._chain.header_by_hash(block_hash)
        if header is None:
            return None
        receipts = await trio.to_thread.run_sync(self._chain.receipts, block_hash)
        return Inclusion(block_hash, header.number, receipts[index].status == 1)

    async def call(self, to: bytes, calldata: bytes) -> bytes:
        """See `L1Submitter`."""
        request = CallRequest(to=to, data=calldata)
        result = await trio.to_thread.run_sync(self._chain.call, request, self._chain.head().hash)
        if not result.success:
            raise L1CallFailed(f"call of 0x{to.hex()}: {result.error}")
        return result.output
