"""The linear layer in one kernel: two int8 products that share each weight tile, joined and rescaled before they are
written. A program owns a tile of outputs, so nothing is added across programs."""

from typing import Final, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from openledger.kernels.ops.triton.launch import INTERPRETED, kernel, launch, power_of_two


class LinearTile(NamedTuple):
    """Rows, outputs and columns of a program's tile. No choice changes a bit: the sums are of integers."""

    rows: int
    outputs: int
    columns: int
    warps: int


FEW_ROWS: Final = LinearTile(16, 64, 128, 4)
MANY_ROWS: Final = LinearTile(64, 128, 64, 8)


@kernel
def _linear(
    limbs: tl.tensor, scales: tl.tensor, weight: tl.tensor, weight_scales: tl.tensor, y: tl.tensor, rows: tl.tensor, columns: tl.tensor, outputs: tl.tensor,
    ROWS: tl.constexpr, OUTPUTS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr,
) -> None:  # fmt: skip
    t = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    lane = tl.arange(0, COLUMNS)
    q = limbs + t.to(tl.int64)[:, None] * columns
    low = rows.to(tl.int64) * columns
    w = weight + n.to(tl.int64)[None, :] * columns
    hi = tl.zeros((ROWS, OUTPUTS), tl.int32)
    lo = tl.zeros((ROWS, OUTPUTS), tl.int32)
    for start in range(0, columns, COLUMNS):
        k = start + lane
        there = (t < rows)[:, None] & (k < columns)[None, :]
        tile = tl.load(w + k[:, None], mask=(k < columns)[:, None] & (n < outputs)[None, :], other=0)
        hi = tl.dot(tl.load(q + k[None, :], mask=there, other=0), tile, hi, out_dtype=tl.int32)
        lo = tl.dot(tl.load(q + low + k[None, :], mask=there, other=0), tile, lo, out_dtype=tl.int32)
    acc = hi.to(tl.int64) * 256 + lo.to(tl.int64)
    at = t.to(tl.int64)[:, None] * outputs + n[None, :]
    inside = (t < rows)[:, None] & (n < outputs)[None, :]
    if SUMS:
        tl.store(y + at, acc, mask=inside)
    else:
        s = tl.load(scales + t, mask=t < rows, other=0.0)
        sw = tl.load(weight_scales + n, mask=n < outputs, other=0.0)
        tl.store(y + at, (acc.to(tl.float32) * s[:, None]) * sw[None, :], mask=inside)


def linear(
    limbs: Tensor, scales: Tensor, weight: Tensor, weight_scales: Tensor, y: Tensor, tile: LinearTile | None = None
) -> None:
    """Product and rescaling at once: `limbs` [2, T, K] int8, `scales` [T], `weight` [N, K] int8, `weight_scales` [N] ->
    `y` [T, N]. K <= 132,104."""
    _launch(limbs, scales, weight, weight_scales, y, tile, sums=False)


def integer_product(limbs: Tensor, weight: Tensor, tile: LinearTile | None = None) -> Tensor:
    """The sums alone, int64 [T, N]."""
    sums = torch.empty((limbs.shape[1], weight.shape[0]), dtype=torch.int64, device=limbs.device)
    _launch(limbs, limbs, weight, limbs, sums, tile, sums=True)
    return sums


def _launch(
    limbs: Tensor, scales: Tensor, weight: Tensor, weight_scales: Tensor, y: Tensor, tile: LinearTile | None, sums: bool
) -> None:
    rows, columns = limbs.shape[1:]
    outputs = weight.shape[0]
    if tile is None and INTERPRETED:
        # Its price is per operation: few large tiles, none larger than the matrix.
        tile = LinearTile(
            min(power_of_two(rows), 64), min(power_of_two(outputs), 1024), min(power_of_two(columns), 1024), 4
        )
    if tile is None:
        tile = FEW_ROWS if rows <= FEW_ROWS.rows else MANY_ROWS
    grid = (-(-outputs // tile.outputs), -(-rows // tile.rows))
    launch(
        _linear, grid, limbs, scales, weight, weight_scales, y, rows, columns, outputs,
        ROWS=tile.rows, OUTPUTS=tile.outputs, COLUMNS=tile.columns, SUMS=sums, warps=tile.warps,
    )  # fmt: skip
