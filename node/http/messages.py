"""The values that pass between the server and a handler."""

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, TypeVarTuple
from urllib.parse import parse_qsl, unquote

import orjson

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_USUAL_LOOPBACK = frozenset(("127.0.0.1", "::1", "::ffff:127.0.0.1"))
NO_PARAMETERS: Mapping[str, str] = MappingProxyType({})


class HttpError(Exception):
    """A handler raises this to answer with a status and one sentence that says what to do."""

    def __init__(self, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers


class ClientDisconnected(Exception):
    """The client closed the connection before its answer was ready; the server swallows this."""


class DisconnectWatch(Protocol):
    """What a request needs of its connection to notice that the client went away."""

    async def until_disconnect(self, function: Callable[..., Awaitable[T]], *arguments: Any) -> T: ...


@dataclass(frozen=True, eq=False)
class RequestHead:
    """A request without its body. Clients repeat themselves, so one head serves many requests."""

    method: str
    target: bytes
    raw_headers: tuple[tuple[bytes, bytes], ...] = ()
    http_version: str = "1.1"

    @cached_property
    def content_type(self) -> str:
        """As it was written, "" if it was not."""
        return self.headers.get("content-type", "")

    @cached_property
    def is_direct(self) -> bool:
        """Neither sent by a page in a browser nor passed on by a proxy, if those say so as they do."""
        headers = self.headers
        return "origin" not in headers and "forwarded" not in headers and "x-forwarded-for" not in headers

    @cached_property
    def path(self) -> str:
        """Percent-decoded path without the query, always beginning with "/"."""
        path = self.target.partition(b"?")[0].partition(b"#")[0]
        if not path.startswith(b"/"):  # absolute-form, RFC 9112 section 3.2.2
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        return unquote(path.decode("latin-1"), errors="replace")

    @cached_property
    def query(self) -> Mapping[str, str]:
        """Query parameters; of a repeated one, the last."""
        raw = self.target.partition(b"?")[2].partition(b"#")[0]
        return dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True, max_num_fields=100))

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """By lower-case name; repeated headers are joined by ", "."""
        joined: dict[str, str] = {}
        for name, value in self.raw_headers:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
            joined[key] = f"{joined[key]}, {text}" if key in joined else text
        return joined


class Request:
    """One request. `client` is the peer's IP address, "" where unknown."""

    __slots__ = ("body", "client", "head", "path_parameters", "watch")

    def __init__(
        self,
        head: RequestHead,
        body: bytes = b"",
        client: str = "",
        watch: DisconnectWatch | None = None,
        path_parameters: Mapping[str, str] = NO_PARAMETERS,
    ) -> None:
        self.head = head
        self.body = body
        self.client = client
        self.watch = watch
        self.path_parameters = path_parameters

    @property
    def method(self) -> str:
        return self.head.method

    @property
    def target(self) -> bytes:
        return self.head.target

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        return self.head.raw_headers

    @property
    def http_version(self) -> str:
        return self.head.http_version

    @property
    def path(self) -> str:
        """See `RequestHead.path`."""
        return self.head.path

    @property
    def query(self) -> Mapping[str, str]:
        """See `RequestHead.query`."""
        return self.head.query

    @property
    def headers(self) -> Mapping[str, str]:
        """See `RequestHead.headers`."""
        return self.head.headers

    @property
    def is_loopback(self) -> bool:
        client = self.client
        return client in _USUAL_LOOPBACK or client.startswith("127.")

    def with_path_parameters(self, parameters: Mapping[str, str]) -> "Request":
        """The same request with what a route matched in its path."""
        return Request(self.head, self.body, self.client, self.watch, parameters)

    async def run_until_disconnect(self, function: Callable[[*Ts], Awaitable[T]], *arguments: *Ts) -> T:
        """Await `function(*arguments)`, cancelling it when the client closes the connection.

        Raises ClientDisconnected then. A streaming response is watched without this; it is for
        handlers that compute for long before they answer.
        """
        if self.watch is None:
            return await function(*arguments)
        return await self.watch.until_disconnect(function, *arguments)


@dataclass(slots=True)
class Response:
    """A complete answer, not changed once made (`frozen` would triple what making one costs). `content_length` and connection headers are added by the server."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def json(cls, value: object, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> "Response":
        return cls(status, orjson.dumps(value), (("content-type", "application/json"), *headers))

    @classmethod
    def text(cls, value: str, status: int = 200, content_type: str = "text/plain; charset=utf-8") -> "Response":
        return cls(status, value.encode(), (("content-type", content_type),))

    @classmethod
    def error(cls, status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> "Response":
        """The one shape of errors that the server itself answers with."""
        error = {"message": message, "type": reason(status), "code": status, "param": None}
        return cls.json({"error": error}, status, headers)


@dataclass(frozen=True, slots=True)
class StreamingResponse:
    """An answer sent piece by piece as `chunks` yields. Empty pieces are skipped.

    The iteration is cancelled when the client disconnects or reads slower than the send timeout; an
    async generator is closed then, so its `finally` blocks run.
    """

    chunks: AsyncIterable[bytes]
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("content-type", "text/event-stream"), ("cache-control", "no-cache"))


Handler = Callable[[Request], Awaitable[Response | StreamingResponse]]
QuickHandler = Callable[[Request], Response | None]
"""Answers what takes well under a millisecond and no await; None, without having done anything, for all else."""


def reason(status: int) -> str:
    """The reason phrase of a status code."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
