"""4byteTracer: which selectors were called, with the size of their arguments, and how often."""

from __future__ import annotations

from collections import Counter

from openledger.evm_ext.tracing.hooks import Budget, Frame, TracedTransaction, Tracer

_CALLS = ("CALL", "CALLCODE", "DELEGATECALL", "STATICCALL")
_ENTRY_BYTES = 30


class FourByteTracer(Tracer):
    def __init__(self, budget: Budget) -> None:
        super().__init__(budget)
        self._found: Counter[str] = Counter()
        self._precompiles: frozenset[bytes] = frozenset()

    def transaction_start(self, traced: TracedTransaction) -> None:
        self._precompiles = frozenset(traced.state.computation_class.get_precompiles())

    def enter(self, frame: Frame) -> None:
        # What creates carries code, and what a precompile takes has no selector, also in the transaction itself.
        wanted = frame.kind in _CALLS and frame.to not in self._precompiles
        if wanted and len(frame.input) >= 4:
            self.budget.spend(_ENTRY_BYTES)
            self._found[f"0x{frame.input[:4].hex()}-{len(frame.input) - 4}"] += 1

    def result(self) -> dict[str, int]:
        return dict(sorted(self._found.items()))
