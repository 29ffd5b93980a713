"""Triton's interpreter runs every kernel on this CPU; the bits must be those of the torch twins."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is made for Linux only")

COMPARISONS = Path(__file__).with_name("comparisons.py")


def compare(marked: str, environment: dict[str, str], comparisons: Path = COMPARISONS) -> None:
    """Run the comparisons in a process of their own: Triton decides at import whether it interprets."""
    done = subprocess.run(
        [
            sys.executable, "-P", "-m", "pytest", str(comparisons), "-q", "-m", marked, "--noconftest",
            "-p", "no:cacheprovider", "-p", "no:xdist", "--override-ini", "addopts=--import-mode=importlib",
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True, check=False,
        timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"\d+ passed", done.stdout), done.stdout


@pytest.mark.timeout(1200)
def test_kernels_give_the_bits_of_their_twins() -> None:
    compare("not slow", {"TRITON_INTERPRET": "1"})


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.long
def test_kernels_give_the_bits_of_their_twins_at_larger_sizes() -> None:
    compare("slow", {"TRITON_INTERPRET": "1"})


@pytest.mark.gpu
@pytest.mark.timeout(1200)
def test_kernels_give_the_bits_of_their_twins_on_a_gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA GPU")
    compare("slow or not slow", {"TRITON_INTERPRET": "0"})
