"""flatCallTracer: the tree of messages as a list, each with its place in the tree (Parity's trace format)."""

from __future__ import annotations

from dataclasses import dataclass

from openledger.evm_ext.tracing import faults
from openledger.evm_ext.tracing.call_tracer import FAILED_DEPOSIT, CallFrame, CallTracer
from openledger.evm_ext.tracing.hooks import Budget, Frame, FrameEnd, Json, TracedTransaction, TransactionEnd

_PARITY_ERRORS = {
    faults.CODE_STORE_OUT_OF_GAS: "Out of gas",
    faults.OUT_OF_GAS: "Out of gas",
    faults.GAS_OVERFLOW: "Out of gas",
    faults.MAX_CODE_SIZE: "Out of gas",
    "invalid jump destination": "Bad jump destination",
    faults.REVERTED: "Reverted",
    "return data out of bounds": "Out of bounds",
    "stack limit reached 1024 (1023)": "Out of stack",
    "precompiled failed": "Built-in failed",
    "invalid input length": "Built-in failed",
}
_PARITY_BEGINNINGS = {"invalid opcode:": "Bad instruction", "stack underflow": "Stack underflow"}


_PLACE_BYTES = 4


@dataclass(frozen=True, slots=True)
class FlatCallTracerOptions:
    convert_parity_errors: bool = False
    include_precompiles: bool = False


class FlatCallTracer(CallTracer):
    def __init__(self, budget: Budget, options: FlatCallTracerOptions | None = None) -> None:
        super().__init__(budget)
        self._flat_options = options or FlatCallTracerOptions()
        self._traced: TracedTransaction | None = None
        self._precompiles: frozenset[bytes] = frozenset()

    def transaction_start(self, traced: TracedTransaction) -> None:
        super().transaction_start(traced)
        self._traced = traced
        self._precompiles = frozenset(traced.state.computation_class.get_precompiles())

    def enter(self, frame: Frame) -> None:
        super().enter(frame)
        if frame.depth and self._stack[-1].value is None:
            self._stack[-1].value = 0

    def exit(self, end: FrameEnd) -> None:
        super().exit(end)
        if end.depth == 0 or self._flat_options.include_precompiles:
            return
        calls = self._stack[-1].calls
        if calls[-1].kind in ("CALL", "STATICCALL") and calls[-1].to in self._precompiles:
            calls.pop()

    def transaction_end(self, end: TransactionEnd) -> None:
        super().transaction_end(end)
        if self.top is not None and self.top.kind == FAILED_DEPOSIT:
            self.top.gas_used = 0  # as op-geth shows it here

    def result(self) -> list[Json]:
        rows: list[Json] = []
        if self.top is not None and self._traced is not None:
            self._flatten(self.top, [], rows, self._traced)
        return rows

    def _flatten(self, frame: CallFrame, place: list[int], rows: list[Json], traced: TracedTransaction) -> None:
        self.budget.spend(_PLACE_BYTES * len(place))
        action, outcome, kind = _parts(frame)
        row: Json = {
            "action": action,
            "blockHash": _hex(traced.block_hash) if traced.block_hash else None,
            "blockNumber": traced.header.number,
        }
        if frame.error:
            row["error"] = self._error(frame.error)
        keeps_result = frame.error is None or frame.error == faults.REVERTED or frame.kind == FAILED_DEPOSIT
        if outcome is not None and keeps_result:
            row["result"] = outcome
        row["subtraces"] = len(frame.calls)
        row["traceAddress"] = place
        row["transactionHash"] = _hex(traced.transaction.hash) if traced.block_hash else None
        row["transactionPosition"] = traced.index
        row["type"] = kind
        rows.append(row)
        for index, call in enumerate(frame.calls):
            self._flatten(call, [*place, index], rows, traced)

    def _error(self, error: str) -> str:
        if not self._flat_options.convert_parity_errors:
            return error
        if error in _PARITY_ERRORS:
            return _PARITY_ERRORS[error]
        return next((words for start, words in _PARITY_BEGINNINGS.items() if error.startswith(start)), error)


def _parts(frame: CallFrame) -> tuple[Json, Json | None, str]:
    """(action, result, type) of a frame."""
    if frame.kind == "SELFDESTRUCT":
        action = {
            "address": _hex(frame.sender),
            "balance": hex(frame.value or 0),
            "refundAddress": _hex(frame.to or b""),
        }
        return action, None, "suicide"
    action = {"from": _hex(frame.sender), "gas": hex(frame.gas)}
    outcome: Json
    if frame.kind in ("CREATE", "CREATE2"):
        action |= {"init": _hex(frame.input), "value": hex(frame.value or 0)}
        outcome = {"address": _hex(frame.to)} if frame.to is not None else {}
        return action, outcome | {"code": _hex(frame.output), "gasUsed": hex(frame.gas_used)}, "create"
    action = {"callType": frame.kind.lower(), **action, "input": _hex(frame.input)}
    if frame.to is not None:
        action["to"] = _hex(frame.to)
    action["value"] = hex(frame.value or 0)
    return action, {"gasUsed": hex(frame.gas_used), "output": _hex(frame.output)}, "call"


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
