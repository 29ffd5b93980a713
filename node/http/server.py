"""Listening sockets, the connections they accept, and how both end."""

import errno
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
import trio

from openledger.node.http.access import AccessPolicy
from openledger.node.http.connection import HttpConnection
from openledger.node.http.heads import KnownHeads
from openledger.node.http.limits import HttpLimits
from openledger.node.http.messages import Handler, QuickHandler, Response
from openledger.node.http.reactor import Reactor
from openledger.node.http.transport import Transport
from openledger.node.http.websocket import WebSocketHandler

log = structlog.get_logger(__name__)

WOKEN_PER_TURN = 50

BUSY = Response.error(503, "too many connections; try again later")


class ListenError(Exception):
    """A port cannot be listened on; the message says why and what to do."""


class PortInUse(ListenError):
    """Another program listens on the port."""


@dataclass(frozen=True, slots=True)
class BoundServer:
    """Where a running server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


async def open_listeners(host: str, port: int) -> list[trio.SocketListener]:
    """Listen on a TCP port; 0 takes a free one. Raises PortInUse, ListenError."""
    try:
        return await trio.open_tcp_listeners(port, host=host, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"port {port} is in use; stop the other program or choose another port (--help says how)"
            ) from error
        if error.errno == errno.EACCES:
            raise ListenError(f"port {port} needs privileges; choose one above 1023") from error
        raise ListenError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


async def serve_http(
    handler: Handler,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    listeners: Sequence[trio.SocketListener] | None = None,
    websocket: WebSocketHandler | None = None,
    quick: QuickHandler | None = None,
    policy: AccessPolicy | None = None,
    limits: HttpLimits | None = None,
    task_status: trio.TaskStatus[BoundServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled. `task_status.started` gets where it listens. `quick` is asked before `handler`.

    On cancellation no new connection is accepted, idle ones close, answers in progress may end within
    `limits.grace_s`, WebSockets are closed with 1001. A handler that raises is answered 500 and logged.
    Raises PortInUse, ListenError.
    """
    limits = limits or HttpLimits()
    if listeners is None:
        listeners = await open_listeners(host, port)
    server = _Server(handler, websocket, quick, policy or AccessPolicy(), limits)
    try:
        async with trio.open_nursery() as nursery:
            connections = await nursery.start(server.hold_connections)
            bound = listeners[0].socket.getsockname()
            task_status.started(BoundServer(bound[0], bound[1]))
            try:
                await trio.serve_listeners(server.serve, list(listeners), handler_nursery=connections)
            finally:
                server.finish()
    finally:
        server.close()


class _Server:
    def __init__(
        self,
        handler: Handler,
        websocket: WebSocketHandler | None,
        quick: QuickHandler | None,
        policy: AccessPolicy,
        limits: HttpLimits,
    ) -> None:
        self._handler = handler
        self._websocket = websocket
        self._quick = quick
        self._policy = policy
        self._limits = limits
        self._reactor = Reactor()
        self._open: set[HttpConnection] = set()
        self._finished = trio.Event()
        self._emptied = trio.Event()
        self._grace = trio.CancelScope(shield=True)
        self._heads = KnownHeads()
        self._clients: Counter[str] = Counter()
        self._connections: trio.Nursery | None = None

    async def hold_connections(self, task_status: trio.TaskStatus[trio.Nursery] = trio.TASK_STATUS_IGNORED) -> None:
        """Shields connections from the cancellation that ends the accepting, for the grace time."""
        with self._grace:
            async with trio.open_nursery() as nursery:
                self._connections = nursery
                nursery.start_soon(self._reactor.run)
                nursery.start_soon(self._sweep)
                task_status.started(nursery)
                await self._finished.wait()
                if self._open:
                    await self._emptied.wait()
                nursery.cancel_scope.cancel()

    async def _sweep(self) -> None:
        """One timer for the deadlines of all connections."""
        interval = self._limits.sweep_interval_s
        while True:
            await trio.sleep(interval)
            now = trio.current_time()
            woken = 0
            for connection in tuple(self._open):
                woken += connection.sweep(now)
                if woken >= WOKEN_PER_TURN:  # thousands that were opened together are due together
                    woken = 0
                    await trio.lowlevel.checkpoint()

    def finish(self) -> None:
        self._finished.set()
        self._grace.deadline = trio.current_time() + self._limits.grace_s
        for connection in self._open:
            connection.finish()

    def close(self) -> None:
        self._reactor.close()

    async def serve(self, stream: trio.SocketStream) -> None:
        assert self._connections is not None
        transport = Transport(stream, self._reactor)
        client = transport.peer
        of_one = self._limits.connections_per_client
        if len(self._open) >= self._limits.connections or (of_one and self._clients[client] >= of_one):
            await self._refuse_busy(transport)
            return
        connection = HttpConnection(
            transport,
            self._handler,
            self._websocket,
            self._quick,
            self._policy,
            self._limits,
            self._heads,
            self._connections,
        )
        self._open.add(connection)
        self._clients[client] += 1
        try:
            await connection.run()
        except Exception:
            log.exception("http connection failed", client=client)
        finally:
            self._open.discard(connection)
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
            transport.close()
            if not self._open and self._finished.is_set():
                self._emptied.set()

    async def _refuse_busy(self, transport: Transport) -> None:
        head = f"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: {len(BUSY.body)}\r\n\r\n"
        try:
            with trio.move_on_after(1):
                await transport.send(head.encode() + BUSY.body)
        except trio.BrokenResourceError:
            pass
        transport.close()
