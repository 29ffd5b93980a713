"""Causal attention over the paged integer cache, for any mix of prefill and decode rows.

For a query row at position i and the keys t = 0 .. i of its head group:

    score[t] = ((f32(dot(q, k[t])) * qs) * ks[t]) * factor        factor = D**-0.5 as binary32
    m = max score;  f = (m - score[t]) * 4096;  d = rint(min(f, LAST))
    p[t] = (EXP[d] + 2**11) >> 12                                 an integer, 2**18 at the maximum
    r = 1 / M  (0 if M = 0), M the prefix max of the value scales stored at position i
    w[t] = rint((f32(p[t]) * vs[t]) * r)                          an integer in 0 .. 2**18
    out = (f32(sum of w * v) / f32(sum of p)) * M

Bounds: |dot| <= 32639 * top * D < 2**31 by the choice of the keys' top (`ops/rotary.py`); |w * v| < 2**25, so 64 terms fit int32 and 2**27
positions fit int64 and binary64. A score that is not finite is a numeric fault.
"""

from typing import Any, Final

import numpy as np
import torch
from numba import prange
from torch import Tensor

from openledger.kernels.ops.host import kernel, parallel_kernel
from openledger.kernels.ops.rotary import KvLayer
from openledger.kernels.ops.vectors import LANES, add_products

STEPS: Final = 4096
LAST: Final = 55_296
"""Where p has become 0: 13.5 * 4096."""
_STEPS = np.float32(STEPS)
_LAST = np.float32(LAST)
_INFINITE_BITS = 0x7F800000
_BLOCK = 64
_ROWS = 16
_PARALLEL_KEYS: Final = 16384


def attention_table(exp: bytes) -> Any:
    """p for d = 0 .. LAST, int32, from the bytes of the table `EXP`."""
    wide = np.frombuffer(exp, "<u4").astype(np.int64)[: LAST + 1]
    return ((wide + (1 << 11)) >> 12).astype(np.int32)


def attend(
    q: Tensor,
    q_scales: Tensor,
    cache: KvLayer,
    tables: Tensor,
    sequences: Tensor,
    positions: Tensor,
    exp: Tensor,
    factor: Tensor,
    out: Tensor,
    faults: Tensor,
) -> None:
    """`q` [T, H, D] int16, `q_scales` [T, H] -> `out` [T, H * D]. Row t belongs to sequence `sequences[t]`,
    whose pages are `tables[sequence]`, and sees positions 0 .. `positions[t]` of it."""
    heads, size = q.shape[1:]
    kv_heads, page = cache.keys.shape[1:3]
    group = heads // kv_heads
    for sequence in torch.unique(sequences).tolist():
        rows = (sequences == sequence).nonzero()[:, 0]
        length = int(positions[rows].max()) + 1
        pages = tables[sequence, : (length + page - 1) // page].long()

        def gather(part: Tensor, pages: Tensor = pages, length: int = length) -> Tensor:
            return part[pages].transpose(1, 2).flatten(0, 1)[:length]

        keys, key_scales, values, value_scales, prefix_max = (gather(part) for part in cache)
        queries = q[rows].view(len(rows), kv_heads, group, size)
        dot = torch.einsum("tkgd,skd->kgts", queries.double(), keys.double()).float()
        scale = q_scales[rows].view(len(rows), kv_heads, group).permute(1, 2, 0)[..., None]
        score = ((dot * scale) * key_scales.t()[:, None, None, :]) * factor
        hidden = torch.arange(length)[None, :] > positions[rows][:, None]
        fault = (~torch.isfinite(score) & ~hidden).any(-1).any(0).any(0)
        faults[rows] |= fault
        score = torch.where(hidden | ~torch.isfinite(score), torch.tensor(-torch.inf), score)
        f = (score.amax(-1, keepdim=True) - score) * STEPS
        d = torch.round(torch.where(f < LAST, f, torch.tensor(float(LAST)))).to(torch.int64)
        p = torch.where(hidden, 0, exp[d])
        highest = prefix_max[positions[rows]].t()[:, None, :, None]
        inverse = torch.where(highest > 0, 1.0 / highest, 0.0)
        w = torch.round((p.float() * value_scales.t()[:, None, None, :]) * inverse)
        num = torch.einsum("kgts,skd->kgtd", w.double(), values.double()).float()
        den = p.sum(-1, keepdim=True, dtype=torch.int64).float()
        result = (num / den) * highest
        out[rows] = result.permute(2, 0, 1, 3).reshape(len(rows), heads * size)


@kernel
def _dots(q: Any, row: int, keys: Any, length: int, out: Any) -> None:
    """`out` [length] int32 = q[row] . keys[j]; loops of fixed length become vector instructions."""
    size = q.shape[1]
    if size == 64:
        for j in range(length):
            total = np.int32(0)
            for d in range(64):
                total = np.int32(total + np.int32(np.int32(q[row, d]) * np.int32(keys[j, d])))
            out[row, j] = total
    else:
        for j in range(length):
            total = np.int32(0)
            for d in range(size):
                total = np.int32(total + np.int32(np.int32(q[row, d]) * np.int32(keys[j, d])))
            out[row, j] = total


@kernel
def _weigh(
    dots: Any, q_scale: Any, key_scales: Any, value_scales: Any, inverse: Any, exp: Any, factor: Any, scores: Any
) -> Any:
    """Turn a row's dots [length] into its weights w, in place; returns the sum of p, or -1 for a numeric fault.

    One short loop per step: a loop that touches few arrays becomes vector instructions.
    """
    length = dots.shape[0]
    for j in range(length):
        scores[j] = np.float32(np.float32(np.float32(np.float32(dots[j]) * q_scale) * key_scales[j]) * factor)
    # Magnitudes are ordered like their bits, and numbers like theirs once those of negative ones are turned round.
    bits = scores.view(np.int32)
    largest = np.int32(0)
    highest = np.int32(-0x80000000)
    for j in range(length):
        magnitude = np.int32(bits[j] & np.int32(0x7FFFFFFF))
        largest = max(largest, magnitude)
        highest = max(highest, np.int32(bits[j] ^ np.int32(np.int32(bits[j] >> 31) & np.int32(0x7FFFFFFF))))
    if largest >= _INFINITE_BITS:
        return np.int64(-1)
    m = np.int32(highest ^ np.int32(np.int32(highest >> 31) & np.int32(0x7FFFFFFF))).view(np.float32)
    for j in range(length):
        f = np.float32(np.float32(m - scores[j]) * _STEPS)
        f = f if f < _LAST else _LAST
        dots[j] = np.int32(np.rint(f))
    for j in range(length):
        # Unsigned, so that no index is looked at for being counted from the end.
        dots[j] = exp[np.uint32(dots[j])]
    denominator = np.int64(0)
    for j in range(length):
        denominator += np.int64(dots[j])
    for j in range(length):
        w = np.float32(np.float32(np.float32(dots[j]) * value_scales[j]) * inverse)
        dots[j] = np.int32(np.rint(w))
    return denominator


@kernel
def _mix(weights: Any, values: Any, total: Any) -> None:
    """`total` [D] int64 = sum of weights[j] * values[j]."""
    length, size = values.shape
    for d in range(size):
        total[d] = 0
    if size % LANES == 0:
        for column in range(0, size, 4 * LANES):
            for first in range(0, length, _BLOCK):
                last = min(first + _BLOCK, length)
                add_products(weights[first:last], values[first:last], column, min(size - column, 4 * LANES), total)
    else:
        for j in range(length):
            w = np.int64(weights[j])
            for d in range(size):
                total[d] += w * values[j, d]


@kernel
def _attend_block(
    first: int, last: int, kv: int, q: Any, q_scales: Any, keys: Any, key_scales: Any, values: Any,
    value_scales: Any, value_prefix_max: Any, pages: Any, positions: Any, exp: Any, factor: Any, out: Any,
    faults: Any,
) -> None:  # fmt: skip
    """Consecutive rows of one sequence, one key/value head."""
    group, size, page = q.shape[1] // keys.shape[1], q.shape[2], keys.shape[2]
    length = positions[last - 1] + 1
    k = np.empty((length, size), keys.dtype)
    v = np.empty((length, size), values.dtype)
    k_scales = np.empty(length, np.float32)
    v_scales = np.empty(length, np.float32)
    for begin in range(0, length, page):
        at = pages[begin // page]
        for j in range(min(page, length - begin)):
            k_scales[begin + j] = key_scales[at, kv, j]
            v_scales[begin + j] = value_scales[at, kv, j]
            for d in range(size):
                k[begin + j, d] = keys[at, kv, j, d]
                v[begin + j, d] = values[at, kv, j, d]
    queries = np.empty((group, size), np.int16)
    dots = np.empty((group, length), np.int32)
    scores = np.empty(length, np.float32)
    total = np.empty(size, np.int64)
    for t in range(first, last):
        position = positions[t]
        highest = value_prefix_max[pages[position // page], kv, position % page]
        inverse = np.float32(np.float32(1.0) / highest) if highest > 0 else np.float32(0.0)
        for g in range(group):
            head = kv * group + g
            for d in range(size):
                queries[g, d] = q[t, head, d]
            _dots(queries, g, k, position + 1, dots)
            row = dots[g, : position + 1]
            den = _weigh(
                row, q_scales[t, head], k_scales, v_scales, inverse, exp, factor, scores[: position + 1]
            )  # fmt: skip
            if den < 0:
                faults[t] = True
                continue
            _mix(row, v[: position + 1], total)
            denominator = np.float32(den)
            for d in range(size):
                result = np.float32(np.float32(np.float32(total[d]) / denominator) * highest)
                out[t, head * size + d] = result


@kernel
def _blocks(sequences: Any, starts: Any) -> Any:
    """Where blocks of at most `_ROWS` consecutive rows of one sequence begin; returns how many."""
    count = 0
    for t in range(sequences.shape[0]):
        if count == 0 or sequences[t] != sequences[t - 1] or t - starts[count - 1] == _ROWS:
            starts[count] = t
            count += 1
    starts[count] = sequences.shape[0]
    return count


@kernel
def _attend_task(
    task: int, starts: Any,
    q: Any, q_scales: Any, keys: Any, key_scales: Any, values: Any, value_scales: Any, value_prefix_max: Any,
    tables: Any, sequences: Any, positions: Any, exp: Any, factor: Any, out: Any, faults: Any,
) -> None:  # fmt: skip
    block, kv = task // keys.shape[1], task % keys.shape[1]
    first = starts[block]
    _attend_block(
        first, starts[block + 1], kv, q, q_scales, keys, key_scales, values, value_scales, value_prefix_max,
        tables[sequences[first]], positions, exp, factor, out, faults,
    )  # fmt: skip


@kernel
def _attend_serial(
    q: Any, q_scales: Any, keys: Any, key_scales: Any, values: Any, value_scales: Any, value_prefix_max: Any,
    tables: Any, sequences: Any, positions: Any, exp: Any, factor: Any, out: Any, faults: Any,
) -> None:  # fmt: skip
    starts = np.empty(sequences.shape[0] + 1, np.int64)
    for task in range(_blocks(sequences, starts) * keys.shape[1]):
        _attend_task(
            task, starts, q, q_scales, keys, key_scales, values, value_scales, value_prefix_max,
            tables, sequences, positions, exp, factor, out, faults,
        )  # fmt: skip


@parallel_kernel
def _attend_parallel(
    q: Any, q_scales: Any, keys: Any, key_scales: Any, values: Any, value_scales: Any, value_prefix_max: Any,
    tables: Any, sequences: Any, positions: Any, exp: Any, factor: Any, out: Any, faults: Any,
) -> None:  # fmt: skip
    starts = np.empty(sequences.shape[0] + 1, np.int64)
    tasks = _blocks(sequences, starts) * keys.shape[1]
    # Later rows of a prefill see more keys: each early task goes with a late one, so threads end together.
    for half in prange((tasks + 1) // 2):
        early = int(half)
        _attend_task(
            early, starts, q, q_scales, keys, key_scales, values, value_scales, value_prefix_max,
            tables, sequences, positions, exp, factor, out, faults,
        )  # fmt: skip
        late = int(tasks - 1 - early)
        if late != early:
            _attend_task(
                late, starts, q, q_scales, keys, key_scales, values, value_scales, value_prefix_max,
                tables, sequences, positions, exp, factor, out, faults,
            )  # fmt: skip


def attend_host(
    q: Any, q_scales: Any, cache: KvLayer, tables: Any, sequences: Any, positions: Any, exp: Any, factor: Any,
    out: Any, faults: Any,
) -> None:  # fmt: skip
    """As `attend`, over numpy arrays; `factor` a numpy float32."""
    run = _attend_parallel if int(positions.sum()) + len(positions) >= _PARALLEL_KEYS else _attend_serial
    run(q, q_scales, *cache, tables, sequences, positions, exp, factor, out, faults)
