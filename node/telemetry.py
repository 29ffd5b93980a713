"""Metrics for Prometheus, read at the moment they are asked for."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from openledger.node import http
from openledger.node.rollup_node import RollupNode
from openledger.node.supervisor import Supervisor

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class NodeCollector(Collector):
    """Heads, pool, peers, services and memory of one node."""

    def __init__(self, node: RollupNode, supervisor: Supervisor) -> None:
        self._node = node
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        heads = GaugeMetricFamily("openledger_head_block", "Number of an L2 head", labels=["label"])
        for label in ("unsafe", "safe", "finalized"):
            heads.add_metric([label], self._node.chain.head(label).number)
        yield heads
        pool = self._node.pool.status()
        waiting = GaugeMetricFamily("openledger_pool_transactions", "Transactions in the pool", labels=["state"])
        waiting.add_metric(["pending"], pool.pending)
        waiting.add_metric(["queued"], pool.queued)
        yield waiting
        yield GaugeMetricFamily("openledger_peers", "Connected peers", value=len(self._node.p2p.peers()))
        services = GaugeMetricFamily("openledger_service_ready", "Whether a service is ready", labels=["service"])
        for name, status in self._supervisor.health().items():
            services.add_metric([name], float(status == "ready"))
        yield services
        # ru_maxrss is in kilobytes on Linux and in bytes on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        yield GaugeMetricFamily("openledger_peak_resident_bytes", "Most memory this process had", value=peak)


def metrics_handler(node: RollupNode, supervisor: Supervisor) -> http.Handler:
    """GET /metrics."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(node, supervisor))

    async def handle(request: http.Request) -> http.Response:
        if request.path not in ("/", "/metrics"):
            raise http.HttpError(404, "metrics are at /metrics")
        return http.Response(200, generate_latest(registry), (("content-type", CONTENT_TYPE),))

    return handle
