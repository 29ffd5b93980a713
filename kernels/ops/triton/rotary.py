"""Rotary embedding, `q16` of the query, and the cache entry, in two kernels.

`_rotate_store`: a program per row and head rotates, quantises and stores; a value head is only quantised and stored.
`_prefix_max`: the running maximum of the value scales. A program per row and key/value head; the one at the first of
consecutive rows of a sequence does them all, tile by tile, the others have nothing to do.
"""

from typing import Final

import triton.language as tl
from torch import Tensor

from openledger.kernels.ops.rotary import KvLayer, max_key
from openledger.kernels.ops.triton.arithmetic import clamped, magnitude_bits, q16_scale
from openledger.kernels.ops.triton.launch import kernel, launch, power_of_two

_RUN: Final = 32
"""Rows of a run that the running maximum takes at a time."""


@kernel
def _rotate_store(
    y: tl.tensor, table: tl.tensor, positions: tl.tensor, slots: tl.tensor, q: tl.tensor, q_scales: tl.tensor,
    keys: tl.tensor, key_scales: tl.tensor, values: tl.tensor, value_scales: tl.tensor, faults: tl.tensor,
    width: tl.tensor, key_top: tl.tensor,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr, PAGE: tl.constexpr, PAIRS: tl.constexpr,
) -> None:  # fmt: skip
    t = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    pair = tl.arange(0, PAIRS)
    there = pair < SIZE // 2
    x = y + t * width + head * SIZE + 2 * pair
    x0 = tl.load(x, mask=there, other=0.0)
    x1 = tl.load(x + 1, mask=there, other=0.0)
    if head < HEADS + KV_HEADS:
        angle = table + (tl.load(positions + t) * (SIZE // 2) + pair) * 2
        c = tl.load(angle, mask=there, other=0.0)
        s = tl.load(angle + 1, mask=there, other=0.0)
        rotated0 = x0 * c - x1 * s
        rotated1 = x0 * s + x1 * c
        x0 = rotated0
        x1 = rotated1
    largest = tl.max(tl.maximum(magnitude_bits(x0), magnitude_bits(x1)), 0)
    scale, live, fault = q16_scale(largest)
    tl.store(faults + t, 1, mask=fault)
    slot = tl.load(slots + t)
    if head < HEADS:
        at = (t * HEADS + head) * SIZE + 2 * pair
        tl.store(q + at, clamped(x0, scale, live, 32639.0).to(tl.int16), mask=there)
        tl.store(q + at + 1, clamped(x1, scale, live, 32639.0).to(tl.int16), mask=there)
        tl.store(q_scales + t * HEADS + head, scale)
    else:
        top = tl.where(head < HEADS + KV_HEADS, key_top, 127.0)
        a = tl.where(live, largest, 0).to(tl.float32, bitcast=True)
        scale = tl.div_rn(a, top)
        divisor = tl.where(live, scale, 1.0)
        k0 = clamped(x0, divisor, live, top)
        k1 = clamped(x1, divisor, live, top)
        kv = (head - HEADS) % KV_HEADS
        entry = ((slot // PAGE) * KV_HEADS + kv) * PAGE + slot % PAGE
        at = entry * SIZE + 2 * pair
        if head < HEADS + KV_HEADS:
            tl.store(keys + at, k0.to(tl.int16), mask=there)
            tl.store(keys + at + 1, k1.to(tl.int16), mask=there)
            tl.store(key_scales + entry, scale)
        else:
            tl.store(values + at, k0.to(tl.int8), mask=there)
            tl.store(values + at + 1, k1.to(tl.int8), mask=there)
            tl.store(value_scales + entry, scale)


@kernel
def _prefix_max(
    slots: tl.tensor, previous: tl.tensor, value_scales: tl.tensor, prefix: tl.tensor, rows: tl.tensor,
    KV_HEADS: tl.constexpr, PAGE: tl.constexpr, RUN: tl.constexpr,
) -> None:  # fmt: skip
    t = tl.program_id(0)
    kv = tl.program_id(1)
    before = tl.load(previous + t)
    if (before >= 0) & (tl.load(slots + t - 1, mask=t > 0, other=-2) == before):
        return
    highest = tl.load(
        prefix + ((before // PAGE) * KV_HEADS + kv) * PAGE + before % PAGE, mask=before >= 0, other=0.0
    )  # fmt: skip
    j = tl.arange(0, RUN)
    first = t
    length = RUN
    while length == RUN:
        row = first + j
        link = tl.load(previous + row, mask=row < rows, other=-1)
        last = tl.load(slots + row - 1, mask=(row < rows) & (row > 0), other=-2)
        of_run = (row == t) | ((row < rows) & (link == last))
        length = tl.min(tl.where(of_run, RUN, j), 0)
        slot = tl.load(slots + row, mask=j < length, other=0)
        at = ((slot // PAGE) * KV_HEADS + kv) * PAGE + slot % PAGE
        scale = tl.load(value_scales + at, mask=j < length, other=0.0)
        until = tl.max(tl.where(j[None, :] <= j[:, None], scale[None, :], 0.0), 1)
        tl.store(prefix + at, tl.maximum(until, highest), mask=j < length)
        highest = tl.maximum(highest, tl.max(scale, 0))
        first += RUN


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
    """As the twin. The rows of one sequence stand together in the batch."""
    rows, heads, size = q.shape
    kv_heads, page = cache.keys.shape[1:3]
    launch(
        _rotate_store, (rows, heads + 2 * kv_heads), y, table, positions, slots, q, q_scales, *cache[:4],
        faults.view(cache.values.dtype), y.shape[1], float(max_key(size)),
        HEADS=heads, KV_HEADS=kv_heads, SIZE=size, PAGE=page, PAIRS=power_of_two(size // 2), warps=1,
    )  # fmt: skip
    launch(
        _prefix_max, (rows, kv_heads), slots, previous, cache.value_scales, cache.value_prefix_max, rows,
        KV_HEADS=kv_heads, PAGE=page, RUN=_RUN, warps=1,
    )  # fmt: skip
