"""The node's side of fine-tuning: one trio call owns the training process. Imports no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from openledger.kernels.child import OpenChild, open_child
from openledger.kernels.finetune.job import (
    Event,
    FineTuneFailed,
    FineTuneFinished,
    FineTuneInterrupted,
    FineTuneJob,
    FineTuneProgress,
    InvalidJob,
    error_of,
)
from openledger.kernels.framing import ChannelClosed, FrameError

TRAINER: Final = "openledger.kernels.finetune.trainer"


@dataclass(frozen=True)
class FineTuneResult:
    """The adapter folder (Hugging Face layout) and its training record, which is attested."""

    adapter: Path
    record: dict[str, Any]


async def run_finetune(
    job: FineTuneJob,
    on_event: Callable[[FineTuneProgress], None] = lambda event: None,
    nice: int = 5,
    start_child: OpenChild = open_child,
) -> FineTuneResult:
    """Train an adapter in a process of its own, reporting progress as it comes; `start_child` says where it runs.

    Cancelling kills the process; running the same job again continues from its last checkpoint, and a job that had
    finished returns at once. Raises a `FineTuneError`: `InvalidJob`, `BadTrainingData`, `BaseModelMissing`,
    `NonFiniteLoss`, or `FineTuneInterrupted` when the process died.
    """
    job.validate()
    environment = {
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
        # Threads that wait must sleep: a node shares its cores with training.
        "OMP_WAIT_POLICY": "PASSIVE",
        **({"OMP_NUM_THREADS": str(job.threads)} if job.threads else {}),
    }
    async with start_child(TRAINER, Event, environment=environment, nice=nice) as child:
        try:
            await child.channel.send(job)
            while True:
                event = await child.channel.receive()
                if isinstance(event, FineTuneProgress):
                    on_event(event)
                elif isinstance(event, FineTuneFailed):
                    raise error_of(event.code, event.message)
                elif isinstance(event, FineTuneFinished):
                    return FineTuneResult(Path(event.output), msgspec.json.decode(event.record))
        except FrameError as error:
            raise InvalidJob(str(error)) from error
        except ChannelClosed as error:
            with trio.move_on_after(1):
                await child.wait()
            raise FineTuneInterrupted(
                f"the training process ended early ({child.how_it_ended()}): run the job again, "
                "it continues from its last checkpoint"
            ) from error
