"""The linear layer over packed weights of 4 bits: half the bytes are read, and unpacked where they are multiplied. A program
owns a tile of outputs and takes 64 columns at a time, 32 for each half of the packed bytes."""

from typing import Final

import triton.language as tl
from torch import Tensor

from openledger.kernels.ops.linear4 import Int4
from openledger.kernels.ops.triton.launch import INTERPRETED, kernel, launch, power_of_two
from openledger.kernels.ops.triton.linear import LinearTile

FEW_ROWS: Final = LinearTile(16, 64, 64, 4)
MANY_ROWS: Final = LinearTile(64, 128, 64, 8)


@kernel
def _unpacked(half: tl.tensor, group: tl.tensor) -> tl.tensor:
    """`half` [32, outputs] in 0 .. 15, `group` [outputs] -> int8."""
    return ((half - (group >> 4)[None, :]) * (group & 15)[None, :]).to(tl.int8)


@kernel
def _linear4(
    limbs: tl.tensor, scales: tl.tensor, packed: tl.tensor, groups: tl.tensor, weight_scales: tl.tensor, y: tl.tensor,
    rows: tl.tensor, columns: tl.tensor, outputs: tl.tensor, blocks: tl.tensor,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr,
) -> None:  # fmt: skip
    t = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    lane = tl.arange(0, 32)
    q = limbs + t.to(tl.int64)[:, None] * columns
    low = rows.to(tl.int64) * columns
    w = packed + n.to(tl.int64)[None, :] * (blocks * 32) + lane[:, None]
    g = groups + n.to(tl.int64) * (blocks * 2)
    hi = tl.zeros((ROWS, OUTPUTS), tl.int32)
    lo = tl.zeros((ROWS, OUTPUTS), tl.int32)
    for block in range(blocks):
        both = tl.load(w + block * 32, mask=(n < outputs)[None, :], other=0).to(tl.int32)
        k = block * 64 + lane
        there = (t < rows)[:, None] & (k < columns)[None, :]
        tile = _unpacked(both & 15, tl.load(g + block * 2, mask=n < outputs, other=0).to(tl.int32))
        hi = tl.dot(tl.load(q + k[None, :], mask=there, other=0), tile, hi, out_dtype=tl.int32)
        lo = tl.dot(tl.load(q + low + k[None, :], mask=there, other=0), tile, lo, out_dtype=tl.int32)
        k = k + 32
        there = (t < rows)[:, None] & (k < columns)[None, :]
        tile = _unpacked(both >> 4, tl.load(g + block * 2 + 1, mask=n < outputs, other=0).to(tl.int32))
        hi = tl.dot(tl.load(q + k[None, :], mask=there, other=0), tile, hi, out_dtype=tl.int32)
        lo = tl.dot(tl.load(q + low + k[None, :], mask=there, other=0), tile, lo, out_dtype=tl.int32)
    acc = hi.to(tl.int64) * 256 + lo.to(tl.int64)
    s = tl.load(scales + t, mask=t < rows, other=0.0)
    sw = tl.load(weight_scales + n, mask=n < outputs, other=0.0)
    at = t.to(tl.int64)[:, None] * outputs + n[None, :]
    tl.store(y + at, (acc.to(tl.float32) * s[:, None]) * sw[None, :], mask=(t < rows)[:, None] & (n < outputs)[None, :])


def linear4(
    limbs: Tensor, scales: Tensor, weight: Int4, weight_scales: Tensor, y: Tensor, tile: LinearTile | None = None
) -> None:
    """Product and rescaling at once: `limbs` [2, T, K] int8, `scales` [T], `weight_scales` [N] -> `y` [T, N]."""
    rows, columns = limbs.shape[1:]
    outputs = weight.packed.shape[0]
    if tile is None and INTERPRETED:
        tile = LinearTile(min(power_of_two(rows), 64), min(power_of_two(outputs), 1024), 64, 4)
    if tile is None:
        tile = FEW_ROWS if rows <= FEW_ROWS.rows else MANY_ROWS
    grid = (-(-outputs // tile.outputs), -(-rows // tile.rows))
    launch(
        _linear4, grid, limbs, scales, weight.packed, weight.groups, weight_scales, y, rows, columns, outputs,
        weight.packed.shape[1] // 32, ROWS=tile.rows, OUTPUTS=tile.outputs, warps=tile.warps,
    )  # fmt: skip
