"""ots: what the explorer Otterscan asks, API level 8 (https://docs.otterscan.io/api-docs/ots-api).

Searches read the address index (`Chain.index`); without it they say how to switch it on. Operations inside a
transaction come from the index too, and from executing the block again where it has none.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

from openledger.evm_ext.block import Block
from openledger.evm_ext.errors import CallError, CallTimeout, ExecutionError, InvalidBlock, TraceTooLarge
from openledger.evm_ext.index import AddressIndex, IndexedTransaction
from openledger.evm_ext.index_recorder import InternalOperation, recording
from openledger.evm_ext.processing import MachineWrapper
from openledger.evm_ext.proof_of_work import rewards
from openledger.evm_ext.tracing import BlockReplay, Budget, Tracer
from openledger.evm_ext.tracing.call_list import CallList
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.errors import RESPONSE_TOO_LARGE, InvalidParams, RpcError, ServerError
from openledger.node.rpc.formats import Json, block_json, hex_bytes, receipt_json, transaction_json
from openledger.node.rpc.methods import rpc_method
from openledger.node.rpc.parameters import ADDRESS, BLOCK, COUNT, HASH, LATEST, PLAIN_BLOCK_NUMBER, BlockReference

API_LEVEL = 8
_SELECTOR_DIGITS = 10
"""0x and four bytes: pages of a block's transactions show no more of the input."""


class Ots:
    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend
        self._chain = backend.chain

    @rpc_method("ots_getApiLevel")
    def api_level(self) -> int:
        return API_LEVEL

    @rpc_method("ots_hasCode", ADDRESS, BLOCK.optional(LATEST), blocking=True)
    def has_code(self, address: bytes, reference: BlockReference) -> bool:
        return bool(self._chain.state(self._backend.existing_header(reference).hash).code(address))

    # --- inside a transaction -----------------------------------------------------------------------------

    @rpc_method("ots_getInternalOperations", HASH, slow=True)
    def internal_operations(self, transaction_hash: bytes) -> list[Json]:
        """Value that moved below the transaction's own message, and contracts that came and went there."""
        block, index = self._mined(transaction_hash)
        recorded = None if self._chain.index is None else self._chain.index.operations(block.hash)
        if recorded is not None:
            return [_operation_json(operation) for operation in recorded[index]]
        with self._errors():
            replay = self._replay(block, recording)
            replay.skip_to(index + 1)
        return [_operation_json(operation) for operation in replay.processor.records[index].operations]

    @rpc_method("ots_getTransactionError", HASH, slow=True)
    def transaction_error(self, transaction_hash: bytes) -> str:
        """The revert data; "0x" for success and for a failure that says nothing."""
        block, index = self._mined(transaction_hash)
        if self._chain.receipts(block.hash)[index].status and not self._is_before_byzantium(block):
            return "0x"
        calls = CallList(self._budget())
        self._trace(block, index, calls)
        return hex_bytes(calls.revert_data)

    @rpc_method("ots_traceTransaction", HASH, slow=True)
    def trace_transaction(self, transaction_hash: bytes) -> list[Json]:
        """Every message, in the order in which they began."""
        block, index = self._mined(transaction_hash)
        calls = CallList(self._budget())
        self._trace(block, index, calls)
        return calls.result()

    # --- blocks -------------------------------------------------------------------------------------------

    @rpc_method("ots_getBlockDetails", PLAIN_BLOCK_NUMBER, blocking=True)
    def block_details(self, reference: BlockReference) -> Json | None:
        return self._details(reference)

    @rpc_method("ots_getBlockDetailsByHash", HASH, blocking=True)
    def block_details_by_hash(self, block_hash: bytes) -> Json | None:
        return self._details(BlockReference(hash=block_hash))

    @rpc_method("ots_getBlockTransactions", PLAIN_BLOCK_NUMBER, COUNT, COUNT, blocking=True)
    def block_transactions(self, reference: BlockReference, page: int, size: int) -> Json | None:
        """A page of a block's transactions; page 0 holds the last of them."""
        self._check_page_size(size, self._backend.limits.ots_block_page)
        block = self._block(reference)
        if block is None:
            return None
        receipts = self._chain.receipts(block.hash)
        end = max(0, len(block.transactions) - page * size)
        chosen = range(max(0, end - size), end)
        body = self._block_json(block)
        body["transactions"] = [_short_transaction(block, index, receipts) for index in chosen]
        return {"fullblock": body, "receipts": [_short_receipt(block, receipts, index) for index in chosen]}

    # --- searches -----------------------------------------------------------------------------------------

    @rpc_method("ots_searchTransactionsBefore", ADDRESS, COUNT, COUNT, slow=True)
    def search_before(self, address: bytes, number: int, size: int) -> Json:
        """The newest transactions of an account in blocks below a number; 0 stands for all blocks."""
        index = self._index()
        self._check_page_size(size, self._backend.limits.ots_page)
        below = number or self._chain.head().number + 1
        found, is_last = self._page(index.transactions_before(address, below), size)
        return self._search_result(found, first_page=number == 0, last_page=is_last)

    @rpc_method("ots_searchTransactionsAfter", ADDRESS, COUNT, COUNT, slow=True)
    def search_after(self, address: bytes, number: int, size: int) -> Json:
        """The oldest transactions of an account in blocks above a number, the newest of them first; 0 stands for
        all blocks."""
        index = self._index()
        self._check_page_size(size, self._backend.limits.ots_page)
        found, is_last = self._page(index.transactions_after(address, number), size)
        found.sort(key=lambda item: (item.block_number, item.index), reverse=True)
        return self._search_result(found, first_page=is_last, last_page=number == 0)

    @rpc_method("ots_getTransactionBySenderAndNonce", ADDRESS, COUNT, blocking=True)
    def transaction_by_nonce(self, sender: bytes, nonce: int) -> str | None:
        found = self._index().by_nonce(sender, nonce)
        if found is None:
            return None
        block = self._chain.block_by_hash(found.block_hash)
        return None if block is None else hex_bytes(block.transactions[found.index].hash)

    @rpc_method("ots_getContractCreator", ADDRESS, blocking=True)
    def contract_creator(self, address: bytes) -> Json | None:
        index = self._index()
        if not self._chain.state(self._chain.head().hash).code(address):
            return None
        creation = index.creation(address)
        if creation is None:
            return None
        block = self._chain.block_by_hash(creation.transaction.block_hash)
        if block is None:
            return None
        transaction = block.transactions[creation.transaction.index]
        return {"hash": hex_bytes(transaction.hash), "creator": hex_bytes(creation.creator)}

    # --- what several share -------------------------------------------------------------------------------

    def _mined(self, transaction_hash: bytes) -> tuple[Block, int]:
        found = self._backend.mined_transaction(transaction_hash)
        if found is None:
            raise ServerError("transaction not found")
        return found

    def _block(self, reference: BlockReference) -> Block | None:
        header = self._backend.header(reference)
        return None if header is None else self._chain.block_by_hash(header.hash)

    def _is_before_byzantium(self, block: Block) -> bool:
        """Receipts had no status then: whether a transaction failed is found by executing it."""
        return self._chain.rules.of(block.header).receipts_have_state_root

    def _block_json(self, block: Block) -> Json:
        """A block without its transactions and its bloom."""
        body = block_json(block, False)
        body.pop("transactions")
        body["logsBloom"] = None
        body["transactionCount"] = len(block.transactions)
        return body

    def _details(self, reference: BlockReference) -> Json | None:
        block = self._block(reference)
        if block is None:
            return None
        receipts = self._chain.receipts(block.hash)
        fees = sum(receipt.gas_used * receipt.effective_gas_price for receipt in receipts)
        return {"block": self._block_json(block), "issuance": self._issuance(block), "totalFees": hex(fees)}

    def _issuance(self, block: Block) -> Json:
        """What miners got for the block and its uncles; nothing since the merge."""
        paid = [wei for _, wei in rewards(self._chain.rules.of(block.header), block.header, block.uncles)]
        *for_uncles, for_block = paid or [0]
        return {
            "blockReward": hex(for_block),
            "uncleReward": hex(sum(for_uncles)),
            "issuance": hex(for_block + sum(for_uncles)),
        }

    def _index(self) -> AddressIndex:
        if self._chain.index is None:
            raise ServerError("this node keeps no address index: start it with [chain] address_index = true")
        return self._chain.index

    @staticmethod
    def _check_page_size(size: int, most: int) -> None:
        if not 1 <= size <= most:
            raise InvalidParams(f"page size {size} is not in 1..{most}")

    @staticmethod
    def _page(found: Iterator[IndexedTransaction], size: int) -> tuple[list[IndexedTransaction], bool]:
        """At least `size` transactions, whole blocks, if there are as many; and whether these are all."""
        page: list[IndexedTransaction] = []
        for _, of_block in groupby(found, key=lambda item: item.block_number):
            if len(page) >= size:
                return page, False
            page.extend(of_block)
        return page, True

    def _search_result(self, found: list[IndexedTransaction], *, first_page: bool, last_page: bool) -> Json:
        transactions: list[Json] = []
        shown: list[Json] = []
        for item in found:
            block = self._chain.block_by_hash(item.block_hash)
            if block is None:
                continue
            receipts = self._chain.receipts(block.hash)
            transactions.append(
                transaction_json(block.transactions[item.index], block.header, item.index, receipts[item.index])
            )
            shown.append(receipt_json(block, receipts, item.index) | {"timestamp": block.header.timestamp})
        return {"txs": transactions, "receipts": shown, "firstPage": first_page, "lastPage": last_page}

    def _trace(self, block: Block, index: int, tracer: Tracer) -> None:
        with self._errors():
            replay = self._replay(block)
            replay.skip_to(index)
            replay.trace_next(tracer)

    def _replay(self, block: Block, machine_wrapper: MachineWrapper | None = None) -> BlockReplay:
        deadline = time.monotonic() + self._backend.limits.call_time_s
        return self._chain.replay(block, deadline=deadline, machine_wrapper=machine_wrapper)

    def _budget(self) -> Budget:
        return Budget(self._backend.limits.trace_bytes)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except CallTimeout as error:
            raise ServerError("execution timeout") from error
        except TraceTooLarge as error:
            raise RpcError(RESPONSE_TOO_LARGE, str(error)) from error
        except (CallError, InvalidBlock, ExecutionError) as error:
            raise ServerError(str(error)) from error


def _operation_json(operation: InternalOperation) -> Json:
    return {
        "type": int(operation.kind),
        "from": hex_bytes(operation.sender),
        "to": hex_bytes(operation.to),
        "value": hex(operation.value),
    }


def _short_transaction(block: Block, index: int, receipts: tuple[Any, ...]) -> Json:
    body = transaction_json(block.transactions[index], block.header, index, receipts[index])
    body["input"] = body["input"][:_SELECTOR_DIGITS]
    return body


def _short_receipt(block: Block, receipts: tuple[Any, ...], index: int) -> Json:
    body = receipt_json(block, receipts, index)
    body["logs"] = None
    body["logsBloom"] = None
    return body
