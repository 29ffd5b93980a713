"""muxTracer: several tracers in one run. noopTracer is `Tracer` itself."""

from __future__ import annotations

from typing import Any

from openledger.evm_ext.tracing.hooks import (
    Budget,
    Frame,
    FrameEnd,
    Json,
    TracedTransaction,
    Tracer,
    TransactionEnd,
)


class MuxTracer(Tracer):
    def __init__(self, budget: Budget, tracers: dict[str, Tracer]) -> None:
        super().__init__(budget)
        self._tracers = tracers
        self._stepping = [tracer for tracer in tracers.values() if tracer.wants_steps or tracer.watched]
        self.wants_steps = any(tracer.wants_steps for tracer in tracers.values())
        self.watched = frozenset().union(*(tracer.watched for tracer in tracers.values()))

    def transaction_start(self, traced: TracedTransaction) -> None:
        for tracer in self._tracers.values():
            tracer.transaction_start(traced)

    def transaction_end(self, end: TransactionEnd) -> None:
        for tracer in self._tracers.values():
            tracer.transaction_end(end)

    def enter(self, frame: Frame) -> None:
        for tracer in self._tracers.values():
            tracer.enter(frame)

    def exit(self, end: FrameEnd) -> None:
        for tracer in self._tracers.values():
            tracer.exit(end)

    def step(self, computation: Any, position: int, opcode: int, gas: int, refund: int) -> None:
        for tracer in self._stepping:
            tracer.step(computation, position, opcode, gas, refund)

    def step_end(self, cost: int, error: str | None) -> None:
        for tracer in self._stepping:
            tracer.step_end(cost, error)

    def log(self, address: bytes, topics: tuple[bytes, ...], data: bytes) -> None:
        for tracer in self._tracers.values():
            tracer.log(address, topics, data)

    def result(self) -> Json:
        return {name: tracer.result() for name, tracer in sorted(self._tracers.items())}
