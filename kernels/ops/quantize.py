"""`q16`: a row of binary32 as 16-bit integers times one scale, held as two int8 limbs.

    a = max|x|;  a < 2**-100: q = 0, s = 1;  else s = a / 32639, q = rint(x / s) clamped to +-32639
    hi = (q + 128) >> 8, lo = q - 256 * hi, both within int8

A row with an element that is not finite is a numeric fault: its `q` is 0 and its fault flag is set.
"""

from typing import Any, Final

import numpy as np
import torch
from numba import prange
from torch import Tensor

from openledger.kernels.ops.host import PARALLEL_ROWS, ROW_BLOCK, kernel, parallel_kernel

MAX_Q: Final = 32639
TINY: Final = 2.0**-100

_MAX_Q = np.float32(MAX_Q)
_TINY = np.float32(TINY)
_FINITE = np.finfo(np.float32).max
_INFINITE_BITS = 0x7F800000
_ABSOLUTE = 0x7FFFFFFF


def quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`x` [..., K] binary32 -> `q` int32 of the same shape, scale [..., 1], fault [..., 1]."""
    fault = ~torch.isfinite(x).all(-1, keepdim=True)
    x = torch.where(fault, torch.zeros_like(x), x)
    a = x.abs().amax(-1, keepdim=True)
    tiny = a < TINY
    s = torch.where(tiny, torch.ones_like(a), a / MAX_Q)
    q = torch.where(tiny, torch.zeros_like(x), torch.round(x / s).clamp(-MAX_Q, MAX_Q))
    return q.to(torch.int32), s, fault


def quantize_rows(x: Tensor, limbs: Tensor, scales: Tensor, faults: Tensor) -> None:
    """Write `q16(x)`. `x` [T, K] -> `limbs` [2, T, K] int8 (hi, lo), `scales` [T], `faults` [T] |=."""
    q, s, fault = quantize(x)
    hi = (q + 128) >> 8
    limbs[0].copy_(hi)
    limbs[1].copy_(q - (hi << 8))
    scales.copy_(s[:, 0])
    faults.logical_or_(fault[:, 0])


@kernel
def largest_magnitude_host(x: Any) -> Any:
    """max|x| of a contiguous row; infinite if an element is not finite."""
    # Magnitudes are ordered like their bits, and an integer max has no NaN to lose.
    bits = x.view(np.int32)
    top = np.int32(0)
    for k in range(bits.shape[0]):
        top = max(top, np.int32(bits[k] & np.int32(_ABSOLUTE)))
    if top >= _INFINITE_BITS:
        return np.float32(np.inf)
    return np.int32(top).view(np.float32)


@kernel
def quantize_row_host(x: Any, hi: Any, lo: Any) -> Any:
    """One contiguous row; returns its scale, or -1 for a numeric fault."""
    a = largest_magnitude_host(x)
    if a < _TINY or a > _FINITE:
        for k in range(x.shape[0]):
            hi[k] = 0
            lo[k] = 0
        return np.float32(-1.0) if a > _FINITE else np.float32(1.0)
    s = np.float32(a / _MAX_Q)
    for k in range(x.shape[0]):
        q = np.int32(np.rint(np.float32(x[k] / s)))
        q = np.int32(min(max(q, np.int32(-MAX_Q)), np.int32(MAX_Q)))
        high = np.int32(np.int32(q + np.int32(128)) >> np.int32(8))
        hi[k] = np.int8(high)
        lo[k] = np.int8(np.int32(q - np.int32(high << np.int32(8))))
    return s


@kernel
def store_scale_host(scale: Any, t: int, scales: Any, faults: Any) -> None:
    """Write what `quantize_row_host` returned."""
    if scale < 0:
        faults[t] = True
        scales[t] = np.float32(1.0)
    else:
        scales[t] = scale


@kernel
def _quantize_rows(x: Any, limbs: Any, scales: Any, faults: Any, first: int, last: int) -> None:
    for t in range(first, last):
        store_scale_host(quantize_row_host(x[t], limbs[0, t], limbs[1, t]), t, scales, faults)


@parallel_kernel
def _quantize_rows_parallel(x: Any, limbs: Any, scales: Any, faults: Any) -> None:
    for block in prange((x.shape[0] + ROW_BLOCK - 1) // ROW_BLOCK):
        first = block * ROW_BLOCK
        _quantize_rows(x, limbs, scales, faults, first, min(first + ROW_BLOCK, x.shape[0]))


def quantize_rows_host(x: Any, limbs: Any, scales: Any, faults: Any) -> None:
    """As `quantize_rows`, over numpy arrays."""
    if x.shape[0] < PARALLEL_ROWS:
        _quantize_rows(x, limbs, scales, faults, 0, x.shape[0])
    else:
        _quantize_rows_parallel(x, limbs, scales, faults)
