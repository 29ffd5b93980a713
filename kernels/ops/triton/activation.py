"""SiLU of the gate times up, and `q16` of the product, in one kernel: one program per row, two passes. The sigmoid is
looked up twice rather than kept: the table stays in the cache of the GPU."""

import triton.language as tl
from torch import Tensor

from openledger.kernels.ops.triton.arithmetic import magnitude_bits, q16_scale, rint, row_limbs
from openledger.kernels.ops.triton.launch import kernel, launch, power_of_two
from openledger.kernels.ops.triton.quantize import MAX_TILE


@kernel
def _product(row: tl.tensor, sigmoid: tl.tensor, k: tl.tensor, size: tl.tensor) -> tl.tensor:
    """The product, and the largest of the three magnitudes' bits."""
    gate = tl.load(row + k, mask=k < size, other=0.0)
    up = tl.load(row + size + k, mask=k < size, other=0.0)
    magnitude = tl.abs(gate)
    # A NaN fails the comparison and takes the last entry; the row is a fault anyway.
    magnitude = tl.where(magnitude < 16.0, magnitude, 16.0)
    t = tl.load(sigmoid + rint(magnitude * 4096.0).to(tl.int32))
    sigma = tl.where(gate < 0.0, t, 1.0 - t)
    product = (gate * sigma) * up
    bits = tl.maximum(tl.maximum(magnitude_bits(gate), magnitude_bits(up)), magnitude_bits(product))
    return product, bits


@kernel
def _silu_quantize(
    y: tl.tensor,
    sigmoid: tl.tensor,
    limbs: tl.tensor,
    scales: tl.tensor,
    faults: tl.tensor,
    rows: tl.tensor,
    size: tl.tensor,
    TILE: tl.constexpr,
) -> None:
    t = tl.program_id(0).to(tl.int64)
    row = y + t * size * 2
    lane = tl.arange(0, TILE)
    top = tl.zeros((TILE,), tl.int32)
    worst = tl.zeros((TILE,), tl.int32)
    for start in range(0, size, TILE):
        product, bits = _product(row, sigmoid, start + lane, size)
        top = tl.maximum(top, magnitude_bits(product))
        worst = tl.maximum(worst, bits)
    scale, live, _ = q16_scale(tl.max(top, 0))
    fault = tl.max(worst, 0) >= 0x7F800000
    scale = tl.where(fault, 1.0, scale)
    for start in range(0, size, TILE):
        k = start + lane
        product, bits = _product(row, sigmoid, k, size)
        row_limbs(product, scale, live & (fault == 0), limbs, rows.to(tl.int64) * size, t * size + k, k < size)
    tl.store(scales + t, scale)
    tl.store(faults + t, 1, mask=fault)


def silu_quantize(y: Tensor, sigmoid: Tensor, limbs: Tensor, scales: Tensor, faults: Tensor) -> None:
    """As the twin: `y` [T, 2F] (gate, then up) -> `limbs` [2, T, F], `scales` [T], `faults` [T] |=."""
    rows, size = y.shape[0], y.shape[1] // 2
    tile = min(power_of_two(size), MAX_TILE)
    launch(
        _silu_quantize, (rows,), y, sigmoid, limbs, scales, faults.view(limbs.dtype), rows, size, TILE=tile
    )  # fmt: skip
