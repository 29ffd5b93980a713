"""The default tracer: a row for each opcode. Source: execution-apis, debug_traceTransaction ("opcode tracer")."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from openledger.evm_ext.tracing import faults, opcodes
from openledger.evm_ext.tracing.costs import word
from openledger.evm_ext.tracing.hooks import Budget, FrameEnd, Json, TracedTransaction, Tracer, TransactionEnd
from openledger.evm_ext.tracing.operands import peek

_ROW_BYTES = 80
_WORD_BYTES = 69
"""What 32 bytes take in JSON: 64 digits, 0x, quotes, comma."""


@dataclass(frozen=True, slots=True)
class StructLogOptions:
    """geth's, with geth's defaults. `limit` 0 keeps all rows."""

    disable_stack: bool = False
    disable_storage: bool = False
    enable_memory: bool = False
    enable_return_data: bool = False
    limit: int = 0


class _HexDigits(dict[int, str]):
    """Words in hexadecimal, each made once: rows share most of what is on their stacks."""

    def __missing__(self, value: int) -> str:
        digits = self[value] = hex(value)
        return digits


class StructLogger(Tracer):
    wants_steps = True

    def __init__(self, budget: Budget, options: StructLogOptions | None = None) -> None:
        super().__init__(budget)
        self._options = options or StructLogOptions()
        self._rows: list[Json] = []
        self._open: list[Json | None] = []
        """The rows whose opcodes run, one per depth; None for one past the limit."""
        self._storage: dict[bytes, dict[int, int]] = {}
        self._hex = _HexDigits()
        self._output = b""
        self._error: str | None = None
        self._gas_used = 0

    def transaction_start(self, traced: TracedTransaction) -> None:
        self._rows.clear()

    def step(self, computation: Any, position: int, opcode: int, gas: int, refund: int) -> None:
        options = self._options
        if options.limit and len(self._rows) >= options.limit:
            self._open.append(None)
            return
        row: Json = {
            "pc": position,
            "op": opcodes.NAMES[opcode],
            "gas": gas,
            "gasCost": 0,
            "depth": computation.msg.depth + 1,
        }
        size = _ROW_BYTES
        if not options.disable_stack:
            row["stack"] = stack = [self._hex[word(value)] for value in computation._stack.values]
            size += sum(map(len, stack)) + 3 * len(stack)
        if options.enable_return_data and computation.return_data:
            row["returnData"] = "0x" + bytes(computation.return_data).hex()
            size += len(row["returnData"])
        if options.enable_memory and (length := len(computation._memory)):
            self.budget.spend(length // 32 * _WORD_BYTES)
            digits = bytes(computation.memory_read_bytes(0, length)).hex()
            row["memory"] = ["0x" + digits[start : start + 64] for start in range(0, len(digits), 64)]
        if not options.disable_storage and opcode in (opcodes.SLOAD, opcodes.SSTORE):
            size += self._note_storage(row, computation, opcode)
        if refund:
            row["refund"] = refund
        self.budget.spend(size)
        self._rows.append(row)
        self._open.append(row)

    def step_end(self, cost: int, error: str | None) -> None:
        row = self._open.pop()
        if row is not None:
            row["gasCost"] = cost
            if error is not None:
                row["error"] = error

    def exit(self, end: FrameEnd) -> None:
        if end.depth == 0:
            self._output, self._error = end.output, end.error

    def transaction_end(self, end: TransactionEnd) -> None:
        self._gas_used = end.gas_used

    def result(self) -> Json:
        shown = self._error is None or self._error == faults.REVERTED
        return {
            "gas": self._gas_used,
            "failed": self._error is not None,
            "returnValue": "0x" + self._output.hex() if shown else "0x",
            "structLogs": self._rows,
        }

    def _note_storage(self, row: Json, computation: Any, opcode: int) -> int:
        """All slots of the contract that the transaction has read or written so far. Gives the bytes it adds."""
        address = computation.msg.storage_address
        height = len(computation._stack.values)
        if height < opcodes.TAKEN[opcode]:
            return 0
        slot = peek(computation, 0)
        slots = self._storage.setdefault(address, {})
        slots[slot] = peek(computation, 1) if opcode == opcodes.SSTORE else computation.state.get_storage(address, slot)
        row["storage"] = {f"0x{key:064x}": f"0x{slots[key]:064x}" for key in sorted(slots)}
        return 2 * _WORD_BYTES * len(slots)
