"""Grouped LoRA: every adapter of a batch, of any rank, in two launches per projection group, without atomics.

`_shrink` computes `u` for a tile of rows and up to `CHUNK` rows of an adapter's stacked A matrices; `_expand` owns a tile of
`y` within one module's columns, quantises `u` per module and adds the adapters one after the other, in the request's order.
What there is to do is in the tables of `ops/lora_plan.py`, made and sent once per step; where a layer's matrices lie, a
program reads from the adapter's own table. `counts` says how many rows each table has: a program takes every n-th of them,
n the programs there are, so a launch recorded once with fixed tables serves any step that fits them.

| `counts` | rows of |
|---|---|
| 0 | `tiles` |
| 1 + g | `chunks` of group g |
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
import triton.language as tl
from torch import Tensor

from openledger.kernels.ops.lora import LoraRows, uses_of_groups
from openledger.kernels.ops.lora_layout import FIELDS, FIRST_MODULE, GROUPS, MODULE_FIELDS, MODULES
from openledger.kernels.ops.lora_plan import CHUNK, ENTRY_FIELDS, Plan, Use, plan_rows
from openledger.kernels.ops.triton.arithmetic import clamped, high_limb, magnitude_bits, q16_scale
from openledger.kernels.ops.triton.launch import INTERPRETED, kernel, launch, power_of_two

ROWS: Final = 16
"""Rows of a tile: a matrix unit's least. Decoding has few rows per adapter."""

RANKS: Final = 32
"""Terms of a product with B at a time."""

_WIDTH: Final = 128
_COLUMNS: Final = 128


@kernel
def _shrink(
    limbs: tl.tensor, scales: tl.tensor, order: tl.tensor, tiles: tl.tensor, entries: tl.tensor, chunks: tl.tensor,
    count: tl.tensor, u: tl.tensor, rows: tl.tensor, columns: tl.tensor, width: tl.tensor, place: tl.tensor,
    group: tl.tensor, FIELDS: tl.constexpr, ENTRY: tl.constexpr, ROWS: tl.constexpr, RANKS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    m = tl.arange(0, ROWS)
    r = tl.arange(0, RANKS)
    lane = tl.arange(0, COLUMNS)
    low = rows.to(tl.int64) * columns
    for index in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        tile = tiles + tl.load(chunks + index * 3) * 4
        entry = entries + tl.load(chunks + index * 3 + 1) * ENTRY
        rank = tl.load(chunks + index * 3 + 2)
        at = tl.load(entry + 2).to(tl.pointer_type(tl.int64)) + place * FIELDS
        ranks = tl.load(at) - rank
        if ranks > 0:
            data = tl.load(entry)
            a = (data + tl.load(at + 1) + rank * columns).to(tl.pointer_type(tl.int8))
            a_scales = (data + tl.load(at + 2) + rank * 4).to(tl.pointer_type(tl.float32))
            first = tl.load(tile)
            live = m < tl.load(tile + 1)
            t = tl.load(order + first + m, mask=live, other=0)
            hi = tl.zeros((ROWS, RANKS), tl.int32)
            lo = tl.zeros((ROWS, RANKS), tl.int32)
            for start in range(0, columns, COLUMNS):
                k = start + lane
                there = live[:, None] & (k < columns)[None, :]
                x = limbs + t[:, None] * columns + k[None, :]
                part = tl.load(
                    a + r[None, :] * columns + k[:, None], mask=(r < ranks)[None, :] & (k < columns)[:, None], other=0
                )  # fmt: skip
                hi = tl.dot(tl.load(x, mask=there, other=0), part, hi, out_dtype=tl.int32)
                lo = tl.dot(tl.load(x + low, mask=there, other=0), part, lo, out_dtype=tl.int32)
            acc = (hi.to(tl.int64) * 256 + lo.to(tl.int64)).to(tl.float32)
            s = tl.load(scales + t, mask=live, other=0.0)
            sa = tl.load(a_scales + r, mask=r < ranks, other=0.0)
            into = u + (first + m)[:, None] * width + tl.load(entry + 3 + group) + rank + r[None, :]
            tl.store(into, (acc * s[:, None]) * sa[None, :], mask=live[:, None] & (r < ranks)[None, :])


@kernel
def _expand(
    u: tl.tensor, order: tl.tensor, tiles: tl.tensor, entries: tl.tensor, count: tl.tensor, y: tl.tensor,
    faults: tl.tensor, width: tl.tensor, outputs: tl.tensor, place: tl.tensor, group: tl.tensor, FIELDS: tl.constexpr,
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
                    top = tl.zeros((ROWS,), tl.int32)
                    for start in range(0, rank, RANKS):
                        r = start + lane
                        part = tl.load(source + r[None, :], mask=live[:, None] & (r < rank)[None, :], other=0.0)
                        top = tl.maximum(top, tl.max(magnitude_bits(part), 1))
                    s, good, fault = q16_scale(top)
                    tl.store(faults + t, 1, mask=live & fault)
                    hi = tl.zeros((ROWS, WIDTH), tl.int32)
                    lo = tl.zeros((ROWS, WIDTH), tl.int32)
                    for start in range(0, rank, RANKS):
                        r = start + lane
                        part = tl.load(source + r[None, :], mask=live[:, None] & (r < rank)[None, :], other=0.0)
                        q = clamped(part, s[:, None], good[:, None], 32639.0)
                        high = high_limb(q)
                        weights = tl.load(
                            b + r[:, None] * columns + c[None, :], mask=(r < rank)[:, None] & (c < columns)[None, :],
                            other=0,
                        )  # fmt: skip
                        hi = tl.dot(high.to(tl.int8), weights, hi, out_dtype=tl.int32)
                        lo = tl.dot((q - high * 256).to(tl.int8), weights, lo, out_dtype=tl.int32)
                    sb = tl.load(b_scales + c, mask=c < columns, other=0.0)
                    v = ((hi * 256 + lo).to(tl.float32) * s[:, None]) * sb[None, :]
                    result = result + alpha * v
            tl.store(into, result, mask=mine)


class Tables(NamedTuple):
    """A plan on the device. `grids`: programs of `_shrink` for each group, then of `_expand`; `u` float32 [rows, width]."""

    order: Tensor
    tiles: Tensor
    entries: Tensor
    chunks: tuple[Tensor, ...]
    counts: Tensor
    u: Tensor
    grids: tuple[int, ...]
    widths: tuple[int, ...]
    uses: tuple[Use, ...] = ()


class FixedTables:
    """Tables whose place never changes, for launches that are recorded once and run for many steps: of `rows` rows that use
    adapters of which there are at most `adapters` together, each of `ranks` ranks at most (its modules of a group together).

    `fill` puts a step's plan in; without adapters nothing is done by them.
    """

    def __init__(
        self,
        device: str,
        *,
        rows: int,
        adapters: int,
        per_row: int,
        ranks: int,
        widths: tuple[int, ...],
        programs: int = 1024,
    ) -> None:
        chunks = rows * per_row * -(-ranks // CHUNK)
        sizes = [rows, rows * 4, adapters * ENTRY_FIELDS, *[chunks * 3] * len(GROUPS), 1 + len(GROUPS)]
        self._ends = np.cumsum(sizes).tolist()
        self._host = torch.zeros(self._ends[-1], dtype=torch.int64, pin_memory=device != "cpu")
        self._flat = torch.zeros(self._ends[-1], dtype=torch.int64, device=device)
        self._limits = (rows, rows, adapters, *[chunks] * len(GROUPS))
        parts = [self._flat[end - size : end] for end, size in zip(self._ends, sizes)]
        u = torch.empty((rows, per_row * ranks), dtype=torch.float32, device=device)
        grids = (*[min(programs, chunks)] * len(GROUPS), min(programs, rows))
        self.tables = Tables(parts[0], parts[1], parts[2], tuple(parts[3:-1]), parts[-1], u, grids, widths)
        self._uses: tuple[Use, ...] = ()

    def fill(self, plan: Plan | None) -> bool:
        """Whether the plan fits; if so, whatever was recorded with `tables` does it from now on."""
        host = self._host.numpy()
        counts = host[self._ends[-2] :]
        counts[:] = 0
        self._uses = ()
        if plan is not None:
            parts = (plan.order, plan.tiles, plan.entries, *plan.chunks)
            if any(len(part) > limit for part, limit in zip(parts, self._limits)):
                return False
            if max(plan.columns) > self.tables.u.shape[1]:
                return False
            for part, first in zip(parts, [0, *self._ends]):
                host[first : first + part.size] = part.reshape(-1)
            counts[:] = len(plan.tiles), *map(len, plan.chunks)
            self._uses = plan.uses
        self._flat.copy_(self._host, non_blocking=True)
        return True


def lora_plan(uses: Sequence[Use], device: str) -> Tables | None:
    """As the twin, with all tables sent to the device in one copy."""
    plan = plan_rows(uses, ROWS)
    if plan is None:
        return None
    counts = np.array([len(plan.tiles), *map(len, plan.chunks)], np.int64)
    parts = (plan.order, plan.tiles, plan.entries, *plan.chunks, counts)
    flat = torch.from_numpy(np.concatenate([part.reshape(-1) for part in parts])).to(device)
    ends = np.cumsum([part.size for part in parts]).tolist()
    tensors = [flat[end - part.size : end] for end, part in zip(ends, parts)]
    u = torch.empty((len(plan.order), max(plan.columns)), dtype=torch.float32, device=device)
    grids = (*map(len, plan.chunks), len(plan.tiles))
    return Tables(
        tensors[0], tensors[1], tensors[2], tuple(tensors[3:-1]), tensors[-1], u, grids, plan.widths, plan.uses
    )


def lora_run(limbs: Tensor, scales: Tensor, tables: Tables, layer: int, group: str, y: Tensor, faults: Tensor) -> None:
    """As the twin."""
    index = GROUPS.index(group)
    _run(limbs, scales, tables, layer * len(GROUPS) + index, index, y, faults)


def lora_apply(limbs: Tensor, scales: Tensor, users: Sequence[LoraRows], y: Tensor, faults: Tensor) -> None:
    """As the twin. Groups keep `modules` on the CPU, everything else where `y` is."""
    tables = lora_plan(uses_of_groups(users, lambda tensor: tensor.to(y.device)), str(y.device))
    if tables is not None:
        _run(limbs, scales, tables, 0, 0, y, faults)


def _run(limbs: Tensor, scales: Tensor, tables: Tables, place: int, group: int, y: Tensor, faults: Tensor) -> None:
    width = tables.u.shape[1]
    if not tables.grids[group]:
        return
    launch(
        _shrink, (tables.grids[group],), limbs, scales, tables.order, tables.tiles, tables.entries, tables.chunks[group],
        tables.counts[1 + group :], tables.u, limbs.shape[1], limbs.shape[2], width, place, group, FIELDS=FIELDS,
        ENTRY=ENTRY_FIELDS, ROWS=ROWS, RANKS=CHUNK,
        COLUMNS=min(1024, power_of_two(limbs.shape[2])) if INTERPRETED else _COLUMNS,
    )  # fmt: skip
    tile = min(1024, power_of_two(tables.widths[group])) if INTERPRETED else _WIDTH
    launch(
        _expand, (tables.grids[-1], -(-tables.widths[group] // tile), MODULES), tables.u, tables.order, tables.tiles,
        tables.entries, tables.counts, y, faults.view(limbs.dtype), width, y.shape[1], place, group, FIELDS=FIELDS,
        ENTRY=ENTRY_FIELDS, MODULES=MODULES, WHERE=FIRST_MODULE, EACH=MODULE_FIELDS, ROWS=ROWS, RANKS=RANKS,
        WIDTH=tile,
    )  # fmt: skip
