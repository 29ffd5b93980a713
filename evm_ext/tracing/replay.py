"""A stored block executed again, transaction by transaction, some of them traced.

The same `BlockProcessor` runs that built or imported the block, so a trace shows what happened. Nothing is stored.
"""

from __future__ import annotations

from openledger.evm_ext import errors
from openledger.evm_ext.block import Block
from openledger.evm_ext.building import ParentState
from openledger.evm_ext.processing import BlockProcessor, MachineWrapper
from openledger.evm_ext.receipts import Receipt
from openledger.evm_ext.tracing import faults
from openledger.evm_ext.tracing.hooks import Frame, FrameEnd, TracedTransaction, Tracer, TransactionEnd
from openledger.evm_ext.tracing.machine import TraceSession, traced
from openledger.evm_ext.transactions import Transaction
from openledger.evm_ext.vm.entry import contract_address
from openledger.evm_ext.vm.rules import Rules


class BlockReplay:
    """Stands before the transaction with index `position`. One thread at a time."""

    def __init__(
        self,
        rules: Rules,
        parent: ParentState,
        block: Block,
        deadline: float | None = None,
        machine_wrapper: MachineWrapper | None = None,
    ) -> None:
        """deadline: monotonic time after which execution stops with `CallTimeout`."""
        self.block = block
        self.position = 0
        self.rules = rules
        self.processor = BlockProcessor(rules, parent.reader, block.header, parent.ancestor_hash, machine_wrapper)
        self.processor.state.deadline = deadline
        self.processor.start()

    def skip_to(self, position: int) -> None:
        """Execute what comes before a transaction. Raises `CallTimeout`."""
        while self.position < position:
            self._apply(self.block.transactions[self.position])

    def trace_next(self, tracer: Tracer) -> Receipt:
        """Execute the next transaction under a tracer. Raises `CallTimeout`, `TraceTooLarge`."""
        state = self.processor.state
        transaction = self.block.transactions[self.position]
        tracer.transaction_start(
            TracedTransaction(
                transaction,
                transaction.sender,
                self.block.header,
                state,
                self.rules.is_op,
                self.block.hash,
                self.position,
                sum(len(receipt.logs) for receipt in self.processor.receipts),
            )
        )
        session = TraceSession(tracer)
        nonce = state.get_nonce(transaction.sender)
        plain = state.computation_class
        state.computation_class = traced(plain, session)
        try:
            receipt = self._apply(transaction)
        finally:
            state.computation_class = plain
        if not session.entered:
            tell_of_no_message(session, transaction, nonce)
        tracer.transaction_end(TransactionEnd(bool(receipt.status), receipt.gas_used))
        return receipt

    def _apply(self, transaction: Transaction) -> Receipt:
        try:
            receipt = self.processor.apply(transaction)
        except errors.InvalidTransaction as error:
            raise errors.InvalidBlockTransaction(self.position, transaction.hash, error) from error
        self.position += 1
        return receipt


def tell_of_no_message(session: TraceSession, transaction: Transaction, nonce: int) -> None:
    """What a tracer hears of a transaction that ended before its message began: a deposit that could not start,
    or a creation whose address was taken."""
    if transaction.deposit is not None:
        # op-geth tells of a frame without an end, from and to nobody.
        session.enter(Frame(0, "STOP", bytes(20), bytes(20), b"", 0, None))
        return
    sender = transaction.sender
    created = contract_address(sender, nonce)
    session.enter(Frame(0, "CREATE", sender, created, transaction.data, transaction.gas, transaction.value))
    session.tracer.exit(FrameEnd(0, b"", transaction.gas, faults.COLLISION, True))
