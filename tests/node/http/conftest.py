"""A running server and raw sockets to it."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from openledger.node.http import BoundServer, HttpError, Request, Response, StreamingResponse, serve_http


async def echo(request: Request) -> Response | StreamingResponse:
    """What the tests' server does, by path."""
    if request.path == "/fail":
        raise RuntimeError("a bug")
    if request.path == "/refuse":
        raise HttpError(418, "no coffee here")
    if request.path == "/large":
        return Response(200, b"x" * int(request.query["size"]))
    if request.path == "/slow":
        await trio.sleep(float(request.query["seconds"]))
    return Response.json(
        {
            "method": request.method,
            "path": request.path,
            "query": dict(request.query),
            "body": request.body.decode("latin-1"),
            "size": len(request.body),
        }
    )


Serve = Callable[..., Awaitable[BoundServer]]


@pytest.fixture
def serve(nursery: trio.Nursery) -> Serve:
    async def start(handler=echo, **options) -> BoundServer:
        async def run(task_status=trio.TASK_STATUS_IGNORED):
            await serve_http(handler, **options, task_status=task_status)

        return await nursery.start(run)

    return start


class RawClient:
    """Speaks bytes, and reads answers by their framing."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def _more(self) -> bool:
        with trio.fail_after(120):
            data = await self.stream.receive_some(65536)
        self.buffer += data
        return bool(data)

    async def read_head(self) -> tuple[int, dict[str, str]]:
        while b"\r\n\r\n" not in self.buffer:
            assert await self._more(), f"closed in the head: {self.buffer!r}"
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        return int(lines[0].split()[1]), headers

    async def read_answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.read_head()
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while chunk := await self.read_chunk():
                body += chunk
            return status, headers, body
        size = int(headers.get("content-length", 0))
        while len(self.buffer) < size:
            assert await self._more(), "closed in the body"
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return status, headers, body

    async def read_chunk(self) -> bytes:
        while b"\r\n" not in self.buffer:
            assert await self._more(), "closed before a chunk"
        size = int(self.buffer.partition(b"\r\n")[0], 16)
        start = self.buffer.index(b"\r\n") + 2
        while len(self.buffer) < start + size + 2:
            assert await self._more(), "closed in a chunk"
        chunk = self.buffer[start : start + size]
        self.buffer = self.buffer[start + size + 2 :]
        return chunk

    async def read_to_end(self) -> bytes:
        try:
            while await self._more():
                pass
        except trio.BrokenResourceError:
            pass
        return self.buffer

    async def is_closed(self) -> bool:
        return await self.read_to_end() == b""


@pytest.fixture
async def connect():
    streams: list[trio.SocketStream] = []

    async def open_client(server: BoundServer) -> RawClient:
        stream = await trio.open_tcp_stream(server.host, server.port)
        streams.append(stream)
        return RawClient(stream)

    yield open_client
    for stream in streams:
        await trio.aclose_forcefully(stream)
