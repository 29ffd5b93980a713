"""Calls whose duration nobody knows before, tried in the event loop for a few milliseconds before they take a thread.

While one is tried everybody waits. So what took too long is not tried again soon, and after each failure nothing is
tried for so long that failures take a small part of the time, whoever thinks them up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from time import monotonic, thread_time
from types import TracebackType

from lru import LRU

from openledger.evm_ext.bounded_calls import PATIENCE
from openledger.evm_ext.errors import CallTimeout
from openledger.node.rpc.methods import TakesLonger

TIME_LIMIT_S = 0.003
MOST_PART = 0.05
"""Of the loop's time that failed attempts may take."""
REMEMBERED_S = 3.0
_KINDS = 4_096


class Attempts:
    """Use as `with attempts.of(kind) as time_limit_s:` around what raises CallTimeout after that many seconds; then,
    or if it is not to be tried now, TakesLonger is raised. One thread, one attempt at a time."""

    def __init__(
        self,
        time_limit_s: float = TIME_LIMIT_S,
        clock: Callable[[], float] = monotonic,
        work_clock: Callable[[], float] = thread_time,
    ) -> None:
        """`work_clock` stands still while other threads and programs run: what they take is hardly the call's doing."""
        self._time_limit_s = time_limit_s
        self._clock = clock
        self._work_clock = work_clock
        self._failed: LRU[Hashable, float] = LRU(_KINDS)
        self._paused_until = clock()
        self._kind: Hashable = None
        self._started = 0.0
        self._started_work = 0.0

    def of(self, kind: Hashable) -> Attempts:
        """Raises TakesLonger. `kind`: what calls that are alike share."""
        now = self._clock()
        if now < self._paused_until:
            raise TakesLonger
        failed = self._failed.get(kind)
        if failed is not None and now < failed + REMEMBERED_S:
            raise TakesLonger
        self._kind = kind
        return self

    def __enter__(self) -> float:
        self._started = self._clock()
        self._started_work = self._work_clock()
        return self._time_limit_s

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, CallTimeout):
            now = self._clock()
            cost = max(self._work_clock() - self._started_work, (now - self._started) / PATIENCE)
            self._paused_until = now + cost / MOST_PART
            if cost >= self._time_limit_s:
                self._failed[self._kind] = now
            raise TakesLonger from None
