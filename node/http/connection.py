"""One client's connection: requests in, answers out, in order."""

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from time import time
from typing import Any, TypeVar

import structlog
import trio

from openledger.node.http.access import AccessPolicy
from openledger.node.http.limits import HttpLimits
from openledger.node.http.messages import (
    ClientDisconnected,
    Handler,
    HttpError,
    Request,
    Response,
    StreamingResponse,
    reason,
)
from openledger.node.http.parser import ParsedRequest, RequestParser
from openledger.node.http.websocket import WebSocket, WebSocketHandler

log = structlog.get_logger(__name__)

T = TypeVar("T")

READ_SIZE = 65_536
SEND_SIZE = 262_144
# A client that is told "too large" while it still sends must be able to read that before a reset.
LINGER_S = 2.0
LINGER_BYTES = 8 * 1024 * 1024


class HttpConnection:
    """Serves one stream until the client leaves, misbehaves, or `finish()` is called."""

    def __init__(
        self,
        stream: trio.SocketStream,
        client: str,
        handler: Handler,
        websocket: WebSocketHandler | None,
        policy: AccessPolicy,
        limits: HttpLimits,
    ) -> None:
        self._stream = stream
        self._client = client
        self._handler = handler
        self._websocket = websocket
        self._policy = policy
        self._limits = limits
        self._parser = RequestParser(limits)
        self._early = bytearray()  # what arrived while a disconnect was watched for
        self._finishing = False
        self._waiting: trio.CancelScope | None = None
        self._gone = False

    async def run(self) -> None:
        try:
            while (parsed := await self._next_request()) is not None:
                if not await self._serve(parsed):
                    return
        except (trio.BrokenResourceError, trio.ClosedResourceError, ClientDisconnected):
            pass

    def finish(self) -> None:
        """Close now if idle, else after the answer in progress; a WebSocket is told to go."""
        self._finishing = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def until_disconnect(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Request.run_until_disconnect; see there."""
        results: list[T] = []
        failures: list[Exception] = []

        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, nursery.cancel_scope)
            try:
                results.append(await function(*arguments))
            except Exception as error:  # carried across the nursery, which would wrap it in a group
                failures.append(error)
            nursery.cancel_scope.cancel()
        if failures:
            raise failures[0]
        if results:
            return results[0]
        raise ClientDisconnected

    async def _watch(self, scope: trio.CancelScope) -> None:
        try:
            while len(self._early) < READ_SIZE:
                data = await self._stream.receive_some(READ_SIZE)
                if not data:
                    break
                self._early += data
            else:
                return  # a client that sends so much ahead is not watched further
        except trio.BrokenResourceError:
            pass
        self._gone = True
        scope.cancel()

    # Requests in.

    async def _next_request(self) -> ParsedRequest | None:
        parser = self._parser
        started = trio.current_time()
        while not parser.requests:
            if parser.refusal is not None:
                await self._refuse(parser.refusal.status, parser.refusal.message)
                return None
            if self._early:
                data = bytes(self._early)
                self._early.clear()
            else:
                received = await self._receive(started)
                if received is None:
                    return None
                data = received
            parser.feed(data)
            if parser.take_continue():
                await self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return parser.requests.popleft()

    async def _receive(self, started: float) -> bytes | None:
        """More bytes; None when the connection is over."""
        limits = self._limits
        in_message = self._parser.in_message
        if self._finishing and not in_message:
            return None
        if not in_message:
            deadline = started + limits.idle_timeout_s
        elif self._parser.in_body:
            deadline = started + limits.header_timeout_s + limits.body_timeout_s
        else:
            deadline = started + limits.header_timeout_s
        with trio.CancelScope(deadline=deadline) as scope:
            self._waiting = None if in_message else scope
            data = await self._stream.receive_some(READ_SIZE)
        self._waiting = None
        if scope.cancelled_caught:
            if in_message:
                await self._refuse(408, "the request did not arrive in time")
            return None
        return bytes(data) or None

    async def _refuse(self, status: int, message: str) -> None:
        log.debug("http request refused", client=self._client, status=status, why=message)
        await self._send_response(Response.error(status, message), head_only=False, keep_alive=False)
        with trio.move_on_after(LINGER_S):
            await self._stream.send_eof()
            drained = 0
            while drained < LINGER_BYTES:
                data = await self._stream.receive_some(READ_SIZE)
                if not data:
                    return
                drained += len(data)

    # Answers out.

    async def _serve(self, parsed: ParsedRequest) -> bool:
        """Answer one request. Returns whether the connection goes on."""
        request = Request(
            parsed.method,
            parsed.target,
            parsed.headers,
            parsed.body,
            parsed.http_version,
            self._client,
            watch=self,
        )
        if parsed.upgrade:
            if self._websocket is not None and request.headers.get("upgrade", "").lower() == "websocket":
                return await self._serve_websocket(request)
            if request.method == "CONNECT":
                await self._refuse(405, "this is not a proxy")
                return False
            self._parser.decline_upgrade(parsed)
            return True
        response = await self._respond(request)
        if isinstance(response, StreamingResponse):
            return await self._stream_response(request, response, parsed.keep_alive)
        keep_alive = parsed.keep_alive and not self._finishing
        await self._send_response(
            response,
            request.method == "HEAD",
            keep_alive,
            parsed.http_version,
            self._policy.response_headers(request),
        )
        return keep_alive

    async def _respond(self, request: Request) -> Response | StreamingResponse:
        try:
            self._policy.check_host(request)
            preflight = self._policy.preflight(request)
            if preflight is not None:
                return preflight
            self._policy.check_credentials(request)
            return await self._handler(request)
        except HttpError as error:
            return Response.error(error.status, error.message, error.headers)
        except ClientDisconnected:
            raise
        except Exception:
            log.exception("http handler failed", method=request.method, path=request.path)
            return Response.error(500, "the server failed on this request; its log says why")

    async def _serve_websocket(self, request: Request) -> bool:
        assert self._websocket is not None
        try:
            self._policy.check_host(request)
            self._policy.check_websocket_origin(request)
            self._policy.check_credentials(request)
        except HttpError as error:
            await self._refuse(error.status, error.message)
            return False
        if self._finishing:
            await self._refuse(503, "the server is shutting down")
            return False
        socket = WebSocket(request, self._stream, self._limits)
        with trio.CancelScope() as scope:
            self._waiting = scope
            try:
                await socket.run(self._parser.rest, self._websocket)
            except* (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            except* Exception:
                log.exception("websocket handler failed", path=request.path)
        return False

    async def _send_response(
        self,
        response: Response,
        head_only: bool,
        keep_alive: bool,
        http_version: str = "1.1",
        extra_headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        body = response.body
        framing = None if response.status in (204, 304) else f"content-length: {len(body)}\r\n"
        head = self._head(response.status, (*response.headers, *extra_headers), framing, keep_alive, http_version)
        if head_only or framing is None:
            await self._send(head)
        elif len(body) <= SEND_SIZE:
            await self._send(head + body)
        else:
            await self._send(head)
            view = memoryview(body)
            for start in range(0, len(view), SEND_SIZE):
                await self._send(view[start : start + SEND_SIZE])

    async def _stream_response(self, request: Request, response: StreamingResponse, keep_alive: bool) -> bool:
        chunked = request.http_version != "1.0"
        keep_alive = keep_alive and chunked and not self._finishing
        headers = (*response.headers, *self._policy.response_headers(request))
        framing = "transfer-encoding: chunked\r\n" if chunked else None
        head = self._head(response.status, headers, framing, keep_alive, request.http_version)
        if request.method == "HEAD":
            await self._send(head)
            await _close_iterator(response)
            return keep_alive
        return await self.until_disconnect(self._send_chunks, request, response, head, chunked) and keep_alive

    async def _send_chunks(self, request: Request, response: StreamingResponse, head: bytes, chunked: bool) -> bool:
        """Returns whether the answer is complete; one cut short must end with the connection."""
        try:
            await self._send(head)
            async for chunk in response.chunks:
                if chunk:
                    await self._send(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            if chunked:
                await self._send(b"0\r\n\r\n")
            return True
        except (trio.BrokenResourceError, trio.ClosedResourceError, ClientDisconnected):
            raise
        except Exception:
            log.exception("streaming handler failed", method=request.method, path=request.path)
            return False
        finally:
            with trio.move_on_after(1, shield=True):
                await _close_iterator(response)

    def _head(
        self,
        status: int,
        headers: tuple[tuple[str, str], ...],
        framing: str | None,
        keep_alive: bool,
        http_version: str,
    ) -> bytes:
        lines = [f"HTTP/1.1 {status} {reason(status)}\r\ndate: {_http_date()}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in headers]
        if framing is not None:
            lines.append(framing)
        if not keep_alive:
            lines.append("connection: close\r\n")
        elif http_version == "1.0":
            lines.append("connection: keep-alive\r\n")
        lines.append("\r\n")
        return "".join(lines).encode("latin-1", "replace")

    async def _send(self, data: bytes | memoryview) -> None:
        with trio.move_on_after(self._limits.send_timeout_s) as sending:
            await self._stream.send_all(data)
        if sending.cancelled_caught:
            log.debug("slow reader dropped", client=self._client)
            raise ClientDisconnected


async def _close_iterator(response: StreamingResponse) -> None:
    close = getattr(response.chunks, "aclose", None)
    if close is not None:
        await close()


_date: tuple[int, str] = (0, "")


def _http_date() -> str:
    global _date
    second = int(time())
    if _date[0] != second:
        _date = (second, formatdate(second, usegmt=True))
    return _date[1]
