"""One set of fingerprints, whatever computes: backend, batch, chunk, page, prefix cache, preemption, adapters, fixed buffers."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from openledger.kernels.model.load import Model, load_model
from openledger.kernels.ops.linear import native_product_is_exact

from ..model.tiny_model import write_tiny_adapter, write_tiny_model
from .matrix import FACTORS, PROMPTS, Case, answers, covering, every, load, pairs

SCRIPT = Path(__file__).with_name("matrix.py")
SMALL = (2, 3)
"""For Triton's interpreter: a prompt that fills a page of 16 while it is answered, and one of a single token."""

OF_TRITON: dict[str, tuple[Any, ...]] = {**FACTORS, "backend": ("interpret",), "batch": (1, 2), "chunk": (6, 512)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder / "tiny.gguf")
    write_tiny_adapter(folder / "first", 8, seed=2)
    write_tiny_adapter(folder / "second", 12, seed=3)
    return folder


@pytest.fixture(scope="module")
def models(folder: Path) -> Any:
    return lru_cache(lambda backend: load(folder, backend))


@pytest.fixture(scope="module")
def expected(models: Any, folder: Path) -> dict[str, dict[str, list[Any]]]:
    """The answers by each choice of adapters, each request alone, its prompt at once."""
    alone = {kind: dict(answers(models("host"), folder, Case(batch=1, adapters=kind))) for kind in FACTORS["adapters"]}
    assert all(set(found) == {f"{i}" for i in range(len(PROMPTS))} for found in alone.values())
    # Of the mixed ones, one has no adapter and two have the first alone.
    assert len({fingerprint for found in alone.values() for _, fingerprint in found.values()}) == 15
    return alone


def check(model: Model, folder: Path, case: Case, expected: dict[str, dict[str, list[Any]]]) -> None:
    outcome = answers(model, folder, case)
    assert dict(outcome) == {f"{i}": expected[case.adapters][f"{i}"] for i in case.only}
    # What the case says has happened.
    assert (outcome.preemptions > 0) == case.preempted
    assert (outcome.reused > 0) == case.prefix


@pytest.mark.timeout(1200)
def test_each_pair_of_ways_gives_the_same_fingerprints(
    models: Any, folder: Path, expected: dict[str, dict[str, list[Any]]], pytestconfig: pytest.Config
) -> None:
    ways = every(FACTORS) if pytestconfig.getoption("--every-way", False) else covering(FACTORS)
    for way in ways:
        case = Case(**way)
        check(models(case.backend), folder, case, expected)


def test_the_chosen_few_hold_each_pair() -> None:
    for factors in (FACTORS, OF_TRITON):
        few, everything = covering(factors), every(factors)
        assert len(few) < len(everything) // 8
        assert {pair for case in few for pair in pairs(case)} == {pair for case in everything for pair in pairs(case)}


def elsewhere(folder: Path, cases: list[Case], environment: dict[str, str]) -> list[dict[str, Any]]:
    """What a process of its own gives."""
    done = subprocess.run(
        [sys.executable, "-P", str(SCRIPT), str(folder)],
        input="\n".join(json.dumps(asdict(case)) for case in cases),
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True, check=False,
        timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_cpu_without_vnni_gives_them_too_and_its_native_product_is_refused(
    models: Any, folder: Path, expected: dict[str, dict[str, list[Any]]]
) -> None:
    cases = [Case(backend="host", chunk=13, adapters="mixed"), Case(backend="torch", batch=7, adapters="one")]
    for case, told in zip(cases, elsewhere(folder, cases, {"ONEDNN_MAX_CPU_ISA": "AVX2"}), strict=True):
        assert told["answers"] == expected[case.adapters]
        # With VNNI hidden, torch's int8 product saturates; the self-test sees it.
        assert told["linear"] == "pieces" or not native_product_is_exact()
    assert models("host").linear == ("native" if native_product_is_exact() else "pieces")
    if not native_product_is_exact():
        with pytest.raises(ValueError, match="not exact"):
            load_model(folder / "host", model_file=folder / "tiny.gguf", threads=1, linear="native")


def in_the_interpreter(folder: Path, ways: list[dict[str, Any]], expected: dict[str, dict[str, list[Any]]]) -> None:
    pytest.importorskip("triton", reason="Triton is made for Linux only")
    cases = [Case(**way, only=SMALL) for way in ways]
    for case, told in zip(cases, elsewhere(folder, cases, {"TRITON_INTERPRET": "1"}), strict=True):
        assert told["answers"] == {f"{i}": expected[case.adapters][f"{i}"] for i in SMALL}, case
        assert told["linear"] == "triton"
        assert (told["preemptions"] > 0) == case.preempted


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_triton_kernels_give_them_in_the_interpreter(
    folder: Path, expected: dict[str, dict[str, list[Any]]], pytestconfig: pytest.Config
) -> None:
    way = {"backend": "interpret", "batch": 2, "chunk": 6, "page": 16, "prefix": False, "preempted": True}
    few = [{**way, "adapters": "mixed", "fixed": True}]
    in_the_interpreter(folder, covering(OF_TRITON) if pytestconfig.getoption("--every-way", False) else few, expected)


@pytest.mark.gpu
@pytest.mark.timeout(1800)
def test_a_gpu_gives_them(models: Any, folder: Path, expected: dict[str, dict[str, list[Any]]]) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA GPU")
    for way in covering({**FACTORS, "backend": ("triton",)}):
        check(models("triton"), folder, Case(**way), expected)
