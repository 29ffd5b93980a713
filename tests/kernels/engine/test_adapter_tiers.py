"""Where adapters are while requests come and go: what is held stays, what is not gives way, and no bit depends on it."""

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from openledger.kernels.engine import residency
from openledger.kernels.engine.adapters import adapter_digest
from openledger.kernels.engine.adapters.disk import DiskTier
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.engine import ServingEngine
from openledger.kernels.engine.messages import Adapter, Failed, Finished, Generate
from openledger.kernels.model.load import Model, load_model
from openledger.kernels.ops.lora_layout import PackedLora

from ..model.tiny_model import write_tiny_adapter, write_tiny_model

COUNT = 6


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("tiny")
    return load_model(folder / "cache", model_file=write_tiny_model(folder / "tiny.gguf"), threads=1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Adapters of several ranks."""
    root = tmp_path_factory.mktemp("adapters")
    return [write_tiny_adapter(root / str(seed), rank, seed) for seed, rank in enumerate((4, 8, 4, 16, 8, 12))]


class Bench:
    """Engines over the tiny model."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.engines: list[ServingEngine] = []

    def engine(self, cache: Path | str = "", **settings: Any) -> ServingEngine:
        config = EngineConfig(cache_folder=str(cache), max_context=128, kv_tokens=1024, kept_tokens=0, **settings)
        self.engines.append(ServingEngine(self.model, config))
        return self.engines[-1]

    def answers(self, engine: ServingEngine, requests: list[Generate]) -> dict[str, Any]:
        """What each request ended with."""
        heard = [message for request in requests for message in engine.submit(request)]
        while not engine.idle:
            heard += engine.step()
        return {each.request_id: each for each in heard if isinstance(each, Finished | Failed)}


@pytest.fixture
def bench(tiny: Model) -> Iterator[Bench]:
    made = Bench(tiny)
    yield made
    for engine in made.engines:
        engine.close()


def ask(name: str, *adapters: Adapter, max_tokens: int = 4) -> Generate:
    return Generate(
        request_id=name, prompt_tokens=[72, 101, 108, 108, 111], max_tokens=max_tokens, stop_tokens=[],
        adapters=list(adapters), request_hash=bytes(31) + b"\x01",
    )  # fmt: skip


def size_of(folder: Path, bench: Bench) -> int:
    """What an adapter takes in memory."""
    engine = bench.engine()
    bench.answers(engine, [ask("size", Adapter(str(folder)), max_tokens=1)])
    return engine.load().adapter_device_bytes


def test_a_device_for_two_serves_many_with_the_same_answers(bench: Bench, folders: list[Path]) -> None:
    requests = [ask(f"{turn}-{i}", Adapter(str(folders[i]))) for turn in range(3) for i in range(COUNT)]
    free = bench.answers(bench.engine(), requests)
    room = 2 * max(size_of(folder, bench) for folder in folders)
    engine = bench.engine(adapter_device_bytes=room, adapter_host_bytes=room)
    assert bench.answers(engine, requests) == free
    assert all(isinstance(answer, Finished) for answer in free.values())
    assert len({answer.fingerprint for answer in free.values()}) == COUNT
    load = engine.load()
    assert load.adapter_device_bytes <= room
    assert load.adapter_host_bytes <= room
    assert load.adapter_device_loads_total >= COUNT
    assert load.adapter_evictions_total > 0


def test_what_a_running_request_uses_is_never_let_go(bench: Bench, folders: list[Path]) -> None:
    room = max(size_of(folder, bench) for folder in folders)
    engine = bench.engine(adapter_device_bytes=room, adapter_host_bytes=1)
    engine.submit(ask("long", Adapter(str(folders[3])), max_tokens=40))
    heard: list[Any] = []
    while not engine.load().running:
        heard += engine.step()
    engine.submit(ask("other", Adapter(str(folders[1])), max_tokens=2))
    engine.submit(ask("same", Adapter(str(folders[3])), max_tokens=2))
    engine.submit(ask("bare", max_tokens=2))
    while not engine.idle:
        heard += engine.step()
        assert engine.load().adapter_device_bytes <= room
    ended = [message.request_id for message in heard if isinstance(message, Finished)]
    assert set(ended) == {"long", "other", "same", "bare"}
    # The device had room for one: who uses the same one, or none, went ahead of who waits for another.
    assert ended.index("bare") < ended.index("long") < ended.index("other")


def test_whoever_waits_for_room_is_not_passed_for_ever(bench: Bench, folders: list[Path]) -> None:
    room = max(size_of(folder, bench) for folder in folders)
    engine = bench.engine(adapter_device_bytes=room, max_batch=2)
    popular, rare = (Adapter(str(folder), adapter_digest(folder)) for folder in (folders[3], folders[1]))
    # In memory before they are asked for, so that the order is that of asking.
    bench.answers(engine, [ask("warm", popular), ask("up", rare)])
    requests = [ask(f"p{i}", popular, max_tokens=2 + i % 3) for i in range(3)]
    requests += [ask("rare", rare)]
    requests += [ask(f"q{i}", popular, max_tokens=2 + i % 3) for i in range(12)]
    heard = [message for request in requests for message in engine.submit(request)]
    while not engine.idle:
        heard += engine.step()
    ended = [message.request_id for message in heard if isinstance(message, Finished)]
    assert len(ended) == len(requests)
    assert ended.index("rare") < ended.index("q11")


def test_adapters_that_cannot_be_on_the_device_together_are_refused(bench: Bench, folders: list[Path]) -> None:
    engine = bench.engine(adapter_device_bytes=size_of(folders[3], bench))
    refused = bench.answers(engine, [ask("both", Adapter(str(folders[3])), Adapter(str(folders[0])))])["both"]
    assert isinstance(refused, Failed)
    assert refused.code == "adapter_refused"
    assert "adapter_device_bytes" in refused.message
    assert isinstance(bench.answers(engine, [ask("one", Adapter(str(folders[3])))])["one"], Finished)


def test_a_second_engine_reads_the_integer_form_and_needs_no_source(
    bench: Bench, folders: list[Path], tmp_path: Path
) -> None:
    copy = tmp_path / "adapter"
    copy.mkdir()
    for file in folders[1].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    named = Adapter(str(copy), adapter_digest(copy))
    first = bench.engine(tmp_path / "cache")
    answer = bench.answers(first, [ask("a", named)])
    first.close()
    (copy / "adapter_model.safetensors").unlink()
    second = bench.engine(tmp_path / "cache")
    assert bench.answers(second, [ask("a", named)]) == answer
    load = second.load()
    assert (load.adapter_disk_hits_total, load.adapter_loads_total, load.adapter_hits_total) == (1, 1, 0)
    assert bench.answers(second, [ask("a", named)]) == answer
    assert second.load().adapter_hits_total == 1


def test_a_damaged_file_counts_as_absent_and_is_removed(bench: Bench, folders: list[Path], tmp_path: Path) -> None:
    store = bench.engine(tmp_path)
    bench.answers(store, [ask("a", Adapter(str(folders[0])))])
    store.close()
    disk = DiskTier(tmp_path, bench.model.config, 1 << 30)
    digest = adapter_digest(folders[0])
    packed = disk.get(digest)
    assert isinstance(packed, PackedLora)
    (file,) = disk.folder.iterdir()
    whole = file.read_bytes()
    for at in (0, 12, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert disk.get(digest) is None
        assert not file.exists()
    for cut in (b"", whole[:7], whole[:-1], whole + b"\0"):
        file.write_bytes(cut)
        assert disk.get(digest) is None
    disk.put(digest, packed)
    assert file.read_bytes() == whole


def test_the_disk_keeps_what_was_used_last(bench: Bench, folders: list[Path], tmp_path: Path) -> None:
    maker = bench.engine(tmp_path / "all")
    bench.answers(maker, [ask(str(i), Adapter(str(folder))) for i, folder in enumerate(folders)])
    maker.close()
    everything = DiskTier(tmp_path / "all", bench.model.config, 1 << 30)
    digests = [adapter_digest(folder) for folder in folders]
    held = {digest: everything.get(digest) for digest in digests}
    one = max((everything.folder / f"{digest.hex()}.lora.safetensors").stat().st_size for digest in digests)
    small = DiskTier(tmp_path / "small", bench.model.config, 3 * one)
    for turn, (digest, packed) in enumerate(held.items()):
        assert packed is not None
        small.put(digest, packed)
        for age, other in enumerate(digests[: turn + 1]):
            path = small.folder / f"{other.hex()}.lora.safetensors"
            if path.exists():
                os.utime(path, ns=(age, age))
    there = [digest for digest in digests if small.get(digest) is not None]
    assert digests[-1] in there
    assert digests[0] not in there
    assert sum(file.stat().st_size for file in small.folder.iterdir()) <= 3 * one


def test_weights_scale_an_adapter_and_1000_changes_nothing(bench: Bench, folders: list[Path], tmp_path: Path) -> None:
    path = str(folders[1])
    engine = bench.engine()
    plain = bench.answers(engine, [ask("a", Adapter(path))])["a"]
    assert bench.answers(engine, [ask("a", Adapter(path, weight_milli=1000))])["a"] == plain
    # Twice the weight is twice the alpha, to the bit.
    doubled = tmp_path / "doubled"
    doubled.mkdir()
    save_file(load_file(folders[1] / "adapter_model.safetensors"), doubled / "adapter_model.safetensors")
    said = json.loads((folders[1] / "adapter_config.json").read_text())
    (doubled / "adapter_config.json").write_text(json.dumps({**said, "lora_alpha": 2 * said["lora_alpha"]}))
    twice = bench.answers(engine, [ask("a", Adapter(path, weight_milli=2000))])["a"]
    assert twice == bench.answers(engine, [ask("a", Adapter(str(doubled)))])["a"]
    assert twice.fingerprint != plain.fingerprint
    # One adapter at two weights in one batch, beside an ensemble of both.
    mixed = [
        ask("one", Adapter(path)),
        ask("two", Adapter(path, weight_milli=2000)),
        ask("both", Adapter(path, weight_milli=-300), Adapter(str(folders[0]), weight_milli=1700)),
    ]
    together = bench.answers(bench.engine(), mixed)
    assert together["one"].fingerprint == plain.fingerprint
    assert together["two"].fingerprint == twice.fingerprint
    assert together["both"] == bench.answers(bench.engine(), mixed[2:])["both"]
    refused = bench.answers(engine, [ask("far", Adapter(path, weight_milli=100_001))])["far"]
    assert isinstance(refused, Failed)
    assert "100,001" in refused.message


def test_a_weight_is_the_quotient_rounded_once(bench: Bench, folders: list[Path]) -> None:
    alphas = np.array([1 / 3, 2.0, 7e-39, 3e38], np.float32)
    layout = residency.pack_adapter({}, bench.model.config).layout
    packed = PackedLora(layout, np.zeros(layout.bytes, np.int8), alphas)
    for weight in (1, 333, 999, -1001, 99_999):
        with np.errstate(over="ignore"):
            expected = [np.float32(np.float64(alpha) * weight / 1000) for alpha in alphas]
        assert packed.weighted(weight).tobytes() == np.array(expected, np.float32).tobytes()


def test_answers_go_on_while_an_adapter_is_read(
    bench: Bench, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    proceed, reading = threading.Event(), threading.Event()
    load = residency.load_adapter

    def slow(*arguments: Any, **settings: Any) -> Any:
        reading.set()
        assert proceed.wait(60)
        return load(*arguments, **settings)

    engine = bench.engine()
    monkeypatch.setattr(residency, "load_adapter", slow)
    engine.submit(ask("slow", Adapter(str(folders[0])), max_tokens=2))
    assert reading.wait(60)
    # The adapter is not there before it may be, and all the same this answer comes.
    ended = bench_until(engine, "bare", ask("bare", max_tokens=20))
    assert isinstance(ended, Finished)
    assert len(ended.output_tokens) == 20
    proceed.set()
    assert isinstance(bench_until(engine, "slow"), Finished)


def bench_until(engine: ServingEngine, name: str, request: Generate | None = None) -> Any:
    """Step until a request has ended."""
    heard = [] if request is None else engine.submit(request)
    while True:
        for message in heard:
            if isinstance(message, Finished | Failed) and message.request_id == name:
                return message
        heard = engine.step()


def test_cancelled_requests_hold_nothing(bench: Bench, folders: list[Path]) -> None:
    engine = bench.engine(adapter_host_bytes=1)
    for turn in range(5):
        for i, folder in enumerate(folders):
            engine.submit(ask(f"{turn}-{i}", Adapter(str(folder))))
        for i in range(COUNT):
            engine.cancel(f"{turn}-{i}")
    engine.close()
    store = engine._adapters
    assert store.host.pinned_bytes == 0
    assert len(store.host) == 0
    assert not store._requests
