"""Waits for many sockets in one task, and lets what can be answered at once be answered without waking another.

Waking a task costs a good part of what answering a small JSON-RPC call costs. A transport whose `quick`
handles what has arrived leaves its task asleep.
"""

from __future__ import annotations

import select
import selectors
from collections.abc import Callable
from time import perf_counter

import trio

Ready = Callable[[], None]

_SOCKETS_AT_ONCE = 64
_MANY = 4
"""Where so many sockets were ready, more have become so: a turn of trio's loop is dearer than to look again."""
_TURN_S = 0.001
"""Seconds after which other tasks get their turn, however much there is to read."""


class Reactor:
    """One for all connections of a server. `run` is a task; the rest is for that task's loop only."""

    def __init__(self) -> None:
        self._ready: dict[int, Ready] = {}
        self._poll = _Epoll() if hasattr(select, "epoll") else _Selector()

    async def run(self) -> None:
        """Call whoever's socket is ready, until cancelled."""
        poll, ready = self._poll, self._ready
        while True:
            await trio.lowlevel.wait_readable(poll.descriptor)
            end = perf_counter() + _TURN_S
            while True:
                descriptors = poll.readable()
                for descriptor in descriptors:
                    call = ready.get(descriptor)
                    if call is not None:
                        call()
                if len(descriptors) < _MANY or perf_counter() > end:
                    break

    def add(self, descriptor: int, ready: Ready) -> None:
        """Call `ready` whenever a socket has something to read, until it is removed."""
        self._ready[descriptor] = ready
        self._poll.add(descriptor)

    def remove(self, descriptor: int) -> None:
        """Forget a socket; before it is closed."""
        del self._ready[descriptor]
        self._poll.remove(descriptor)

    def close(self) -> None:
        self._poll.close()


class _Epoll:
    """Linux: as few steps per event as there can be."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.descriptor = self._epoll.fileno()

    def readable(self) -> list[int]:
        return [descriptor for descriptor, _ in self._epoll.poll(0, _SOCKETS_AT_ONCE)]

    def add(self, descriptor: int) -> None:
        self._epoll.register(descriptor, select.EPOLLIN)

    def remove(self, descriptor: int) -> None:
        self._epoll.unregister(descriptor)

    def close(self) -> None:
        self._epoll.close()


class _Selector:
    """Other systems whose selector is a file that can be waited for (kqueue)."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self.descriptor: int = self._selector.fileno()  # type: ignore[attr-defined,unused-ignore]

    def readable(self) -> list[int]:
        return [key.fd for key, _ in self._selector.select(0)]

    def add(self, descriptor: int) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ)

    def remove(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)

    def close(self) -> None:
        self._selector.close()
