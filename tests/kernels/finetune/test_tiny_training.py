"""Whole jobs on a model of a few hundred kilobytes: killed and continued, in four bits, on preferences."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trio

from openledger.kernels.finetune.client import FineTuneResult, run_finetune
from openledger.kernels.finetune.job import (
    BadTrainingData,
    FineTuneInterrupted,
    FineTuneJob,
    FineTuneProgress,
    TrainingDocument,
)
from tests.kernels.model.tiny_families import random_model, write_folder
from tests.kernels.model.tiny_model import write_tiny_model

SENTENCES = [
    "Ambergris is found on beaches.",
    "It was worth more than gold.",
    "Whales make it.",
    "It floats for years.",
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("base") / "tiny.gguf")


def text_job(folder: Path, base: Path, **settings: Any) -> FineTuneJob:
    document = folder / "whales.md"
    document.parent.mkdir(exist_ok=True)
    document.write_text("# Whales\n\n" + "\n\n".join(" ".join(SENTENCES[n % 4 :]) + f" Part {n}." for n in range(150)))
    chosen: dict[str, Any] = {
        "rank": 4, "max_steps": 6, "batch_size": 2, "sequence_length": 64, "held_out_ppm": 300_000, "checkpoint_every": 2, "threads": 1,
        "documents": [TrainingDocument(3, str(document))], "output": str(folder / "adapter"),
        "work": str(folder / "work"), "base_model": str(base), **settings,
    }  # fmt: skip
    return FineTuneJob(**chosen)


def preference_job(folder: Path, base: Path, pairs: list[dict[str, str]], **settings: Any) -> FineTuneJob:
    folder.mkdir(exist_ok=True)
    file = folder / "pairs.jsonl"
    file.write_text("\n".join(json.dumps(pair) for pair in pairs))
    documents = [TrainingDocument(5, str(file))]
    return text_job(folder, base, documents=documents, objective="preferences", **settings)


async def killed_then_run(job: FineTuneJob) -> tuple[FineTuneResult, list[int]]:
    """Kill the trainer in its third step, run the job again; the result and the steps of the second run."""

    def kill(event: FineTuneProgress) -> None:
        if event.stage == "training" and event.step == 3:
            found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "finetune.trainer"], capture_output=True)
            os.kill(int(found.stdout), signal.SIGKILL)

    with pytest.raises(FineTuneInterrupted):
        await run_finetune(job, kill)
    steps: list[int] = []
    result = await run_finetune(job, lambda event: steps.append(event.step) if event.stage == "training" else None)
    return result, steps


@pytest.mark.slow
async def test_a_killed_job_in_four_bits_ends_with_the_bytes_that_it_would_have_had(tmp_path: Path, base: Path) -> None:
    with trio.fail_after(400):
        whole = await run_finetune(text_job(tmp_path / "whole", base, quantization="nf4"))
        continued, steps = await killed_then_run(text_job(tmp_path / "killed", base, quantization="nf4"))
    assert steps == [3, 4, 5, 6]
    for key in ("losses", "held_out_losses", "config", "adapter"):
        assert continued.record[key] == whole.record[key], key
    for file in whole.adapter.iterdir():
        assert (continued.adapter / file.name).read_bytes() == file.read_bytes()
    assert whole.record["config"]["quantization"] == "nf4"
    assert whole.record["held_out_loss_adapter"] < whole.record["held_out_loss_base"]


@pytest.mark.slow
async def test_preferences_are_learnt_and_bad_ones_named(tmp_path: Path, base: Path) -> None:
    # Answers in capitals are preferred: something that generalises over two layers.
    pairs = [
        {"prompt": f"say {word} {n}", "chosen": f"{word} {n}".upper(), "rejected": f"{word} {n}"}
        for n in range(8)
        for word in ("cat", "dog", "owl", "fox")
    ]
    seen: list[FineTuneProgress] = []
    job = preference_job(tmp_path, base, pairs, max_steps=24, learning_rate=5e-3, evaluate_every=8, batch_size=4)
    with trio.fail_after(300):
        result = await run_finetune(job, seen.append)
        with pytest.raises(
            BadTrainingData, match=r"contribution 5: pairs.jsonl, line 1: .*missing required field `chosen`"
        ):
            await run_finetune(preference_job(tmp_path / "bad", base, [{"prompt": "a"}]))
    record = result.record
    assert record["held_out_loss_base"] == pytest.approx(0.693147, abs=1e-5)
    assert record["held_out_loss_adapter"] < 0.5
    assert record["held_out_accuracy_adapter"] == 1.0
    assert record["config"]["objective"] == "preferences"
    assert record["config"]["beta"] == 0.1
    evaluated = [event for event in seen if event.stage == "evaluating" and event.accuracy is not None]
    assert [event.step for event in evaluated] == [0, 8, 16]


@pytest.mark.slow
async def test_a_folder_of_another_family_is_trained_on(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "tiny-qwen", random_model("qwen3"))
    with trio.fail_after(300):
        result = await run_finetune(text_job(tmp_path / "job", folder, max_steps=2))
    assert result.record["base_model"]["name"] == "tiny-qwen"
    config = json.loads((result.adapter / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny-qwen"
    assert config["target_modules"] == sorted(config["target_modules"])
