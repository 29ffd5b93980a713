"""What some families do to queries and keys between the projection and the rotary embedding.

    bias:       y[n] = y[n] + b[n]                    one sum, after the residual columns were added
    head norm:  RMSNorm's rule for each query and key head by itself:
                q, s = q16(x);  ss = sum of q**2;  m = ((f32(ss) / f32(D)) * s) * s;  y = (x / sqrt(m + epsilon)) * weight

A head with an element that is not finite is a numeric fault of its row and becomes zeros.
"""

from typing import Any

import numpy as np
import torch
from numba import prange
from torch import Tensor

from openledger.kernels.ops.host import PARALLEL_ROWS, ROW_BLOCK, kernel, parallel_kernel
from openledger.kernels.ops.norm import rms_norm
from openledger.kernels.ops.quantize import quantize_row_host


def add_bias(y: Any, bias: Any) -> None:
    """`y` [T, at least N] += `bias` [N], tensors or arrays."""
    y[:, : bias.shape[0]] += bias


def norm_heads(
    y: Tensor, query_weight: Tensor, key_weight: Tensor, epsilon: Tensor, heads: int, kv_heads: int, faults: Tensor
) -> None:
    """Normalise the first `heads + kv_heads` heads of `y` [T, at least (heads + kv_heads) * D] in place; `query_weight` and
    `key_weight` [D], `epsilon` a binary32 scalar, `faults` [T] |=."""
    size = query_weight.shape[0]
    for first, count, weight in ((0, heads, query_weight), (heads, kv_heads, key_weight)):
        part = y[:, first * size : (first + count) * size].reshape(-1, size)
        normed, fault = rms_norm(part, weight, epsilon)
        normed = torch.where(fault, torch.zeros_like(normed), normed)
        y[:, first * size : (first + count) * size] = normed.view(len(y), -1)
        faults |= fault.view(len(y), -1).any(-1)


@kernel
def _norm_rows(
    y: Any, query_weight: Any, key_weight: Any, epsilon: Any, heads: int, kv_heads: int, faults: Any, first: int, last: int
) -> None:  # fmt: skip
    size = query_weight.shape[0]
    hi = np.empty(size, np.int8)
    lo = np.empty(size, np.int8)
    for t in range(first, last):
        for head in range(heads + kv_heads):
            weight = query_weight if head < heads else key_weight
            x = y[t][head * size : (head + 1) * size]
            s = quantize_row_host(x, hi, lo)
            if s < 0:
                faults[t] = True
                for k in range(size):
                    x[k] = np.float32(0.0)
                continue
            ss = np.int64(0)
            for k in range(size):
                q = np.int32(np.int32(hi[k]) * np.int32(256) + np.int32(lo[k]))
                ss += np.int64(q) * np.int64(q)
            m = np.float32(np.float32(np.float32(np.float32(ss) / np.float32(size)) * s) * s)
            root = np.float32(np.sqrt(np.float32(m + epsilon)))
            for k in range(size):
                x[k] = np.float32(np.float32(x[k] / root) * weight[k])


@parallel_kernel
def _norm_parallel(
    y: Any, query_weight: Any, key_weight: Any, epsilon: Any, heads: int, kv_heads: int, faults: Any
) -> None:  # fmt: skip
    for block in prange((y.shape[0] + ROW_BLOCK - 1) // ROW_BLOCK):
        first = block * ROW_BLOCK
        last = min(first + ROW_BLOCK, y.shape[0])
        _norm_rows(y, query_weight, key_weight, epsilon, heads, kv_heads, faults, first, last)


def norm_heads_host(
    y: Any, query_weight: Any, key_weight: Any, epsilon: Any, heads: int, kv_heads: int, faults: Any
) -> None:  # fmt: skip
    """As `norm_heads`, over numpy arrays; `epsilon` a numpy float32."""
    if y.shape[0] < PARALLEL_ROWS:
        _norm_rows(y, query_weight, key_weight, epsilon, heads, kv_heads, faults, 0, y.shape[0])
    else:
        _norm_parallel(y, query_weight, key_weight, epsilon, heads, kv_heads, faults)
