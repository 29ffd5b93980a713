"""A DA server on disk, and a real HTTP connection to it: the smallest HTTP/1.1 server that serves a handler."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import pytest
import trio

from openledger.rollup.da import DAServerSettings, Request, Response

Handler = Callable[[Request], Awaitable[Response]]


@pytest.fixture
def settings(tmp_path: Path) -> DAServerSettings:
    return DAServerSettings(tmp_path / "da", development=True)


@asynccontextmanager
async def serve(handler: Handler) -> AsyncIterator[str]:
    """The base URL of `handler` on a free port of loopback."""

    async def connection(stream: trio.SocketStream) -> None:
        http = h11.Connection(h11.SERVER)
        body = b""
        request: h11.Request | None = None
        async with stream:
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(await stream.receive_some())
                elif isinstance(event, h11.Request):
                    request, body = event, b""
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    assert request is not None
                    url = urlsplit(request.target.decode())
                    answer = await handler(
                        Request(
                            request.method.decode(),
                            unquote(url.path),
                            dict(parse_qsl(url.query, keep_blank_values=True)),
                            {name.decode(): value.decode() for name, value in request.headers},
                            body,
                        )
                    )
                    headers = [*answer.headers.items(), ("content-length", str(len(answer.body)))]
                    sent = http.send(h11.Response(status_code=answer.status, headers=headers)) or b""
                    sent += http.send(h11.Data(data=answer.body)) or b""
                    await stream.send_all(sent + (http.send(h11.EndOfMessage()) or b""))
                    http.start_next_cycle()
                else:
                    return

    async def guarded(stream: trio.SocketStream) -> None:
        try:
            await connection(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.ProtocolError):
            pass

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, guarded, listeners)
        yield f"http://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


@pytest.fixture
def serve_http() -> Callable[[Handler], object]:
    return serve
