"""RMSNorm and `q16` of its result in one kernel. One program per row, four passes over it: the largest magnitude, the sum
of squares, the largest magnitude of the result, the limbs. The result itself is never written."""

import triton.language as tl
from torch import Tensor

from openledger.kernels.ops.triton.arithmetic import clamped, magnitude_bits, q16_scale, row_limbs
from openledger.kernels.ops.triton.launch import kernel, launch, power_of_two
from openledger.kernels.ops.triton.quantize import MAX_TILE


@kernel
def _normalised(x: tl.tensor, weight: tl.tensor, root: tl.tensor, k: tl.tensor, size: tl.tensor) -> tl.tensor:
    part = tl.load(x + k, mask=k < size, other=0.0)
    return tl.div_rn(part, root) * tl.load(weight + k, mask=k < size, other=0.0)


@kernel
def _norm_quantize(
    x: tl.tensor, weight: tl.tensor, epsilon: tl.tensor, limbs: tl.tensor, scales: tl.tensor, faults: tl.tensor, rows: tl.tensor, size: tl.tensor, TILE: tl.constexpr,
) -> None:  # fmt: skip
    t = tl.program_id(0).to(tl.int64)
    row = x + t * size
    lane = tl.arange(0, TILE)
    top = tl.zeros((TILE,), tl.int32)
    for start in range(0, size, TILE):
        k = start + lane
        top = tl.maximum(top, magnitude_bits(tl.load(row + k, mask=k < size, other=0.0)))
    s, live, fault = q16_scale(tl.max(top, 0))
    squares = tl.zeros((TILE,), tl.int64)
    for start in range(0, size, TILE):
        k = start + lane
        q = clamped(tl.load(row + k, mask=k < size, other=0.0), s, live, 32639.0).to(tl.int64)
        squares += q * q
    mean = tl.div_rn(tl.sum(squares, 0).to(tl.float32), tl.full((), size, tl.int32).to(tl.float32))
    root = tl.sqrt_rn((mean * s) * s + epsilon)
    top = tl.zeros((TILE,), tl.int32)
    for start in range(0, size, TILE):
        top = tl.maximum(top, magnitude_bits(_normalised(row, weight, root, start + lane, size)))
    scale, live, overflow = q16_scale(tl.max(top, 0))
    # What is not finite before is so after, but the twin marks the row by either.
    fault = fault | overflow
    scale = tl.where(fault, 1.0, scale)
    for start in range(0, size, TILE):
        k = start + lane
        y = _normalised(row, weight, root, k, size)
        row_limbs(y, scale, live & (fault == 0), limbs, rows.to(tl.int64) * size, t * size + k, k < size)
    tl.store(scales + t, scale)
    tl.store(faults + t, 1, mask=fault)


def norm_quantize(x: Tensor, weight: Tensor, epsilon: float, limbs: Tensor, scales: Tensor, faults: Tensor) -> None:
    """As the twin, `epsilon` a number that binary32 holds: `x` [T, D] -> `limbs` [2, T, D], `scales` [T], `faults` [T] |=."""
    rows, size = x.shape
    tile = min(power_of_two(size), MAX_TILE)
    launch(
        _norm_quantize, (rows,), x, weight, epsilon, limbs, scales, faults.view(limbs.dtype), rows, size, TILE=tile
    )  # fmt: skip
