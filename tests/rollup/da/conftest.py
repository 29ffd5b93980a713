"""A DA server on disk, and a real HTTP connection to it through the node's own HTTP server."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from openledger.node import http
from openledger.rollup.da import DAServerSettings, Request, Response

Handler = Callable[[Request], Awaitable[Response]]


@pytest.fixture
def settings(tmp_path: Path) -> DAServerSettings:
    return DAServerSettings(tmp_path / "da", development=True)


@asynccontextmanager
async def serve(handler: Handler) -> AsyncIterator[str]:
    """The base URL of `handler` on a free port of loopback."""

    async def adapted(request: http.Request) -> http.Response:
        answer = await handler(Request(request.method, request.path, request.query, request.headers, request.body))
        return http.Response(answer.status, answer.body, tuple(answer.headers.items()))

    async def run(*, task_status: trio.TaskStatus[http.BoundServer]) -> None:
        limits = http.HttpLimits(body=17 << 20, grace_s=0.1)
        await http.serve_http(adapted, limits=limits, task_status=task_status)

    async with trio.open_nursery() as nursery:
        bound: http.BoundServer = await nursery.start(run)
        yield bound.url
        nursery.cancel_scope.cancel()


@pytest.fixture
def serve_http() -> Callable[[Handler], object]:
    return serve
