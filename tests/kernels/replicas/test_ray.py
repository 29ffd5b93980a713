"""A real Ray cluster on this machine: engines and a training job as actors of it."""

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

pytest.importorskip("ray")

from openledger.kernels.engine.client import open_engine
from openledger.kernels.engine.messages import Finished, Generate
from openledger.kernels.finetune.client import run_finetune
from openledger.kernels.finetune.job import FineTuneProgress
from openledger.kernels.framing import ChannelClosed
from openledger.kernels.replicas.places import open_place
from openledger.kernels.replicas.relay import RayUnavailable, RelayedChild, connect, disconnect, open_relayed
from openledger.kernels.replicas.router import ReplicatedEngine, open_replicas

from ..finetune.test_tiny_training import text_job
from .dying import killed_in_the_middle
from .test_router import all_ready, ask, collect, config

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    connect("", cpus=2)
    yield
    disconnect()


class Started:
    """Starts children in the cluster and remembers their actors."""

    def __init__(self) -> None:
        self.children: list[RelayedChild] = []

    def __call__(self, module: str, accepts: Any, **options: Any) -> AbstractAsyncContextManager[RelayedChild]:
        return self._open(module, accepts, **options)

    @asynccontextmanager
    async def _open(self, module: str, accepts: Any, **options: Any) -> Any:
        async with open_relayed(module, accepts, cpus=0.5, **options) as child:
            self.children.append(child)
            yield child

    async def pids(self, index: int) -> tuple[int, int]:
        """Of the actor and of its child."""
        actor, child = await self.children[index]._ask("pid")
        return actor, child


async def gone(pid: int) -> None:
    while await trio.Path(f"/proc/{pid}").exists():  # noqa: ASYNC110  there is nothing to wait for but this
        await trio.sleep(0.05)


@pytest.mark.long
async def test_replicas_in_a_cluster_lose_no_request_that_was_not_streaming(tmp_path: Path) -> None:
    started = Started()
    with trio.fail_after(400):
        async with open_replicas(config(tmp_path), 2, partial(open_engine, start_child=started)) as engine:
            assert isinstance(engine, ReplicatedEngine)
            await all_ready(engine)
            expected = (await collect(engine, ask("alone")))[-1]
            assert isinstance(expected, Finished)
            actor, child = await started.pids(0)
            os.kill(child, signal.SIGSTOP)
            results: dict[str, Any] = {}
            one = trio.Event()

            async def run(request: Generate) -> None:
                results[request.request_id] = (await collect(engine, request))[-1]
                one.set()

            async with trio.open_nursery() as nursery:
                for index in range(2):
                    nursery.start_soon(run, ask(f"r{index}"))
                await one.wait()  # that of the other replica
                # The machine of a replica is lost, as far as anybody can tell.
                os.kill(actor, signal.SIGKILL)
                os.kill(child, signal.SIGCONT)
            assert [results[f"r{n}"].fingerprint for n in range(2)] == [expected.fingerprint] * 2
            await gone(child)
            await all_ready(engine)
            assert engine.restarts == 1

            async def kill_all() -> None:
                await all_ready(engine)
                for index in (-2, -1):
                    with suppress(ChannelClosed, ProcessLookupError):  # dead already, and not yet missed
                        os.kill((await started.pids(index))[0], signal.SIGKILL)

            failed = await killed_in_the_middle(engine, kill_all)
            assert failed.code == "engine_died"
            assert "actor in the Ray cluster died" in failed.message
            assert isinstance((await collect(engine, ask("after")))[-1], Finished)
            await all_ready(engine)
            last = await started.pids(len(started.children) - 1)
        for pid in last:
            await gone(pid)


@pytest.mark.long
async def test_a_job_trains_in_a_cluster_with_the_bytes_it_has_here(tmp_path: Path) -> None:
    config(tmp_path)
    base = tmp_path / "tiny.gguf"
    seen: list[FineTuneProgress] = []
    with trio.fail_after(300):
        here = await run_finetune(text_job(tmp_path / "here", base, max_steps=2))
        there = await run_finetune(
            text_job(tmp_path / "there", base, max_steps=2), seen.append, start_child=partial(open_relayed, cpus=0.5)
        )
    assert [event.step for event in seen if event.stage == "training"] == [1, 2]
    assert there.record["adapter"] == here.record["adapter"]


async def test_a_cluster_that_is_not_there_is_named() -> None:
    # One process is in one cluster at a time.
    disconnect()
    for address in ("127.0.0.1:1", "somewhere"):
        with pytest.raises(RayUnavailable, match=f"the Ray cluster at {address} cannot be used"):
            async with open_place("ray", address=address):
                pytest.fail("there is no cluster")
