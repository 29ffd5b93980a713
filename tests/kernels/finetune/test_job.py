import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from openledger.kernels.finetune.adapter import CONFIG, WEIGHTS, check_adapter, write_folder
from openledger.kernels.finetune.client import run_finetune
from openledger.kernels.finetune.job import (
    BadTrainingData,
    BaseModelMissing,
    FineTuneJob,
    InvalidJob,
    TrainingDocument,
)


def job_of(tmp_path: Path, **changes: Any) -> FineTuneJob:
    document = tmp_path / "a.md"
    document.write_text("A few words only.")
    job = FineTuneJob(
        documents=[TrainingDocument(1, str(document))],
        output=str(tmp_path / "adapter"),
        work=str(tmp_path / "work"),
    )
    return msgspec.structs.replace(job, **changes)


@pytest.mark.parametrize(
    "change",
    [
        {"rank": 0},
        {"rank": 257},
        {"learning_rate": float("nan")},
        {"learning_rate": 2.0},
        {"max_steps": 0},
        {"sequence_length": 8},
        {"held_out_ppm": 0},
        {"documents": []},
        {"output": ""},
        {"beta": 0.0},
    ],
)
async def test_a_job_out_of_range_starts_no_process(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidJob, match=r"must be|needs|names no"):
        await run_finetune(job_of(tmp_path, **change))


def test_the_digest_tells_jobs_apart_by_what_shapes_the_adapter(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    assert job.digest() == job_of(tmp_path, threads=2, output="/elsewhere", evaluate_every=7).digest()
    assert len({job.digest(), job_of(tmp_path, seed=1).digest(), job_of(tmp_path, alpha=32).digest()}) == 3


async def test_bad_input_comes_back_by_name_from_the_process(tmp_path: Path) -> None:
    with trio.fail_after(120):
        with pytest.raises(BadTrainingData, match="add more text"):
            await run_finetune(job_of(tmp_path))
        with pytest.raises(BadTrainingData, match="contribution 7: cannot read"):
            await run_finetune(job_of(tmp_path, documents=[TrainingDocument(7, str(tmp_path / "none.md"))]))
        (tmp_path / "b.pdf").write_bytes(b"%PDF")
        with pytest.raises(BadTrainingData, match=r"contribution 7: b\.pdf: only \.txt"):
            await run_finetune(job_of(tmp_path, documents=[TrainingDocument(7, str(tmp_path / "b.pdf"))]))
        with pytest.raises(BaseModelMissing, match="no model file"):
            await run_finetune(job_of(tmp_path, base_model=str(tmp_path / "no.gguf")))
    assert not (tmp_path / "adapter").exists()


def good_adapter(folder: Path) -> Path:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    folder.mkdir(exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 8}))
    (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    return folder


def test_an_adapter_in_safetensors_form_is_accepted(tmp_path: Path) -> None:
    assert check_adapter(good_adapter(tmp_path / "adapter"))["r"] == 8


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("adapter_model.bin", b"\x80\x04", "pickled weights can run code"),
        ("extra.pt", b"", "pickled weights"),
        (WEIGHTS, b"\xff" * 16, "not a safetensors"),
        (WEIGHTS, b"", "not a safetensors"),
        (WEIGHTS, (2).to_bytes(8, "little") + b"{}", "truncated or empty"),
        (CONFIG, b"{", "not JSON"),
        (CONFIG, b'{"peft_type": "IA3"}', "not describe a LoRA"),
        (CONFIG, b'{"peft_type": "LORA", "r": 100000}', "rank 100000"),
    ],
)
def test_anything_else_is_refused(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    folder = good_adapter(tmp_path / "adapter")
    (folder / name).write_bytes(data)
    with pytest.raises(InvalidJob, match=message):
        check_adapter(folder)


def test_a_truncated_or_missing_file_is_refused(tmp_path: Path) -> None:
    folder = good_adapter(tmp_path / "adapter")
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:-1])
    with pytest.raises(InvalidJob, match="truncated"):
        check_adapter(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(InvalidJob, match="lacks adapter_model"):
        check_adapter(folder)
    with pytest.raises(InvalidJob, match="not an adapter folder"):
        check_adapter(tmp_path / "none")


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write_folder(folder, lambda f: (f / "one").write_text("1") and None)
    write_folder(folder, lambda f: (f / "two").write_text("2") and None)
    assert [p.name for p in folder.iterdir()] == ["two"]
    with pytest.raises(ZeroDivisionError):
        write_folder(folder, lambda f: 1 // 0 and None)
    assert [p.name for p in folder.iterdir()] == ["two"]


def test_the_client_loads_no_torch() -> None:
    code = "import sys, openledger.kernels.finetune.client; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
