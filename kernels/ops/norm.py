"""RMSNorm, quantised for the linear layer that follows.

q, s = q16(x);  ss = sum of q**2 in int64;  m = ((f32(ss) / f32(D)) * s) * s
y = (x / sqrt(m + epsilon)) * weight;  result q16(y)
"""

from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor

from openledger.kernels.ops.host import PARALLEL_ROWS, ROW_BLOCK, kernel, parallel_kernel
from openledger.kernels.ops.quantize import quantize, quantize_row_host, quantize_rows, store_scale_host


def rms_norm(x: Tensor, weight: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor]:
    """`x` [T, D], `weight` [D], `epsilon` a binary32 scalar -> normalised [T, D] and fault [T, 1]."""
    q, s, fault = quantize(x)
    wide = q.to(torch.int64)
    ss = (wide * wide).sum(-1, keepdim=True)
    m = ((ss.to(torch.float32) / torch.tensor(float(x.shape[-1]))) * s) * s
    # torch's binary32 square root is not correctly rounded; binary64 rounded to binary32 is.
    root = (m + epsilon).to(torch.float64).sqrt().to(torch.float32)
    return (x / root) * weight, fault


def norm_quantize(x: Tensor, weight: Tensor, epsilon: Tensor, limbs: Tensor, scales: Tensor, faults: Tensor) -> None:
    """`x` [T, D] -> `limbs` [2, T, D], `scales` [T], `faults` [T] |=."""
    y, fault = rms_norm(x, weight, epsilon)
    faults.logical_or_(fault[:, 0])
    quantize_rows(y, limbs, scales, faults)


@kernel
def _norm_rows(x: Any, weight: Any, epsilon: Any, limbs: Any, scales: Any, faults: Any, first: int, last: int) -> None:
    size = x.shape[1]
    y = np.empty(size, np.float32)
    for t in range(first, last):
        s = quantize_row_host(x[t], limbs[0, t], limbs[1, t])
        if s < 0:
            faults[t] = True
            scales[t] = np.float32(1.0)
            continue
        ss = np.int64(0)
        for k in range(size):
            q = np.int32(np.int32(limbs[0, t, k]) * np.int32(256) + np.int32(limbs[1, t, k]))
            ss += np.int64(q) * np.int64(q)
        m = np.float32(np.float32(np.float32(np.float32(ss) / np.float32(size)) * s) * s)
        root = np.float32(np.sqrt(np.float32(m + epsilon)))
        for k in range(size):
            y[k] = np.float32(np.float32(x[t, k] / root) * weight[k])
        store_scale_host(quantize_row_host(y, limbs[0, t], limbs[1, t]), t, scales, faults)


@parallel_kernel
def _norm_rows_parallel(x: Any, weight: Any, epsilon: Any, limbs: Any, scales: Any, faults: Any) -> None:
    for block in prange((x.shape[0] + ROW_BLOCK - 1) // ROW_BLOCK):
        first = block * ROW_BLOCK
        last = min(first + ROW_BLOCK, x.shape[0])
        _norm_rows(x, weight, epsilon, limbs, scales, faults, first, last)


def norm_quantize_host(x: Any, weight: Any, epsilon: Any, limbs: Any, scales: Any, faults: Any) -> None:
    """As `norm_quantize`, over numpy arrays; `epsilon` a numpy float32."""
    if x.shape[0] < PARALLEL_ROWS:
        _norm_rows(x, weight, epsilon, limbs, scales, faults, 0, x.shape[0])
    else:
        _norm_rows_parallel(x, weight, epsilon, limbs, scales, faults)
