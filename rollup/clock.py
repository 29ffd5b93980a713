"""The rollup's one clock, so that tests can turn it by hand."""

import time
from typing import Protocol

import trio


class Clock(Protocol):
    """Wall-clock seconds, and waiting until then."""

    def now(self) -> float:
        """Seconds since the epoch."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable."""
        ...


class WallClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait; cancellable."""
        await trio.sleep(max(0.0, seconds))
