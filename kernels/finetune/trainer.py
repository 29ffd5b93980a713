"""The training process: one LoRA job by peft and transformers, with progress, checkpoints and a training record.

Started by `client.py` as `python -m openledger.kernels.finetune.trainer --fd N`. It reads one `FineTuneJob`, sends
events, and ends. Killed at any moment, the same job continues from its last checkpoint.
"""

import argparse
import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from openledger.evm_ext.proofs.content import CHUNK_BYTES, content_hash, folder_hash, manifest_of_chunks
from openledger.genesis.hashing import keccak256
from openledger.kernels.documents import Document, DocumentError, parse_document
from openledger.kernels.finetune.adapter import CONFIG, WEIGHTS, check_adapter, file_hashes, write_folder
from openledger.kernels.finetune.examples import Examples, batch_count, batches, make_examples
from openledger.kernels.finetune.job import (
    TARGET_MODULES,
    BadTrainingData,
    BaseModelMissing,
    Event,
    FineTuneError,
    FineTuneFailed,
    FineTuneFinished,
    FineTuneJob,
    FineTuneProgress,
    NonFiniteLoss,
)
from openledger.kernels.finetune.preferences import Pairs, make_pairs, read_preferences
from openledger.kernels.framing import BlockingFrameChannel, ChannelClosed
from openledger.kernels.model.errors import ModelError
from openledger.kernels.model.gguf import default_model_file
from openledger.kernels.model.tokenizer import load_tokenizer

log = structlog.get_logger(__name__)

BASE_NAME: Final = "HuggingFaceTB/SmolLM2-135M-Instruct"
RECORD: Final = "training_record.json"
_CHECKPOINT: Final = "checkpoint"
_STATE: Final = "state.json"
_OPTIMIZER: Final = "optimizer.safetensors"
_WARM_UP_STEPS: Final = 4
_LARGEST_GRADIENT: Final = 1.0


@dataclass
class _State:
    """What a checkpoint keeps beside tensors."""

    identity: str
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)


class Trainer:
    """Runs one job to its end. Raises a `FineTuneError`."""

    def __init__(self, job: FineTuneJob, send: Callable[[Event], None]) -> None:
        job.validate()
        self._job = job
        self._send = send
        self._work = Path(job.work)
        self._output = Path(job.output)
        self._model_file = Path(job.base_model) if job.base_model else default_model_file()
        self._base_name = self._model_file.stem if job.base_model else BASE_NAME
        try:
            self._base_hash = _base_hash(self._model_file).hex()
        except OSError as error:
            raise BaseModelMissing(f"there is no model file {self._model_file}: {error.strerror}") from error
        self._documents, self._data = _read_documents(job)
        self._identity = keccak256(json.dumps([job.digest(), self._base_hash, self._data]).encode()).hex()

    def run(self) -> FineTuneFinished:
        """Train, or return at once what an earlier run of the same job finished."""
        finished = self._finished()
        if finished is not None:
            return finished
        tokenizer = load_tokenizer(self._model_file)
        job = self._job
        examples: Examples | Pairs
        if job.objective == "preferences":
            preferences = [
                p for at, name, data in self._documents for p in read_preferences(f"contribution {at}: {name}", data)
            ]
            examples = make_pairs(preferences, tokenizer, job.sequence_length, job.held_out_ppm)
        else:
            documents = [_parsed(*document) for document in self._documents]
            examples = make_examples(documents, tokenizer, job.sequence_length, job.held_out_ppm, job.instruction)
        steps = min(job.max_steps, batch_count(len(examples.training), job.batch_size, job.epochs))
        self._send(FineTuneProgress("loading", 0, steps))
        return self._train(examples, steps)

    def _train(self, examples: Examples | Pairs, steps: int) -> FineTuneFinished:
        import torch

        from openledger.kernels.finetune.objective import Objective, PreferenceObjective, TextObjective

        job = self._job
        if job.threads:
            torch.set_num_threads(job.threads)
        torch.manual_seed(job.seed)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        half = _has_fast_bfloat16(device)
        model = _load_model(self._model_file, self._base_name, job, device, half)
        parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        optimizer = torch.optim.AdamW(parameters.values(), lr=job.learning_rate, weight_decay=0.0)
        state = self._resume(parameters, optimizer) or _State(self._identity)
        objective: Objective = (
            PreferenceObjective(job.beta, job.batch_size, device)
            if job.objective == "preferences"
            else TextObjective(job.batch_size, device)
        )
        precision = torch.autocast(device, torch.bfloat16, enabled=half)
        started = time.monotonic() - state.seconds
        model.train()
        if not state.held_out:
            self._send(FineTuneProgress("evaluating", 0, steps))
            with precision:
                base = objective.held_out(model, examples.held_out)
            state.held_out.append((0, base.loss))
            self._send(FineTuneProgress("evaluating", 0, steps, held_out_loss=base.loss, accuracy=base.accuracy))
        here = time.monotonic()
        tokens_before, first = state.tokens, state.step
        training: Sequence[Any] = examples.training
        for step, batch in enumerate(batches(training, job.batch_size, job.epochs, job.seed), 1):
            if step <= first:
                continue
            if step > steps:
                break
            for group in optimizer.param_groups:
                group["lr"] = job.learning_rate * _schedule(step, steps)
            with precision:
                loss_of_step = objective.loss(model, batch)
            value = float(loss_of_step.detach())
            if not math.isfinite(value):
                raise NonFiniteLoss(f"the loss became {value} in step {step}: lower the learning rate")
            loss_of_step.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters.values(), _LARGEST_GRADIENT)
            if not bool(torch.isfinite(norm)):
                raise NonFiniteLoss(f"the gradient overflowed in step {step}: lower the learning rate")
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            state.step = step
            state.losses.append(value)
            state.tokens += sum(len(e.tokens) for e in batch)
            passed = time.monotonic() - here
            self._send(
                FineTuneProgress(
                    "training",
                    step,
                    steps,
                    loss=value,
                    tokens_per_s=(state.tokens - tokens_before) / passed,
                    eta_s=passed / (step - first) * (steps - step),
                )
            )
            if step % job.evaluate_every == 0 and step < steps:
                with precision:
                    held = objective.held_out(model, examples.held_out)
                state.held_out.append((step, held.loss))
                self._send(FineTuneProgress("evaluating", step, steps, held_out_loss=held.loss, accuracy=held.accuracy))
            if step % job.checkpoint_every == 0 and step < steps:
                state.seconds = time.monotonic() - started
                self._checkpoint(state, parameters, optimizer)
        self._send(FineTuneProgress("evaluating", steps, steps))
        with precision:
            tuned = objective.held_out(model, examples.held_out)
        if not math.isfinite(tuned.loss):
            raise NonFiniteLoss(f"the adapter's held-out loss is {tuned.loss}: lower the learning rate")
        state.held_out.append((steps, tuned.loss))
        state.seconds = time.monotonic() - started
        self._send(FineTuneProgress("writing", steps, steps, held_out_loss=tuned.loss, accuracy=tuned.accuracy))
        write_folder(self._output, lambda folder: _save_adapter(model, folder))
        check_adapter(self._output)
        record = self._record(examples, state, steps, device, half, tuned.accuracy)
        write_folder(self._work / "record", lambda folder: _write_text(folder / RECORD, json.dumps(record, indent=1)))
        return FineTuneFinished(str(self._output), msgspec.json.encode(record))

    def _record(
        self,
        examples: Examples | Pairs,
        state: _State,
        steps: int,
        device: str,
        half: bool,
        accuracy: float | None,
    ) -> dict[str, Any]:
        """The training record: data, configuration, compute, seed and losses. Attested, not recomputable."""
        import peft
        import torch
        import transformers

        job = self._job
        return {
            "format": 1,
            "mark": "attested",
            "identity": self._identity,
            "base_model": {"name": self._base_name, "content_hash": self._base_hash},
            "data_versions": [msgspec.to_builtins(v) for v in job.data_versions],
            "data": self._data,
            "config": {
                "rank": job.rank,
                "alpha": job.alpha,
                "target_modules": list(TARGET_MODULES),
                "epochs": job.epochs,
                "max_steps": job.max_steps,
                "batch_size": job.batch_size,
                "sequence_length": job.sequence_length,
                "learning_rate": job.learning_rate,
                "held_out_ppm": job.held_out_ppm,
                "instruction": job.instruction,
                "seed": job.seed,
                "objective": job.objective,
                "quantization": job.quantization,
                **({"beta": job.beta} if job.objective == "preferences" else {}),
            },
            "examples": {"training": len(examples.training), "held_out": len(examples.held_out)},
            "steps": steps,
            "tokens": state.tokens,
            "losses": [round(v, 6) for v in state.losses],
            "held_out_losses": [[step, round(v, 6)] for step, v in state.held_out],
            "held_out_loss_base": round(state.held_out[0][1], 6),
            "held_out_loss_adapter": round(state.held_out[-1][1], 6),
            **({} if accuracy is None else {"held_out_accuracy_adapter": round(accuracy, 6)}),
            "compute": {
                "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
                "threads": torch.get_num_threads(),
                "precision": "bfloat16" if half else "float32",
                "seconds": round(state.seconds, 1),
                "torch": str(torch.__version__),
                "transformers": transformers.__version__,
                "peft": peft.__version__,
            },
            "adapter": file_hashes(self._output),
        }

    def _finished(self) -> FineTuneFinished | None:
        """What an earlier run of this job left, if its adapter is still the one in the record."""
        try:
            data = (self._work / "record" / RECORD).read_bytes()
            record = json.loads(data)
            if record["identity"] == self._identity and record["adapter"] == file_hashes(self._output):
                return FineTuneFinished(str(self._output), msgspec.json.encode(record))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def _checkpoint(self, state: _State, parameters: dict[str, Any], optimizer: Any) -> None:
        from safetensors.torch import save_file

        def fill(folder: Path) -> None:
            tensors = {f"weight/{n}": p.detach().cpu().contiguous() for n, p in parameters.items()}
            for name, parameter in parameters.items():
                for key, value in optimizer.state[parameter].items():
                    tensors[f"{key}/{name}"] = value.detach().cpu().contiguous()
            save_file(tensors, folder / _OPTIMIZER)
            _write_text(folder / _STATE, json.dumps(state.__dict__))

        write_folder(self._work / _CHECKPOINT, fill)

    def _resume(self, parameters: dict[str, Any], optimizer: Any) -> _State | None:
        """Load the last checkpoint of this very job into model and optimiser; None if there is none."""
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = self._work / _CHECKPOINT
        try:
            state = _State(**json.loads((folder / _STATE).read_text()))
            if state.identity != self._identity:
                return None
            stored = load_file(folder / _OPTIMIZER)
            tensors = {
                name: {key: stored[f"{key}/{name}"] for key in ("weight", "step", "exp_avg", "exp_avg_sq")}
                for name in parameters
            }
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
            log.warning("checkpoint not usable, training begins anew", folder=str(folder), error=str(error))
            return None
        with torch.no_grad():
            for name, parameter in parameters.items():
                own = tensors[name]
                parameter.copy_(own["weight"])
                optimizer.state[parameter] = {
                    "step": own["step"],
                    "exp_avg": own["exp_avg"].to(parameter.device),
                    "exp_avg_sq": own["exp_avg_sq"].to(parameter.device),
                }
        state.held_out = [(int(step), float(loss)) for step, loss in state.held_out]
        log.info("training continues", step=state.step)
        return state


def _read_documents(job: FineTuneJob) -> tuple[list[tuple[int, str, bytes]], list[dict[str, Any]]]:
    """(contribution, name, bytes) of each, and what the record says of them."""
    documents: list[tuple[int, str, bytes]] = []
    data: list[dict[str, Any]] = []
    for item in sorted(job.documents, key=lambda d: d.contribution):
        path = Path(item.path)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadTrainingData(f"contribution {item.contribution}: cannot read {path}: {error.strerror}") from error
        documents.append((item.contribution, item.name or path.name, content))
        data.append({"contribution": item.contribution, "content_hash": content_hash(content).hex()})
    return documents, data


def _parsed(contribution: int, name: str, data: bytes) -> Document:
    try:
        return parse_document(name, data)
    except DocumentError as error:
        raise BadTrainingData(f"contribution {contribution}: {error}") from error


def _base_hash(path: Path) -> bytes:
    """The content hash of a model file, or of what makes a model of a folder."""
    if not path.is_dir():
        return _content_hash(path)
    files = [p for p in sorted(path.iterdir()) if p.suffix == ".safetensors" or p.name == "config.json"]
    if not files:
        raise BaseModelMissing(f"{path} is no model in Hugging Face's layout: it has no config.json and no safetensors")
    return folder_hash({file.name: _content_hash(file) for file in files})


def _content_hash(path: Path) -> bytes:
    with path.open("rb") as file:
        return manifest_of_chunks(iter(lambda: file.read(CHUNK_BYTES), b"")).hash


def _load_model(path: Path, name: str, job: FineTuneJob, device: str, half: bool) -> Any:
    """The base model, known by `name`, with a fresh adapter on all linear layers of its blocks; only the adapter is trained."""
    try:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        from openledger.kernels.finetune.nf4 import freeze_in_nf4
    except ImportError as error:
        raise BaseModelMissing(
            f"fine-tuning needs the package {error.name}: pip install 'openledger-node[serve]'"
        ) from error
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        # Half of the precision is more than four bits keep, and half of the memory while they are made.
        kind = torch.bfloat16 if job.quantization == "nf4" else torch.float32
        where = {} if path.is_dir() else {"gguf_file": path.name}
        model = AutoModelForCausalLM.from_pretrained(str(path if path.is_dir() else path.parent), dtype=kind, **where)
    except (OSError, ValueError) as error:
        raise BaseModelMissing(f"transformers cannot load the base model {path}: {error}") from error
    model.name_or_path = name  # else peft writes this machine's path into the adapter
    if half:
        model = model.to(torch.bfloat16)
    config = LoraConfig(
        r=job.rank,
        lora_alpha=job.alpha,
        lora_dropout=0.0,
        target_modules=list(TARGET_MODULES),
        task_type="CAUSAL_LM",
        base_model_name_or_path=name,
    )
    tuned = get_peft_model(model.to(device), config)
    if job.quantization == "nf4":
        log.info("base layers in four bits", bytes=freeze_in_nf4(tuned))
        if not half:
            tuned = tuned.float()
    for parameter in tuned.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return tuned


def _save_adapter(model: Any, folder: Path) -> None:
    """Exactly two files: peft's configuration and the weights as safetensors."""
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import save_file

    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    save_file({n: t.detach().float().cpu().contiguous() for n, t in weights.items()}, folder / WEIGHTS)
    config = model.peft_config["default"]
    inference = config.inference_mode
    config.inference_mode = True
    config.save_pretrained(str(folder))
    config.inference_mode = inference
    # peft writes a set in whatever order it has in this process; the same adapter must have the same bytes.
    written = json.loads((folder / CONFIG).read_text())
    written["target_modules"] = sorted(written["target_modules"])
    _write_text(folder / CONFIG, json.dumps(written, indent=2, sort_keys=True))
    assert {p.name for p in folder.iterdir()} == {CONFIG, WEIGHTS}


def _has_fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 is the faster way to train here: 2–3 times on CPUs with AVX512-BF16 or AMX."""
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    flags = Path("/proc/cpuinfo")
    known = flags.read_text() if flags.is_file() else ""
    return "avx512_bf16" in known or "amx_bf16" in known


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to a tenth."""
    if step <= _WARM_UP_STEPS:
        return step / _WARM_UP_STEPS
    return 1.0 - 0.9 * (step - _WARM_UP_STEPS) / max(1, steps - _WARM_UP_STEPS)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)


def serve(fd: int) -> None:
    """Run the one job that the parent sends; end at once when the parent is gone."""
    channel: BlockingFrameChannel[FineTuneJob] = BlockingFrameChannel.from_fd(fd, FineTuneJob)
    job = channel.receive()
    assert job is not None

    def watch() -> None:
        try:
            channel.receive()
        except ChannelClosed:
            pass
        finally:
            os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    try:
        event: Event = Trainer(job, channel.send).run()
    except FineTuneError as error:
        event = FineTuneFailed(error.code, str(error))
    except ModelError as error:
        event = FineTuneFailed(BaseModelMissing.code, str(error))
    except ChannelClosed:
        return
    except Exception as error:  # the parent must hear of every end
        log.exception("fine-tuning failed")
        event = FineTuneFailed(FineTuneError.code, f"{type(error).__name__}: {error}")
    channel.send(event)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    serve(parser.parse_args().fd)
