"""Why a message failed, in the very words of a trace: eth_call and eth_estimateGas say what callTracer says.

The fast tiers do not know all that geth's words name (how high the stack was, whether memory was asked for that no gas
could pay), so a message that failed is run once more under a tracer.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from openledger.evm_ext.errors import CallTimeout
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.tracing.hooks import Budget, FrameEnd, Tracer
from openledger.evm_ext.tracing.machine import TraceSession, traced

MOST_LOOKS = 256
"""How often the second run may look at the clock: once a message, and again after every 512 opcodes of it. What ran longer
is told in fewer words, however fast the machine is."""


class _Outermost(Tracer):
    """Keeps why the message itself failed."""

    def __init__(self) -> None:
        super().__init__(Budget(0))
        self.error: str | None = None

    def exit(self, end: FrameEnd) -> None:
        if end.depth == 0 and end.reverted:
            self.error = end.error


class _TooLong(Exception):
    """The second run takes longer than words are worth."""


class _BoundedSession(TraceSession):
    _looks = 0

    def look_at_clock(self, deadline: float | None) -> None:
        self._looks += 1
        if self._looks > MOST_LOOKS:
            raise _TooLong
        if deadline is not None and time.monotonic() > deadline:  # each time: somebody may wait for milliseconds only
            raise CallTimeout("execution timeout")


def failure_words(state: WorldState, run: Callable[[WorldState], object]) -> str | None:
    """geth's words for the failure of what `run` does on a state, None if it takes too long to find them.

    `state` is as it was before the failed run, and is used up. Raises `CallTimeout` after its deadline."""
    tracer = _Outermost()
    state.computation_class = traced(state.computation_class, _BoundedSession(tracer))
    try:
        run(state)
    except _TooLong:
        return None
    return tracer.error
