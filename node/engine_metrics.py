"""What the serving engine does, for Prometheus: queue, caches, tokens, and how long callers wait."""

from __future__ import annotations

from collections.abc import Iterator

import trio
from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from openledger.kernels.engine.client import EngineClient
from openledger.kernels.engine.messages import Load

TOKEN_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
RATE_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0)
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
        self.between_tokens = Histogram(
            "openledger_between_tokens_seconds",
            "From a token of an answer to the next one",
            buckets=TOKEN_BUCKETS_S,
            registry=None,
        )
        self.rate = Histogram(
            "openledger_answer_tokens_per_second",
            "Tokens of an answer after its first, by the time that they took",
            buckets=RATE_BUCKETS,
            registry=None,
        )
        self.answers = Counter(
            "openledger_answers", "Answers by how they ended: a stop reason or an error", ["end"], registry=None
        )

    def watch(self) -> AnswerWatch:
        """For an answer that the engine is asked for now."""
        return AnswerWatch(self)

    def collect(self) -> Iterator[Metric]:
        yield from self.first_token.collect()
        yield from self.answer.collect()
        yield from self.between_tokens.collect()
        yield from self.rate.collect()
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
        yield CounterMetricFamily(
            "openledger_engine_preemptions",
            "How often a request gave its room in the cache to another and was computed again",
            value=load.preemptions_total,
        )
        yield from _adapters(load)


def _adapters(load: Load) -> Iterator[Metric]:
    """By tier: the accelerator's memory, the host's, and the disk's integer forms of what comes from elsewhere."""
    held = GaugeMetricFamily("openledger_adapters", "Adapters in a tier of memory", labels=["tier"])
    held.add_metric(["device"], load.adapters_on_device)
    held.add_metric(["host"], load.adapters_resident)
    yield held
    size = GaugeMetricFamily("openledger_adapter_bytes", "What they take", labels=["tier"])
    size.add_metric(["device"], load.adapter_device_bytes)
    size.add_metric(["host"], load.adapter_host_bytes)
    yield size
    asked = CounterMetricFamily(
        "openledger_adapter_requests",
        "Adapters asked for in a tier, and whether they were there: what is not in one is asked for in the next",
        labels=["tier", "found"],
    )
    from_source = load.adapter_loads_total - load.adapter_disk_hits_total
    for tier, found, missed in (
        ("device", load.adapter_device_hits_total, load.adapter_device_loads_total),
        ("host", load.adapter_hits_total, load.adapter_loads_total),
        ("disk", load.adapter_disk_hits_total, from_source),
    ):
        asked.add_metric([tier, "yes"], found)
        asked.add_metric([tier, "no"], missed)
    yield asked
    yield CounterMetricFamily(
        "openledger_adapter_evictions", "Adapters that made room for others", value=load.adapter_evictions_total
    )


class AnswerWatch:
    """How long one answer takes."""

    def __init__(self, metrics: EngineMetrics) -> None:
        self._metrics = metrics
        self._began = trio.current_time()
        self._first = self._last = self._began
        self._tokens = 0

    def token(self) -> None:
        """A token came."""
        now = trio.current_time()
        if self._tokens:
            self._metrics.between_tokens.observe(now - self._last)
        else:
            self._first = now
            self._metrics.first_token.observe(now - self._began)
        self._last = now
        self._tokens += 1

    def finished(self, stop_reason: str) -> None:
        """The answer is whole."""
        self._metrics.answer.observe(trio.current_time() - self._began)
        self._metrics.answers.labels(stop_reason).inc()
        if self._tokens > 1 and self._last > self._first:
            self._metrics.rate.observe((self._tokens - 1) / (self._last - self._first))

    def failed(self, code: str) -> None:
        """There is no answer."""
        self._metrics.answers.labels(code).inc()
