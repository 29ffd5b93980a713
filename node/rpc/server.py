"""The dispatcher behind HTTP and WebSocket on one port."""

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from openledger.node.http import (
    AccessPolicy,
    BoundServer,
    HttpError,
    HttpLimits,
    Request,
    Response,
    WebSocket,
    WebSocketClosed,
    serve_http,
)
from openledger.node.rpc.dispatcher import Caller, Dispatcher, Unfinished

JSON_HEADERS = (("content-type", "application/json"),)
JSON_TYPES = ("application/json", "application/json-rpc", "application/jsonrequest")
CALLS_IN_FLIGHT = 16
"""Calls of one WebSocket worked on at once; more wait in the connection."""


_ONCE, _TRUSTED_ONCE = Caller(), Caller(trusted=True)
"""Who calls once and cannot be pushed to: so nothing is ever kept of him, and one of each kind is enough."""


@dataclass(frozen=True)
class RpcServer:
    """Serves a dispatcher. `http` and `websocket` are handlers, so that another port may include them."""

    dispatcher: Dispatcher

    async def http(self, request: Request) -> Response:
        """POST a call or a batch as application/json."""
        if request.method in ("GET", "HEAD"):
            return Response.text("This is an Ethereum JSON-RPC endpoint: POST JSON, or open a WebSocket.\n")
        if request.method != "POST":
            raise HttpError(405, "JSON-RPC is POST or a WebSocket", (("allow", "GET, HEAD, POST"),))
        content_type = request.head.content_type
        if content_type not in JSON_TYPES and content_type.partition(";")[0].strip().lower() not in JSON_TYPES:
            # A page of another site can post other types without a preflight (fetch standard, CORS-safelisted).
            raise HttpError(415, f"invalid content type {content_type!r}, only application/json is supported")
        caller = _TRUSTED_ONCE if is_trusted(request) else _ONCE
        answer = await self.dispatcher.handle(request.body, caller)
        return Response(204) if answer is None else Response(200, answer, JSON_HEADERS)

    def quick(self, request: Request) -> Response | None:
        """As `http`, for calls that are answered at once; None for all others. A `QuickHandler`."""
        head = request.head
        if head.method != "POST" or head.content_type not in JSON_TYPES:
            return None
        trusted = head.is_direct and request.is_loopback
        answer = self.dispatcher.begin(request.body, _TRUSTED_ONCE if trusted else _ONCE)
        if type(answer) is bytes:
            return Response(200, answer, JSON_HEADERS)
        return Response(204) if answer is None else None

    async def websocket(self, socket: WebSocket) -> None:
        """Calls as messages, several at once; answers may come in another order. Subscriptions end with
        the connection."""
        notifier = _SocketNotifier(socket)
        caller = Caller(trusted=is_trusted(socket.request), notifier=notifier)
        room = trio.Semaphore(CALLS_IN_FLIGHT)
        try:
            async with trio.open_nursery() as nursery:
                try:
                    while True:
                        message = await socket.receive()
                        begun = self.dispatcher.begin(message, caller)
                        if isinstance(begun, Unfinished):
                            await room.acquire()
                            nursery.start_soon(self._finish, socket, begun, room)
                        else:
                            await self._answer(socket, caller, begun)
                except WebSocketClosed:
                    nursery.cancel_scope.cancel()
        finally:
            for unsubscribe in list(caller.subscriptions.values()):
                unsubscribe()
            caller.subscriptions.clear()

    async def _finish(self, socket: WebSocket, message: Unfinished, room: trio.Semaphore) -> None:
        try:
            await self._answer(socket, message.caller, await self.dispatcher.finish(message))
        except WebSocketClosed:
            pass
        finally:
            room.release()

    async def _answer(self, socket: WebSocket, caller: Caller, answer: bytes | None) -> None:
        """Raises WebSocketClosed."""
        if answer is not None:
            await socket.send(answer)
        if caller.after_answer:
            actions, caller.after_answer = caller.after_answer, []
            for action in actions:
                action()


class _SocketNotifier:
    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    def notify(self, message: bytes) -> None:
        try:
            self._socket.send_nowait(message)
        except WebSocketClosed:
            pass


def is_trusted(request: Request) -> bool:
    """From this machine, neither a browser's page nor passed on by a proxy."""
    return request.head.is_direct and request.is_loopback


async def serve_rpc(
    dispatcher: Dispatcher,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    listeners: Sequence[trio.SocketListener] | None = None,
    policy: AccessPolicy | None = None,
    limits: HttpLimits | None = None,
    task_status: trio.TaskStatus[BoundServer] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve JSON-RPC until cancelled; see `serve_http`. Raises PortInUse, ListenError."""
    server = RpcServer(dispatcher)
    await serve_http(
        server.http,
        host=host,
        port=port,
        listeners=listeners,
        websocket=server.websocket,
        quick=server.quick,
        policy=policy,
        limits=limits,
        task_status=task_status,
    )
