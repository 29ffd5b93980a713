"""A LoRA adapter's part of a linear layer.

    u = linear(A, x) with the layer's own q16(x);   v = linear(B, q16(u));   y = y + alpha * v

A and B are int8 with one scale per output row, as all weights; alpha is one binary32. Modules that share
an input (query, key and value; gate and up) are one group: their outputs are columns of one `y`.
|A part| <= 32639 * 127 * K as in the linear layer; the B part is exact in int32 for ranks up to 256.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import prange
from torch import Tensor

from openledger.kernels.ops.host import PARALLEL_ROWS, ROW_BLOCK, kernel, parallel_kernel
from openledger.kernels.ops.quantize import largest_magnitude_host, quantize

_MAX_Q = np.float32(32639)
_TINY = np.float32(2.0**-100)
_FINITE = np.finfo(np.float32).max


class LoraGroup(NamedTuple):
    """One adapter's modules of one group, stacked; arrays or tensors.

    `a` [R, K] int8 and `a_scales` [R]: the A matrices one after the other. `b` [sum of rank * width] int8:
    each B transposed to [rank, width]; `b_scales` [sum of widths]. `modules` [M, 4] int64, on the CPU always: rank,
    first column of `y`, width, and where the module's B begins; `alphas` [M].
    """

    a: Any
    a_scales: Any
    b: Any
    b_scales: Any
    modules: Any
    alphas: Any


class LoraRows(NamedTuple):
    """Rows `first` .. `last` of a batch that use these adapters' groups, in this order."""

    first: int
    last: int
    groups: tuple[LoraGroup, ...]


def lora_apply(limbs: Tensor, scales: Tensor, users: Sequence[LoraRows], y: Tensor, faults: Tensor) -> None:
    """Add the adapters of a whole batch; `users` are disjoint rows."""
    for user in users:
        for group in user.groups:
            lora_add(limbs, scales, user.first, user.last, group, y, faults)


def lora_add(limbs: Tensor, scales: Tensor, first: int, last: int, group: LoraGroup, y: Tensor, faults: Tensor) -> None:
    """Rows `first` .. `last` of `y` [T, N] += the adapter's part; `limbs` [2, T, K], `scales` [T]."""
    q = limbs[0, first:last].long() * 256 + limbs[1, first:last].long()
    acc = (q.double() @ group.a.double().t()).float()
    u = (acc * scales[first:last, None]) * group.a_scales
    rank_offset = width_offset = 0
    for (rank, column, width, start), alpha in zip(group.modules.tolist(), group.alphas):
        uq, us, fault = quantize(u[:, rank_offset : rank_offset + rank])
        faults[first:last] |= fault[:, 0]
        b = group.b[start : start + rank * width].view(rank, width)
        b_scales = group.b_scales[width_offset : width_offset + width]
        v = ((uq.double() @ b.double()).float() * us) * b_scales
        y[first:last, column : column + width] += alpha * v
        rank_offset += rank
        width_offset += width


@kernel
def _lora_rows(
    limbs: Any, scales: Any, a: Any, a_scales: Any, b: Any, b_scales: Any, modules: Any, alphas: Any,
    y: Any, faults: Any, first: int, last: int,
) -> None:  # fmt: skip
    ranks, columns = a.shape
    x = np.empty(columns, np.int16)
    u = np.empty(ranks, np.float32)
    acc = np.empty(y.shape[1], np.int32)
    for t in range(first, last):
        for k in range(columns):
            x[k] = np.int16(np.int32(limbs[0, t, k]) * np.int32(256) + np.int32(limbs[1, t, k]))
        for r in range(ranks):
            row = a[r]
            total = np.int64(0)
            whole = columns // 64
            for block in range(whole):
                part = np.int32(0)
                left = x[64 * block : 64 * block + 64]
                right = row[64 * block : 64 * block + 64]
                for k in range(64):
                    part = np.int32(part + np.int32(np.int32(left[k]) * np.int32(right[k])))
                total += part
            for k in range(64 * whole, columns):
                total += np.int32(x[k]) * np.int32(row[k])
            u[r] = np.float32(np.float32(np.float32(total) * scales[t]) * a_scales[r])
        rank_offset = 0
        width_offset = 0
        for module in range(modules.shape[0]):
            rank, column, width, start = modules[module]
            part_u = u[rank_offset : rank_offset + rank]
            largest = largest_magnitude_host(part_u)
            s = np.float32(1.0)
            if largest > _FINITE:
                faults[t] = True
            sums = acc[:width]
            sums[:] = 0
            if largest >= _TINY and largest <= _FINITE:
                s = np.float32(largest / _MAX_Q)
                for r in range(rank):
                    whole_u = np.float32(np.rint(np.float32(part_u[r] / s)))
                    uq = np.int32(min(max(whole_u, -_MAX_Q), _MAX_Q))
                    b_row = b[start + r * width : start + (r + 1) * width]
                    for n in range(width):
                        sums[n] = np.int32(sums[n] + np.int32(uq * np.int32(b_row[n])))
            alpha = alphas[module]
            into = y[t][column : column + width]
            b_scale = b_scales[width_offset : width_offset + width]
            for n in range(width):
                v = np.float32(np.float32(np.float32(sums[n]) * s) * b_scale[n])
                into[n] = np.float32(into[n] + np.float32(alpha * v))
            rank_offset += rank
            width_offset += width


@parallel_kernel
def _lora_parallel(
    limbs: Any, scales: Any, a: Any, a_scales: Any, b: Any, b_scales: Any, modules: Any, alphas: Any,
    y: Any, faults: Any, first: int, last: int,
) -> None:  # fmt: skip
    for block in prange((last - first + ROW_BLOCK - 1) // ROW_BLOCK):
        begin = first + block * ROW_BLOCK
        _lora_rows(
            limbs, scales, a, a_scales, b, b_scales, modules, alphas, y, faults,
            begin, min(begin + ROW_BLOCK, last),
        )  # fmt: skip


def lora_add_host(limbs: Any, scales: Any, first: int, last: int, group: LoraGroup, y: Any, faults: Any) -> None:
    """As `lora_add`, over numpy arrays."""
    run = _lora_parallel if last - first >= PARALLEL_ROWS else _lora_rows
    run(limbs, scales, *group, y, faults, first, last)


def lora_apply_host(limbs: Any, scales: Any, users: Sequence[LoraRows], y: Any, faults: Any) -> None:
    """As `lora_apply`, over numpy arrays."""
    for user in users:
        for group in user.groups:
            lora_add_host(limbs, scales, user.first, user.last, group, y, faults)
