"""Work that must be finished though whoever asked for it went away: it runs in a service's nursery, not the caller's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVarTuple

import trio

Ts = TypeVarTuple("Ts")


class NotRunning(Exception):
    """The service is not up, so nothing can be begun."""


class Background:
    """A nursery as a service. What is started in it ends by itself or with the node."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the nursery open until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None

    def start(self, work: Callable[[*Ts], Awaitable[None]], *arguments: *Ts) -> None:
        """Begin `work(*arguments)`, which must not raise. Raises NotRunning."""
        if self._nursery is None:
            raise NotRunning("the node is starting or stopping: try again")
        self._nursery.start_soon(work, *arguments)
