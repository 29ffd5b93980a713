"""What a step does with adapters, said once for all layers: any rows, ranks and orders, the same bits as the definition."""

from typing import Any

import numpy as np
import pytest
import torch

from openledger.kernels.ops import lora
from openledger.kernels.ops.lora_layout import GROUPS, Lora, ModuleShape, PackedLora, empty_lora, lora_layout
from openledger.kernels.ops.lora_plan import CHUNK, Use, plan_rows

HIDDEN, INNER, LAYERS = 64, 80, 3
SHAPES = (
    (ModuleShape("q", 0, 48, HIDDEN), ModuleShape("k", 48, 16, HIDDEN), ModuleShape("v", 64, 16, HIDDEN)),
    (ModuleShape("o", 0, HIDDEN, 48),),
    (ModuleShape("gate", 0, INNER, HIDDEN), ModuleShape("up", INNER, INNER, HIDDEN)),
    (ModuleShape("down", 0, HIDDEN, INNER),),
)
NAMES = [module.name for group in SHAPES for module in group]


def adapter(seed: int) -> PackedLora:
    """Random matrices for some modules of some layers, of ranks 4 to 256."""
    random = np.random.default_rng(seed)
    some = [(layer, name) for layer in range(LAYERS) for name in NAMES if random.random() < 0.6] or [(0, "q")]
    packed = empty_lora(SHAPES, LAYERS, [(*key, int(random.choice([4, 8, 16, 33, 256]))) for key in some])
    for layer, name in some:
        weights = packed.module(layer, name)
        weights.a[:] = random.integers(-127, 128, weights.a.shape)
        weights.b[:] = random.integers(-127, 128, weights.b.shape)
        weights.a_scales[:] = random.uniform(1e-4, 1e-2, weights.a_scales.shape)
        weights.b_scales[:] = random.uniform(1e-4, 1e-2, weights.b_scales.shape)
    packed.alphas[:] = random.uniform(-2, 2, packed.alphas.shape)
    return packed


def placed(packed: PackedLora, host: bool) -> Lora:
    return packed.place((lambda tensor: tensor.numpy()) if host else (lambda tensor: tensor))


def uses_of(seed: int, rows: int, count: int) -> list[tuple[int, int, tuple[int, ...]]]:
    """Rows and the numbers of the adapters that they use: some none, some the same ones far apart, some several."""
    random = np.random.default_rng(seed)
    found, row = [], 0
    while row < rows:
        last = min(rows, row + int(random.integers(1, 7)))
        chosen = tuple(random.integers(0, count, int(random.integers(0, 4))).tolist())
        if chosen:
            found.append((row, last, chosen))
        row = last
    return found


@pytest.mark.parametrize(("rows", "count"), [(1, 1), (7, 2), (64, 64), (90, 5)])
def test_any_mix_of_adapters_is_the_definition_at_every_place(rows: int, count: int) -> None:
    random = np.random.default_rng(rows)
    packs = [adapter(seed) for seed in range(count)]
    mixes = uses_of(rows, rows, count)
    of = {host: [placed(pack, host) for pack in packs] for host in (True, False)}
    uses = {
        host: [Use(first, last, tuple(of[host][n] for n in chosen)) for first, last, chosen in mixes] for host in of
    }
    plans = {host: lora.lora_plan(uses[host]) for host in uses}
    for layer in range(LAYERS):
        for group, modules in zip(GROUPS, SHAPES):
            inputs, width = modules[0].inputs, sum(module.width for module in modules)
            limbs = random.integers(-127, 127, (2, rows, inputs)).astype(np.int8)
            scales = random.uniform(1e-4, 1, rows).astype(np.float32)
            y = random.standard_normal((rows, width)).astype(np.float32)
            expected, faults = torch.from_numpy(y.copy()), torch.zeros(rows, dtype=torch.bool)
            got, wrong = y.copy(), np.zeros(rows, bool)
            if plans[False] is None:
                assert plans[True] is None
                continue
            tensors = (torch.from_numpy(limbs), torch.from_numpy(scales))
            lora.lora_run(*tensors, plans[False], layer, group, expected, faults)
            lora.lora_run_host(limbs, scales, plans[True], layer, group, got, wrong)
            assert got.tobytes() == expected.numpy().tobytes()
            assert wrong.tolist() == faults.tolist()


def test_a_plan_takes_each_row_once_and_each_rank_once() -> None:
    packs = [placed(adapter(seed), True) for seed in range(6)]
    mixes = uses_of(3, 200, 6)
    plan = plan_rows([Use(first, last, tuple(packs[n] for n in chosen)) for first, last, chosen in mixes], 16)
    assert plan is not None
    rows = sorted(row for first, last, _ in mixes for row in range(first, last))
    assert sorted(plan.order.tolist()) == rows
    covered = [row for first, count, *_ in plan.tiles.tolist() for row in range(first, first + count)]
    assert covered == list(range(len(rows)))
    assert plan.tiles[:, 1].max() <= 16
    wanted = {
        row: tuple(packs[n].addresses for n in chosen) for first, last, chosen in mixes for row in range(first, last)
    }
    for first, count, begin, end in plan.tiles.tolist():
        names = tuple(tuple(entry[:3]) for entry in plan.entries[begin:end].tolist())
        assert all(wanted[row] == names for row in plan.order[first : first + count].tolist())
    for group in range(len(GROUPS)):
        taken: dict[tuple[int, int], list[int]] = {}
        for tile, entry, rank in plan.chunks[group].tolist():
            taken.setdefault((tile, entry), []).append(rank)
        for tile, (_, _, begin, end) in enumerate(plan.tiles.tolist()):
            for entry in range(begin, end):
                (widest,) = {p.widest[group] for p in packs if p.addresses == tuple(plan.entries[entry, :3].tolist())}
                assert taken.get((tile, entry), []) == list(range(0, widest, CHUNK))


def test_nobody_and_nothing_make_no_plan() -> None:
    assert plan_rows([], 16) is None
    assert plan_rows([Use(0, 3, ())], 16) is None


def test_a_layout_is_shared_and_its_parts_lie_apart() -> None:
    ranks = tuple((layer, name, 8) for layer in range(LAYERS) for name in NAMES)
    layout = lora_layout(SHAPES, LAYERS, ranks)
    assert lora_layout(SHAPES, LAYERS, ranks) is layout
    packed = empty_lora(SHAPES, LAYERS, ranks)
    seen = np.zeros(layout.bytes, np.int64)
    begin = packed.data.__array_interface__["data"][0]
    for layer, name, _ in ranks:
        weights = packed.module(layer, name)
        for part in (weights.a, weights.a_scales, weights.b.T, weights.b_scales):
            first = part.__array_interface__["data"][0] - begin
            seen[first : first + part.nbytes] += 1
    assert seen.max() == 1
    assert seen.sum() == sum(
        8 * (module.inputs + module.width) + 4 * (8 + module.width) for group in SHAPES for module in group
    ) * LAYERS  # fmt: skip


def test_the_same_module_is_found_by_both_views() -> None:
    packed = adapter(4)
    lora_of: Any = placed(packed, True)
    for layer, name, rank in packed.layout.ranks:
        place = packed.layout.find(layer, name)
        group = lora_of.group(layer, place[1])
        weights = packed.module(layer, name)
        at = [column for _, column, _, _ in group.modules.tolist()].index(
            next(module.column for module in SHAPES[GROUPS.index(place[1])] if module.name == name)
        )
        start = int(group.modules[:at, 0].sum())
        assert (group.a[start : start + rank] == weights.a).all()
        assert group.alphas[at] == weights.alpha
