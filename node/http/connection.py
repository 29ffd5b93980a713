"""One client's connection: requests in, answers out, in order."""

import math
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from time import time
from typing import Any, TypeVar

import structlog
import trio

from openledger.node.http.access import AccessPolicy
from openledger.node.http.heads import KnownHeads
from openledger.node.http.limits import HttpLimits
from openledger.node.http.messages import (
    ClientDisconnected,
    Handler,
    HttpError,
    QuickHandler,
    Request,
    RequestHead,
    Response,
    StreamingResponse,
    reason,
)
from openledger.node.http.parser import ParsedRequest, RequestParser
from openledger.node.http.transport import READ_SIZE, Interrupted, Transport
from openledger.node.http.websocket import WebSocket, WebSocketHandler

log = structlog.get_logger(__name__)

T = TypeVar("T")

Headers = tuple[tuple[str, str], ...]

SEND_SIZE = 262_144
# A client that is told "too large" while it still sends must be able to read that before a reset.
LINGER_S = 2.0
LINGER_BYTES = 8 * 1024 * 1024


class HttpConnection:
    """Serves one transport until the client leaves, misbehaves, or `finish()` is called."""

    __slots__ = (
        "_early",
        "_finishing",
        "_handler",
        "_heads",
        "_limits",
        "_parser",
        "_policy",
        "_quick",
        "_socket",
        "_spawner",
        "_transport",
        "_unsent",
        "_websocket",
    )

    def __init__(
        self,
        transport: Transport,
        handler: Handler,
        websocket: WebSocketHandler | None,
        quick: QuickHandler | None,
        policy: AccessPolicy,
        limits: HttpLimits,
        heads: KnownHeads,
        spawner: trio.Nursery,
    ) -> None:
        """`spawner` is where a WebSocket's writer runs while its peer reads slowly."""
        self._transport = transport
        self._handler = handler
        self._websocket = websocket
        self._quick = quick
        self._policy = policy
        self._limits = limits
        self._heads = heads
        self._spawner = spawner
        self._parser = RequestParser(limits)
        self._early = b""  # what arrived while a disconnect was watched for
        self._finishing = False
        self._socket: WebSocket | None = None
        self._unsent = b""  # of an answer made in the reactor's task

    async def run(self) -> None:
        try:
            while await self._serve_next():
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError, ClientDisconnected):
            pass

    def finish(self) -> None:
        """Close now if idle, else after the answer in progress; a WebSocket is told to go."""
        self._finishing = True
        if self._socket is not None:
            self._socket.shut_down()
        elif not self._parser.in_message:
            self._transport.interrupt()

    def sweep(self, now: float) -> bool:
        """Called by the server a few times a second: interrupts a wait that is over its time, and says whether."""
        transport = self._transport
        if transport.answered:
            transport.answered = False
            transport.due = now + self._limits.idle_timeout_s
        if transport.due > now:
            return False
        transport.interrupt()
        return True

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
                try:
                    data = await self._transport.receive()
                except Interrupted:
                    continue
                if not data:
                    break
                self._early += data
            else:
                return  # a client that sends so much ahead is not watched further
        except trio.BrokenResourceError:
            pass
        scope.cancel()

    # Requests in.

    async def _serve_next(self) -> bool:
        """Read and answer one request. Returns whether the connection goes on."""
        parser = self._parser
        if parser.requests:
            await trio.lowlevel.checkpoint()  # one client's pipeline must not hold up the others
            return await self._serve(parser.requests.popleft())
        data: bytes | None = None
        if not parser.in_message and parser.refusal is None and not self._early:
            data = await self._receive_fresh()
            if self._unsent:
                rest, self._unsent = self._unsent, b""
                await self._send(rest)
                return not self._finishing
            if data is None:
                return False
            if (split := self._heads.split(data)) is not None:
                known, body = split
                return await self._answer(Request(known.head, body, self._transport.peer, self), known.answer_headers)
            await self._feed(data)
        started = trio.current_time()
        alone = data is not None
        while not parser.requests:
            if parser.refusal is not None:
                await self._refuse(parser.refusal.status, parser.refusal.message)
                return False
            more = await self._receive(started)
            if more is None:
                return False
            await self._feed(more)
            alone = False
        parsed = parser.requests.popleft()
        alone = alone and not parser.requests and not parser.in_message and parser.refusal is None
        return await self._serve(parsed, data if alone else None)

    async def _feed(self, data: bytes) -> None:
        self._parser.feed(data)
        if self._parser.take_continue():
            await self._send(b"HTTP/1.1 100 Continue\r\n\r\n")

    async def _receive_fresh(self) -> bytes | None:
        """The first bytes of a request that could not be answered at once; None when the connection is over,
        or something is left to send."""
        if self._finishing:
            return None
        transport = self._transport
        transport.due = trio.current_time() + self._limits.idle_timeout_s
        if self._quick is not None:
            transport.quick = self._answer_at_once
        try:
            return await transport.receive() or None
        except Interrupted:
            return None
        finally:
            transport.quick = None
            transport.answered = False
            transport.due = math.inf

    def _answer_at_once(self, data: bytes) -> bool:
        """`Transport.quick`: a request whose head is known and whose answer takes no time."""
        split = self._heads.split(data)
        if split is None or self._finishing:
            return False
        known, body = split
        if known.head.method == "HEAD" or self._policy.authorize is not None:
            return False
        assert self._quick is not None
        try:
            response = self._quick(Request(known.head, body, self._transport.peer, self))
        except Exception:
            log.exception("quick handler failed", method=known.head.method, path=known.head.path)
            return False
        if response is None:
            return False
        answer = framed_head(response, known.answer_headers) + response.body
        try:
            sent = self._transport.send_now(answer)
        except trio.BrokenResourceError:
            return False  # its task will notice
        self._transport.answered = True
        if sent != len(answer):
            self._unsent = answer[sent:]
            self._transport.interrupt()
        return True

    async def _receive(self, started: float) -> bytes | None:
        """More bytes; None when the connection is over."""
        if self._early:
            early, self._early = self._early, b""
            return early
        limits, parser = self._limits, self._parser
        if not parser.in_message:
            if self._finishing:
                return None
            due = started + limits.idle_timeout_s
        elif parser.in_body:
            due = started + limits.header_timeout_s + limits.body_timeout_s
        else:
            due = started + limits.header_timeout_s
        self._transport.due = due
        try:
            return await self._transport.receive() or None
        except Interrupted:
            if parser.in_message:
                await self._refuse(408, "the request did not arrive in time")
            return None
        finally:
            self._transport.due = math.inf

    async def _refuse(self, status: int, message: str) -> None:
        log.debug("http request refused", client=self._transport.peer, status=status, why=message)
        await self._send_response(Response.error(status, message), head_only=False, keep_alive=False)
        with trio.move_on_after(LINGER_S):
            self._transport.finish_sending()
            drained = 0
            while drained < LINGER_BYTES:
                try:
                    data = await self._transport.receive()
                except Interrupted:
                    return
                if not data:
                    return
                drained += len(data)

    # Answers out.

    async def _serve(self, parsed: ParsedRequest, data: bytes | None = None) -> bool:
        """Answer one parsed request; `data` are its bytes, if it came alone. Returns whether the connection goes on."""
        head = RequestHead(parsed.method, parsed.target, parsed.headers, parsed.http_version)
        request = Request(head, parsed.body, self._transport.peer, self)
        if parsed.upgrade:
            if self._websocket is not None and request.headers.get("upgrade", "").lower() == "websocket":
                return await self._serve_websocket(request)
            if request.method == "CONNECT":
                await self._refuse(405, "this is not a proxy")
                return False
            self._parser.decline_upgrade(parsed)
            return True
        extra_headers = self._policy.response_headers(request)
        try:
            self._policy.check_host(request)
            preflight = self._policy.preflight(request)
        except HttpError as error:
            preflight = Response.error(error.status, error.message, error.headers)
        if preflight is None:
            if data is not None:
                self._heads.learn(data, parsed, head, extra_headers)
            return await self._answer(request, extra_headers, parsed.keep_alive)
        keep_alive = parsed.keep_alive and not self._finishing
        await self._send_response(preflight, request.method == "HEAD", keep_alive, parsed.http_version, extra_headers)
        return keep_alive

    async def _answer(self, request: Request, extra_headers: Headers, keep_alive: bool = True) -> bool:
        """Answer a request that the access policy lets in. Returns whether the connection goes on."""
        try:
            self._policy.check_credentials(request)  # each time: a token that was good grows old
            response = await self._handler(request)
        except HttpError as error:
            response = Response.error(error.status, error.message, error.headers)
        except ClientDisconnected:
            raise
        except Exception:
            log.exception("http handler failed", method=request.method, path=request.path)
            response = Response.error(500, "the server failed on this request; its log says why")
        if isinstance(response, StreamingResponse):
            return await self._stream_response(request, response, extra_headers, keep_alive)
        keep_alive = keep_alive and not self._finishing
        await self._send_response(response, request.method == "HEAD", keep_alive, request.http_version, extra_headers)
        return keep_alive

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
        early = self._parser.rest
        del self._parser  # nothing more is HTTP here, and thousands of these may be open
        self._socket = WebSocket(request, self._transport, self._limits, self._spawner)
        try:
            await self._socket.run(early, self._websocket)
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
        extra_headers: Headers = (),
    ) -> None:
        head = framed_head(response, extra_headers, keep_alive, http_version)
        body = b"" if head_only else response.body
        if len(body) <= SEND_SIZE:
            await self._send(head + body)
        else:
            await self._send(head)
            view = memoryview(body)
            for start in range(0, len(view), SEND_SIZE):
                await self._send(view[start : start + SEND_SIZE])

    async def _stream_response(
        self, request: Request, response: StreamingResponse, extra_headers: Headers, keep_alive: bool
    ) -> bool:
        chunked = request.http_version != "1.0"
        keep_alive = keep_alive and chunked and not self._finishing
        head = answer_head(response.status, response.headers, extra_headers, keep_alive, request.http_version)
        head += b"transfer-encoding: chunked\r\n\r\n" if chunked else b"\r\n"
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

    async def _send(self, data: bytes | memoryview) -> None:
        sent = self._transport.send_now(data)
        if sent == len(data):
            return
        with trio.move_on_after(self._limits.send_timeout_s) as sending:
            await self._transport.send(memoryview(data)[sent:])
        if sending.cancelled_caught:
            log.debug("slow reader dropped", client=self._transport.peer)
            raise ClientDisconnected


async def _close_iterator(response: StreamingResponse) -> None:
    close = getattr(response.chunks, "aclose", None)
    if close is not None:
        await close()


def framed_head(
    response: Response, extra_headers: Headers, keep_alive: bool = True, http_version: str = "1.1"
) -> bytes:
    """Everything before the body of a complete answer. What may have no body (204, 304) has none."""
    status = response.status
    head = answer_head(status, response.headers, extra_headers, keep_alive, http_version)
    if status in (204, 304):
        return head + b"\r\n"
    length = len(response.body)
    return head + (_LENGTHS[length] if length < _SHORT else b"content-length: %d\r\n\r\n" % length)


_SHORT = 512
_LENGTHS = tuple(b"content-length: %d\r\n\r\n" % length for length in range(_SHORT))
"""The end of the head of most answers to JSON-RPC: made anew it costs as much as the call itself."""


_heads_of_second: tuple[int, dict[object, bytes]] = (0, {})
_MOST_ANSWER_HEADS = 256
_latest: tuple[int, int, Headers, Headers, bool, str, bytes] = (0, 0, (), (), True, "", b"")


def answer_head(status: int, headers: Headers, extra_headers: Headers, keep_alive: bool, http_version: str) -> bytes:
    """Status line and headers, without the one that frames the body and the empty line.

    Most answers of one second have the same head, and most have that of the answer before."""
    global _heads_of_second, _latest
    second = int(time())
    latest_second, latest_status, latest_headers, latest_extra, latest_alive, latest_version, made = _latest
    if (
        headers is latest_headers
        and extra_headers is latest_extra
        and second == latest_second
        and status == latest_status
        and keep_alive is latest_alive
        and http_version == latest_version
    ):
        return made
    known_second, known = _heads_of_second
    if known_second != second or len(known) > _MOST_ANSWER_HEADS:
        known = {}
        _heads_of_second = (second, known)
    key = (status, headers, extra_headers, keep_alive, http_version)
    found = known.get(key)
    if found is None:
        lines = [f"HTTP/1.1 {status} {reason(status)}\r\ndate: {formatdate(second, usegmt=True)}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in (*headers, *extra_headers)]
        if not keep_alive:
            lines.append("connection: close\r\n")
        elif http_version == "1.0":
            lines.append("connection: keep-alive\r\n")
        found = known[key] = "".join(lines).encode("latin-1", "replace")
    _latest = (second, status, headers, extra_headers, keep_alive, http_version, found)
    return found
