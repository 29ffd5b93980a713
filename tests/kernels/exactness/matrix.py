"""The ways in which an answer can be computed, and a few answers computed in one of them.

`python -m`-able: reads cases as JSON on standard input and prints what they gave, for backends and CPUs that need a process
of their own.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any, Final

from openledger.kernels.engine.adapters import adapter_digest
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import Adapter, Finished, FromWorker, Generate, Sampling
from openledger.kernels.model.load import Model, load_model

COMMON: Final = [(5 * i + 1) % 250 for i in range(65)]
"""What two of the prompts begin with: more than a page of 64."""

PROMPTS: Final = ([*COMMON, 7], [*COMMON, 9, 4], [11] * 15, [3], list(range(31)), [8, 9, 8])
SAMPLINGS: Final = (
    Sampling(temperature_milli=900, top_k=60, top_p_ppm=980_000),
    Sampling(),
    Sampling(temperature_milli=1500, min_p_ppm=1000),
)
MAX_TOKENS: Final = 4


@dataclass(frozen=True)
class Case:
    """`batch`: how many run at once, made up by strangers; `chunk`: positions a step; `preempted`: whether places are taken
    away in between; `adapters`: none, one for all, or two mixed; `fixed`: decode steps over fixed buffers; `only`: which of
    `PROMPTS`."""

    backend: str = "host"
    batch: int = 64
    chunk: int = 512
    page: int = 16
    prefix: bool = False
    preempted: bool = False
    adapters: str = "none"
    fixed: bool = False
    only: tuple[int, ...] = tuple(range(len(PROMPTS)))


FACTORS: Final[dict[str, tuple[Any, ...]]] = {
    "backend": ("host", "torch"),
    "batch": (1, 7, 64),
    "chunk": (1, 13, 512),
    "page": (16, 64),
    "prefix": (False, True),
    "preempted": (False, True),
    "adapters": ("none", "one", "mixed"),
    "fixed": (False, True),
}


def every(factors: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """The full product."""
    return [dict(zip(factors, values)) for values in product(*factors.values())]


def covering(factors: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """A few of them, such that each pair of values of two factors is in one: always the one with most pairs not yet seen."""
    everything = every(factors)
    missing = {pair for case in everything for pair in pairs(case)}
    chosen = []
    while missing:
        best = max(everything, key=lambda case: len(missing & pairs(case)))
        missing -= pairs(best)
        chosen.append(best)
    return chosen


def pairs(case: dict[str, Any]) -> set[Any]:
    return set(combinations(case.items(), 2))


def load(folder: Path, backend: Any) -> Model:
    return load_model(folder / backend, model_file=folder / "tiny.gguf", threads=1, backend=backend)


class Outcome(dict[str, list[Any]]):
    """Of each request its tokens and its fingerprint in hex; and how often a place was lost, how many positions were
    reused."""

    preemptions: int = 0
    reused: int = 0


def answers(model: Model, folder: Path, case: Case) -> Outcome:
    """The answers to `case.only` of `PROMPTS`, in the way of the case."""
    config = EngineConfig(
        cache_folder=str(folder), max_context=128, kv_tokens=64 * 128, page_tokens=case.page, max_batch=case.batch,
        max_step_tokens=case.chunk, kept_tokens=4096 if case.prefix else 0,
        decode_graphs="always" if case.fixed else "never",
    )  # fmt: skip
    engine = ServingEngine(model, config)
    outcome = Outcome()
    try:
        if case.adapters != "none":
            bring_adapters(engine, folder)
        for turn in range(2 if case.prefix else 1):
            found = dict(run(engine, case, folder))
            assert not turn or found == dict(outcome)
            outcome.update(found)
        outcome.preemptions = engine.load().preemptions_total
        outcome.reused = engine.load().reused_tokens_total
    finally:
        engine.close()
    return outcome


def bring_adapters(engine: ServingEngine, folder: Path) -> None:
    """Into memory, so that who runs beside whom does not depend on threads that read."""
    for adapter in adapters_in(folder):
        assert engine.submit(request("first", [1], (adapter,), 99)) == []
        while not engine.idle:
            engine.step()


def run(engine: ServingEngine, case: Case, folder: Path) -> Iterator[tuple[str, list[Any]]]:
    strangers = max(0, case.batch - len(case.only))
    requests = [request(f"stranger {i}", [i % 250] * (1 + i % 5), (), 50 + i) for i in range(strangers)]
    requests += [request(f"{i}", PROMPTS[i], adapters_of(case, i, folder), i) for i in case.only]
    for each in requests:
        assert engine.submit(each) == []
    step = 0
    while not engine.idle:
        yield from (finished(message) for message in engine.step() if mine(message))
        step += not engine.only_loading
        if case.preempted and step in (2, 4):
            # Takes the place of the youngest, which is one of ours.
            step += 1
            engine.submit(request(f"stranger of rank {step}", [1, 2], (), 90, priority=9))


def request(name: str, prompt: Sequence[int], adapters: Sequence[Adapter], number: int, priority: int = 0) -> Generate:
    return Generate(
        request_id=name, prompt_tokens=list(prompt), max_tokens=MAX_TOKENS, stop_tokens=[], adapters=list(adapters),
        sampling=SAMPLINGS[number % len(SAMPLINGS)], seed=bytes([number]) * 32, request_hash=bytes([number + 1]) * 32,
        priority=priority,
    )  # fmt: skip


@cache
def adapters_in(folder: Path) -> tuple[Adapter, Adapter]:
    """Named by their digests: those in memory are found at once."""
    first, second = (Adapter(str(folder / name), adapter_digest(folder / name)) for name in ("first", "second"))
    return first, second


def adapters_of(case: Case, number: int, folder: Path) -> Sequence[Adapter]:
    first, second = adapters_in(folder)
    mixed = ((first,), (first, second), (), (second,), (second, first), (first,))
    return {"none": (), "one": (first,), "mixed": mixed[number]}[case.adapters]


def mine(message: FromWorker) -> bool:
    assert type(message).__name__ not in ("Failed", "Verified"), message
    return isinstance(message, Finished) and not message.request_id.startswith("stranger")


def finished(message: FromWorker) -> tuple[str, list[Any]]:
    assert isinstance(message, Finished)
    return message.request_id, [message.output_tokens, message.fingerprint.hex()]


def main() -> None:
    folder = Path(sys.argv[1])
    models: dict[str, Model] = {}
    for line in sys.stdin:
        case = Case(**{**json.loads(line), "only": tuple(json.loads(line)["only"])})
        if case.backend not in models:
            models[case.backend] = load(folder, case.backend)
        model = models[case.backend]
        outcome = answers(model, folder, case)
        told = {"linear": model.linear, "case": asdict(case), "answers": outcome, "preemptions": outcome.preemptions}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
