"""One WebSocket connection: wsproto over a trio stream, with a bounded queue of what goes out."""

from collections import deque
from collections.abc import Awaitable, Callable

import structlog
import trio
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    TextMessage,
)
from wsproto.handshake import H11Handshake
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from openledger.node.http.limits import HttpLimits
from openledger.node.http.messages import Request
from openledger.node.http.transport import READ_SIZE, Interrupted, Transport

log = structlog.get_logger(__name__)

CLOSE_TIMEOUT_S = 1.0


class WebSocketClosed(Exception):
    """The connection is over: closed by either side, dropped as too slow, or silent for too long."""


class WebSocket:
    """What a WebSocket handler talks to. Returning from the handler closes the connection.

    Thousands may be open and silent, so one costs a task and little else: there is no timer of its own (the
    transport's `due` is the ping's time) and no writer until the peer reads slower than we send."""

    __slots__ = (
        "_closed",
        "_drained",
        "_fragment_bytes",
        "_fragments",
        "_limits",
        "_messages",
        "_outgoing",
        "_outgoing_bytes",
        "_protocol",
        "_scope",
        "_silent",
        "_spawner",
        "_transport",
        "_writing",
        "request",
    )

    def __init__(self, request: Request, transport: Transport, limits: HttpLimits, spawner: trio.Nursery) -> None:
        """`spawner` is where the writer runs while the peer reads slowly."""
        self.request = request
        self._transport = transport
        self._limits = limits
        self._spawner = spawner
        self._protocol: Connection | None = None
        self._outgoing: deque[bytes] | None = None  # None: nothing waits, and nobody writes
        self._outgoing_bytes = 0
        self._drained: trio.Event | None = None
        self._messages: list[bytes] = []  # the oldest last
        self._fragments: list[bytes] = []
        self._fragment_bytes = 0
        self._closed = False
        self._silent = False
        self._writing = False
        self._scope: trio.CancelScope | None = None

    async def receive(self) -> bytes:
        """The next message, text as UTF-8. Answers pings, pings a silent peer.

        Raises WebSocketClosed.
        """
        if self._messages:
            await trio.lowlevel.checkpoint()  # many that came at once must not hold up other connections
        while not self._messages:
            if self._closed:
                raise WebSocketClosed
            self._transport.due = trio.current_time() + self._limits.websocket_ping_s
            try:
                data = await self._transport.receive()
            except Interrupted:
                self._notice_silence()
                continue
            except trio.BrokenResourceError:
                data = b""
            self._silent = False
            self._take(data)
        return self._messages.pop()

    def _notice_silence(self) -> None:
        if self._silent:
            self._drop("the peer does not answer pings")
            raise WebSocketClosed
        self._silent = True
        self._send_event(Ping())

    def send_nowait(self, message: bytes) -> None:
        """Send a text message (UTF-8), or queue it. Drops the connection when its reader is too far behind.

        Raises WebSocketClosed.
        """
        if self._closed:
            raise WebSocketClosed
        if self._outgoing_bytes + len(message) > self._limits.websocket_queue:
            self._drop("the peer reads too slowly")
            raise WebSocketClosed
        self._queue(_frame(message))

    async def send(self, message: bytes) -> None:
        """Like `send_nowait`, but waits until the queue is at most half full. Raises WebSocketClosed."""
        while not self._closed and self._outgoing_bytes * 2 > self._limits.websocket_queue:
            await self._some_drained()
        self.send_nowait(message)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Send the close frame, let it and what was queued before go out, end the connection."""
        if not self._closed:
            self._send_event(CloseConnection(code=code, reason=reason[:120]))
            self._closed = True
            await self._drain()
        if self._scope is not None:
            self._scope.cancel()

    # The server's side.

    def shut_down(self) -> None:
        """End the connection with 1001, wherever the handler is."""
        if self._scope is not None:
            self._scope.cancel()

    async def run(self, early: bytes, handler: Callable[["WebSocket"], Awaitable[None]]) -> None:
        """Shake hands and serve until either side closes. Propagates what the handler raises."""
        if not await self._handshake():
            return
        with trio.CancelScope() as self._scope:
            if early:
                self._take(early)
            try:
                await handler(self)
                await self.close()
            except WebSocketClosed:
                pass
            except trio.Cancelled:
                with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                    await self._say_goodbye()
                raise
            finally:
                self._closed = True
            await self._drain()  # an answer to the peer's close frame

    async def _handshake(self) -> bool:
        handshake = H11Handshake(ConnectionType.SERVER)
        try:
            handshake.initiate_upgrade_connection(list(self.request.raw_headers), self.request.target.decode("latin-1"))
            answer: Event = AcceptConnection()
        except (RemoteProtocolError, UnicodeError) as error:
            hint = getattr(error, "event_hint", None)
            answer = hint if isinstance(hint, RejectConnection) else RejectConnection(status_code=400)
        try:
            out = handshake.send(answer)
        except LocalProtocolError:
            out = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        with trio.move_on_after(self._limits.send_timeout_s):
            await self._transport.send(out)
        if not isinstance(answer, AcceptConnection):
            return False
        self._protocol = Connection(ConnectionType.SERVER)
        return True

    def _take(self, data: bytes) -> None:
        if not data:
            self._drop("the peer went away")
            return
        assert self._protocol is not None
        try:
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                self._take_event(event)
        except RemoteProtocolError as error:
            if isinstance(error.event_hint, CloseConnection):
                self._send_event(error.event_hint)
            self._closed = True
        if len(self._messages) > 1:
            self._messages.reverse()

    def _take_event(self, event: Event) -> None:
        if isinstance(event, TextMessage | BytesMessage):
            self._take_fragment(event)
        elif isinstance(event, Ping):
            self._send_event(event.response())
        elif isinstance(event, CloseConnection):
            # Also what wsproto reports for a broken frame, with the code to answer (RFC 6455 section 7.1.7).
            if self._protocol is not None and self._protocol.state in (
                ConnectionState.REMOTE_CLOSING,
                ConnectionState.OPEN,
            ):
                self._send_event(event.response())
            self._closed = True

    def _take_fragment(self, event: TextMessage | BytesMessage) -> None:
        if isinstance(event, TextMessage):
            data = event.data.encode()
        else:
            data = bytes(event.data)
        self._fragment_bytes += len(data)
        if self._fragment_bytes > self._limits.websocket_message:
            limit = self._limits.websocket_message
            self._send_event(CloseConnection(code=1009, reason=f"a message may have {limit} bytes"))
            self._fragments.clear()
            self._closed = True
            return
        self._fragments.append(data)
        if event.message_finished:
            self._messages.append(b"".join(self._fragments))
            self._fragments.clear()
            self._fragment_bytes = 0

    def _send_event(self, event: Event) -> None:
        assert self._protocol is not None
        try:
            self._queue(self._protocol.send(event))
        except LocalProtocolError:
            self._closed = True  # the close frame has gone out already

    def _queue(self, data: bytes) -> None:
        """Send what the system takes at once; a writer sees to the rest."""
        if self._outgoing is None:
            try:
                sent = self._transport.send_now(data)
            except trio.BrokenResourceError:
                self._drop("the peer went away")
                return
            if sent == len(data):
                return
            # The first part of a frame may be out, so this queue has to be written whole.
            self._writing = sent > 0
            data = data[sent:]
            self._outgoing = deque()
            self._spawner.start_soon(self._write)
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)

    def _drop(self, why: str) -> None:
        log.debug("websocket dropped", client=self.request.client, why=why)
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()

    async def _say_goodbye(self) -> None:
        if self._closed or self._writing:  # half a frame has gone out: nothing can follow it
            return
        self._send_event(CloseConnection(code=1001, reason="the server is shutting down"))
        self._closed = True
        await self._drain()

    async def _drain(self) -> None:
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            while self._outgoing is not None:
                await self._some_drained()

    async def _write(self) -> None:
        """Runs while something is queued."""
        queue = self._outgoing
        assert queue is not None
        try:
            while queue:
                data = b"".join(queue) if self._outgoing_bytes < READ_SIZE else queue[0]
                taken = len(queue) if self._outgoing_bytes < READ_SIZE else 1
                self._writing = True
                with trio.move_on_after(self._limits.send_timeout_s) as sending:
                    await self._transport.send(data)
                if sending.cancelled_caught:
                    self._drop("the peer reads too slowly")
                    return
                self._writing = False
                for _ in range(taken):
                    self._outgoing_bytes -= len(queue.popleft())
                self._tell_drained()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._drop("the peer went away")
        finally:
            self._outgoing = None
            self._outgoing_bytes = 0
            self._tell_drained()

    def _tell_drained(self) -> None:
        if self._drained is not None:
            self._drained.set()
            self._drained = None

    async def _some_drained(self) -> None:
        if self._drained is None:
            self._drained = trio.Event()
        await self._drained.wait()


WebSocketHandler = Callable[[WebSocket], Awaitable[None]]


def _frame(payload: bytes) -> bytes:
    """An unfragmented, unmasked text frame (RFC 6455 section 5.2)."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload
