"""SiLU times the other half of the feed-forward, quantised for the down projection.

i = rint(min(|g|, 16) * 4096);  t = SIGMOID[i] = sigmoid(-i / 4096);  sigma = t if g < 0 else 1 - t
y = (g * sigma) * u;  result q16(y)
"""

from typing import Any, Final

import numpy as np
import torch
from numba import prange
from torch import Tensor

from openledger.kernels.ops.host import PARALLEL_ROWS, ROW_BLOCK, kernel, parallel_kernel
from openledger.kernels.ops.quantize import quantize_row_host, quantize_rows, store_scale_host

STEPS: Final = 4096
LIMIT: Final = 16.0
_STEPS = np.float32(STEPS)
_LIMIT = np.float32(LIMIT)


def silu_product(gate: Tensor, up: Tensor, sigmoid: Tensor) -> Tensor:
    """`gate`, `up` [T, F] finite binary32, `sigmoid` the table -> [T, F]."""
    index = torch.round(gate.abs().clamp_max(LIMIT) * STEPS).to(torch.int64)
    t = sigmoid[index]
    sigma = torch.where(gate < 0, t, 1.0 - t)
    return (gate * sigma) * up


def silu_quantize(y: Tensor, sigmoid: Tensor, limbs: Tensor, scales: Tensor, faults: Tensor) -> None:
    """`y` [T, 2F] (gate, then up) -> `limbs` [2, T, F], `scales` [T], `faults` [T] |=."""
    gate, up = y.chunk(2, -1)
    fault = ~torch.isfinite(y).all(-1)
    faults.logical_or_(fault)
    gate = torch.where(fault[:, None], torch.zeros_like(gate), gate)
    quantize_rows(silu_product(gate, up, sigmoid), limbs, scales, faults)


@kernel
def _silu_rows(y: Any, sigmoid: Any, limbs: Any, scales: Any, faults: Any, first: int, last: int) -> None:
    size = y.shape[1] // 2
    product = np.empty(size, np.float32)
    index = np.empty(size, np.uint32)
    # One short loop per step: a loop that touches few arrays becomes vector instructions.
    for t in range(first, last):
        gates, ups = y[t, :size], y[t, size:]
        for k in range(size):
            magnitude = np.float32(abs(gates[k]))
            # A NaN fails the comparison, takes the last entry, and still makes the product NaN.
            magnitude = magnitude if magnitude < _LIMIT else _LIMIT
            index[k] = np.uint32(np.int32(np.rint(np.float32(magnitude * _STEPS))))
        for k in range(size):
            product[k] = sigmoid[index[k]]
        for k in range(size):
            gate, e = gates[k], product[k]
            sigma = e if gate < np.float32(0.0) else np.float32(np.float32(1.0) - e)
            product[k] = np.float32(np.float32(gate * sigma) * ups[k])
        store_scale_host(quantize_row_host(product, limbs[0, t], limbs[1, t]), t, scales, faults)


@parallel_kernel
def _silu_rows_parallel(y: Any, sigmoid: Any, limbs: Any, scales: Any, faults: Any) -> None:
    for block in prange((y.shape[0] + ROW_BLOCK - 1) // ROW_BLOCK):
        first = block * ROW_BLOCK
        _silu_rows(y, sigmoid, limbs, scales, faults, first, min(first + ROW_BLOCK, y.shape[0]))


def silu_quantize_host(y: Any, sigmoid: Any, limbs: Any, scales: Any, faults: Any) -> None:
    """As `silu_quantize`, over numpy arrays."""
    if y.shape[0] < PARALLEL_ROWS:
        _silu_rows(y, sigmoid, limbs, scales, faults, 0, y.shape[0])
    else:
        _silu_rows_parallel(y, sigmoid, limbs, scales, faults)
