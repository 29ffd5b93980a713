"""Fine-tuning jobs, owned by the node: a queue on disk, one job running, each with its events from the beginning.

A job is a folder: `job.json` (replaced atomically), `events.jsonl` (one line per event, appended), `documents/`,
`work/` (checkpoints) and at last `adapter/`. Closing a browser loses nothing; after a restart of the node the job that
was running goes on from its last checkpoint.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import structlog
import trio

from openledger.kernels.finetune.client import FineTuneResult, run_finetune
from openledger.kernels.finetune.job import (
    DataVersion,
    FineTuneError,
    FineTuneInterrupted,
    FineTuneJob,
    FineTuneProgress,
    Objective,
    Quantization,
    TrainingDocument,
)
from openledger.node.errors import UserError
from openledger.node.network import write_atomically
from openledger.node.prompt import INSTRUCTION

log = structlog.get_logger(__name__)

MAX_WAITING = 64
MAX_INTERRUPTIONS = 3

State = Literal["queued", "running", "finished", "failed", "cancelled"]
ENDED = ("finished", "failed", "cancelled")
Train = Callable[[FineTuneJob, Callable[[FineTuneProgress], None]], Awaitable[FineTuneResult]]


class UnknownJob(UserError):
    """No job has that id."""


class TooManyJobs(UserError):
    """The queue is full."""


class JobNotFinished(UserError):
    """The job has no adapter (yet)."""


class TrainingParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a builder may choose; ranges are checked by `FineTuneJob.validate`."""

    rank: int = 8
    alpha: int = 16
    epochs: int = 3
    max_steps: int = 40
    batch_size: int = 4
    sequence_length: int = 192
    learning_rate: float = 1e-3
    seed: int = 0
    objective: Objective = "text"
    beta: float = 0.1
    quantization: Quantization = "none"


class TrainingSource(msgspec.Struct, frozen=True):
    """A Datanet version that a job trains on; `root` is the version's, 0x and hex."""

    datanet: int
    version: int
    root: str


class SourceDocument(msgspec.Struct, frozen=True):
    """A document that a job trains on: its contribution, the name it is read under, and its bytes."""

    contribution: int
    name: str
    data: bytes


class JobEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened to a job. `number` counts from 1; losses are nats per token (of preferences: per pair),
    `accuracy` the share of held-out preferences that the adapter has right."""

    number: int
    at: float
    kind: Literal["queued", "started", "progress", "interrupted", "finished", "failed", "cancelled"]
    stage: str = ""
    step: int = 0
    total: int = 0
    loss: float | None = None
    held_out_loss: float | None = None
    accuracy: float | None = None
    tokens_per_s: float = 0.0
    eta_s: float = 0.0
    message: str = ""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is kept and shown. `record` is the training record of a finished job."""

    id: str
    name: str
    state: State
    sources: list[TrainingSource]
    parameters: TrainingParameters
    documents: list[TrainingDocument]
    created_at: float
    error: str = ""
    interruptions: int = 0
    record: dict[str, Any] | None = None


class FineTuneJobs:
    """The queue and its service; see the module's text. Use from one trio task tree."""

    def __init__(self, folder: Path, *, threads: int = 0, base_model: str = "", train: Train = run_finetune) -> None:
        """`base_model`: what is served and so trained on, as `FineTuneJob` has it."""
        self._folder = folder
        self._threads = threads
        self._base_model = base_model
        self._train = train
        self._jobs: dict[str, Job] = {}
        self._events: dict[str, list[JobEvent]] = {}
        self._changed: dict[str, trio.Event] = {}
        self._wake = trio.Event()
        self._writing = trio.Lock()
        self._running: tuple[str, trio.CancelScope] | None = None
        self._load()

    def _load(self) -> None:
        for file in self._folder.glob("*/job.json"):
            try:
                job = msgspec.json.decode(file.read_bytes(), type=Job)
            except msgspec.MsgspecError as error:
                log.error("a fine-tuning job cannot be read", file=str(file), error=str(error))
                continue
            self._jobs[job.id] = job
            self._events[job.id] = _read_events(file.with_name("events.jsonl"))
            self._changed[job.id] = trio.Event()
            last = self.last_event(job.id)
            if job.state in ENDED and (last is None or last.kind not in ENDED):
                self._tell(job.id, job.state, message=job.error)  # a crash came between the two

    # what people ask for

    def jobs(self) -> list[Job]:
        """All jobs, newest first."""
        return sorted(self._jobs.values(), key=lambda job: job.created_at, reverse=True)

    def job(self, identifier: str) -> Job:
        """Raises UnknownJob."""
        try:
            return self._jobs[identifier]
        except KeyError:
            raise UnknownJob(
                f"there is no fine-tuning job {identifier}: `openledger finetune list` shows them"
            ) from None

    def last_event(self, identifier: str) -> JobEvent | None:
        return self._events[identifier][-1] if self._events.get(identifier) else None

    def adapter_folder(self, identifier: str) -> Path:
        """Where the adapter of a finished job lies. Raises UnknownJob, JobNotFinished."""
        job = self.job(identifier)
        if job.state != "finished":
            raise JobNotFinished(f"fine-tuning job {identifier} is {job.state}: wait until it is finished")
        return self._folder / identifier / "adapter"

    async def submit(
        self,
        name: str,
        sources: list[TrainingSource],
        documents: list[SourceDocument],
        parameters: TrainingParameters,
    ) -> Job:
        """Queue a job, durably. Raises TooManyJobs; `InvalidJob` naming a parameter out of its range."""
        if sum(job.state == "queued" for job in self._jobs.values()) >= MAX_WAITING:
            raise TooManyJobs(f"{MAX_WAITING} jobs wait already: try again later, or cancel some")
        identifier = uuid.uuid4().hex[:12]
        folder = self._folder / identifier
        listed = [
            TrainingDocument(d.contribution, str(folder / "documents" / str(d.contribution)), d.name) for d in documents
        ]
        job = Job(
            id=identifier,
            name=name,
            state="queued",
            sources=sources,
            parameters=parameters,
            documents=listed,
            created_at=time.time(),
        )
        self._as_training(job).validate()

        def keep() -> None:
            for document, entry in zip(documents, listed, strict=True):
                write_atomically(Path(entry.path), document.data)
            write_atomically(folder / "job.json", msgspec.json.encode(job))

        await trio.to_thread.run_sync(keep)
        self._jobs[identifier] = job
        self._events[identifier] = []
        self._changed[identifier] = trio.Event()
        self._tell(identifier, "queued")
        self._wake.set()
        return job

    async def cancel(self, identifier: str) -> Job:
        """End a job that waits or runs; one that has ended stays as it is. Raises UnknownJob."""
        job = self.job(identifier)
        if job.state in ENDED:
            return job
        job = await self._set(job, "cancelled")
        if self._running is not None and self._running[0] == identifier:
            self._running[1].cancel()
        self._tell(identifier, "cancelled")
        return job

    async def events(
        self, identifier: str, after: int = 0, idle_s: float = math.inf
    ) -> AsyncGenerator[JobEvent | None, None]:
        """Every event of a job after number `after`: those that happened, then as they come, until it ends.

        None is yielded whenever nothing happened for `idle_s`. Raises UnknownJob.
        """
        self.job(identifier)
        while True:
            changed = self._changed[identifier]
            for event in self._events[identifier][after:]:
                after = event.number
                yield event
                if event.kind in ENDED:
                    return
            with trio.move_on_after(idle_s) as waited:
                await changed.wait()
            if waited.cancelled_caught:
                yield None

    # running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run queued jobs one after another, until cancelled."""
        task_status.started()
        while True:
            waiting = [job for job in reversed(self.jobs()) if job.state in ("running", "queued")]
            if not waiting:
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            # One that was running when the node stopped goes on first.
            await self._run_one(min(waiting, key=lambda job: (job.state != "running", job.created_at)))

    async def _run_one(self, job: Job) -> None:
        with trio.CancelScope() as scope:
            self._running = (job.id, scope)
            try:
                job = await self._set(job, "running")
                self._tell(job.id, "started")
                result = await self._train(self._as_training(job), lambda progress: self._progress(job.id, progress))
            except FineTuneInterrupted as error:
                await self._interrupted(job, str(error))
            except (FineTuneError, OSError) as error:
                await self._end(job, "failed", message=str(error))
            else:
                await self._end(msgspec.structs.replace(job, record=result.record), "finished")
            finally:
                self._running = None

    async def _interrupted(self, job: Job, message: str) -> None:
        count = job.interruptions + 1
        if count > MAX_INTERRUPTIONS:
            await self._end(job, "failed", message=f"{message} (it was interrupted {count} times)")
            return
        await self._set(msgspec.structs.replace(job, interruptions=count), "queued")
        self._tell(job.id, "interrupted", message=message)
        await trio.sleep(1)

    async def _end(self, job: Job, state: Literal["finished", "failed"], message: str = "") -> None:
        if self._jobs[job.id].state == "cancelled":
            return
        with trio.CancelScope(shield=True):
            await self._set(msgspec.structs.replace(job, error=message), state)
        self._tell(job.id, state, message=message)
        log.info("fine-tuning job ended", job=job.id, state=state, error=message or None)

    def _as_training(self, job: Job) -> FineTuneJob:
        folder = self._folder / job.id
        return FineTuneJob(
            documents=job.documents,
            output=str(folder / "adapter"),
            work=str(folder / "work"),
            data_versions=[DataVersion(s.datanet, s.version, s.root) for s in job.sources],
            threads=self._threads,
            base_model=self._base_model,
            instruction=INSTRUCTION,  # what a served chat begins with is what is trained on
            **msgspec.structs.asdict(job.parameters),
        )

    def _progress(self, identifier: str, progress: FineTuneProgress) -> None:
        if self._jobs[identifier].state == "running":
            self._tell(identifier, "progress", **msgspec.structs.asdict(progress))

    async def _set(self, job: Job, state: State) -> Job:
        job = msgspec.structs.replace(job, state=state)
        self._jobs[job.id] = job
        async with self._writing:
            # What is newest by now: states set in the meantime are not overwritten by this one.
            newest = msgspec.json.encode(self._jobs[job.id])
            await trio.to_thread.run_sync(write_atomically, self._folder / job.id / "job.json", newest)
        return job

    def _tell(self, identifier: str, kind: Any, **more: Any) -> None:
        events = self._events[identifier]
        event = JobEvent(number=len(events) + 1, at=time.time(), kind=kind, **more)
        events.append(event)
        # Not synced: what a crash loses here is progress that the checkpoint does not have either.
        with (self._folder / identifier / "events.jsonl").open("ab") as file:
            file.write(msgspec.json.encode(event) + b"\n")
        self._changed[identifier].set()
        self._changed[identifier] = trio.Event()


def _read_events(file: Path) -> list[JobEvent]:
    """The events that are whole and in order; the last line that a crash may have torn is cut off."""
    events: list[JobEvent] = []
    whole = b""
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return events
    for line in data.splitlines(keepends=True):
        try:
            event = msgspec.json.decode(line, type=JobEvent)
        except msgspec.MsgspecError:
            break
        if event.number != len(events) + 1 or not line.endswith(b"\n"):
            break
        events.append(event)
        whole += line
    if whole != data:
        write_atomically(file, whole)
    return events
