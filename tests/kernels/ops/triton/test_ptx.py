"""Every kernel compiled for sm_90, as it would be launched, and what its PTX may not hold.

No GPU is needed: the launches are recorded with tensors on the CPU, and compiled for the chip that is not there.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="Triton is made for Linux only")

from openledger.kernels.ops.linear4 import Int4
from openledger.kernels.ops.lora import LoraRows
from openledger.kernels.ops.lora_layout import LoraGroup
from openledger.kernels.ops.rotary import KvLayer
from openledger.kernels.ops.triton import (
    activation,
    attention,
    fingerprint,
    head_norm,
    linear,
    linear4,
    lora,
    norm,
    quantize,
    rotary,
    sampling,
)
from openledger.kernels.ops.triton.launch import INTERPRETED, recording

FORBIDDEN = ("fma", "approx", "ftz", ".full", "ex2", "lg2", "f64", ".bf16", ".f16")
"""Contracted, approximate or flushing operations, and the formats that exact-1 does not use."""


def zeros(kind: torch.dtype, *shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=kind)


def f32(*shape: int) -> torch.Tensor:
    return zeros(torch.float32, *shape)


def limbs(rows: int, size: int) -> torch.Tensor:
    return zeros(torch.int8, 2, rows, size)


def outputs(rows: int, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return limbs(rows, size), f32(rows), zeros(torch.bool, rows)


def linear_with(tile: linear.LinearTile) -> None:
    weight = zeros(torch.int8, 256, 512)
    linear.linear(limbs(64, 512), f32(64), weight, f32(256), f32(64, 256), tile)


def linear4_with(tile: linear.LinearTile) -> None:
    weight = Int4(zeros(torch.uint8, 256, 256), zeros(torch.uint8, 256, 16), 512)
    linear4.linear4(limbs(64, 512), f32(64), weight, f32(256), f32(64, 256), tile)


def cache(pages: int, kv_heads: int, page: int, size: int) -> KvLayer:
    shape = (pages, kv_heads, page)
    return KvLayer(
        zeros(torch.int16, *shape, size), f32(*shape), zeros(torch.int8, *shape, size), f32(*shape), f32(*shape)
    )  # fmt: skip


def rotate_store() -> None:
    rows, heads, kv_heads, size = 4, 8, 2, 64
    indices = [zeros(torch.int64, rows) for _ in range(3)]
    q, q_scales = zeros(torch.int16, rows, heads, size), f32(rows, heads)
    y = f32(rows, (heads + 2 * kv_heads) * size)
    kv = cache(8, kv_heads, 16, size)
    rotary.rotate_store(y, f32(64, size // 2, 2), *indices, q, q_scales, kv, zeros(torch.bool, rows))


def attend(tile: int, heads: int = 8, kv_heads: int = 2, size: int = 64) -> None:
    rows = 4
    q, q_scales = zeros(torch.int16, rows, heads, size), f32(rows, heads)
    indices = [zeros(torch.int64, rows) for _ in range(2)]
    kv = cache(8, kv_heads, 16, size)
    table, exp, out = zeros(torch.int64, 4, 8), zeros(torch.int32, 55297), f32(rows, heads * size)
    attention.attend(q, q_scales, kv, table, *indices, exp, 0.125, out, zeros(torch.bool, rows), tile=tile)


def lora_apply() -> None:
    modules = torch.tensor([[16, 0, 128, 0]])
    group = LoraGroup(zeros(torch.int8, 16, 512), f32(16), zeros(torch.int8, 2048), f32(128), modules, f32(1))
    lora.lora_apply(limbs(4, 512), f32(4), [LoraRows(0, 4, (group,))], f32(4, 128), zeros(torch.bool, 4))


def sample() -> None:
    logits, settings, words = f32(4, 3000), zeros(torch.int64, 4, 5), zeros(torch.int64, 4, 4)
    sampling.sample(logits, settings, words, zeros(torch.int64, 90113))


OPS: dict[str, Callable[[], Any]] = {
    "quantize_rows": lambda: quantize.quantize_rows(f32(4, 300), *outputs(4, 300)),
    "norm_quantize": lambda: norm.norm_quantize(f32(4, 300), f32(300), 1e-5, *outputs(4, 300)),
    "silu_quantize": lambda: activation.silu_quantize(f32(4, 600), f32(65537), *outputs(4, 300)),
    "linear for few rows": lambda: linear_with(linear.FEW_ROWS),
    "linear for many rows": lambda: linear_with(linear.MANY_ROWS),
    "the sums of linear alone": lambda: linear.integer_product(limbs(64, 512), zeros(torch.int8, 256, 512)),
    "linear of 4 bits for few rows": lambda: linear4_with(linear4.FEW_ROWS),
    "linear of 4 bits for many rows": lambda: linear4_with(linear4.MANY_ROWS),
    "norm_heads": lambda: head_norm.norm_heads(f32(4, 512), f32(128), f32(128), 1e-5, 2, 1, zeros(torch.bool, 4)),
    "rotate_store": rotate_store,
    "attend for decode": lambda: attend(attention.DECODE_TILE),
    "attend for prefill": lambda: attend(attention.PREFILL_TILE),
    "lora_apply": lora_apply,
    "sample": sample,
    "attend for decode, as a model of 8 billion weights": lambda: attend(attention.DECODE_TILE, 32, 8, 128),
    "attend for prefill, as a model of 8 billion weights": lambda: attend(attention.PREFILL_TILE, 32, 8, 128),
    "hash_rows": lambda: fingerprint.hash_rows(f32(4, 3000), zeros(torch.int64, 4, 4)),
}
SHARED_BYTES = 227 << 10
"""What a program may have on a GPU of capability 9.0."""

PRODUCTS = {"_linear", "_linear4", "_row_max", "_weigh", "_shrink", "_expand"}
"""Kernels that must use the integer matrix units."""


@pytest.mark.timeout(900)
@pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET is set: kernels are not compiled")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if "billion" in name else name for name in OPS]
)
def test_a_kernel_compiles_for_sm_90_into_exact_operations_only(name: str) -> None:
    with recording() as launches:
        OPS[name]()
    assert launches
    for launch in launches:
        ptx, shared = launch.compiled()
        assert shared <= SHARED_BYTES
        assert re.search(r"\.target sm_90", ptx)
        code = [line.strip() for line in ptx.splitlines() if re.match(r"\s+(@!?%p\d+ )?[a-z]", line)]
        assert len(code) > 20
        for word in FORBIDDEN:
            assert not [line for line in code if word in line], (launch.name, word)
        # Without a rounding in its name, ptxas may contract an operation.
        assert not [line for line in code if re.search(r"\b(add|sub|mul|div|sqrt)\.f32", line)], launch.name
        integer_products = re.findall(r"\b(?:mma\.sync|wgmma\.mma_async)\S*s32\.s8\.s8", ptx)
        assert bool(integer_products) == (launch.name in PRODUCTS), launch.name
        assert not re.findall(r"\b(?:mma\.sync|wgmma\.mma_async)\S*f32", ptx), launch.name


@pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET is set: kernels are not compiled")
def test_without_the_option_the_compiler_would_contract() -> None:
    """So what the test above looks for does appear where it may."""
    with recording() as launches:
        rotate_store()
    assert "fma" in launches[0].compiled(fused=True)[0]
    assert "fma" not in launches[0].compiled()[0]
