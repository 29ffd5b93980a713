"""Every kernel compiled for sm_90, as it would be launched, and what its PTX may not hold.

No GPU is needed: the launches are recorded with tensors on the CPU, and compiled for the chip that is not there.
"""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

pytest.importorskip("triton", reason="Triton is made for Linux only")

from openledger.kernels.ops.triton import activation, linear, norm, quantize
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


OPS: dict[str, Callable[[], Any]] = {
    "quantize_rows": lambda: quantize.quantize_rows(f32(4, 300), *outputs(4, 300)),
    "norm_quantize": lambda: norm.norm_quantize(f32(4, 300), f32(300), 1e-5, *outputs(4, 300)),
    "silu_quantize": lambda: activation.silu_quantize(f32(4, 600), f32(65537), *outputs(4, 300)),
    "linear for few rows": lambda: linear_with(linear.FEW_ROWS),
    "linear for many rows": lambda: linear_with(linear.MANY_ROWS),
}
PRODUCTS = {"_linear"}
"""Kernels that must use the integer matrix units."""


@pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET is set: kernels are not compiled")
@pytest.mark.parametrize("name", OPS)
def test_a_kernel_compiles_for_sm_90_into_exact_operations_only(name: str) -> None:
    with recording() as launches:
        OPS[name]()
    assert launches
    for launch in launches:
        ptx = launch.ptx()
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
