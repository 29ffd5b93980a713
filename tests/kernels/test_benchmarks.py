"""The benchmarks of inference run from end to end: those for GPUs without one, at sizes of toys."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is made for Linux only")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(name: str, out: Path, *more: str) -> Any:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-P", str(BENCHMARKS / name), "--output", str(out), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(out.read_text())


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_kernels_are_measured_beside_torch(tmp_path: Path) -> None:
    found = run("gpu_kernels.py", tmp_path / "out.json", "--toy", "--rounds", "1")
    assert found["toy"]
    assert found["device"]
    assert set(found["versions"]) == {"python", "torch", "triton"}
    measured = {(row["what"], row["who"].partition(":")[0]) for row in found["results"]}
    assert measured == {
        (what, who) for what in ("LoRA of qkv", "paged decode") for who in ("exact-1", "bf16", "torch")
    } | {("gate and up", "exact-1"), ("gate and up", "torch")}
    assert all(row["microseconds"] > 0 for row in found["results"])


@pytest.mark.slow
@pytest.mark.timeout(1600)
@pytest.mark.long
def test_serving_is_measured_in_both_modes_beside_its_peers(tmp_path: Path) -> None:
    found = run("gpu_serving.py", tmp_path / "out.json", "--toy")
    assert found["fingerprints"]["equal"]
    for mode in ("exact-1", "bf16"):
        assert [row["adapters"] for row in found["engine"][mode]["throughput"]] == [0, 1, 2]
        assert found["engine"][mode]["adapters_over_slots"]["cliff"] > 0
    assert [row["adapters"] for row in found["peers"]] == [0, 1, 2]
    assert all(row["tokens_per_s"] > 0 for row in found["peers"])


@pytest.mark.slow
@pytest.mark.timeout(1600)
@pytest.mark.long
def test_a_cpu_is_measured_beside_transformers_and_both_ways_of_peft(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    cache = pytestconfig.cache.mkdir("openledger-models")  # type: ignore[union-attr]
    found = run("inference.py", tmp_path / "out.json", "--quick", "--threads", "1", "--cache", str(cache))
    peers = {name: set(row["tokens_per_s"]) - {"exact"} for name, row in found["results"].items()}
    assert peers == {
        **{f"batch {batch}, 0 adapters": {"transformers"} for batch in (1, 2)},
        **{f"batch {batch}, 1 adapters": {"peft mixed", "peft loop"} for batch in (1, 2)},
        "batch 2, 2 adapters": {"peft mixed", "peft loop"},
    }
    assert all(
        speed > 0
        for row in found["results"].values()
        for each in row["tokens_per_s"].values()
        for speed in each.values()
    )
    assert set(found["decode_step"]) == {"batch 1", "batch 2"}
    assert all(0 <= row["outside_kernels_ms"] <= row["step_ms"] for row in found["decode_step"].values())
