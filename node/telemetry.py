"""Metrics for Prometheus, read at the moment they are asked for."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from openledger.genesis.parameters import OPEN_WEI
from openledger.node import http
from openledger.node.rollup_node import RollupNode
from openledger.node.supervisor import Supervisor
from openledger.rollup.batcher import Batcher
from openledger.rollup.l1.bond import Bond
from openledger.rollup.output_checker import OutputChecker
from openledger.rollup.proposer import Proposer

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
        if self._node.batcher is not None:
            yield from _batcher_metrics(self._node.batcher)
        yield from output_metrics(self._node.output_checker, self._node.proposer)
        services = GaugeMetricFamily("openledger_service_ready", "Whether a service is ready", labels=["service"])
        for name, status in self._supervisor.health().items():
            services.add_metric([name], float(status == "ready"))
        yield services
        # ru_maxrss is in kilobytes on Linux and in bytes on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        yield GaugeMetricFamily("openledger_peak_resident_bytes", "Most memory this process had", value=peak)


def _batcher_metrics(batcher: Batcher) -> Iterator[Metric]:
    counts = batcher.counts
    for name, meaning, value in (
        ("channels", "Channels posted", counts.channels),
        ("blocks", "L2 blocks posted", counts.blocks),
        ("batch_bytes", "Bytes of batches before compression", counts.batch_bytes),
        ("channel_bytes", "Bytes of channels", counts.channel_bytes),
        ("reposts", "How often posting began again from the safe head", counts.reposts),
        ("failovers", "How often data went to Ethereum because the DA layer could not take it", batcher.routes.count),
    ):
        yield CounterMetricFamily(f"openledger_batcher_{name}", meaning, value=value)
    blocks, size = batcher.backlog()
    yield GaugeMetricFamily("openledger_batcher_backlog_blocks", "L2 blocks not posted yet", value=blocks)
    yield GaugeMetricFamily("openledger_batcher_backlog_bytes", "Bytes of their transactions", value=size)
    route = GaugeMetricFamily("openledger_batcher_route", "1 for the route the next channel takes", labels=["route"])
    route.add_metric([batcher.routes.current], 1)
    yield route


def output_metrics(checker: OutputChecker, proposer: Proposer | None) -> Iterator[Metric]:
    """What a node has seen of and done about output roots on L1, and what it has staked on them."""
    yield GaugeMetricFamily(
        "openledger_outputs_right", "Outputs on L1, from the first, known to be right", checker.checked
    )
    for name, meaning, value in (
        ("challenged", "Wrong outputs challenged by this node", checker.challenged),
        ("deleted", "Wrong outputs deleted by this node", checker.disputed),
        ("upheld", "Challenges of right outputs decided by this node", checker.upheld),
        ("proposed", "Outputs proposed by this node", 0 if proposer is None else proposer.count),
    ):
        yield CounterMetricFamily(f"openledger_outputs_{name}", meaning, value=value)
    frozen = GaugeMetricFamily("openledger_outputs_frozen", "1 while a challenge keeps outputs from becoming final")
    frozen.add_metric([], checker.frozen_from is not None)
    yield frozen
    bond = GaugeMetricFamily(
        "openledger_bond_open", "OPEN in the output oracle, when last asked", labels=["of", "state"]
    )
    bonds: tuple[tuple[str, Bond | None], ...] = (
        ("proposer", proposer.bond if proposer else None),
        ("challenger", checker.bond),
    )
    for owner, staked in bonds:
        if staked is not None:
            bond.add_metric([owner, "free"], staked.free / OPEN_WEI)
            bond.add_metric([owner, "locked"], staked.locked / OPEN_WEI)
    yield bond


def metrics_handler(registry: CollectorRegistry) -> http.Handler:
    """GET /metrics."""

    async def handle(request: http.Request) -> http.Response:
        if request.path not in ("/", "/metrics"):
            raise http.HttpError(404, "metrics are at /metrics")
        return http.Response(200, generate_latest(registry), (("content-type", CONTENT_TYPE),))

    return handle
