"""callTracer: the tree of messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from openledger.evm_ext.revert_reason import revert_reason
from openledger.evm_ext.tracing import faults
from openledger.evm_ext.tracing.hooks import (
    Budget,
    Frame,
    FrameEnd,
    Json,
    TracedTransaction,
    Tracer,
    TransactionEnd,
)

_FRAME_BYTES = 300
_LOG_BYTES = 400
FAILED_DEPOSIT = "STOP"
"""The kind of frame that stands for a deposit which could not even start."""


@dataclass(frozen=True, slots=True)
class CallTracerOptions:
    only_top_call: bool = False
    with_log: bool = False


@dataclass(slots=True)
class CallFrame:
    """A message and, once it ended, what it did."""

    kind: str
    sender: bytes
    to: bytes | None
    gas: int
    input: bytes
    value: int | None
    gas_used: int = 0
    output: bytes = b""
    error: str | None = None
    revert_reason: str | None = None
    reverted: bool = False
    calls: list[CallFrame] = field(default_factory=list)
    logs: list[Json] = field(default_factory=list)

    def finish(self, end: FrameEnd) -> None:
        error = end.error if end.reverted else None  # a contract that stays, without code, has not failed
        if error is None:
            self.output = end.output
            return
        self.error, self.reverted = error, True
        if self.kind in ("CREATE", "CREATE2"):
            self.to = None
        if error == faults.REVERTED and end.output:
            self.output = end.output
            self.revert_reason = revert_reason(end.output)

    def to_json(self) -> Json:
        """In the order in which geth writes the fields."""
        body: Json = {"from": _hex(self.sender), "gas": hex(self.gas), "gasUsed": hex(self.gas_used)}
        if self.to is not None:
            body["to"] = _hex(self.to)
        body["input"] = _hex(self.input)
        if self.output:
            body["output"] = _hex(self.output)
        if self.error:
            body["error"] = self.error
        if self.revert_reason:
            body["revertReason"] = self.revert_reason
        if self.calls:
            body["calls"] = [call.to_json() for call in self.calls]
        if self.logs:
            body["logs"] = self.logs
        if self.value is not None:
            body["value"] = hex(self.value)
        body["type"] = self.kind
        return body


class CallTracer(Tracer):
    def __init__(self, budget: Budget, options: CallTracerOptions | None = None) -> None:
        super().__init__(budget)
        self._options = options or CallTracerOptions()
        self._stack: list[CallFrame] = []
        self._depth = 0
        self._gas_limit = 0
        self._next_log_index = 0
        self._log_indexes: list[int] = []
        """The next log's index where each open message began: a message that is undone gives its indexes back."""
        self.top: CallFrame | None = None

    def transaction_start(self, traced: TracedTransaction) -> None:
        self._gas_limit = traced.transaction.gas
        self._next_log_index = traced.first_log_index

    def enter(self, frame: Frame) -> None:
        self._depth = frame.depth
        self._log_indexes.append(self._next_log_index)
        if self._options.only_top_call and frame.depth > 0:
            return
        self.budget.spend(_FRAME_BYTES + 2 * len(frame.input))
        gas = self._gas_limit if frame.depth == 0 else frame.gas
        call = CallFrame(frame.kind, frame.sender, frame.to, gas, frame.input, frame.value)
        self._stack.append(call)
        if frame.depth == 0:
            self.top = call

    def exit(self, end: FrameEnd) -> None:
        began_at = self._log_indexes.pop()
        if end.reverted:
            self._next_log_index = began_at
        if end.depth == 0:
            if self.top is not None:
                self.budget.spend(2 * len(end.output))
                self.top.finish(end)
            return
        self._depth = end.depth - 1
        if self._options.only_top_call:
            return
        self.budget.spend(2 * len(end.output))
        call = self._stack.pop()
        call.gas_used = end.gas_used
        call.finish(end)
        self._stack[-1].calls.append(call)

    def log(self, address: bytes, topics: tuple[bytes, ...], data: bytes) -> None:
        index = self._next_log_index
        self._next_log_index += 1
        if not self._options.with_log or (self._options.only_top_call and self._depth > 0):
            return
        self.budget.spend(_LOG_BYTES + 2 * len(data))
        frame = self._stack[-1]
        frame.logs.append(
            {
                "address": _hex(address),
                "topics": [_hex(topic) for topic in topics],
                "data": _hex(data),
                "index": hex(index),
                "position": hex(len(frame.calls)),
            }
        )

    def transaction_end(self, end: TransactionEnd) -> None:
        if self.top is None:
            return
        self.top.gas_used = end.gas_used
        if self.top.kind == FAILED_DEPOSIT:
            self.top.error, self.top.to, self.top.gas = "failed deposit transaction", None, 0
        _drop_failed_logs(self.top, False)

    def result(self) -> Any:
        return {} if self.top is None else self.top.to_json()


def _drop_failed_logs(frame: CallFrame, parent_failed: bool) -> None:
    failed = parent_failed or frame.reverted
    if failed:
        frame.logs = []
    for call in frame.calls:
        _drop_failed_logs(call, failed)


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
