"""Grouped LoRA: every adapter of a batch, of any rank, in two launches per projection group, without atomics.

Rows that use the same adapters in the same order are taken together, wherever they stand in the batch, and cut in tiles.
`_shrink` computes `u` for a tile and up to `_RANKS` rows of the stacked A matrices; `_expand` owns a tile of `y` within one
module's columns, quantises `u` per module and adds the adapters one after the other, in the request's order. What a
program does is a row of int64 in `tasks`; matrices are named by their addresses, so adapters may lie anywhere.

| | a row of `tasks` |
|---|---|
| shrink | first row in `order`, rows, address of A's part, of its scales, ranks of it, first column of `u` |
| expand | first row in `order`, rows, first and last of `entries`, first column of `y`, width |

An entry: address of B, of its scales, of alpha, rank, first column of `u`.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
import triton.language as tl
from torch import Tensor

from openledger.kernels.ops.lora import LoraGroup, LoraRows
from openledger.kernels.ops.triton.arithmetic import clamped, high_limb, magnitude_bits, q16_scale
from openledger.kernels.ops.triton.launch import INTERPRETED, kernel, launch, power_of_two

ROWS: Final = 16
"""Rows of a tile: a matrix unit's least. Decoding has few rows per adapter."""

RANKS: Final = 32
"""Rows of A that a program takes, and terms of a product with B at a time."""

_WIDTH: Final = 128
_COLUMNS: Final = 128


@kernel
def _shrink(
    limbs: tl.tensor, scales: tl.tensor, order: tl.tensor, tasks: tl.tensor, u: tl.tensor, rows: tl.tensor,
    columns: tl.tensor, width: tl.tensor, ROWS: tl.constexpr, RANKS: tl.constexpr, COLUMNS: tl.constexpr,
) -> None:  # fmt: skip
    task = tasks + tl.program_id(0) * 6
    first = tl.load(task)
    count = tl.load(task + 1)
    a = tl.load(task + 2).to(tl.pointer_type(tl.int8))
    a_scales = tl.load(task + 3).to(tl.pointer_type(tl.float32))
    ranks = tl.load(task + 4)
    m = tl.arange(0, ROWS)
    r = tl.arange(0, RANKS)
    lane = tl.arange(0, COLUMNS)
    t = tl.load(order + first + m, mask=m < count, other=0)
    low = rows.to(tl.int64) * columns
    hi = tl.zeros((ROWS, RANKS), tl.int32)
    lo = tl.zeros((ROWS, RANKS), tl.int32)
    for start in range(0, columns, COLUMNS):
        k = start + lane
        there = (m < count)[:, None] & (k < columns)[None, :]
        at = limbs + t[:, None] * columns + k[None, :]
        part = tl.load(
            a + r[None, :] * columns + k[:, None], mask=(r < ranks)[None, :] & (k < columns)[:, None], other=0
        )  # fmt: skip
        hi = tl.dot(tl.load(at, mask=there, other=0), part, hi, out_dtype=tl.int32)
        lo = tl.dot(tl.load(at + low, mask=there, other=0), part, lo, out_dtype=tl.int32)
    acc = (hi.to(tl.int64) * 256 + lo.to(tl.int64)).to(tl.float32)
    s = tl.load(scales + t, mask=m < count, other=0.0)
    sa = tl.load(a_scales + r, mask=r < ranks, other=0.0)
    at = (first + m)[:, None] * width + tl.load(task + 5) + r[None, :]
    tl.store(u + at, (acc * s[:, None]) * sa[None, :], mask=(m < count)[:, None] & (r < ranks)[None, :])


@kernel
def _expand(
    u: tl.tensor, order: tl.tensor, tasks: tl.tensor, entries: tl.tensor, y: tl.tensor, faults: tl.tensor,
    width: tl.tensor, outputs: tl.tensor, ROWS: tl.constexpr, RANKS: tl.constexpr, WIDTH: tl.constexpr,
) -> None:  # fmt: skip
    task = tasks + tl.program_id(0) * 6
    columns = tl.load(task + 5)
    c = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    if tl.program_id(1) * WIDTH >= columns:
        return
    first = tl.load(task)
    count = tl.load(task + 1)
    m = tl.arange(0, ROWS)
    lane = tl.arange(0, RANKS)
    t = tl.load(order + first + m, mask=m < count, other=0)
    into = y + t[:, None] * outputs + tl.load(task + 4) + c[None, :]
    mine = (m < count)[:, None] & (c < columns)[None, :]
    result = tl.load(into, mask=mine, other=0.0)
    for index in range(tl.load(task + 2), tl.load(task + 3)):
        entry = entries + index * 5
        b = tl.load(entry).to(tl.pointer_type(tl.int8))
        b_scales = tl.load(entry + 1).to(tl.pointer_type(tl.float32))
        alpha = tl.load(tl.load(entry + 2).to(tl.pointer_type(tl.float32)))
        rank = tl.load(entry + 3)
        source = u + (first + m)[:, None] * width + tl.load(entry + 4)
        top = tl.zeros((ROWS,), tl.int32)
        for start in range(0, rank, RANKS):
            r = start + lane
            part = tl.load(source + r[None, :], mask=(m < count)[:, None] & (r < rank)[None, :], other=0.0)
            top = tl.maximum(top, tl.max(magnitude_bits(part), 1))
        s, live, fault = q16_scale(top)
        tl.store(faults + t, 1, mask=(m < count) & fault)
        hi = tl.zeros((ROWS, WIDTH), tl.int32)
        lo = tl.zeros((ROWS, WIDTH), tl.int32)
        for start in range(0, rank, RANKS):
            r = start + lane
            part = tl.load(source + r[None, :], mask=(m < count)[:, None] & (r < rank)[None, :], other=0.0)
            q = clamped(part, s[:, None], live[:, None], 32639.0)
            high = high_limb(q)
            tile = tl.load(
                b + r[:, None] * columns + c[None, :], mask=(r < rank)[:, None] & (c < columns)[None, :], other=0
            )  # fmt: skip
            hi = tl.dot(high.to(tl.int8), tile, hi, out_dtype=tl.int32)
            lo = tl.dot((q - high * 256).to(tl.int8), tile, lo, out_dtype=tl.int32)
        sb = tl.load(b_scales + c, mask=c < columns, other=0.0)
        v = ((hi * 256 + lo).to(tl.float32) * s[:, None]) * sb[None, :]
        result = result + alpha * v
    tl.store(into, result, mask=mine)


def lora_apply(limbs: Tensor, scales: Tensor, users: Sequence[LoraRows], y: Tensor, faults: Tensor) -> None:
    """As the twin. Groups keep `modules` on the CPU, everything else where `y` is."""
    together: dict[tuple[int, ...], list[Any]] = {}
    groups: dict[tuple[int, ...], tuple[LoraGroup, ...]] = {}
    for user in users:
        key = tuple(group.a.data_ptr() for group in user.groups)
        groups[key] = user.groups
        together.setdefault(key, []).append(np.arange(user.first, user.last))
    shrink: list[tuple[int, ...]] = []
    expand: list[tuple[int, ...]] = []
    entries: list[tuple[int, ...]] = []
    order: list[Any] = []
    first = 0
    for key, rows in together.items():
        member = np.concatenate(rows)
        order.append(member)
        areas, first_column = _areas(groups[key], entries)
        for start in range(first, first + len(member), ROWS):
            count = min(ROWS, first + len(member) - start)
            for group, column in zip(groups[key], first_column):
                total, columns = group.a.shape
                for rank in range(0, total, RANKS):
                    a = group.a.data_ptr() + rank * columns
                    a_scales = group.a_scales.data_ptr() + rank * 4
                    shrink.append((start, count, a, a_scales, min(RANKS, total - rank), column + rank))
            expand += [(start, count, *area) for area in areas]
        first += len(member)
    if not shrink:
        return
    device = y.device
    columns = max(task[5] + task[4] for task in shrink)
    u = torch.empty((first, columns), dtype=torch.float32, device=device)
    index = torch.from_numpy(np.concatenate(order)).to(device)
    launch(
        _shrink, (len(shrink),), limbs, scales, index, _table(shrink, device), u, limbs.shape[1], limbs.shape[2],
        columns, ROWS=ROWS, RANKS=RANKS, COLUMNS=min(1024, power_of_two(limbs.shape[2])) if INTERPRETED else _COLUMNS,
    )  # fmt: skip
    widest = max(task[5] for task in expand)
    width = min(1024, power_of_two(widest)) if INTERPRETED else _WIDTH
    launch(
        _expand, (len(expand), -(-widest // width)), u, index, _table(expand, device), _table(entries, device), y,
        faults.view(limbs.dtype), columns, y.shape[1], ROWS=ROWS, RANKS=RANKS, WIDTH=width,
    )  # fmt: skip


def _areas(groups: Sequence[LoraGroup], entries: list[tuple[int, ...]]) -> tuple[list[tuple[int, ...]], list[int]]:
    """The columns of `y` that adapters change, each with its entries in the adapters' order, and each adapter's first
    column of `u`."""
    by_columns: dict[tuple[int, int], list[tuple[int, ...]]] = {}
    first_column = []
    at = 0
    for group in groups:
        first_column.append(at)
        width_offset = 0
        for module, (rank, column, width, start) in enumerate(group.modules.tolist()):
            entry = (
                group.b.data_ptr() + start, group.b_scales.data_ptr() + width_offset * 4,
                group.alphas.data_ptr() + module * 4, rank, at,
            )  # fmt: skip
            by_columns.setdefault((column, width), []).append(entry)
            at += rank
            width_offset += width
    areas: list[tuple[int, ...]] = []
    for (column, width), members in by_columns.items():
        areas.append((len(entries), len(entries) + len(members), column, width))
        entries += members
    return areas, first_column


def _table(rows: list[tuple[int, ...]], device: torch.device) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64).to(device)
