"""Messages as a plain list, in the order in which they began: ots_traceTransaction, and the data of a revert."""

from __future__ import annotations

from openledger.evm_ext.tracing import faults
from openledger.evm_ext.tracing.hooks import Budget, Frame, FrameEnd, Json, Tracer

_ENTRY_BYTES = 250
_WITHOUT_VALUE = ("STATICCALL", "DELEGATECALL")


class CallList(Tracer):
    def __init__(self, budget: Budget) -> None:
        super().__init__(budget)
        self.revert_data = b""
        """What the transaction's own message reverted with; empty if it did not."""
        self._entries: list[Json] = []
        self._open: list[Json] = []

    def enter(self, frame: Frame) -> None:
        self.budget.spend(_ENTRY_BYTES + 2 * len(frame.input))
        entry: Json = {
            "type": frame.kind,
            "depth": frame.depth,
            "from": _hex(frame.sender),
            "to": _hex(frame.to),
            "value": None if frame.value is None or frame.kind in _WITHOUT_VALUE else hex(frame.value),
            "input": _hex(frame.input),
            "output": "0x",
        }
        self._entries.append(entry)
        self._open.append(entry)

    def exit(self, end: FrameEnd) -> None:
        self.budget.spend(2 * len(end.output))
        self._open.pop()["output"] = _hex(end.output)
        if end.depth == 0 and end.error == faults.REVERTED:
            self.revert_data = end.output

    def result(self) -> list[Json]:
        return self._entries


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
