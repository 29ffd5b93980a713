"""RMSNorm of query and key heads in place: a program per row and head, the head held whole."""

import torch
import triton.language as tl
from torch import Tensor

from openledger.kernels.ops.triton.arithmetic import clamped, magnitude_bits, q16_scale
from openledger.kernels.ops.triton.launch import kernel, launch, power_of_two


@kernel
def _norm_heads(
    y: tl.tensor, query_weight: tl.tensor, key_weight: tl.tensor, epsilon: tl.tensor, faults: tl.tensor, width: tl.tensor,
    HEADS: tl.constexpr, SIZE: tl.constexpr, LANES: tl.constexpr,
) -> None:  # fmt: skip
    t = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    k = tl.arange(0, LANES)
    there = k < SIZE
    at = y + t * width + head * SIZE + k
    x = tl.load(at, mask=there, other=0.0)
    s, live, fault = q16_scale(tl.max(magnitude_bits(x), 0))
    q = clamped(x, s, live, 32639.0).to(tl.int64)
    mean = tl.div_rn(tl.sum(q * q, 0).to(tl.float32), tl.full((), SIZE, tl.int32).to(tl.float32))
    root = tl.sqrt_rn((mean * s) * s + epsilon)
    if head < HEADS:
        weight = tl.load(query_weight + k, mask=there, other=0.0)
    else:
        weight = tl.load(key_weight + k, mask=there, other=0.0)
    result = tl.div_rn(x, root) * weight
    tl.store(at, tl.where(fault, 0.0, result), mask=there)
    tl.store(faults + t, 1, mask=fault)


def norm_heads(
    y: Tensor, query_weight: Tensor, key_weight: Tensor, epsilon: float, heads: int, kv_heads: int, faults: Tensor
) -> None:
    """As the twin, `epsilon` a number that binary32 holds."""
    rows, width = y.shape
    size = query_weight.shape[0]
    launch(
        _norm_heads, (rows, heads + kv_heads), y, query_weight, key_weight, epsilon, faults.view(torch.int8), width,
        HEADS=heads, SIZE=size, LANES=power_of_two(size), warps=1,
    )  # fmt: skip
