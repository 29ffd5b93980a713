"""Replicas as processes of this machine: who answers, and what a death costs."""

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio

from openledger.kernels.engine.client import EngineClient, EngineUnusable
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.messages import Adapter, Finished, Generate, Verify
from openledger.kernels.replicas.router import SLACK, ReplicatedEngine, choose, open_replicas
from tests.kernels.model.tiny_model import write_tiny_model

from .dying import killed_in_the_middle

WORKER = b"openledger.kernels.engine.worker"


def test_adapters_stay_where_they_are_while_the_load_allows() -> None:
    adapters = [Adapter("", bytes([n]) * 32) for n in range(60)]
    homes = [choose([adapter], {0: 0, 1: 0, 2: 0}) for adapter in adapters]
    assert min(Counter(homes).values()) >= 10
    assert homes == [choose([adapter], {0: 0, 1: 0, 2: 0}) for adapter in adapters]
    # One replica fewer moves only what was on it.
    fewer = [choose([adapter], {0: 0, 2: 0}) for adapter in adapters]
    assert all(new == old for new, old in zip(fewer, homes) if old != 1)
    assert {new for new, old in zip(fewer, homes) if old == 1} == {0, 2}
    there = next(adapter for adapter, home in zip(adapters, homes) if home == 1)
    assert choose([there], {0: 0, 1: SLACK, 2: 3}) == 1
    assert choose([there], {0: 0, 1: SLACK + 1, 2: 3}) == 0


def test_without_adapters_the_least_busy_answers() -> None:
    assert choose([], {0: 3, 1: 2, 4: 2}) == 1


def config(folder: Path, **settings: Any) -> EngineConfig:
    write_tiny_model(folder / "tiny.gguf")
    return EngineConfig(
        cache_folder=str(folder / "cache"), model_file=str(folder / "tiny.gguf"), threads=1, max_context=256,
        kv_tokens=1024, backend="torch", **settings,
    )  # fmt: skip


def ask(identifier: str, max_tokens: int = 4) -> Generate:
    return Generate(request_id=identifier, prompt_tokens=[1, 2, 3], max_tokens=max_tokens, stop_tokens=[])


def workers() -> list[int]:
    """This process's engine workers."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            ours = entry.name.isdigit() and WORKER in (entry / "cmdline").read_bytes()
            if ours and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


async def all_ready(engine: EngineClient) -> tuple[EngineClient, ...]:
    assert isinstance(engine, ReplicatedEngine)
    for replica in engine.replicas:
        await replica.ready()
    return engine.replicas


async def collect(engine: EngineClient, request: Generate) -> list[Any]:
    return [event async for event in engine.generate(request)]


@pytest.mark.slow
async def test_a_dead_replica_loses_only_what_was_streaming(tmp_path: Path) -> None:
    with trio.fail_after(300):
        async with open_replicas(config(tmp_path), 2) as engine:
            assert isinstance(engine, ReplicatedEngine)
            await all_ready(engine)
            expected = (await collect(engine, ask("alone")))[-1]
            assert isinstance(expected, Finished)
            first, _ = workers()

            # A replica that stands still has been given requests that it has not begun.
            os.kill(first, signal.SIGSTOP)
            results: dict[str, list[Any]] = {}
            half = trio.Event()

            async def run(request: Generate) -> None:
                results[request.request_id] = await collect(engine, request)
                if len(results) == 2:
                    half.set()

            async with trio.open_nursery() as nursery:
                for index in range(4):
                    nursery.start_soon(run, ask(f"r{index}"))
                await half.wait()  # those of the other replica
                os.kill(first, signal.SIGKILL)
            for index in range(4):
                last = results[f"r{index}"][-1]
                assert isinstance(last, Finished), last
                assert last.fingerprint == expected.fingerprint
                assert len(results[f"r{index}"]) == 5
            assert engine.restarts == 1

            # An answer that had begun ends with the error, and what comes next is answered.
            await all_ready(engine)

            async def kill_all() -> None:
                await all_ready(engine)
                for pid in workers():
                    os.kill(pid, signal.SIGKILL)

            assert (await killed_in_the_middle(engine, kill_all)).code == "engine_died"
            verify = Verify(
                request_id="check", prompt_tokens=[1, 2, 3], max_tokens=4, stop_tokens=[], stop_reason="length",
                output_tokens=expected.output_tokens, fingerprint=expected.fingerprint,
            )  # fmt: skip
            assert (await engine.verify(verify)).ok
            await all_ready(engine)
            assert engine.restarts >= 2
            info = engine.info
            assert info is not None
            assert info.model == "tiny"


async def test_replicas_that_cannot_start_say_so(tmp_path: Path) -> None:
    settings = EngineConfig(cache_folder=str(tmp_path), model_file=str(tmp_path / "missing.gguf"), threads=1)
    with trio.fail_after(120):
        async with open_replicas(settings, 2) as engine:
            with pytest.raises(EngineUnusable, match=r"missing\.gguf"):
                await engine.ready()
            (failed,) = await collect(engine, ask("x"))
            assert failed.code == "engine_unavailable"
