"""What a fine-tuning job is, and the messages it sends while it runs."""

import math
from typing import Final, Literal

import msgspec

from openledger.genesis.hashing import keccak256

TARGET_MODULES: Final = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MAX_RANK: Final = 256
MAX_SEQUENCE: Final = 2048
OBJECTIVES: Final = ("text", "preferences")
QUANTIZATIONS: Final = ("none", "nf4")
Objective = Literal["text", "preferences"]
Quantization = Literal["none", "nf4"]
DEFAULT_INSTRUCTION: Final = "Answer from these passages and cite them by number, like [1]."


class FineTuneError(Exception):
    """Base of what can go wrong in a job. The message says what to do."""

    code = "internal"


class InvalidJob(FineTuneError):
    """A parameter is out of its range, or an adapter folder is not one."""

    code = "invalid_job"


class BadTrainingData(FineTuneError):
    """A document cannot be read, or all of them together are too short to train on."""

    code = "bad_data"


class BaseModelMissing(FineTuneError):
    """The base model or a library is not installed."""

    code = "model_missing"


class NonFiniteLoss(FineTuneError):
    """The loss became infinite or not a number: the learning rate is too high."""

    code = "non_finite_loss"


class FineTuneInterrupted(FineTuneError):
    """The training process ended early. Running the same job again continues from its last checkpoint."""

    code = "interrupted"


_BY_CODE = {
    c.code: c
    for c in (FineTuneError, InvalidJob, BadTrainingData, BaseModelMissing, NonFiniteLoss, FineTuneInterrupted)
}


def error_of(code: str, message: str) -> FineTuneError:
    """The error a code stands for."""
    return _BY_CODE.get(code, FineTuneError)(message)


class TrainingDocument(msgspec.Struct, frozen=True):
    """A document of an approved contribution, as a file on this machine; `name` tells its type if `path` does not."""

    contribution: int
    path: str
    name: str = ""


class DataVersion(msgspec.Struct, frozen=True):
    """A Datanet version that the documents come from, and its root (hex): for the training record."""

    datanet: int
    version: int
    root: str


class FineTuneJob(msgspec.Struct, tag=True, frozen=True):
    """A LoRA adapter to train. The same job gives the same examples in the same order.

    `output` is the adapter folder, which appears when complete; `work` holds checkpoints and the training record.
    `max_steps` bounds the optimiser steps, `epochs` the passes over the data; the lesser ends training.
    `base_model` is a GGUF file or a folder in Hugging Face's layout, empty for the installed SmolLM2-135M-Instruct. `instruction` is what a served chat
    says before its passages, so that the adapter learns to answer as it will be asked. With the objective `preferences` the
    documents are JSON lines (`preferences.py`), and `beta` is how far the adapter may lead away from the base model: less
    is further. `quantization` `nf4` holds the base model's layers in four bits while it is trained on.
    """

    documents: list[TrainingDocument]
    output: str
    work: str
    data_versions: list[DataVersion] = []
    base_model: str = ""
    rank: int = 8
    alpha: int = 16
    epochs: int = 3
    max_steps: int = 40
    batch_size: int = 4
    sequence_length: int = 192
    learning_rate: float = 1e-3
    held_out_ppm: int = 100_000
    instruction: str = DEFAULT_INSTRUCTION
    objective: Objective = "text"
    beta: float = 0.1
    quantization: Quantization = "none"
    seed: int = 0
    threads: int = 0
    checkpoint_every: int = 10
    evaluate_every: int = 20

    def validate(self) -> None:
        """Raises `InvalidJob` naming the parameter."""
        ranges = {
            "rank": (1, MAX_RANK),
            "alpha": (1, 4096),
            "epochs": (1, 1000),
            "max_steps": (1, 10**6),
            "batch_size": (1, 256),
            "sequence_length": (32, MAX_SEQUENCE),
            "held_out_ppm": (10_000, 500_000),
            "seed": (0, 2**63 - 1),
            "threads": (0, 1024),
            "checkpoint_every": (1, 10**6),
            "evaluate_every": (1, 10**6),
        }
        for name, (low, high) in ranges.items():
            if not low <= getattr(self, name) <= high:
                raise InvalidJob(f"{name} is {getattr(self, name)}: it must be between {low} and {high}")
        if not (math.isfinite(self.learning_rate) and 0 < self.learning_rate <= 1):
            raise InvalidJob(f"learning_rate is {self.learning_rate}: it must be between 0 and 1")
        if not (math.isfinite(self.beta) and 0 < self.beta <= 100):
            raise InvalidJob(f"beta is {self.beta}: it must be above 0 and at most 100")
        for name, kinds in (("objective", OBJECTIVES), ("quantization", QUANTIZATIONS)):
            if getattr(self, name) not in kinds:
                raise InvalidJob(f"{name} is {getattr(self, name)!r}: use {' or '.join(kinds)}")
        if len(self.instruction) > 1000:
            raise InvalidJob(f"the instruction has {len(self.instruction)} characters: it must be between 0 and 1000")
        if not self.documents:
            raise InvalidJob("the job names no documents")
        if not self.output or not self.work or self.output == self.work:
            raise InvalidJob("the job needs an output folder and another folder to work in")

    def digest(self) -> str:
        """What a checkpoint belongs to: everything that shapes the result, places and threads left out."""
        shaping = msgspec.structs.replace(
            self,
            output="",
            work="",
            base_model="",
            threads=0,
            checkpoint_every=1,
            evaluate_every=1,
            documents=[],
            data_versions=[],
        )
        told = msgspec.to_builtins(shaping)
        for name, usual in (("objective", "text"), ("beta", 0.1), ("quantization", "none")):
            if told[name] == usual:
                del told[name]  # so that checkpoints from before there was a choice are still this job's
        return keccak256(msgspec.json.encode(told)).hex()


class FineTuneProgress(msgspec.Struct, tag=True, frozen=True):
    """`stage`: loading, evaluating, training or writing. Losses are nats per token (of preferences: per pair), `accuracy` the
    share of held-out preferences that the model has right; None where not measured now."""

    stage: str
    step: int
    total: int
    loss: float | None = None
    held_out_loss: float | None = None
    accuracy: float | None = None
    tokens_per_s: float = 0.0
    eta_s: float = 0.0


class FineTuneFinished(msgspec.Struct, tag=True, frozen=True):
    """The adapter is in `output`. `record` is the training record as JSON."""

    output: str
    record: bytes


class FineTuneFailed(msgspec.Struct, tag=True, frozen=True):
    code: str
    message: str


Event = FineTuneProgress | FineTuneFinished | FineTuneFailed
