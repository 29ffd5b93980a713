"""The steps of the mode `bf16` as Triton kernels; twins in `ops/bf16.py`. Matrix products of whole layers are cuBLAS's.

| kernel | a program is |
|---|---|
| `_norm` | a row |
| `_silu`, `_cast` | 1,024 elements of a row |
| `_rotate_store` | one head of one row |
| `_attend`, `_join` | [rows x heads of one key/value head] x a part of the keys, softmax as it goes; then one head of one row |
| `_shrink`, `_expand` | as in `lora.py`, by the same tables: one launch each for all adapters of a projection group |
"""

from typing import Any, Final

import torch
import triton.language as tl
from torch import Tensor, empty, float32

from openledger.kernels.ops.bf16 import bf16, rows_of
from openledger.kernels.ops.lora_layout import FIELDS, FIRST_MODULE, GROUPS, MODULE_FIELDS, MODULES
from openledger.kernels.ops.lora_plan import CHUNK, ENTRY_FIELDS
from openledger.kernels.ops.rotary import KvLayer
from openledger.kernels.ops.triton.arithmetic import INFINITE_BITS, magnitude_bits
from openledger.kernels.ops.triton.attention import DECODE_TILE, PREFILL_TILE, _rows_of_tile
from openledger.kernels.ops.triton.launch import INTERPRETED, kernel, launch, power_of_two
from openledger.kernels.ops.triton.lora import ROWS, Tables

_LANES: Final = 1024
_KEYS: Final = 64
_PROGRAMS: Final = 264
_FEWEST_KEYS: Final = 256
_WIDTH: Final = 128
_COLUMNS: Final = 128
_RANKS: Final = 32
_WIDENED = tl.constexpr(INTERPRETED)
"""The interpreter multiplies the bits of bf16 as if they were integers: there operands become binary32 first."""


@kernel
def _dot(a: tl.tensor, b: tl.tensor, sums: tl.tensor) -> tl.tensor:
    if _WIDENED:
        return sums + tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee", out_dtype=tl.float32)
    else:
        return tl.dot(a, b, sums, out_dtype=tl.float32)


@kernel
def _norm(
    x: tl.tensor, weight: tl.tensor, epsilon: tl.tensor, out: tl.tensor, faults: tl.tensor, size: tl.tensor,
    LANES: tl.constexpr,
) -> None:  # fmt: skip
    t = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, LANES)
    row = tl.load(x + t * size + k, mask=k < size, other=0.0)
    y = row * (1.0 / tl.sqrt(tl.sum(row * row, 0) / size + epsilon)) * tl.load(weight + k, mask=k < size, other=0.0)
    tl.store(out + t * size + k, y.to(tl.bfloat16), mask=k < size)
    tl.store(faults + t, 1, mask=tl.max(magnitude_bits(y), 0) >= INFINITE_BITS)


@kernel
def _cast(x: tl.tensor, out: tl.tensor, faults: tl.tensor, size: tl.tensor, LANES: tl.constexpr) -> None:
    t = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * LANES + tl.arange(0, LANES)
    y = tl.load(x + t * size + k, mask=k < size, other=0.0)
    tl.store(out + t * size + k, y.to(tl.bfloat16), mask=k < size)
    tl.store(faults + t, 1, mask=tl.max(magnitude_bits(y), 0) >= INFINITE_BITS)


@kernel
def _silu(y: tl.tensor, out: tl.tensor, faults: tl.tensor, size: tl.tensor, LANES: tl.constexpr) -> None:
    t = tl.program_id(0).to(tl.int64)
    k = tl.program_id(1) * LANES + tl.arange(0, LANES)
    gate = tl.load(y + t * 2 * size + k, mask=k < size, other=0.0)
    product = gate / (1.0 + tl.exp(-gate)) * tl.load(y + t * 2 * size + size + k, mask=k < size, other=0.0)
    tl.store(out + t * size + k, product.to(tl.bfloat16), mask=k < size)
    tl.store(faults + t, 1, mask=tl.max(magnitude_bits(product), 0) >= INFINITE_BITS)


@kernel
def _rotate_store(
    y: tl.tensor, table: tl.tensor, positions: tl.tensor, slots: tl.tensor, q: tl.tensor, keys: tl.tensor,
    values: tl.tensor, faults: tl.tensor, width: tl.tensor,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr, PAGE: tl.constexpr, PAIRS: tl.constexpr,
) -> None:  # fmt: skip
    t = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    pair = tl.arange(0, PAIRS)
    there = pair < SIZE // 2
    x = y + t * width + head * SIZE + 2 * pair
    x0 = tl.load(x, mask=there, other=0.0)
    x1 = tl.load(x + 1, mask=there, other=0.0)
    largest = tl.max(tl.maximum(magnitude_bits(x0), magnitude_bits(x1)), 0)
    tl.store(faults + t, 1, mask=largest >= INFINITE_BITS)
    slot = tl.load(slots + t)
    entry = ((slot // PAGE) * KV_HEADS + (head - HEADS) % KV_HEADS) * PAGE + slot % PAGE
    if head >= HEADS + KV_HEADS:
        tl.store(values + entry * SIZE + 2 * pair, x0.to(tl.bfloat16), mask=there)
        tl.store(values + entry * SIZE + 2 * pair + 1, x1.to(tl.bfloat16), mask=there)
    else:
        angle = table + (tl.load(positions + t) * (SIZE // 2) + pair) * 2
        c = tl.load(angle, mask=there, other=0.0)
        s = tl.load(angle + 1, mask=there, other=0.0)
        into = q + (t * HEADS + head) * SIZE
        if head >= HEADS:
            into = keys + entry * SIZE
        tl.store(into + 2 * pair, (x0 * c - x1 * s).to(tl.bfloat16), mask=there)
        tl.store(into + 2 * pair + 1, (x0 * s + x1 * c).to(tl.bfloat16), mask=there)


@kernel
def _attend(
    q: tl.tensor, keys: tl.tensor, values: tl.tensor, tables: tl.tensor, sequences: tl.tensor, positions: tl.tensor,
    maxima: tl.tensor, denominators: tl.tensor, numerators: tl.tensor, factor: tl.tensor, rows: tl.tensor,
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
    d = tl.arange(0, LANES)
    query = tl.load(
        q + (row * HEADS + head).to(tl.int64)[:, None] * SIZE + d[None, :], mask=there[:, None] & (d < SIZE)[None, :],
        other=0.0,
    )  # fmt: skip
    table = tables + tl.load(sequences + t) * pages
    end = tl.minimum(tl.max(position, 0) + 1, (part + 1) * span)
    highest = tl.full((TILE,), float("-inf"), tl.float32)
    denominator = tl.zeros((TILE,), tl.float32)
    numerator = tl.zeros((TILE, LANES), tl.float32)
    for first in range(part * span, end, KEYS):
        n = first + tl.arange(0, KEYS)
        entry = (tl.load(table + n // PAGE, mask=n < end, other=0) * KV_HEADS + kv) * PAGE + n % PAGE
        k = tl.load(
            keys + entry[None, :] * SIZE + d[:, None], mask=(n < end)[None, :] & (d < SIZE)[:, None], other=0.0
        )  # fmt: skip
        score = _dot(query, k, tl.zeros((TILE, KEYS), tl.float32)) * factor
        seen = (n < end)[None, :] & (n[None, :] <= position[:, None])
        score = tl.where(seen, score, float("-inf"))
        above = tl.maximum(highest, tl.max(score, 1))
        # A row that sees none of these keys has no maximum yet.
        base = tl.where(above == float("-inf"), 0.0, above)
        keep = tl.exp(highest - base)
        p = tl.exp(score - base[:, None])
        denominator = denominator * keep + tl.sum(p, 1)
        v = tl.load(
            values + entry[:, None] * SIZE + d[None, :], mask=(n < end)[:, None] & (d < SIZE)[None, :], other=0.0
        )  # fmt: skip
        numerator = _dot(p.to(tl.bfloat16), v, numerator * keep[:, None])
        highest = above
    at = (row * HEADS + head).to(tl.int64) * parts + part
    tl.store(maxima + at, highest, mask=there)
    tl.store(denominators + at, denominator, mask=there)
    tl.store(numerators + at[:, None] * SIZE + d[None, :], numerator, mask=there[:, None] & (d < SIZE)[None, :])


@kernel
def _join(
    maxima: tl.tensor, denominators: tl.tensor, numerators: tl.tensor, out: tl.tensor, parts: tl.tensor,
    HEADS: tl.constexpr, SIZE: tl.constexpr, LANES: tl.constexpr, PARTS: tl.constexpr,
) -> None:  # fmt: skip
    head = tl.program_id(0).to(tl.int64) * HEADS + tl.program_id(1)
    part = tl.arange(0, PARTS)
    d = tl.arange(0, LANES)
    highest = tl.load(maxima + head * parts + part, mask=part < parts, other=float("-inf"))
    share = tl.exp(highest - tl.max(highest, 0))
    denominator = tl.sum(share * tl.load(denominators + head * parts + part, mask=part < parts, other=0.0), 0)
    there = (part < parts)[:, None] & (d < SIZE)[None, :]
    each = tl.load(numerators + (head * parts + part)[:, None] * SIZE + d[None, :], mask=there, other=0.0)
    tl.store(out + head * SIZE + d, tl.sum(each * share[:, None], 0) / denominator, mask=d < SIZE)


@kernel
def _shrink(
    x: tl.tensor, order: tl.tensor, tiles: tl.tensor, entries: tl.tensor, chunks: tl.tensor, count: tl.tensor,
    u: tl.tensor, columns: tl.tensor, width: tl.tensor, place: tl.tensor, group: tl.tensor, FIELDS: tl.constexpr,
    ENTRY: tl.constexpr, ROWS: tl.constexpr, RANKS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    m = tl.arange(0, ROWS)
    r = tl.arange(0, RANKS)
    lane = tl.arange(0, COLUMNS)
    for index in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        chunk = chunks + index * 3
        tile = tiles + tl.load(chunk) * 4
        entry = entries + tl.load(chunk + 1) * ENTRY
        rank = tl.load(chunk + 2)
        at = tl.load(entry + 2).to(tl.pointer_type(tl.int64)) + place * FIELDS
        ranks = tl.load(at) - rank
        if ranks > 0:
            data = tl.load(entry)
            a = (data + tl.load(at + 1)).to(tl.pointer_type(tl.int8)) + rank * columns
            a_scales = (data + tl.load(at + 2)).to(tl.pointer_type(tl.float32)) + rank
            first = tl.load(tile)
            live = m < tl.load(tile + 1)
            t = tl.load(order + first + m, mask=live, other=0)
            sums = tl.zeros((ROWS, RANKS), tl.float32)
            for start in range(0, columns, COLUMNS):
                k = start + lane
                rows = tl.load(
                    x + t[:, None] * columns + k[None, :], mask=live[:, None] & (k < columns)[None, :], other=0.0
                )  # fmt: skip
                part = tl.load(
                    a + r[None, :] * columns + k[:, None], mask=(r < ranks)[None, :] & (k < columns)[:, None], other=0
                )  # fmt: skip
                sums = _dot(rows, part.to(tl.float32).to(tl.bfloat16), sums)
            scale = tl.load(a_scales + r, mask=r < ranks, other=0.0)
            into = u + (first + m)[:, None] * width + tl.load(entry + 3 + group) + rank + r[None, :]
            tl.store(into, sums * scale[None, :], mask=live[:, None] & (r < ranks)[None, :])


@kernel
def _expand(
    u: tl.tensor, order: tl.tensor, tiles: tl.tensor, entries: tl.tensor, count: tl.tensor, y: tl.tensor,
    width: tl.tensor, outputs: tl.tensor, place: tl.tensor, group: tl.tensor, FIELDS: tl.constexpr,
    ENTRY: tl.constexpr, MODULES: tl.constexpr, WHERE: tl.constexpr, EACH: tl.constexpr, ROWS: tl.constexpr,
    RANKS: tl.constexpr, WIDTH: tl.constexpr,
) -> None:  # fmt: skip
    m = tl.arange(0, ROWS)
    lane = tl.arange(0, RANKS)
    c = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    module = tl.program_id(2)
    for index in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        tile = tiles + index * 4
        first = tl.load(tile)
        first_entry = tl.load(tile + 2)
        live = m < tl.load(tile + 1)
        t = tl.load(order + first + m, mask=live, other=0)
        field = place * FIELDS + WHERE + module * EACH
        one = tl.load(entries + first_entry * ENTRY + 2).to(tl.pointer_type(tl.int64)) + field
        columns = tl.load(one + 3)
        if tl.program_id(1) * WIDTH < columns:
            into = y + t[:, None] * outputs + tl.load(one + 2) + c[None, :]
            mine = live[:, None] & (c < columns)[None, :]
            result = tl.load(into, mask=mine, other=0.0)
            for number in range(first_entry, tl.load(tile + 3)):
                entry = entries + number * ENTRY
                at = tl.load(entry + 2).to(tl.pointer_type(tl.int64)) + field
                rank = tl.load(at)
                if rank > 0:
                    data = tl.load(entry)
                    b = (data + tl.load(at + 4)).to(tl.pointer_type(tl.int8))
                    b_scales = (data + tl.load(at + 5)).to(tl.pointer_type(tl.float32))
                    alpha = tl.load(tl.load(entry + 1).to(tl.pointer_type(tl.float32)) + place * MODULES + module)
                    source = u + (first + m)[:, None] * width + tl.load(entry + 3 + group) + tl.load(at + 1)
                    sums = tl.zeros((ROWS, WIDTH), tl.float32)
                    for start in range(0, rank, RANKS):
                        r = start + lane
                        part = tl.load(source + r[None, :], mask=live[:, None] & (r < rank)[None, :], other=0.0)
                        weights = tl.load(
                            b + r[:, None] * columns + c[None, :], mask=(r < rank)[:, None] & (c < columns)[None, :],
                            other=0,
                        )  # fmt: skip
                        sums = _dot(part.to(tl.bfloat16), weights.to(tl.float32).to(tl.bfloat16), sums)
                    scale = tl.load(b_scales + c, mask=c < columns, other=0.0)
                    result = result + alpha * (sums * scale[None, :])
            tl.store(into, result, mask=mine)


def norm_quantize(x: Tensor, weight: Tensor, epsilon: float, limbs: Tensor, scales: Tensor, faults: Tensor) -> None:
    """As the twin."""
    lanes = power_of_two(x.shape[1])
    launch(
        _norm, (len(x),), x, weight, epsilon, rows_of(limbs), faults.view(torch.int8), x.shape[1], LANES=lanes,
        warps=8 if lanes >= 4096 else 4,
    )  # fmt: skip


def quantize_rows(x: Tensor, limbs: Tensor, scales: Tensor, faults: Tensor) -> None:
    """As the twin."""
    grid = (len(x), -(-x.shape[1] // _LANES))
    launch(_cast, grid, x, rows_of(limbs), faults.view(torch.int8), x.shape[1], LANES=_LANES)


def silu_quantize(y: Tensor, sigmoid: Tensor, limbs: Tensor, scales: Tensor, faults: Tensor) -> None:
    """As the twin."""
    size = y.shape[1] // 2
    launch(_silu, (len(y), -(-size // _LANES)), y, rows_of(limbs), faults.view(torch.int8), size, LANES=_LANES)


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
    """As the twin."""
    rows, heads, size = q.shape
    kv_heads, page = cache.keys.shape[1:3]
    launch(
        _rotate_store, (rows, heads + 2 * kv_heads), y, table, positions, slots, bf16(q), bf16(cache.keys),
        bf16(cache.values), faults.view(torch.int8), y.shape[1],
        HEADS=heads, KV_HEADS=kv_heads, SIZE=size, PAGE=page, PAIRS=power_of_two(size // 2), warps=1,
    )  # fmt: skip


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
    """As the twin. Rows of one sequence stand together in a batch."""
    rows, heads, size = q.shape
    kv_heads, page = cache.keys.shape[1:3]
    group, pages = heads // kv_heads, tables.shape[1]
    if tile is None:
        tile = DECODE_TILE if rows <= 4 * tables.shape[0] and not INTERPRETED else PREFILL_TILE
    tile = max(tile, power_of_two(group))
    if parts is None:
        tiles = max(1, rows * group // tile) * kv_heads
        parts = 1 if INTERPRETED else max(1, min(_PROGRAMS // tiles, pages * page // _FEWEST_KEYS))
    span = -(-pages * page // (parts * _KEYS)) * _KEYS
    maxima = empty((rows, heads, parts), dtype=float32, device=q.device)
    denominators = empty((rows, heads, parts), dtype=float32, device=q.device)
    numerators = empty((rows, heads, parts, size), dtype=float32, device=q.device)
    lanes = max(16, power_of_two(size))
    launch(
        _attend, (rows, kv_heads, parts), bf16(q), bf16(cache.keys), bf16(cache.values), tables, sequences, positions,
        maxima, denominators, numerators, factor, rows, pages, span, parts, HEADS=heads, KV_HEADS=kv_heads, SIZE=size,
        PAGE=page, LANES=lanes, TILE=tile, KEYS=_KEYS, warps=8 if tile * lanes >= 64 * 128 else 4, stages=1,
    )  # fmt: skip
    launch(
        _join, (rows, heads), maxima, denominators, numerators, out, parts, HEADS=heads, SIZE=size, LANES=lanes,
        PARTS=power_of_two(parts), warps=1,
    )  # fmt: skip


def lora_run(limbs: Tensor, scales: Tensor, tables: Tables, layer: int, group: str, y: Tensor, faults: Tensor) -> None:
    """As the twin, with the tables of `lora.lora_plan`."""
    index = GROUPS.index(group)
    place: Any = layer * len(GROUPS) + index
    width = tables.u.shape[1]
    if not tables.grids[index]:
        return
    columns = limbs.shape[2]
    launch(
        _shrink, (tables.grids[index],), rows_of(limbs), tables.order, tables.tiles, tables.entries,
        tables.chunks[index], tables.counts[1 + index :], tables.u, columns, width, place, index, FIELDS=FIELDS,
        ENTRY=ENTRY_FIELDS, ROWS=ROWS, RANKS=CHUNK,
        COLUMNS=min(1024, power_of_two(columns)) if INTERPRETED else _COLUMNS,
    )  # fmt: skip
    tile = min(1024, power_of_two(tables.widths[index])) if INTERPRETED else _WIDTH
    launch(
        _expand, (tables.grids[-1], -(-tables.widths[index] // tile), MODULES), tables.u, tables.order, tables.tiles,
        tables.entries, tables.counts, y, width, y.shape[1], place, index, FIELDS=FIELDS, ENTRY=ENTRY_FIELDS,
        MODULES=MODULES, WHERE=FIRST_MODULE, EACH=MODULE_FIELDS, ROWS=ROWS, RANKS=_RANKS, WIDTH=tile,
    )  # fmt: skip
