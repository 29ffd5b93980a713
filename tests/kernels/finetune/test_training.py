"""The real model, a few steps: slow because it loads 135 million parameters twice."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import trio

from openledger.kernels.documents import parse_document
from openledger.kernels.finetune.adapter import CONFIG, WEIGHTS, check_adapter
from openledger.kernels.finetune.client import run_finetune
from openledger.kernels.finetune.job import FineTuneInterrupted, FineTuneJob, FineTuneProgress, TrainingDocument

AMBERGRIS = Path(__file__).parents[3] / "node" / "quickstart" / "documents" / "whales" / "account-2" / "ambergris.md"


@pytest.mark.slow
@pytest.mark.long
async def test_a_killed_job_continues_and_lowers_the_loss_of_a_peft_adapter(tmp_path: Path) -> None:
    job = FineTuneJob(
        documents=[TrainingDocument(3, str(AMBERGRIS))],
        output=str(tmp_path / "adapter"),
        work=str(tmp_path / "work"),
        rank=4,
        max_steps=6,
        batch_size=2,
        sequence_length=64,
        learning_rate=2e-3,
        checkpoint_every=2,
        threads=1,
    )
    seen: list[FineTuneProgress] = []

    def kill_in_step_three(event: FineTuneProgress) -> None:
        seen.append(event)
        if event.stage == "training" and event.step == 3:
            found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "finetune.trainer"], capture_output=True)
            os.kill(int(found.stdout), signal.SIGKILL)

    with trio.fail_after(250):
        with pytest.raises(FineTuneInterrupted, match="run the job again"):
            await run_finetune(job, kill_in_step_three)
        assert not await trio.Path(job.output).exists()
        seen.clear()
        result = await run_finetune(job, seen.append)
        assert [e.step for e in seen if e.stage == "training"] == [3, 4, 5, 6]
        again = await run_finetune(job, lambda event: pytest.fail("trained twice"))
    assert again.record == result.record
    assert {p.name for p in result.adapter.iterdir()} == {CONFIG, WEIGHTS}
    assert check_adapter(result.adapter)["r"] == 4
    record = result.record
    assert len(record["losses"]) == 6
    assert record["held_out_loss_adapter"] < record["held_out_loss_base"]
    assert record["data"][0]["contribution"] == 3
    assert json.loads((result.adapter / CONFIG).read_text())["base_model_name_or_path"].startswith("HuggingFaceTB/")
    check_with_peft(result.adapter, record)


def check_with_peft(adapter: Path, record: dict) -> None:  # type: ignore[type-arg]
    """The saved folder, loaded by peft itself, has the loss that the record says."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from openledger.kernels.finetune.evaluation import compare
    from openledger.kernels.finetune.examples import make_examples
    from openledger.kernels.model.gguf import default_model_file
    from openledger.kernels.model.tokenizer import load_tokenizer

    torch.set_num_threads(1)
    file = default_model_file()
    base = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(adapter))
    document = parse_document(AMBERGRIS.name, AMBERGRIS.read_bytes())
    held_out = make_examples([document], load_tokenizer(), 64, 100_000).held_out
    before, after = compare(model, held_out, 2)
    # The record's losses come from bfloat16 where the CPU is fast at it.
    assert before == pytest.approx(record["held_out_loss_base"], rel=0.02)
    assert after == pytest.approx(record["held_out_loss_adapter"], rel=0.02)
