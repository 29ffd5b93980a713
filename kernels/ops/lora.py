"""A LoRA adapter's part of a linear layer.

    u = linear(A, x) with the layer's own q16(x);   v = linear(B, q16(u));   y = y + alpha * v

A and B are int8 with one scale per output row, as all weights; alpha is one binary32. Modules that share
an input (query, key and value; gate and up) are one group: their outputs are columns of one `y`.
|A part| <= 32639 * 127 * K as in the linear layer; the B part is exact in int32 for ranks up to 256.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import carray, prange, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from openledger.kernels.ops.host import PARALLEL_ROWS, ROW_BLOCK, kernel, parallel_kernel
from openledger.kernels.ops.lora_layout import FIELDS, FIRST_MODULE, GROUPS, MODULE_FIELDS, MODULES, LoraGroup
from openledger.kernels.ops.lora_plan import Plan, Use, plan_rows
from openledger.kernels.ops.quantize import largest_magnitude_host, quantize

_MAX_Q = np.float32(32639)
_TINY = np.float32(2.0**-100)
_FINITE = np.finfo(np.float32).max


class LoraRows(NamedTuple):
    """Rows `first` .. `last` of a batch that use these adapters' groups, in this order."""

    first: int
    last: int
    groups: tuple[LoraGroup, ...]


def lora_apply(limbs: Tensor, scales: Tensor, users: Sequence[LoraRows], y: Tensor, faults: Tensor) -> None:
    """Add the adapters of a whole batch; `users` are disjoint rows."""
    for user in users:
        for group in user.groups:
            lora_add(limbs, scales, user.first, user.last, group, y, faults)


def lora_add(limbs: Tensor, scales: Tensor, first: int, last: int, group: LoraGroup, y: Tensor, faults: Tensor) -> None:
    """Rows `first` .. `last` of `y` [T, N] += the adapter's part; `limbs` [2, T, K], `scales` [T]."""
    q = limbs[0, first:last].long() * 256 + limbs[1, first:last].long()
    acc = (q.double() @ group.a.double().t()).float()
    u = (acc * scales[first:last, None]) * group.a_scales
    rank_offset = width_offset = 0
    for (rank, column, width, start), alpha in zip(group.modules.tolist(), group.alphas):
        uq, us, fault = quantize(u[:, rank_offset : rank_offset + rank])
        faults[first:last] |= fault[:, 0]
        b = group.b[start : start + rank * width].view(rank, width)
        b_scales = group.b_scales[width_offset : width_offset + width]
        v = ((uq.double() @ b.double()).float() * us) * b_scales
        y[first:last, column : column + width] += alpha * v
        rank_offset += rank
        width_offset += width


def users_at(uses: Sequence[Use], layer: int, group: str) -> list[LoraRows]:
    """Who uses adapters at one place, as the definition takes it."""
    users = []
    for use in uses:
        groups = tuple(part for adapter in use.adapters if (part := adapter.group(layer, group)) is not None)
        if groups:
            users.append(LoraRows(use.first, use.last, groups))
    return users


def lora_plan(uses: Sequence[Use]) -> Plan | None:
    """What `lora_run` takes, for all layers of a step; None where nobody uses an adapter."""
    return plan_rows(uses, ROW_BLOCK)


def lora_run(limbs: Tensor, scales: Tensor, plan: Plan, layer: int, group: str, y: Tensor, faults: Tensor) -> None:
    """Add the adapters of a whole batch to one layer's group."""
    lora_apply(limbs, scales, users_at(plan.uses, layer, group), y, faults)


def _as_pointer(context: Any, address: Any) -> Any:
    """An address as a pointer that `carray` takes."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


_pointer: Any = intrinsic(_as_pointer)


@kernel
def _lora_rows(
    limbs: Any, scales: Any, order: Any, tiles: Any, entries: Any, place: int, y: Any, faults: Any, at: int
) -> None:
    """Tile `at`: for each of its rows, each adapter in turn."""
    columns = limbs.shape[2]
    first, count, first_entry, last_entry = tiles[at]
    x = np.empty(columns, np.int16)
    acc = np.empty(y.shape[1], np.int32)
    for index in range(first, first + count):
        t = order[index]
        for k in range(columns):
            x[k] = np.int16(np.int32(limbs[0, t, k]) * np.int32(256) + np.int32(limbs[1, t, k]))
        for entry in range(first_entry, last_entry):
            data = entries[entry, 0]
            row = carray(_pointer(entries[entry, 2] + place * FIELDS * 8), FIELDS, np.int64)
            ranks = row[0]
            if ranks == 0:
                continue
            a = carray(_pointer(data + row[1]), (ranks, columns), np.int8)
            a_scales = carray(_pointer(data + row[2]), ranks, np.float32)
            alphas = carray(_pointer(entries[entry, 1] + place * MODULES * 4), MODULES, np.float32)
            u = np.empty(ranks, np.float32)
            for r in range(ranks):
                weights = a[r]
                total = np.int64(0)
                whole = columns // 64
                for block in range(whole):
                    part = np.int32(0)
                    left = x[64 * block : 64 * block + 64]
                    right = weights[64 * block : 64 * block + 64]
                    for k in range(64):
                        part = np.int32(part + np.int32(np.int32(left[k]) * np.int32(right[k])))
                    total += part
                for k in range(64 * whole, columns):
                    total += np.int32(x[k]) * np.int32(weights[k])
                u[r] = np.float32(np.float32(np.float32(total) * scales[t]) * a_scales[r])
            for module in range(MODULES):
                field = FIRST_MODULE + MODULE_FIELDS * module
                rank, first_rank, column, width = row[field], row[field + 1], row[field + 2], row[field + 3]
                if rank == 0:
                    continue
                part_u = u[first_rank : first_rank + rank]
                largest = largest_magnitude_host(part_u)
                s = np.float32(1.0)
                if largest > _FINITE:
                    faults[t] = True
                sums = acc[:width]
                sums[:] = 0
                if largest >= _TINY and largest <= _FINITE:
                    s = np.float32(largest / _MAX_Q)
                    b = carray(_pointer(data + row[field + 4]), (rank, width), np.int8)
                    for r in range(rank):
                        whole_u = np.float32(np.rint(np.float32(part_u[r] / s)))
                        uq = np.int32(min(max(whole_u, -_MAX_Q), _MAX_Q))
                        b_row = b[r]
                        for n in range(width):
                            sums[n] = np.int32(sums[n] + np.int32(uq * np.int32(b_row[n])))
                alpha = alphas[module]
                into = y[t][column : column + width]
                b_scale = carray(_pointer(data + row[field + 5]), width, np.float32)
                for n in range(width):
                    v = np.float32(np.float32(np.float32(sums[n]) * s) * b_scale[n])
                    into[n] = np.float32(into[n] + np.float32(alpha * v))


@kernel
def _lora_serial(
    limbs: Any, scales: Any, order: Any, tiles: Any, entries: Any, place: int, y: Any, faults: Any
) -> None:
    for at in range(tiles.shape[0]):
        _lora_rows(limbs, scales, order, tiles, entries, place, y, faults, at)


@parallel_kernel
def _lora_parallel(
    limbs: Any, scales: Any, order: Any, tiles: Any, entries: Any, place: int, y: Any, faults: Any
) -> None:
    for at in prange(tiles.shape[0]):
        _lora_rows(limbs, scales, order, tiles, entries, place, y, faults, at)


def lora_run_host(limbs: Any, scales: Any, plan: Plan, layer: int, group: str, y: Any, faults: Any) -> None:
    """As `lora_run`, over numpy arrays: one call, whoever uses which adapters."""
    run = _lora_parallel if len(plan.order) >= PARALLEL_ROWS else _lora_serial
    place = layer * len(GROUPS) + GROUPS.index(group)
    run(limbs, scales, plan.order, plan.tiles, plan.entries, place, y, faults)


def lora_apply_host(limbs: Any, scales: Any, users: Sequence[LoraRows], y: Any, faults: Any) -> None:
    """As `lora_apply`, over numpy arrays."""
    plan = lora_plan(uses_of_groups(users, lambda tensor: tensor.numpy()))
    if plan is not None:
        lora_run_host(limbs, scales, plan, 0, GROUPS[0], y, faults)


class _OfGroup(NamedTuple):
    """A group by itself, as if it were an adapter that has nothing else; `kept` is what the addresses point into."""

    addresses: tuple[int, int, int]
    widest: tuple[int, ...]
    widths: tuple[int, ...]
    kept: tuple[Any, ...]


def uses_of_groups(users: Sequence[LoraRows], array: Callable[[Any], Any]) -> list[Use]:
    """Groups that belong to no adapter, for one call: each gets a table of its own, whose offsets are addresses."""
    groups = {id(group): group for user in users for group in user.groups}
    areas = sorted({(column, width) for group in groups.values() for _, column, width, _ in group.modules.tolist()})
    if len(areas) > MODULES:
        raise ValueError(f"a group has at most {MODULES} modules, not {len(areas)}")
    made = {key: _of_group(group, areas, array) for key, group in groups.items()}
    return [Use(user.first, user.last, tuple(made[id(group)] for group in user.groups)) for user in users]


def _of_group(group: LoraGroup, areas: list[tuple[int, int]], array: Callable[[Any], Any]) -> _OfGroup:
    modules = {(column, width): (rank, start) for rank, column, width, start in group.modules.tolist()}
    row = np.zeros(FIELDS, np.int64)
    total = sum(rank for rank, _ in modules.values())
    row[:3] = total, address(group.a), address(group.a_scales)
    alphas = np.zeros(MODULES, np.float32)
    order = list(modules)
    for index, area in enumerate(areas):
        rank, start = modules.get(area, (0, 0))
        before = order[: order.index(area)] if rank else []
        row[FIRST_MODULE + MODULE_FIELDS * index :][:MODULE_FIELDS] = (
            rank, sum(modules[other][0] for other in before), *area, address(group.b) + start,
            address(group.b_scales) + 4 * sum(width for _, width in before),
        )  # fmt: skip
        if rank:
            alphas[index] = float(group.alphas[order.index(area)])
    kept = (group, array(torch.from_numpy(row)), array(torch.from_numpy(alphas)))
    return _OfGroup((0, address(kept[2]), address(kept[1])), (total,), (max(width for _, width in areas),), kept)


def address(part: Any) -> int:
    """Where an array or a tensor begins."""
    if isinstance(part, np.ndarray):
        return int(part.__array_interface__["data"][0])
    return int(part.data_ptr())
