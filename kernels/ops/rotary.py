"""Rotary embedding, and the key/value cache entry of a token.

A head's elements are rotated in neighbouring pairs (x0, x1) by the table's (c, s) at the token's position:

    (x0 * c - x1 * s,  x0 * s + x1 * c)        two products, then one sum

The query becomes `q16`. A key or value row of one head becomes integers with one scale, written once:

    a = max|x|;  a < 2**-100: k = 0, scale = 0;  else scale = a / top, k = rint(x / scale) clamped to +-top

top is 127 for values. For keys it is the largest 2**b - 1 <= 1023 with D * 32639 * top < 2**31, so that a dot
with a query fits int32: 1023 for heads of 64.

With each value scale goes the prefix max: the largest value scale of that head from position 0 to here.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numba import prange
from torch import Tensor

from openledger.kernels.ops.host import PARALLEL_ROWS, ROW_BLOCK, kernel, parallel_kernel
from openledger.kernels.ops.quantize import MAX_Q, TINY, largest_magnitude_host, quantize

MAX_VALUE: Final = 127
_MAX_Q = np.float32(MAX_Q)
_TINY = np.float32(TINY)
_FINITE = np.finfo(np.float32).max


def max_key(head_size: int) -> int:
    """`top` for keys."""
    top = 1023
    while head_size * MAX_Q * top >= 2**31:
        top //= 2
    return top


class KvLayer(NamedTuple):
    """One layer's cache: pages of tokens. Arrays or tensors: [pages, heads, page_tokens(, head size)], keys
    int16, values int8, the rest binary32."""

    keys: Any
    key_scales: Any
    values: Any
    value_scales: Any
    value_prefix_max: Any


def rotate(x: Tensor, cos_sin: Tensor) -> Tensor:
    """`x` [T, heads, size], `cos_sin` [T, size/2, 2] -> [T, heads, size]."""
    c, s = cos_sin[:, None, :, 0], cos_sin[:, None, :, 1]
    x0, x1 = x[..., 0::2], x[..., 1::2]
    return torch.stack((x0 * c - x1 * s, x0 * s + x1 * c), -1).flatten(-2)


def _quantize_kv(x: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    fault = ~torch.isfinite(x).all(-1)
    x = torch.where(fault[..., None], torch.zeros_like(x), x)
    a = x.abs().amax(-1)
    zero = a < TINY
    scale = torch.where(zero, torch.zeros_like(a), a / top)
    divisor = torch.where(zero, torch.ones_like(a), scale)[..., None]
    q = torch.where(zero[..., None], torch.zeros_like(x), torch.round(x / divisor).clamp(-top, top))
    return q, scale, fault.any(-1)


def rotate_store(
    y: Tensor,
    table: Tensor,
    positions: Tensor,
    slots: Tensor,
    previous: Tensor,
    q: Tensor,
    q_scales: Tensor,
    cache: KvLayer,
    faults: Tensor,
) -> None:
    """`y` [T, at least (H + 2 KH) * size] (queries, keys, values) -> `q` [T, H, size] int16, `q_scales` [T, H], and
    the cache at `slots` [T]. `previous` [T] is the slot of the token before in the sequence, -1 for none;
    a sequence's tokens come in order. `table` [positions, size/2, 2]."""
    tokens, heads, size = q.shape
    kv_heads = cache.keys.shape[1]
    page = cache.keys.shape[2]
    parts = y[:, : (heads + 2 * kv_heads) * size].reshape(tokens, heads + 2 * kv_heads, size)
    cos_sin = table[positions]
    whole, scale, fault = quantize(rotate(parts[:, :heads], cos_sin))
    q.copy_(whole)
    q_scales.copy_(scale[..., 0])
    keys, key_scales, key_fault = _quantize_kv(rotate(parts[:, heads : heads + kv_heads], cos_sin), max_key(size))
    values, value_scales, value_fault = _quantize_kv(parts[:, heads + kv_heads :], MAX_VALUE)
    faults.logical_or_(fault[..., 0].any(-1) | key_fault | value_fault)
    at = (slots // page, slice(None), slots % page)
    cache.keys[at] = keys.to(torch.int16)
    cache.key_scales[at] = key_scales
    cache.values[at] = values.to(torch.int8)
    cache.value_scales[at] = value_scales
    for t in range(tokens):
        slot, before = int(slots[t]), int(previous[t])
        highest = value_scales[t]
        if before >= 0:
            highest = torch.maximum(highest, cache.value_prefix_max[before // page, :, before % page])
        cache.value_prefix_max[slot // page, :, slot % page] = highest


@kernel
def _store_row(x: Any, top: Any, out: Any) -> Any:
    """Integers with one scale; returns the scale, or -1 for a numeric fault."""
    a = largest_magnitude_host(x)
    if a < _TINY or a > _FINITE:
        for k in range(x.shape[0]):
            out[k] = 0
        return np.float32(-1.0) if a > _FINITE else np.float32(0.0)
    scale = np.float32(a / top)
    for k in range(x.shape[0]):
        v = np.float32(np.rint(np.float32(x[k] / scale)))
        out[k] = np.int32(min(max(v, -top), top))
    return scale


@kernel
def _query_row(x: Any, out: Any) -> Any:
    """`q16` as int16; returns the scale, or -1 for a numeric fault."""
    a = largest_magnitude_host(x)
    if a < _TINY or a > _FINITE:
        for k in range(x.shape[0]):
            out[k] = 0
        return np.float32(-1.0) if a > _FINITE else np.float32(1.0)
    scale = np.float32(a / _MAX_Q)
    for k in range(x.shape[0]):
        v = np.float32(np.rint(np.float32(x[k] / scale)))
        out[k] = np.int16(min(max(v, -_MAX_Q), _MAX_Q))
    return scale


@kernel
def _rotate_rows(
    y: Any, table: Any, positions: Any, slots: Any, q: Any, q_scales: Any,
    keys: Any, key_scales: Any, values: Any, value_scales: Any, faults: Any, key_top: Any, first: int, last: int,
) -> None:  # fmt: skip
    heads, size = q.shape[1], q.shape[2]
    kv_heads, page = keys.shape[1], keys.shape[2]
    row = np.empty(size, np.float32)
    for t in range(first, last):
        cos_sin = table[positions[t]]
        at, offset = slots[t] // page, slots[t] % page
        for head in range(heads + 2 * kv_heads):
            x = y[t][head * size : (head + 1) * size]
            if head >= heads + kv_heads:
                to = head - heads - kv_heads
                scale = _store_row(x, np.float32(MAX_VALUE), values[at, to, offset])
                value_scales[at, to, offset] = max(scale, np.float32(0.0))
            else:
                for pair in range(size // 2):
                    x0, x1 = x[2 * pair], x[2 * pair + 1]
                    c, s = cos_sin[pair, 0], cos_sin[pair, 1]
                    row[2 * pair] = np.float32(np.float32(x0 * c) - np.float32(x1 * s))
                    row[2 * pair + 1] = np.float32(np.float32(x0 * s) + np.float32(x1 * c))
                if head < heads:
                    scale = _query_row(row, q[t, head])
                    q_scales[t, head] = abs(scale)
                else:
                    scale = _store_row(row, key_top, keys[at, head - heads, offset])
                    key_scales[at, head - heads, offset] = max(scale, np.float32(0.0))
            if scale < 0:
                faults[t] = True


@parallel_kernel
def _rotate_parallel(
    y: Any, table: Any, positions: Any, slots: Any, q: Any, q_scales: Any,
    keys: Any, key_scales: Any, values: Any, value_scales: Any, faults: Any, key_top: Any,
) -> None:  # fmt: skip
    for block in prange((y.shape[0] + ROW_BLOCK - 1) // ROW_BLOCK):
        first = block * ROW_BLOCK
        _rotate_rows(
            y, table, positions, slots, q, q_scales, keys, key_scales, values, value_scales, faults, key_top,
            first, min(first + ROW_BLOCK, y.shape[0]),
        )  # fmt: skip


@kernel
def _prefix_max(slots: Any, previous: Any, value_scales: Any, value_prefix_max: Any) -> None:
    page = value_scales.shape[2]
    for t in range(slots.shape[0]):
        at, offset = slots[t] // page, slots[t] % page
        before = previous[t]
        for head in range(value_scales.shape[1]):
            highest = value_scales[at, head, offset]
            if before >= 0:
                highest = max(highest, value_prefix_max[before // page, head, before % page])
            value_prefix_max[at, head, offset] = highest


def rotate_store_host(
    y: Any, table: Any, positions: Any, slots: Any, previous: Any, q: Any, q_scales: Any, cache: KvLayer, faults: Any
) -> None:
    """As `rotate_store`, over numpy arrays."""
    arrays = (y, table, positions, slots, q, q_scales, *cache[:4], faults, np.float32(max_key(q.shape[2])))
    if y.shape[0] < PARALLEL_ROWS:
        _rotate_rows(*arrays, 0, y.shape[0])
    else:
        _rotate_parallel(*arrays)
    _prefix_max(slots, previous, cache.value_scales, cache.value_prefix_max)
