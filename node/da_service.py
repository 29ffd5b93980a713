"""The DA server by itself, as `openledger da` runs it: the REST API, its metrics, and a graceful end."""

from __future__ import annotations

import signal
import time
from contextlib import AsyncExitStack

import structlog
import trio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from openledger.node import http
from openledger.node.disk_watch import disk_is_back, start_again
from openledger.node.embedded import DA_PATH_BYTES, da_handler
from openledger.node.errors import StartupError
from openledger.node.listening import http_service
from openledger.node.supervisor import Supervisor
from openledger.node.telemetry import CONTENT_TYPE
from openledger.rollup.da.server import DAServerSettings, open_da_server
from openledger.rollup.da.srs import SrsError
from openledger.rollup.da.stores import StoreError

log = structlog.get_logger(__name__)

_PREFIX = "eigenda_proxy_default"


class DAMetrics:
    """Counts requests under the names that EigenDA's proxy gives them."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        Gauge(f"{_PREFIX}_up", "1 while the server runs", registry=self.registry).set(1)
        Gauge(f"{_PREFIX}_info", "What runs here", ["version"], registry=self.registry).labels(version).set(1)
        self._requests = Counter(
            f"{_PREFIX}_http_server_requests",
            "Requests answered",
            ["method", "status", "commitment_mode", "cert_version"],
            registry=self.registry,
        )
        self._durations = Histogram(
            f"{_PREFIX}_http_server_request_duration_seconds", "Time to answer", ["method"], registry=self.registry
        )

    def counting(self, handler: http.Handler) -> http.Handler:
        """The handler, its answers counted."""

        async def handle(request: http.Request) -> http.Response | http.StreamingResponse:
            started = time.perf_counter()
            answer = await handler(request)
            mode, version = _mode(request)
            self._requests.labels(request.method, str(answer.status), mode, version).inc()
            self._durations.labels(request.method).observe(time.perf_counter() - started)
            return answer

        return handle

    async def handle(self, request: http.Request) -> http.Response:
        """GET /metrics."""
        if request.path not in ("/", "/metrics"):
            raise http.HttpError(404, "metrics are at /metrics")
        return http.Response(200, generate_latest(self.registry), (("content-type", CONTENT_TYPE),))


def _mode(request: http.Request) -> tuple[str, str]:
    """(commitment mode, version byte of the certificate) of a request, as far as its path tells."""
    commitment = request.path.rpartition("/")[2].removeprefix("0x")
    if request.query.get("commitment_mode") == "standard":
        return "standard", commitment[:2]
    if commitment.startswith("00") and len(commitment) == 66:
        return "optimism_keccak", ""
    return "optimism_generic", commitment[4:6] if commitment.startswith("0100") else ""


async def run_da_server(settings: DAServerSettings, host: str, port: int, metrics_port: int | None) -> None:
    """Serve until SIGINT or SIGTERM; after a full disk the process begins anew. Raises StartupError."""
    metrics = DAMetrics(settings.version)
    again = False
    async with AsyncExitStack() as stack:
        try:
            server = await stack.enter_async_context(open_da_server(settings))
        except (StoreError, SrsError, ValueError) as error:
            raise StartupError(str(error)) from error
        services = [
            http_service(
                "da",
                metrics.counting(da_handler(server)),
                host=host,
                port=port,
                limits=http.HttpLimits(body=server.max_body_bytes, header=DA_PATH_BYTES),
            )
        ]
        if metrics_port is not None:
            services.append(http_service("metrics", metrics.handle, host=host, port=metrics_port))
        supervisor = Supervisor(services)
        async with trio.open_nursery() as nursery:
            await nursery.start(_stop_on_signal, nursery.cancel_scope)
            await nursery.start(supervisor.run)
            log.info("DA server ready", url=f"http://{host}:{port}", storage=settings.storage)
            await disk_is_back()
            again = True
            nursery.cancel_scope.cancel()
    if again:
        start_again()
    log.info("stopped")


async def _stop_on_signal(scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            scope.cancel()
            return
