"""`q16` of rows. One program per row: a pass for the largest magnitude, a pass that writes the limbs."""

import triton.language as tl
from torch import Tensor

from openledger.kernels.ops.triton.arithmetic import magnitude_bits, q16_scale, row_limbs
from openledger.kernels.ops.triton.launch import kernel, launch, power_of_two

MAX_TILE = 4096
"""Elements of a row that a program holds at a time."""


@kernel
def _quantize_rows(
    x: tl.tensor,
    limbs: tl.tensor,
    scales: tl.tensor,
    faults: tl.tensor,
    rows: tl.tensor,
    size: tl.tensor,
    TILE: tl.constexpr,
) -> None:
    t = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, TILE)
    top = tl.zeros((TILE,), tl.int32)
    for start in range(0, size, TILE):
        k = start + lane
        top = tl.maximum(top, magnitude_bits(tl.load(x + t * size + k, mask=k < size, other=0.0)))
    scale, live, fault = q16_scale(tl.max(top, 0))
    for start in range(0, size, TILE):
        k = start + lane
        part = tl.load(x + t * size + k, mask=k < size, other=0.0)
        row_limbs(part, scale, live, limbs, rows.to(tl.int64) * size, t * size + k, k < size)
    tl.store(scales + t, scale)
    tl.store(faults + t, 1, mask=fault)


def quantize_rows(x: Tensor, limbs: Tensor, scales: Tensor, faults: Tensor) -> None:
    """As the twin: `x` [T, K] -> `limbs` [2, T, K], `scales` [T], `faults` [T] |=."""
    rows, size = x.shape
    tile = min(power_of_two(size), MAX_TILE)
    launch(_quantize_rows, (rows,), x, limbs, scales, faults.view(limbs.dtype), rows, size, TILE=tile)
