"""The bf16 kernels: compared with their twins in Triton's interpreter, and compiled for sm_90 without a GPU."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="Triton is made for Linux only")

from openledger.kernels.ops.lora_layout import ModuleShape, ModuleWeights, pack_lora
from openledger.kernels.ops.lora_plan import Use
from openledger.kernels.ops.rotary import KvLayer
from openledger.kernels.ops.triton import bf16, lora
from openledger.kernels.ops.triton.launch import INTERPRETED, recording

from .test_interpreter import compare

COMPARISONS = Path(__file__).with_name("bf16_comparisons.py")


@pytest.mark.timeout(1200)
def test_kernels_are_close_to_their_twins() -> None:
    compare("not slow", {"TRITON_INTERPRET": "1"}, COMPARISONS)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.long
def test_kernels_are_close_to_their_twins_at_larger_sizes() -> None:
    compare("slow", {"TRITON_INTERPRET": "1"}, COMPARISONS)


@pytest.mark.gpu
@pytest.mark.timeout(1200)
def test_kernels_are_close_to_their_twins_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("there is no NVIDIA GPU")
    compare("slow or not slow", {"TRITON_INTERPRET": "0"}, COMPARISONS)


def zeros(kind: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=kind)


def f32(*shape: int) -> torch.Tensor:
    return zeros(torch.float32, *shape)


def outputs(rows: int, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return zeros(torch.int8, 2, rows, size), f32(rows), zeros(torch.bool, rows)


def attend(tile: int) -> None:
    rows, heads, kv_heads, size = 4, 32, 8, 128
    shape = (8, kv_heads, 16)
    content = zeros(torch.int16, *shape, size)
    kv = KvLayer(content, f32(1), content, f32(1), f32(1))
    indices = [zeros(torch.int64, rows) for _ in range(2)]
    q, out = zeros(torch.int16, rows, heads, size), f32(rows, heads * size)
    table = zeros(torch.int64, 4, 8)
    bf16.attend(q, f32(1), kv, table, *indices, f32(1), 0.125, out, zeros(torch.bool, rows), tile)


def rotate_store() -> None:
    rows, heads, kv_heads, size = 4, 8, 2, 64
    content = zeros(torch.int16, 8, kv_heads, 16, size)
    kv = KvLayer(content, f32(1), content, f32(1), f32(1))
    indices = [zeros(torch.int64, rows) for _ in range(3)]
    y, q = f32(rows, (heads + 2 * kv_heads) * size), zeros(torch.int16, rows, heads, size)
    bf16.rotate_store(y, f32(64, size // 2, 2), *indices, q, f32(1), kv, zeros(torch.bool, rows))


def lora_run() -> None:
    import numpy as np

    shapes = (tuple(ModuleShape(name, 128 * at, 128, 512) for at, name in enumerate("qkv")), (), (), ())
    part = ModuleWeights(
        np.zeros((16, 512), np.int8), np.zeros(16, np.float32), np.zeros((128, 16), np.int8),
        np.zeros(128, np.float32), np.float32(1),
    )  # fmt: skip

    def here(tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    # A module of each other group, so that the layout has all four.
    one = pack_lora(
        (shapes[0], *((ModuleShape(name, 0, 128, 512),) for name in "ogd")), 1, {(0, "q"): part, (0, "v"): part}
    ).place(here)
    tables = lora.lora_plan([Use(0, 4, (one,))], "cpu")
    assert tables is not None
    bf16.lora_run(zeros(torch.int8, 2, 4, 512), f32(4), tables, 0, "qkv", f32(4, 384), zeros(torch.bool, 4))


OPS: dict[str, Callable[[], Any]] = {
    "quantize_rows": lambda: bf16.quantize_rows(f32(4, 300), *outputs(4, 300)),
    "norm_quantize": lambda: bf16.norm_quantize(f32(4, 4096), f32(4096), 1e-5, *outputs(4, 4096)),
    "silu_quantize": lambda: bf16.silu_quantize(f32(4, 600), f32(1), *outputs(4, 300)),
    "rotate_store": rotate_store,
    "attend for decode": lambda: attend(16),
    "attend for prefill": lambda: attend(64),
    "lora_run": lora_run,
}
PRODUCTS = {"_attend", "_shrink", "_expand"}


@pytest.mark.timeout(900)
@pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET is set: kernels are not compiled")
@pytest.mark.parametrize("name", OPS)
def test_a_kernel_compiles_for_sm_90_and_multiplies_bf16_on_the_matrix_units(name: str) -> None:
    with recording() as launches:
        OPS[name]()
    assert launches
    for launch in launches:
        ptx, shared = launch.compiled()
        assert shared <= 227 << 10
        assert ".target sm_90" in ptx
        products = re.findall(r"\b(?:mma\.sync|wgmma\.mma_async)\S*f32\.bf16\.bf16", ptx)
        assert bool(products) == (launch.name in PRODUCTS), launch.name
