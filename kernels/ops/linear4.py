"""The linear layer over weights of 4 bits: groups of 32 columns with an integer multiplier and an integer zero each.

    W[n, k] = (w[n, k] - z[n, k // 32]) * m[n, k // 32]     w and z in 0 .. 15, m in 1 .. 15, m * max(z, 15 - z) <= 127
    acc[n] = sum over k of q[k] * W[n, k]                   and the rest as in `ops/linear.py`

So W is an int8 in +-127: the sums and their bounds are those of int8 weights. Packed by 64 columns, K filled up: byte j of block b
holds w[64 b + j] in its low and w[64 b + 32 + j] in its high half, so that both halves are neighbouring columns; the byte of
a group holds m in its low and z in its high half.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numba import prange
from torch import Tensor

from openledger.kernels.ops.host import kernel, parallel_kernel

GROUP: Final = 32
BLOCK: Final = 64
_WEIGHT_ROWS = 64
_PARALLEL_WEIGHTS: Final = 1 << 23


class Int4(NamedTuple):
    """`packed` uint8 [N, 32 * blocks], `groups` uint8 [N, 2 * blocks], arrays or tensors; K = `columns`, at most
    64 * blocks."""

    packed: Any
    groups: Any
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K), as that of the int8 matrix that it stands for."""
        return int(self.packed.shape[0]), self.columns


def unpack(weight: Int4) -> Tensor:
    """The int8 matrix [N, K]."""
    rows = weight.packed.shape[0]
    packed = weight.packed.view(rows, -1, GROUP).to(torch.int16)
    groups = weight.groups.view(rows, -1, 2, 1).to(torch.int16)
    whole = (torch.stack((packed & 15, packed >> 4), 2) - (groups >> 4)) * (groups & 15)
    flat: Tensor = whole.reshape(rows, -1)[:, : weight.columns]
    return flat.to(torch.int8).contiguous()


@kernel
def _unpack_row(packed: Any, groups: Any, row: Any) -> None:
    """`packed` [blocks, 32], `groups` [blocks, 2] -> `row` int8 [blocks, 64]."""
    for block in range(packed.shape[0]):
        low, high = np.int32(groups[block, 0]), np.int32(groups[block, 1])
        low_zero, high_zero = np.int32(low >> np.int32(4)), np.int32(high >> np.int32(4))
        low_step, high_step = np.int32(low & np.int32(15)), np.int32(high & np.int32(15))
        for j in range(GROUP):
            both = np.int32(packed[block, j])
            row[block, j] = np.int8(np.int32(np.int32(both & np.int32(15)) - low_zero) * low_step)
            row[block, GROUP + j] = np.int8(np.int32(np.int32(both >> np.int32(4)) - high_zero) * high_step)


@parallel_kernel
def _unpack_rows(packed: Any, groups: Any, out: Any) -> None:
    columns = out.shape[1]
    for part in prange((packed.shape[0] + _WEIGHT_ROWS - 1) // _WEIGHT_ROWS):
        row = np.empty((packed.shape[1], BLOCK), np.int8)
        flat = row.reshape(packed.shape[1] * BLOCK)
        for n in range(part * _WEIGHT_ROWS, min((part + 1) * _WEIGHT_ROWS, packed.shape[0])):
            _unpack_row(packed[n], groups[n], row)
            out[n] = flat[:columns]


def unpack_host(weight: Int4, out: Any) -> None:
    """As `unpack`, into `out` int8 [N, K]; numpy arrays."""
    rows = weight.packed.shape[0]
    _unpack_rows(weight.packed.reshape(rows, -1, GROUP), weight.groups.reshape(rows, -1, 2), out)


@kernel
def _join_limbs(limbs: Any, blocks: int) -> Any:
    """int16 [T, blocks, 64], filled up with zeros."""
    rows, columns = limbs.shape[1:]
    x = np.zeros((rows, blocks, BLOCK), np.int16)
    for t in range(rows):
        for k in range(columns):
            x[t, k // BLOCK, k % BLOCK] = np.int16(np.int32(limbs[0, t, k]) * np.int32(256) + np.int32(limbs[1, t, k]))
    return x


@kernel
def _few_rows_part(
    x: Any, scales: Any, packed: Any, groups: Any, weight_scales: Any, y: Any, first: int, last: int
) -> None:  # fmt: skip
    row = np.empty((packed.shape[1], BLOCK), np.int8)
    for n in range(first, last):
        _unpack_row(packed[n], groups[n], row)
        for t in range(x.shape[0]):
            total = np.int64(0)
            for block in range(row.shape[0]):
                part = np.int32(0)
                for k in range(BLOCK):
                    part = np.int32(part + np.int32(np.int32(x[t, block, k]) * np.int32(row[block, k])))
                total += part
            y[t, n] = np.float32(np.float32(np.float32(total) * scales[t]) * weight_scales[n])


@kernel
def _few_rows(limbs: Any, scales: Any, packed: Any, groups: Any, weight_scales: Any, y: Any) -> None:
    x = _join_limbs(limbs, packed.shape[1])
    _few_rows_part(x, scales, packed, groups, weight_scales, y, 0, packed.shape[0])


@parallel_kernel
def _few_rows_parallel(limbs: Any, scales: Any, packed: Any, groups: Any, weight_scales: Any, y: Any) -> None:
    x = _join_limbs(limbs, packed.shape[1])
    for part in prange((packed.shape[0] + _WEIGHT_ROWS - 1) // _WEIGHT_ROWS):
        first = part * _WEIGHT_ROWS
        last = min(first + _WEIGHT_ROWS, packed.shape[0])
        _few_rows_part(x, scales, packed, groups, weight_scales, y, first, last)


def few_rows_host(limbs: Any, scales: Any, weight: Int4, weight_scales: Any, y: Any) -> None:
    """Product and rescaling at once for a few rows, each weight read once; numpy arrays.

    `limbs` [2, T, K] int8, `scales` [T], `weight_scales` [N] -> `y` [T, N].
    """
    rows = weight.packed.shape[0]
    packed, groups = weight.packed.reshape(rows, -1, GROUP), weight.groups.reshape(rows, -1, 2)
    run = _few_rows_parallel if weight.packed.size >= _PARALLEL_WEIGHTS else _few_rows
    run(limbs, scales, packed, groups, weight_scales, y)
