"""HTTP/1.1 requests out of bytes: httptools under limits, without I/O."""

from collections import deque
from dataclasses import dataclass

import httptools

from openledger.node.http.limits import HttpLimits

# A chunk of one byte costs five bytes of framing; more than this is someone spending our time.
CHUNK_OVERHEAD = 8
UPGRADE_HEADERS = (b"upgrade", b"connection", b"http2-settings")


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    http_version: str
    keep_alive: bool
    upgrade: bool
    """The client asked to leave HTTP after this request (`Upgrade`, or CONNECT)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the byte stream cannot be continued."""

    status: int
    message: str


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(status, message)


class RequestParser:
    """Feed bytes; take complete requests from `requests`; stop at `refusal`.

    After a request with `upgrade`, `rest` holds the bytes that follow it and nothing more is parsed
    until `decline_upgrade()`.
    """

    def __init__(self, limits: HttpLimits) -> None:
        self.requests: deque[ParsedRequest] = deque()
        self.refusal: Refusal | None = None
        self.rest = b""
        self._limits = limits
        self._upgraded = False
        self._keep_alive = False
        self._expects_continue = False
        self._reset_message()
        self._parser = httptools.HttpRequestParser(self)

    @property
    def in_message(self) -> bool:
        """Some bytes of an incomplete request have arrived."""
        return self._begun

    @property
    def in_body(self) -> bool:
        """The incomplete request's headers are complete."""
        return self._headers_complete

    def take_continue(self) -> bool:
        """Once per request: whether the client waits for "100 Continue" before it sends the body."""
        wanted = self._expects_continue and self._begun
        self._expects_continue = False
        return wanted

    def feed(self, data: bytes) -> None:
        """Parse what arrived. Never raises: what is wrong is in `refusal`."""
        if self.refusal is not None:
            return
        if self._upgraded:
            self.rest += data
            return
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
            self._check_overhead()
        except httptools.HttpParserUpgrade as upgrade:
            self._upgraded = True
            self.rest = bytes(data[upgrade.args[0] :])
        except _Refused as refused:
            self.refusal = refused.refusal
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self.refusal = cause.refusal if isinstance(cause, _Refused) else Refusal(400, f"malformed HTTP: {error}")
        except httptools.HttpParserInvalidMethodError:
            self.refusal = Refusal(400, "malformed HTTP: unknown method; this port speaks HTTP/1.1 without TLS")
        except httptools.HttpParserError as error:
            self.refusal = Refusal(400, f"malformed HTTP: {error}")

    def decline_upgrade(self, request: ParsedRequest) -> None:
        """Read a request again without its upgrade (RFC 9110 section 7.8): it comes back with its body,
        which httptools does not read after an upgrade."""
        rest, self.rest, self._upgraded = self.rest, b"", False
        self._parser = httptools.HttpRequestParser(self)
        self._reset_message()
        lines = [b"%b %b HTTP/%b" % (request.method.encode(), request.target, request.http_version.encode())]
        lines += [b"%b: %b" % header for header in request.headers if header[0].lower() not in UPGRADE_HEADERS]
        if not request.keep_alive:
            lines.append(b"connection: close")
        self.feed(b"\r\n".join(lines) + b"\r\n\r\n")
        if rest:
            self.feed(rest)

    def _reset_message(self) -> None:
        self._begun = False
        self._headers_complete = False
        self._expects_continue = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._fed = 0  # bytes of the reads after the one in which the message began

    def _check_overhead(self) -> None:
        if not self._headers_complete:
            # httptools gathers an unfinished header itself, so count what went in, not what came out.
            if self._fed > self._limits.header and self._begun:
                raise _Refused(431, f"request headers exceed {self._limits.header} bytes")
        elif self._fed > self._limits.header + self._header_bytes + CHUNK_OVERHEAD * (self._body_bytes + 8192):
            raise _Refused(400, "chunked body spends too many bytes on framing")

    # What httptools calls.

    def on_message_begin(self) -> None:
        self._reset_message()
        self._begun = True

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_header(len(name) + len(value) + 4)
        if self._headers_complete:
            return  # trailers are counted, then dropped
        if len(self._headers) >= self._limits.header_count:
            raise _Refused(431, f"more than {self._limits.header_count} request headers")
        self._headers.append((name, value))
        lowered = name.lower()
        if lowered == b"content-length" and int(value) > self._limits.body:
            raise _Refused(413, f"request body of {int(value)} bytes exceeds the limit of {self._limits.body}")
        if lowered == b"expect":
            if value.strip().lower() != b"100-continue":
                raise _Refused(417, "only the expectation 100-continue is known")
            self._expects_continue = True

    def on_headers_complete(self) -> None:
        self._headers_complete = True
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > self._limits.body:
            raise _Refused(413, f"request body exceeds the limit of {self._limits.body} bytes")
        self._body.append(data)

    def on_message_complete(self) -> None:
        self.requests.append(
            ParsedRequest(
                method=self._parser.get_method().decode("ascii"),
                target=self._url,
                headers=tuple(self._headers),
                body=self._body[0] if len(self._body) == 1 else b"".join(self._body),
                http_version=self._parser.get_http_version(),
                keep_alive=self._keep_alive,
                upgrade=self._parser.should_upgrade(),
            )
        )
        self._reset_message()

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > self._limits.header:
            raise _Refused(431, f"request headers exceed {self._limits.header} bytes")
