"""The linear layer: an exact integer product, scaled back to binary32.

    acc[n] = sum over k of q[k] * W[n, k]   exactly;      y[n] = (f32(acc[n]) * s) * sw[n]

`q` comes as two int8 limbs, so the product is two products of int8 matrices, each exact in int32 while
`K * 128 * 127 < 2**31`, that is K <= 132,104; wider layers are refused. |acc| < 2**38, so it is exact in
binary64 too, and one rounding makes it binary32.

torch's native int8 product is exact only where the CPU has VNNI; elsewhere it saturates silently. It is
used only after `native_product_is_exact` has proved it on extreme values in this very process.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import torch
from numba import prange
from torch import Tensor

from openledger.kernels.ops.host import PARALLEL_ROWS, ROW_BLOCK, kernel, parallel_kernel

PIECE: Final = 1024
"""128 * 127 * 1024 < 2**24: a binary32 dot of so many limb products is exact in any order."""

FEW_ROWS: Final = 6
"""Up to so many rows, reading each weight once costs more than the arithmetic."""

RUN: Final = 64
_WEIGHT_ROWS = 64
_PARALLEL_WEIGHTS: Final = 1 << 23

Product = Callable[[Tensor, Tensor, Tensor], None]


def native_product(limbs: Tensor, weight: Tensor, out: Tensor) -> None:
    """`limbs` [M, K] int8, `weight` [N, K] int8 -> `out` [M, N] int32 = limbs @ weight.T, by VNNI."""
    torch._int_mm(limbs, weight.t(), out=out)


def pieces_product(limbs: Tensor, weight: Tensor, out: Tensor) -> None:
    """The same by binary32 BLAS on integer values, K cut into pieces of at most 1,024."""
    columns = weight.shape[1]
    # Blocks of weight rows keep the binary32 copy small.
    rows = max(1, (1 << 22) // columns)
    wide = limbs.to(torch.float32)
    for first in range(0, weight.shape[0], rows):
        block = weight[first : first + rows].to(torch.float32)
        total = torch.zeros((limbs.shape[0], block.shape[0]), dtype=torch.int32)
        for k in range(0, columns, PIECE):
            total += (wide[:, k : k + PIECE] @ block[:, k : k + PIECE].t()).to(torch.int32)
        out[:, first : first + rows] = total


def native_product_is_exact() -> bool:
    """Whether torch's int8 product equals the integer one here, on extreme values and every kernel shape."""
    generator = torch.Generator().manual_seed(1)
    for rows in (2, 6, 16, 64, 130):
        for columns, outputs in ((64, 48), (576, 192), (1536, 576), (1000, 33)):
            for kind in range(4):
                if kind == 0:
                    limbs = torch.full((rows, columns), -128, dtype=torch.int8)
                    weight = torch.full((outputs, columns), -127, dtype=torch.int8)
                elif kind == 1:
                    limbs = torch.full((rows, columns), 127, dtype=torch.int8)
                    weight = torch.full((outputs, columns), 127, dtype=torch.int8)
                elif kind == 2:
                    limbs = torch.where(torch.arange(columns) % 2 == 0, 127, -128).to(torch.int8)
                    limbs = limbs.expand(rows, columns).contiguous()
                    weight = torch.where(torch.arange(columns) % 2 == 0, 127, -127).to(torch.int8)
                    weight = weight.expand(outputs, columns).contiguous()
                else:
                    limbs = torch.randint(-128, 128, (rows, columns), dtype=torch.int8, generator=generator)
                    weight = torch.randint(-127, 128, (outputs, columns), dtype=torch.int8, generator=generator)
                try:
                    out = torch.empty((rows, outputs), dtype=torch.int32)
                    native_product(limbs, weight, out)
                except (RuntimeError, AttributeError):
                    return False
                if not torch.equal(out, (limbs.double() @ weight.double().t()).to(torch.int32)):
                    return False
    return True


def fold_residual(y: Any, first: int, count: int) -> None:
    """The last `count` columns of `y` are the residual's part of columns `first` ..: add them. Tensor or array."""
    y[:, first : first + count] += y[:, y.shape[1] - count :]


def rescale(acc: Tensor, scales: Tensor, weight_scales: Tensor, y: Tensor) -> None:
    """`acc` [2, T, N] int32 (hi, lo sums), `scales` [T], `weight_scales` [N] -> `y` [T, N]."""
    total = (acc[0].to(torch.int64) << 8) + acc[1].to(torch.int64)
    y.copy_((total.to(torch.float32) * scales[:, None]) * weight_scales)


@kernel
def _rescale_rows(acc: Any, scales: Any, weight_scales: Any, y: Any, first: int, last: int) -> None:
    for t in range(first, last):
        s = scales[t]
        for n in range(y.shape[1]):
            # Exact in binary64, so the one rounding is that of int64 to binary32.
            total = np.float64(acc[0, t, n]) * np.float64(256.0) + np.float64(acc[1, t, n])
            y[t, n] = np.float32(np.float32(np.float32(total) * s) * weight_scales[n])


@parallel_kernel
def _rescale_parallel(acc: Any, scales: Any, weight_scales: Any, y: Any) -> None:
    for block in prange((y.shape[0] + ROW_BLOCK - 1) // ROW_BLOCK):
        first = block * ROW_BLOCK
        _rescale_rows(acc, scales, weight_scales, y, first, min(first + ROW_BLOCK, y.shape[0]))


def rescale_host(acc: Any, scales: Any, weight_scales: Any, y: Any) -> None:
    """As `rescale`, over numpy arrays."""
    if y.shape[0] < PARALLEL_ROWS:
        _rescale_rows(acc, scales, weight_scales, y, 0, y.shape[0])
    else:
        _rescale_parallel(acc, scales, weight_scales, y)


@kernel
def _join_limbs(limbs: Any) -> Any:
    """int16 [T, K / 64, 64]."""
    rows, columns = limbs.shape[1:]
    x = np.empty((rows, columns // RUN, RUN), np.int16)
    for t in range(rows):
        for k in range(columns):
            x[t, k // RUN, k % RUN] = np.int16(np.int32(limbs[0, t, k]) * np.int32(256) + np.int32(limbs[1, t, k]))
    return x


@kernel
def _few_rows_part(x: Any, scales: Any, w: Any, weight_scales: Any, y: Any, first: int, last: int) -> None:
    """`x` [T, runs, 64] int16, `w` [N, runs, 64] int8: loops of fixed length become vector instructions."""
    for n in range(first, last):
        for t in range(x.shape[0]):
            total = np.int64(0)
            for run in range(w.shape[1]):
                part = np.int32(0)
                for k in range(RUN):
                    part = np.int32(part + np.int32(np.int32(x[t, run, k]) * np.int32(w[n, run, k])))
                total += part
            y[t, n] = np.float32(np.float32(np.float32(total) * scales[t]) * weight_scales[n])


@kernel
def _few_rows(limbs: Any, scales: Any, w: Any, weight_scales: Any, y: Any) -> None:
    _few_rows_part(_join_limbs(limbs), scales, w, weight_scales, y, 0, w.shape[0])


@parallel_kernel
def _few_rows_parallel(limbs: Any, scales: Any, w: Any, weight_scales: Any, y: Any) -> None:
    x = _join_limbs(limbs)
    for block in prange((w.shape[0] + _WEIGHT_ROWS - 1) // _WEIGHT_ROWS):
        first = block * _WEIGHT_ROWS
        _few_rows_part(x, scales, w, weight_scales, y, first, min(first + _WEIGHT_ROWS, w.shape[0]))


def few_rows_host(limbs: Any, scales: Any, w: Any, weight_scales: Any, y: Any) -> None:
    """Product and rescaling at once for a few rows, straight from the int8 weights; numpy arrays.

    `limbs` [2, T, K] int8, `scales` [T], `w` [N, K] int8, K a multiple of 64, `weight_scales` [N] -> `y` [T, N].
    """
    runs = w.reshape(w.shape[0], -1, RUN)
    (_few_rows_parallel if w.size >= _PARALLEL_WEIGHTS else _few_rows)(limbs, scales, runs, weight_scales, y)
