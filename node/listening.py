"""A port and what answers on it, as a service of the supervisor."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import trio

from openledger.node.errors import StartupError
from openledger.node.http import (
    AccessPolicy,
    Handler,
    HttpLimits,
    ListenError,
    QuickHandler,
    WebSocketHandler,
    open_listeners,
    serve_http,
)
from openledger.node.open_files import connections
from openledger.node.supervisor import Service


def http_service(
    name: str,
    handler: Handler,
    *,
    host: str,
    port: int,
    websocket: WebSocketHandler | None = None,
    quick: QuickHandler | None = None,
    policy: AccessPolicy | None = None,
    limits: HttpLimits | None = None,
) -> Service:
    """Serve `handler` on a port. The service is ready once it listens; StartupError where it cannot."""

    async def run(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        try:
            listeners = await open_listeners(host, port)
        except ListenError as error:
            raise StartupError(str(error)) from error
        asked = limits or HttpLimits()
        bound = listeners[0].socket.getsockname()[1]
        with connections(asked.connections, bound) as granted:
            serve = partial(
                serve_http,
                handler,
                listeners=listeners,
                websocket=websocket,
                quick=quick,
                policy=policy,
                limits=replace(asked, connections=granted),
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(serve)
                task_status.started()

    return Service(name, run)
