"""One WebSocket connection: wsproto over a trio stream, with bounded queues both ways."""

from collections import deque
from collections.abc import Awaitable, Callable

import structlog
import trio
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from openledger.node.http.limits import HttpLimits
from openledger.node.http.messages import Request

log = structlog.get_logger(__name__)

READ_SIZE = 65_536
CLOSE_TIMEOUT_S = 1.0


class WebSocketClosed(Exception):
    """The connection is over: closed by either side, dropped as too slow, or silent for too long."""


class WebSocket:
    """What a WebSocket handler talks to. Returning from the handler closes the connection."""

    def __init__(self, request: Request, stream: trio.abc.Stream, limits: HttpLimits) -> None:
        self.request = request
        self._stream = stream
        self._limits = limits
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._outgoing: deque[bytes] = deque()
        self._outgoing_bytes = 0
        self._wake_writer = trio.Event()
        self._drained = trio.Event()
        self._messages: deque[bytes] = deque()
        self._fragments: list[bytes] = []
        self._fragment_bytes = 0
        self._closed = False
        self._sending = False
        self._scope = trio.CancelScope()

    async def receive(self) -> bytes:
        """The next message, text as UTF-8. Answers pings, pings a silent peer.

        Raises WebSocketClosed.
        """
        silent = False
        while not self._messages:
            if self._closed:
                raise WebSocketClosed
            with trio.move_on_after(self._limits.websocket_ping_s) as waiting:
                data = await self._receive_some()
            if waiting.cancelled_caught:
                if silent:
                    self._drop("the peer does not answer pings")
                    raise WebSocketClosed
                silent = True
                self._send_event(Ping())
                continue
            silent = False
            self._take(data)
        return self._messages.popleft()

    def send_nowait(self, message: bytes) -> None:
        """Queue a text message (UTF-8). Drops the connection when its reader is too far behind.

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
            with trio.move_on_after(CLOSE_TIMEOUT_S):
                while self._outgoing:
                    await self._some_drained()
        self._scope.cancel()

    # The server's side.

    async def run(self, early: bytes, handler: Callable[["WebSocket"], Awaitable[None]]) -> None:
        """Shake hands and serve until either side closes. Propagates what the handler raises."""
        if not await self._handshake():
            return
        if early:
            self._take(early)
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                try:
                    await handler(self)
                    await self.close()
                except WebSocketClosed:
                    pass
                except trio.Cancelled:
                    with trio.move_on_after(CLOSE_TIMEOUT_S, shield=True):
                        await self._say_goodbye()
                    raise
                with trio.move_on_after(CLOSE_TIMEOUT_S):
                    while self._outgoing:  # an answer to the peer's close frame
                        await self._some_drained()
                nursery.cancel_scope.cancel()

    async def _handshake(self) -> bool:
        try:
            self._protocol.initiate_upgrade_connection(
                list(self.request.raw_headers), self.request.target.decode("latin-1")
            )
            answer: Event = AcceptConnection()
        except (RemoteProtocolError, UnicodeError) as error:
            hint = getattr(error, "event_hint", None)
            answer = hint if isinstance(hint, RejectConnection) else RejectConnection(status_code=400)
        try:
            out = self._protocol.send(answer)
        except LocalProtocolError:
            out = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        with trio.move_on_after(self._limits.send_timeout_s):
            await self._stream.send_all(out)
        return isinstance(answer, AcceptConnection)

    async def _receive_some(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(READ_SIZE))
        except trio.BrokenResourceError:
            return b""

    def _take(self, data: bytes) -> None:
        if not data:
            self._drop("the peer went away")
            return
        try:
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                self._take_event(event)
        except RemoteProtocolError as error:
            if isinstance(error.event_hint, CloseConnection):
                self._send_event(error.event_hint)
            self._closed = True

    def _take_event(self, event: Event) -> None:
        if isinstance(event, TextMessage | BytesMessage):
            self._take_fragment(event)
        elif isinstance(event, Ping):
            self._send_event(event.response())
        elif isinstance(event, CloseConnection):
            # Also what wsproto reports for a broken frame, with the code to answer (RFC 6455 section 7.1.7).
            if self._protocol.state in (ConnectionState.REMOTE_CLOSING, ConnectionState.OPEN):
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
        try:
            self._queue(self._protocol.send(event))
        except LocalProtocolError:
            self._closed = True  # the close frame has gone out already

    def _queue(self, data: bytes) -> None:
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)
        self._wake_writer.set()

    def _drop(self, why: str) -> None:
        log.debug("websocket dropped", client=self.request.client, why=why)
        self._closed = True
        self._scope.cancel()

    async def _say_goodbye(self) -> None:
        if self._closed or self._sending:  # half a frame has gone out: nothing can follow it
            return
        self._closed = True
        self._send_event(CloseConnection(code=1001, reason="the server is shutting down"))
        try:
            await self._flush()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _write(self) -> None:
        try:
            while True:
                await self._wake_writer.wait()
                self._wake_writer = trio.Event()
                with trio.move_on_after(self._limits.send_timeout_s) as sending:
                    await self._flush()
                if sending.cancelled_caught:
                    self._drop("the peer reads too slowly")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._drop("the peer went away")

    async def _flush(self) -> None:
        while self._outgoing:
            data = b"".join(self._outgoing) if self._outgoing_bytes < READ_SIZE else self._outgoing[0]
            taken = len(self._outgoing) if self._outgoing_bytes < READ_SIZE else 1
            self._sending = True
            await self._stream.send_all(data)
            self._sending = False
            for _ in range(taken):
                self._outgoing_bytes -= len(self._outgoing.popleft())
            self._drained.set()

    async def _some_drained(self) -> None:
        if self._drained.is_set():
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
