"""Decode steps over fixed buffers give what steps over fresh ones give: whatever the batch's size, and however it changes."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import Adapter, Finished, FromWorker, Generate, Sampling
from openledger.kernels.model.decode import sizes
from openledger.kernels.model.load import Model, load_model

from ..model.tiny_model import write_tiny_adapter, write_tiny_model
from .conftest import Harness

Load = Callable[[Literal["host", "torch", "triton"]], Model]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder / "tiny.gguf")
    write_tiny_adapter(folder / "adapter", 8)
    return folder


@pytest.fixture(scope="module")
def load(folder: Path) -> Load:
    return lambda backend: load_model(folder, model_file=folder / "tiny.gguf", threads=1, backend=backend)


def answers(model: Model, folder: Path, graphs: Literal["always", "never"], **sizes: Any) -> tuple[Any, ServingEngine]:
    """Of twelve requests of all lengths, two of them by a schema and one with an adapter."""
    requests = []
    for number in range(12):
        extra: dict[str, Any] = {}
        if number % 6 == 1:
            extra = {"schema": '{"enum": ["abab", "ba", "bbbbb"]}', "logprobs": 2}
        if number == 11:
            extra = {"adapters": [Adapter(str(folder / "adapter"))]}
        hot = Sampling(temperature_milli=900 * (number % 4), top_k=60)
        requests.append(
            Generate(
                request_id=f"{number}",
                prompt_tokens=[(number * i) % 250 for i in range(2 + number)],
                max_tokens=3 + 5 * (number % 5),
                stop_tokens=[],
                sampling=hot,
                seed=bytes([number]) * 32,
                request_hash=bytes([number + 1]) * 32,
                **extra,
            )
        )
    config = {"max_context": 48, "kv_tokens": 64, "page_tokens": 4, "max_batch": 10, "decode_graphs": graphs, **sizes}
    harness = Harness(ServingEngine(model, EngineConfig(cache_folder=str(folder), **config)))
    heard = harness.run(*requests)
    harness.engine.close()
    return heard, harness.engine


def check(heard: dict[str, list[FromWorker]], expected: dict[str, list[FromWorker]]) -> None:
    assert heard == expected
    assert all(isinstance(messages[-1], Finished) for messages in heard.values())


@pytest.mark.parametrize("backend", ["host", "torch"])
def test_fixed_buffers_change_no_bit(load: Load, folder: Path, backend: Literal["host", "torch"]) -> None:
    model = load(backend)
    expected, plain = answers(model, folder, "never", kv_tokens=2048)
    heard, engine = answers(model, folder, "always")
    check(heard, expected)
    assert plain._decode is None
    assert engine._decode is not None
    # Batches of several sizes ran so, some of them after a larger one; and the cache was too small for all.
    assert len(engine._decode._held) > 2
    assert engine.load().preemptions_total > 0


def test_after_the_first_time_a_size_makes_no_new_buffers(load: Load, folder: Path) -> None:
    model = load("torch")
    _, engine = answers(model, folder, "always")
    assert engine._decode is not None
    before = {key: step._buffers._held.copy() for key, step in engine._decode._held.items()}
    harness = Harness(engine)
    harness.run(*(Generate(request_id=f"{n}", prompt_tokens=[n], max_tokens=9, stop_tokens=[]) for n in range(10)))
    for key, held in before.items():
        after = engine._decode._held[key]._buffers._held
        assert {name: tensor.data_ptr() for name, tensor in after.items()} == {
            name: tensor.data_ptr() for name, tensor in held.items()
        }


def test_there_is_a_size_for_every_batch_and_few_of_them() -> None:
    for rows in range(1, 300):
        found = sizes(rows)
        assert found[-1] == rows
        assert list(found) == sorted(set(found))
        assert all(larger <= 2 * smaller for smaller, larger in pairwise(found))
    assert len(sizes(256)) < 20


@pytest.mark.gpu
@pytest.mark.timeout(900)
def test_recorded_graphs_give_the_bits_of_the_cpu(load: Load, folder: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA GPU")
    expected, _ = answers(load("host"), folder, "never", kv_tokens=2048)
    model = load("triton")
    check(answers(model, folder, "never")[0], expected)
    heard, engine = answers(model, folder, "always")
    check(heard, expected)
    assert engine._decode is not None
    assert any(adapters for _, adapters in engine._decode._held)
