"""Causal attention over the paged integer cache, for any mix of prefill and decode rows, in three kernels.

A program takes a tile of rows: consecutive rows of one sequence times the query heads of one key/value head, and one part
of the sequence's keys; scores are never written. `_row_max` finds the largest score, `_weigh` the integer sums under it,
`_join` adds the parts up and divides once. Scores are computed twice: the maximum has to be over the whole row, and a
sum under a passing maximum would have to be rescaled, which rounds.

Queries (16 bit) and keys (11 bit) are two int8 limbs each, weights (19 bit) three: integer matrix products only. The
partial sums of limb products wrap around in int32; the dot itself fits, so it is right.

Which rows make a tile is read from the batch on the device: a tile begins where a run of consecutive positions of a
sequence does, and at positions that the tile's rows divide. A program at another row has nothing to do.
"""

from typing import Final

import triton.language as tl
from torch import Tensor, empty, float32, int64

from openledger.kernels.ops.rotary import KvLayer
from openledger.kernels.ops.triton.arithmetic import INFINITE_BITS, high_limb, magnitude_bits, rint
from openledger.kernels.ops.triton.launch import INTERPRETED, kernel, launch, power_of_two

DECODE_TILE: Final = 16
PREFILL_TILE: Final = 64
"""Query rows times heads of a program."""

_KEYS: Final = 64
"""Keys that a program takes at a time: |w * v| < 2**25, so 64 terms fit int32."""

_PROGRAMS: Final = 264
"""Keys are cut in parts until there are about so many programs: two for each multiprocessor of a large GPU."""

_STAGES: Final = 1
"""Keys are found through the page table, and the pipeliner of Triton 3.7 cannot hold such loads back for `wgmma`."""

_FEWEST_KEYS: Final = 256
"""Of a part."""


@kernel
def _rows_of_tile(
    t: tl.tensor, rows: tl.tensor, sequences: tl.tensor, positions: tl.tensor, PER: tl.constexpr, LANES: tl.constexpr
) -> tl.tensor:
    """How many rows from `t` on are this program's; 0 if another one takes row `t`."""
    sequence = tl.load(sequences + t)
    position = tl.load(positions + t)
    # A batch begins with a tile, so row 0 is compared with nothing.
    before = tl.load(sequences + t - 1, mask=t > 0, other=-1)
    follows = (before == sequence) & (tl.load(positions + t - 1, mask=t > 0, other=-2) + 1 == position)
    j = tl.arange(0, LANES)
    near = (t + j < rows) & (j < PER) & ((position + j) // PER == position // PER)
    same = tl.load(sequences + t + j, mask=near, other=-1) == sequence
    same = same & near & (tl.load(positions + t + j, mask=near, other=-1) == position + j)
    count = tl.min(tl.where(same, LANES, j), 0)
    return tl.where(follows & (position % PER != 0), 0, tl.minimum(count, PER))


@kernel
def _query_limbs(
    q: tl.tensor, q_scales: tl.tensor, t: tl.tensor, head: tl.tensor, there: tl.tensor,
    HEADS: tl.constexpr, SIZE: tl.constexpr, LANES: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    d = tl.arange(0, LANES)
    at = (t * HEADS + head)[:, None] * SIZE + d[None, :]
    whole = tl.load(q + at, mask=there[:, None] & (d < SIZE)[None, :], other=0).to(tl.int32)
    hi = high_limb(whole)
    return hi.to(tl.int8), (whole - hi * 256).to(tl.int8), tl.load(q_scales + t * HEADS + head, mask=there, other=0.0)


@kernel
def _scores(
    q_high: tl.tensor, q_low: tl.tensor, q_scale: tl.tensor, keys: tl.tensor, key_scales: tl.tensor, entry: tl.tensor,
    live: tl.tensor, factor: tl.tensor, SIZE: tl.constexpr, LANES: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    d = tl.arange(0, LANES)
    k = tl.load(
        keys + entry[None, :] * SIZE + d[:, None], mask=live[None, :] & (d < SIZE)[:, None], other=0
    ).to(tl.int32)  # fmt: skip
    hi = high_limb(k)
    k_high = hi.to(tl.int8)
    k_low = (k - hi * 256).to(tl.int8)
    middle = tl.dot(q_low, k_high, tl.dot(q_high, k_low, out_dtype=tl.int32), out_dtype=tl.int32)
    dot = tl.dot(q_high, k_high, out_dtype=tl.int32) * 65536 + middle * 256
    dot += tl.dot(q_low, k_low, out_dtype=tl.int32)
    scale = tl.load(key_scales + entry, mask=live, other=0.0)
    return ((dot.to(tl.float32) * q_scale[:, None]) * scale[None, :]) * factor


@kernel
def _row_max(
    q: tl.tensor, q_scales: tl.tensor, keys: tl.tensor, key_scales: tl.tensor, tables: tl.tensor,
    sequences: tl.tensor, positions: tl.tensor, maxima: tl.tensor, factor: tl.tensor, rows: tl.tensor,
    pages: tl.tensor, span: tl.tensor, parts: tl.tensor,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr, PAGE: tl.constexpr, LANES: tl.constexpr,
    TILE: tl.constexpr, KEYS: tl.constexpr,
) -> None:  # fmt: skip
    GROUP: tl.constexpr = HEADS // KV_HEADS
    t = tl.program_id(0)
    kv = tl.program_id(1)
    part = tl.program_id(2)
    count = _rows_of_tile(t, rows, sequences, positions, TILE // GROUP, TILE)
    if count == 0:
        return
    m = tl.arange(0, TILE)
    there = m < count * GROUP
    row = t + m // GROUP
    head = kv * GROUP + m % GROUP
    position = tl.load(positions + row, mask=there, other=0)
    q_high, q_low, q_scale = _query_limbs(q, q_scales, row, head, there, HEADS, SIZE, LANES)
    table = tables + tl.load(sequences + t) * pages
    end = tl.minimum(tl.max(position, 0) + 1, (part + 1) * span)
    highest = tl.full((TILE,), float("-inf"), tl.float32)
    for first in range(part * span, end, KEYS):
        n = first + tl.arange(0, KEYS)
        entry = (tl.load(table + n // PAGE, mask=n < end, other=0) * KV_HEADS + kv) * PAGE + n % PAGE
        score = _scores(q_high, q_low, q_scale, keys, key_scales, entry, n < end, factor, SIZE, LANES)
        seen = (n < end)[None, :] & (n[None, :] <= position[:, None])
        # A score that is not finite becomes +infinity, which is larger than all, so that the row is known by it.
        score = tl.where(magnitude_bits(score) < INFINITE_BITS, score, float("inf"))
        highest = tl.maximum(highest, tl.max(tl.where(seen, score, float("-inf")), 1))
    tl.store(maxima + (row * HEADS + head).to(tl.int64) * parts + part, highest, mask=there)


@kernel
def _weigh(
    q: tl.tensor, q_scales: tl.tensor, keys: tl.tensor, key_scales: tl.tensor, values: tl.tensor,
    value_scales: tl.tensor, prefix_max: tl.tensor, tables: tl.tensor, sequences: tl.tensor, positions: tl.tensor,
    exp: tl.tensor, maxima: tl.tensor, numerators: tl.tensor, denominators: tl.tensor, faults: tl.tensor,
    factor: tl.tensor, rows: tl.tensor, pages: tl.tensor, span: tl.tensor, parts: tl.tensor,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr, PAGE: tl.constexpr, LANES: tl.constexpr,
    TILE: tl.constexpr, KEYS: tl.constexpr,
) -> None:  # fmt: skip
    GROUP: tl.constexpr = HEADS // KV_HEADS
    t = tl.program_id(0)
    kv = tl.program_id(1)
    part = tl.program_id(2)
    count = _rows_of_tile(t, rows, sequences, positions, TILE // GROUP, TILE)
    if count == 0:
        return
    m = tl.arange(0, TILE)
    there = m < count * GROUP
    row = t + m // GROUP
    head = kv * GROUP + m % GROUP
    at = (row * HEADS + head).to(tl.int64) * parts
    highest = tl.full((TILE,), float("-inf"), tl.float32)
    for other in range(parts):
        highest = tl.maximum(highest, tl.load(maxima + at + other, mask=there, other=0.0))
    fault = highest == float("inf")
    tl.store(faults + row, 1, mask=there & fault)
    position = tl.load(positions + row, mask=there, other=0)
    q_high, q_low, q_scale = _query_limbs(q, q_scales, row, head, there, HEADS, SIZE, LANES)
    table = tables + tl.load(sequences + t) * pages
    own = (tl.load(table + position // PAGE) * KV_HEADS + kv) * PAGE + position % PAGE
    top = tl.load(prefix_max + own, mask=there, other=0.0)
    inverse = tl.where(top > 0.0, tl.div_rn(1.0, tl.where(top > 0.0, top, 1.0)), 0.0)
    end = tl.minimum(tl.max(position, 0) + 1, (part + 1) * span)
    d = tl.arange(0, LANES)
    numerator = tl.zeros((TILE, LANES), tl.int64)
    denominator = tl.zeros((TILE,), tl.int64)
    for first in range(part * span, end, KEYS):
        n = first + tl.arange(0, KEYS)
        entry = (tl.load(table + n // PAGE, mask=n < end, other=0) * KV_HEADS + kv) * PAGE + n % PAGE
        score = _scores(q_high, q_low, q_scale, keys, key_scales, entry, n < end, factor, SIZE, LANES)
        seen = (n < end)[None, :] & (n[None, :] <= position[:, None]) & (there & (fault == 0))[:, None]
        f = (tl.where(seen, highest[:, None], 0.0) - tl.where(seen, score, 0.0)) * 4096.0
        p = tl.load(exp + rint(tl.where(f < 55296.0, f, 55296.0)).to(tl.int32), mask=seen, other=0)
        denominator += tl.sum(p.to(tl.int64), 1)
        scale = tl.load(value_scales + entry, mask=n < end, other=0.0)
        w = rint((p.to(tl.float32) * scale[None, :]) * inverse[:, None]).to(tl.int32)
        rest = high_limb(w)
        low = (w - rest * 256).to(tl.int8)
        high = high_limb(rest)
        v = tl.load(
            values + entry[:, None] * SIZE + d[None, :], mask=(n < end)[:, None] & (d < SIZE)[None, :], other=0
        )  # fmt: skip
        sums = tl.dot(high.to(tl.int8), v, out_dtype=tl.int32) * 65536
        sums += tl.dot((rest - high * 256).to(tl.int8), v, out_dtype=tl.int32) * 256
        numerator += (sums + tl.dot(low, v, out_dtype=tl.int32)).to(tl.int64)
    out = (at + part)[:, None] * SIZE + d[None, :]
    tl.store(numerators + out, numerator, mask=there[:, None] & (d < SIZE)[None, :])
    tl.store(denominators + at + part, denominator, mask=there)


@kernel
def _join(
    numerators: tl.tensor, denominators: tl.tensor, prefix_max: tl.tensor, tables: tl.tensor, sequences: tl.tensor,
    positions: tl.tensor, out: tl.tensor, pages: tl.tensor, parts: tl.tensor,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr, PAGE: tl.constexpr, LANES: tl.constexpr,
) -> None:  # fmt: skip
    t = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    kv = head // (HEADS // KV_HEADS)
    d = tl.arange(0, LANES)
    at = (t * HEADS + head) * parts
    numerator = tl.zeros((LANES,), tl.int64)
    denominator = tl.zeros((), tl.int64)
    for part in range(parts):
        numerator += tl.load(numerators + (at + part) * SIZE + d, mask=d < SIZE, other=0)
        denominator += tl.load(denominators + at + part)
    position = tl.load(positions + t)
    page = tl.load(tables + tl.load(sequences + t) * pages + position // PAGE)
    top = tl.load(prefix_max + (page * KV_HEADS + kv) * PAGE + position % PAGE)
    # Only a row with a numeric fault has no weight at all.
    ratio = tl.div_rn(numerator.to(tl.float32), tl.maximum(denominator, 1).to(tl.float32))
    tl.store(out + (t * HEADS + head) * SIZE + d, ratio * top, mask=d < SIZE)


def attend(
    q: Tensor,
    q_scales: Tensor,
    cache: KvLayer,
    tables: Tensor,
    sequences: Tensor,
    positions: Tensor,
    exp: Tensor,
    factor: float,
    out: Tensor,
    faults: Tensor,
    tile: int | None = None,
    parts: int | None = None,
) -> None:
    """As the twin, `factor` a number that binary32 holds. `tile` and `parts` change no bit."""
    rows, heads, size = q.shape
    kv_heads, page = cache.keys.shape[1:3]
    group, pages = heads // kv_heads, tables.shape[1]
    sequences_at_most = tables.shape[0]
    if tile is None:
        tile = DECODE_TILE if rows <= 4 * sequences_at_most and not INTERPRETED else PREFILL_TILE
    tile = max(tile, power_of_two(group))
    capacity = pages * page
    if parts is None:
        tiles = max(1, rows * group // tile) * kv_heads
        parts = 1 if INTERPRETED else max(1, min(_PROGRAMS // tiles, capacity // _FEWEST_KEYS))
    # A part begins where a tile of keys does.
    span = -(-capacity // (parts * _KEYS)) * _KEYS
    maxima = empty((rows, heads, parts), dtype=float32, device=q.device)
    numerators = empty((rows, heads, parts, size), dtype=int64, device=q.device)
    denominators = empty((rows, heads, parts), dtype=int64, device=q.device)
    shape = {"HEADS": heads, "KV_HEADS": kv_heads, "SIZE": size, "PAGE": page, "LANES": max(32, power_of_two(size))}
    grid = (rows, kv_heads, parts)
    # A tile's sums are 64-bit and stay in registers.
    warps = 8 if tile * shape["LANES"] >= 64 * 128 else 4
    launch(
        _row_max, grid, q, q_scales, cache.keys, cache.key_scales, tables, sequences, positions, maxima, factor, rows,
        pages, span, parts, **shape, TILE=tile, KEYS=_KEYS, warps=warps, stages=_STAGES,
    )  # fmt: skip
    launch(
        _weigh, grid, q, q_scales, *cache, tables, sequences, positions, exp, maxima, numerators, denominators,
        faults.view(cache.values.dtype), factor, rows, pages, span, parts, **shape, TILE=tile, KEYS=_KEYS,
        warps=warps, stages=_STAGES,
    )  # fmt: skip
    launch(
        _join, (rows, heads), numerators, denominators, cache.value_prefix_max, tables, sequences, positions, out,
        pages, parts, **shape, warps=1,
    )  # fmt: skip
