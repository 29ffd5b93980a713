"""One connected socket: receive, send, and a deadline that a sweep looks after.

trio's own streams cost as much per call as a whole small JSON-RPC answer, and a cancel scope per wait costs
half of that again. So sockets are read when the reactor says so and written directly, and deadlines are
plain numbers that the server looks through a few times a second.
"""

import math
import socket
from collections.abc import Callable

import trio
from outcome import Error, Value

from openledger.node.http.reactor import Reactor

READ_SIZE = 65_536


class Interrupted(Exception):
    """`receive` was woken without data: the deadline has passed, or the server wants to say something."""


class Transport:
    """A TCP connection. One task may receive while another sends.

    `due` is the time (trio's clock) from which a waiting `receive` is interrupted by the server's sweep; `answered` tells
    the sweep that `quick` has answered since it last came by, so that nobody needs to look at the clock for each answer.
    `quick`, where it is set, sees what has arrived for a waiting `receive` first; if it returns True, that is
    dealt with and the receiver sleeps on. It runs in the reactor's task and must neither wait nor raise."""

    __slots__ = ("_closed", "_paused", "_reactor", "_receiver", "_socket", "answered", "due", "peer", "quick")

    def __init__(self, stream: trio.SocketStream, reactor: Reactor) -> None:
        self._socket = socket.socket(fileno=stream.socket.detach())
        self._socket.setblocking(False)
        self._reactor = reactor
        self._receiver: trio.lowlevel.Task | None = None  # one that sleeps, neither woken nor cancelled yet
        self._paused = False
        self._closed = False
        self.due = math.inf
        self.answered = False
        self.quick: Callable[[bytes], bool] | None = None
        try:
            self.peer: str = self._socket.getpeername()[0]
        except OSError:
            self.peer = ""
        reactor.add(self._socket.fileno(), self._ready)

    async def receive(self) -> bytes:
        """What has arrived; b"" when the peer has finished. Always yields to other tasks.

        Raises Interrupted, trio.BrokenResourceError for a broken connection, trio.ClosedResourceError,
        trio.BusyResourceError when another task receives."""
        if self._closed:
            raise trio.ClosedResourceError("the connection was closed here")
        if self._receiver is not None:
            raise trio.BusyResourceError("another task receives from this connection")
        if self._paused:
            self._paused = False
            self._reactor.add(self._socket.fileno(), self._ready)
        self._receiver = trio.lowlevel.current_task()
        data: bytes = await trio.lowlevel.wait_task_rescheduled(self._abort)
        return data

    def _ready(self) -> None:
        """There is something to read."""
        if self._closed:
            return
        if self._receiver is None:
            # Nobody wants it now, and the reactor would not stop telling.
            self._reactor.remove(self._socket.fileno())
            self._paused = True
            return
        try:
            data = self._socket.recv(READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._wake(Error(trio.BrokenResourceError(f"the connection broke: {error}")))
            return
        if self.quick is None or not self.quick(data):
            self._wake(Value(data))

    def _wake(self, result: Value[object] | Error) -> None:
        """End the wait of whoever receives. A task can be woken once: it is forgotten before it runs."""
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            trio.lowlevel.reschedule(receiver, result)

    def _abort(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        """The receiver is cancelled, which wakes it: what arrives before it runs is not for it."""
        self._receiver = None
        return trio.lowlevel.Abort.SUCCEEDED

    def interrupt(self) -> None:
        """Wake a waiting `receive`; nothing happens when none waits."""
        self._wake(Error(Interrupted()))

    def send_now(self, data: bytes | memoryview) -> int:
        """Hand the system what it takes at once, and say how much. Raises trio.BrokenResourceError."""
        try:
            return self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise trio.BrokenResourceError(f"the connection broke: {error}") from error

    async def send(self, data: bytes | memoryview) -> None:
        """Send all; waits only where the peer reads slower. Raises as `send_now`, and trio.ClosedResourceError."""
        rest = memoryview(data)[self.send_now(data) :]
        while rest:
            await trio.lowlevel.wait_writable(self._socket)
            rest = rest[self.send_now(rest) :]

    def finish_sending(self) -> None:
        """Tell the peer that nothing follows; receiving goes on."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise trio.BrokenResourceError(f"the connection broke: {error}") from error

    def close(self) -> None:
        """Close at once; whoever waits gets trio.ClosedResourceError."""
        if not self._closed:
            self._closed = True
            if not self._paused:
                self._reactor.remove(self._socket.fileno())
            trio.lowlevel.notify_closing(self._socket)
            self._wake(Error(trio.ClosedResourceError("the connection was closed here")))
            self._socket.close()
