"""The queue of fine-tuning jobs. Training itself is real where a test is about it; elsewhere a stand-in trains as
long as the test needs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from openledger.kernels.finetune.client import FineTuneResult
from openledger.kernels.finetune.job import (
    FineTuneInterrupted,
    FineTuneJob,
    FineTuneProgress,
    InvalidJob,
    NonFiniteLoss,
)
from openledger.node.factory.jobs import (
    FineTuneJobs,
    JobNotFinished,
    SourceDocument,
    TooManyJobs,
    TrainingParameters,
    TrainingSource,
    UnknownJob,
)

TEXT = (Path(__file__).parents[3] / "node/quickstart/documents/whales/account-1/the-blanket.md").read_bytes()
SOURCES = [TrainingSource(1, 1, "0x" + "11" * 32)]
DOCUMENTS = [SourceDocument(4, "the-blanket.md", TEXT)]


class StandIn:
    """Trains until told how to end."""

    def __init__(self) -> None:
        self.jobs: list[FineTuneJob] = []
        self.ends: list[Any] = []
        self.go = trio.Event()

    async def __call__(self, job: FineTuneJob, on_event: Callable[[FineTuneProgress], None]) -> FineTuneResult:
        self.jobs.append(job)
        on_event(FineTuneProgress("training", 1, 2, loss=2.5))
        await self.go.wait()
        if self.ends:
            raise self.ends.pop(0)
        on_event(FineTuneProgress("training", 2, 2, loss=1.5))
        return FineTuneResult(Path(job.output), {"steps": 2})


def trainers() -> list[int]:
    """The process ids of our children that train."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in children if b"finetune.trainer" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def submit(jobs: FineTuneJobs, **parameters: Any) -> str:
    return (await jobs.submit("whales", SOURCES, DOCUMENTS, TrainingParameters(**parameters))).id


async def kinds(jobs: FineTuneJobs, identifier: str, after: int = 0) -> list[str]:
    return [event.kind async for event in jobs.events(identifier, after) if event is not None]


async def test_a_job_runs_and_whoever_comes_late_sees_everything(tmp_path, nursery):
    train = StandIn()
    jobs = FineTuneJobs(tmp_path, train=train)
    await nursery.start(jobs.run)
    identifier = await submit(jobs, max_steps=2)
    with pytest.raises(JobNotFinished):
        jobs.adapter_folder(identifier)
    train.go.set()
    everything = ["queued", "started", "progress", "progress", "finished"]
    assert await kinds(jobs, identifier) == everything
    assert await kinds(jobs, identifier) == everything
    assert await kinds(jobs, identifier, 3) == everything[3:]
    assert jobs.job(identifier).record == {"steps": 2}
    (job,) = train.jobs
    assert await trio.Path(job.documents[0].path).read_bytes() == TEXT
    assert job.data_versions[0].root == SOURCES[0].root
    assert await kinds(FineTuneJobs(tmp_path), identifier) == everything, "another run of the node reads them"


async def test_jobs_wait_for_each_other_and_can_be_cancelled(tmp_path, nursery):
    train = StandIn()
    jobs = FineTuneJobs(tmp_path, train=train)
    await nursery.start(jobs.run)
    first, second, third = [await submit(jobs, seed=n) for n in range(3)]
    await trio.testing.wait_all_tasks_blocked(0.1)
    assert [jobs.job(i).state for i in (first, second, third)] == ["running", "queued", "queued"]
    await jobs.cancel(second)
    await jobs.cancel(first)
    assert await kinds(jobs, first) == ["queued", "started", "progress", "cancelled"]
    train.go.set()
    assert (await kinds(jobs, third))[-1] == "finished"
    assert [job.seed for job in train.jobs] == [0, 2]
    assert (await jobs.cancel(third)).state == "finished"
    assert FineTuneJobs(tmp_path).job(first).state == "cancelled"


async def test_a_running_job_goes_on_after_a_restart_even_with_a_torn_log(tmp_path):
    train = StandIn()
    async with trio.open_nursery() as nursery:
        jobs = FineTuneJobs(tmp_path, train=train)
        await nursery.start(jobs.run)
        identifier = await submit(jobs)
        waiting = await submit(jobs)
        await trio.testing.wait_all_tasks_blocked(0.1)
        nursery.cancel_scope.cancel()
    log = tmp_path / identifier / "events.jsonl"
    log.write_bytes(log.read_bytes() + b'{"number": 4, "at"')
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "job.json").write_bytes(b"{")
    async with trio.open_nursery() as nursery:
        train.go.set()
        jobs = FineTuneJobs(tmp_path, train=train)
        assert jobs.job(identifier).state == "running"
        await nursery.start(jobs.run)
        assert (await kinds(jobs, identifier))[3:] == ["started", "progress", "progress", "finished"]
        assert (await kinds(jobs, waiting))[-1] == "finished"
        nursery.cancel_scope.cancel()
    assert [event["number"] for event in map(msgspec.json.decode, log.read_bytes().splitlines())] == list(range(1, 8))
    assert [job.output for job in train.jobs] == [
        str(tmp_path / i / "adapter") for i in (identifier, identifier, waiting)
    ]


async def test_a_killed_trainer_is_started_again_and_a_failure_says_why(tmp_path, nursery, autojump_clock):
    train = StandIn()
    train.go.set()
    train.ends = [FineTuneInterrupted("killed by signal 9")]
    jobs = FineTuneJobs(tmp_path, train=train)
    await nursery.start(jobs.run)
    assert (await kinds(jobs, await submit(jobs)))[3:] == ["interrupted", "started", "progress", "progress", "finished"]
    train.ends = [FineTuneInterrupted("killed by signal 9")] * 4
    assert (await kinds(jobs, identifier := await submit(jobs)))[-1] == "failed"
    assert "interrupted 4 times" in jobs.job(identifier).error
    train.ends = [NonFiniteLoss("the loss is not a number: use a smaller learning rate")]
    await kinds(jobs, identifier := await submit(jobs))
    assert jobs.job(identifier).error == "the loss is not a number: use a smaller learning rate"


async def test_an_idle_watch_is_kept_alive(tmp_path, nursery):
    jobs = FineTuneJobs(tmp_path, train=StandIn())
    await nursery.start(jobs.run)
    identifier = await submit(jobs)
    seen = []
    async for event in jobs.events(identifier, idle_s=0.5):
        seen.append(event and event.kind)
        if event is None:
            break
    assert seen == ["queued", "started", "progress", None]


async def test_bad_jobs_are_refused(tmp_path):
    jobs = FineTuneJobs(tmp_path)
    with pytest.raises(InvalidJob, match="rank"):
        await submit(jobs, rank=0)
    with pytest.raises(InvalidJob, match="learning_rate"):
        await submit(jobs, learning_rate=float("nan"))
    with pytest.raises(InvalidJob, match="no documents"):
        await jobs.submit("x", SOURCES, [], TrainingParameters())
    assert jobs.jobs() == []
    with pytest.raises(UnknownJob, match="finetune list"):
        jobs.job("nonsense")
    for _ in range(64):
        await submit(jobs)
    with pytest.raises(TooManyJobs):
        await submit(jobs)


@pytest.mark.slow
async def test_real_training_is_resumed_after_its_process_was_killed(tmp_path, nursery):
    jobs = FineTuneJobs(tmp_path, threads=1)
    await nursery.start(jobs.run)
    identifier = await submit(jobs, max_steps=2, batch_size=1, sequence_length=32, rank=2, epochs=1)
    seen = []
    async for event in jobs.events(identifier):
        seen.append(event.kind)
        if event.kind == "progress" and "interrupted" not in seen:
            for pid in trainers():
                os.kill(pid, signal.SIGKILL)
    assert seen.count("started") == seen.count("interrupted") + 1 == 2
    assert seen[-1] == "finished", jobs.job(identifier).error
    folder = jobs.adapter_folder(identifier)
    assert {path.name for path in folder.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors"}
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]
