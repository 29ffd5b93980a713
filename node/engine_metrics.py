"""What the serving engine does, for Prometheus: queue, caches, tokens, and how long callers wait."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from openledger.kernels.engine.client import EngineClient

FIRST_TOKEN_BUCKETS_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
ANSWER_BUCKETS_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class EngineMetrics(Collector):
    """One engine's. Totals begin anew when its process is started again, as counters of Prometheus may."""

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self.first_token = Histogram(
            "openledger_first_token_seconds",
            "From a prompt being given to the engine to the first token of its answer",
            buckets=FIRST_TOKEN_BUCKETS_S,
            registry=None,
        )
        self.answer = Histogram(
            "openledger_answer_seconds",
            "From a prompt being given to the engine to the end of its answer",
            buckets=ANSWER_BUCKETS_S,
            registry=None,
        )
        self.answers = Counter(
            "openledger_answers", "Answers by how they ended: a stop reason or an error", ["end"], registry=None
        )

    def collect(self) -> Iterator[Metric]:
        yield from self.first_token.collect()
        yield from self.answer.collect()
        yield from self.answers.collect()
        yield CounterMetricFamily(
            "openledger_engine_restarts",
            "How often the engine's process was started again",
            value=self._engine.restarts,
        )
        load = self._engine.load
        if load is None:
            return
        requests = GaugeMetricFamily("openledger_engine_requests", "Requests in the engine", labels=["state"])
        requests.add_metric(["running"], load.running)
        requests.add_metric(["waiting"], load.waiting)
        yield requests
        cache = GaugeMetricFamily("openledger_engine_cache_tokens", "Room of the key-value cache", labels=["state"])
        cache.add_metric(["used"], load.kv_tokens_used)
        cache.add_metric(["free"], load.kv_tokens - load.kv_tokens_used)
        yield cache
        tokens = CounterMetricFamily(
            "openledger_engine_tokens", "Tokens computed, and those of prompts found in the cache", labels=["kind"]
        )
        tokens.add_metric(["reused"], load.reused_tokens_total)
        tokens.add_metric(["prompt"], load.prompt_tokens_total)
        tokens.add_metric(["generated"], load.generated_tokens_total)
        yield tokens
        yield GaugeMetricFamily("openledger_adapters_resident", "Adapters in memory", value=load.adapters_resident)
        asked = CounterMetricFamily("openledger_adapter_requests", "Adapters asked for", labels=["found"])
        asked.add_metric(["resident"], load.adapter_hits_total)
        asked.add_metric(["loaded"], load.adapter_loads_total)
        yield asked
