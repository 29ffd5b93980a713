"""What transactions do inside, noted while blocks are executed: transfers, creations, self-destructs, and which
accounts were called.

Recording hooks into messages and SELFDESTRUCT, not into steps, so both tiers of the interpreter run as they do
without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from eth.exceptions import Halt

from openledger.evm_ext.vm.computation import Computation

_SELFDESTRUCT = 0xFF
_CREATE2 = 0xF5
_ADDRESS_MASK = (1 << 160) - 1

if TYPE_CHECKING:
    _Machine = Computation
else:
    _Machine = object


class OperationKind(IntEnum):
    """Otterscan's numbers."""

    TRANSFER = 0
    SELF_DESTRUCT = 1
    CREATE = 2
    CREATE2 = 3


@dataclass(frozen=True, slots=True)
class InternalOperation:
    """Value (wei) that moved, or a contract that came or went, below the transaction's own message."""

    kind: OperationKind
    sender: bytes
    to: bytes
    value: int


@dataclass(frozen=True, slots=True)
class TransactionRecord:
    """What one transaction did inside.

    addresses: every account that called, was called, created, or was paid, in failed messages too.
    operations: those that were not undone, in order.
    created: (contract, creator) of those that were not undone, the transaction's own contract included.
    """

    addresses: frozenset[bytes]
    operations: tuple[InternalOperation, ...]
    created: tuple[tuple[bytes, bytes], ...]


class OperationRecorder:
    """Hears of the messages of one block; `WorldState.observer`. `take` ends a transaction."""

    def __init__(self) -> None:
        self._addresses: set[bytes] = set()
        self._operations: list[InternalOperation] = []
        self._created: list[tuple[bytes, bytes]] = []

    def take(self) -> TransactionRecord:
        """What was recorded since the last `take`, which is forgotten then."""
        record = TransactionRecord(frozenset(self._addresses), tuple(self._operations), tuple(self._created))
        self.forget()
        return record

    def forget(self) -> None:
        """Drop what was recorded: it belonged to no transaction of the block."""
        self._addresses.clear()
        self._operations.clear()
        self._created.clear()

    def mark(self) -> tuple[int, int]:
        """A point to go back to when a message fails."""
        return len(self._operations), len(self._created)

    def undo(self, mark: tuple[int, int]) -> None:
        """Operations after the mark did not happen after all."""
        operations, created = mark
        del self._operations[operations:]
        del self._created[created:]

    def call(self, message: Any) -> None:
        self._addresses.update((message.sender, message.storage_address, message.code_address))
        moves_value = message.should_transfer_value and message.value and message.sender != message.storage_address
        if message.depth and moves_value:
            self._operations.append(
                InternalOperation(OperationKind.TRANSFER, message.sender, message.storage_address, message.value)
            )

    def creation(self, message: Any, kind: OperationKind) -> None:
        address = message.storage_address
        self._addresses.update((message.sender, address))
        self._created.append((address, message.sender))
        if message.depth:
            self._operations.append(InternalOperation(kind, message.sender, address, message.value))

    def self_destruct(self, address: bytes, beneficiary: bytes, balance: int) -> None:
        self._addresses.add(beneficiary)
        self._operations.append(InternalOperation(OperationKind.SELF_DESTRUCT, address, beneficiary, balance))


def recording(machine_class: Any) -> type[Computation]:
    """A subclass of a fork's machine that tells its state's observer of messages. Always the same one for a
    machine, so that code is compiled once for it."""
    return _recording(machine_class)


@lru_cache(maxsize=64)
def _recording(machine_class: Any) -> type[Computation]:
    table = list(machine_class._opcode_table)
    table[_SELFDESTRUCT] = _telling(table[_SELFDESTRUCT])
    table[_CREATE2] = _noting_create2(table[_CREATE2])
    return type(
        f"Recording{machine_class.__name__}",
        (_RecordingMachine, machine_class),
        {"_opcode_table": tuple(table)},
    )


class _RecordingMachine(_Machine):
    _creates_by_salt = False

    @classmethod
    def apply_message(cls, state: Any, message: Any, transaction_context: Any, parent_computation: Any = None) -> Any:
        observer = state.observer
        if observer is None or message.is_create:
            return super().apply_message(state, message, transaction_context, parent_computation)
        mark = observer.mark()
        observer.call(message)
        computation = super().apply_message(state, message, transaction_context, parent_computation)
        if computation._error is not None:
            observer.undo(mark)
        return computation

    @classmethod
    def apply_create_message(
        cls, state: Any, message: Any, transaction_context: Any, parent_computation: Any = None
    ) -> Any:
        observer = state.observer
        if observer is None:
            return super().apply_create_message(state, message, transaction_context, parent_computation)
        by_salt = parent_computation is not None and parent_computation._creates_by_salt
        mark = observer.mark()
        observer.creation(message, OperationKind.CREATE2 if by_salt else OperationKind.CREATE)
        computation = super().apply_create_message(state, message, transaction_context, parent_computation)
        if computation._error is not None:
            observer.undo(mark)
        return computation


def _telling(self_destruct: Any) -> Any:
    def recorded(computation: Any) -> None:
        observer = computation.state.observer
        values = computation._stack.values
        if observer is None or not values:
            self_destruct(computation)
            return
        address = computation.msg.storage_address
        beneficiary = (values[-1] & _ADDRESS_MASK).to_bytes(20, "big")
        balance = computation.state.get_balance(address)
        try:
            self_destruct(computation)
        except Halt:
            observer.self_destruct(address, beneficiary, balance)
            raise

    return recorded


def _noting_create2(create2: Any) -> Any:
    def recorded(computation: Any) -> None:
        computation._creates_by_salt = True
        try:
            create2(computation)
        finally:
            computation._creates_by_salt = False

    return recorded
