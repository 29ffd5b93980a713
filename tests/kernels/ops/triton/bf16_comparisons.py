"""Every bf16 kernel against its torch twin, within the tolerance of bf16.

Not collected by itself: `test_bf16.py` runs it in a pytest process of its own, as `test_interpreter.py` does with the exact
kernels.
"""

from typing import Any

import numpy as np
import pytest
import torch

from openledger.kernels.ops import bf16
from openledger.kernels.ops import lora as exact_lora
from openledger.kernels.ops.lora_layout import ModuleShape, ModuleWeights, pack_lora
from openledger.kernels.ops.lora_plan import Use
from openledger.kernels.ops.rotary import KvLayer
from openledger.kernels.ops.triton import bf16 as kernels
from openledger.kernels.ops.triton import lora as triton_lora
from openledger.kernels.ops.triton.launch import INTERPRETED

torch.set_num_threads(1)
DEVICE = "cpu" if INTERPRETED else "cuda"
PAGE = 16


def floats(*shape: int, seed: int = 1, size: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * size)


def limbs(rows: int, columns: int) -> torch.Tensor:
    return torch.zeros((2, rows, columns), dtype=torch.int8)


def faults(rows: int) -> torch.Tensor:
    return torch.zeros(rows, dtype=torch.bool)


def close(left: torch.Tensor, right: torch.Tensor, tolerance: float = 1.0 / 128) -> None:
    left, right = left.cpu().float(), right.float()
    assert torch.isfinite(right).all()
    assert float((left - right).abs().max()) <= tolerance * float(right.abs().max())
    assert float(right.abs().max()) > 0


def on_device(value: Any) -> Any:
    return value.to(DEVICE) if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize(("rows", "columns"), [(1, 8), (5, 70), (3, 1100)])
@pytest.mark.parametrize("name", ["norm_quantize", "quantize_rows", "silu_quantize"])
def test_rows(name: str, rows: int, columns: int) -> None:
    inputs: dict[str, tuple[Any, ...]] = {
        "norm_quantize": (floats(rows, columns), floats(columns, seed=2), 1e-5),
        "quantize_rows": (floats(rows, columns),),
        "silu_quantize": (floats(rows, 2 * columns), torch.zeros(1)),
    }
    x = inputs[name]
    expected, got = limbs(rows, columns), limbs(rows, columns).to(DEVICE)
    expected_faults, got_faults = faults(rows), faults(rows).to(DEVICE)
    getattr(bf16, name)(*x, expected, torch.zeros(rows), expected_faults)
    getattr(kernels, name)(*map(on_device, x), got, torch.zeros(rows), got_faults)
    close(bf16.rows_of(got), bf16.rows_of(expected))
    assert not expected_faults.any()
    x[0][rows // 2, 3] = torch.nan
    getattr(bf16, name)(*x, expected, torch.zeros(rows), expected_faults)
    getattr(kernels, name)(*map(on_device, x), got, torch.zeros(rows), got_faults)
    assert got_faults.tolist() == expected_faults.tolist() == [row == rows // 2 for row in range(rows)]


class Sequences:
    """Rows of several sequences (first position, count), whose pages lie out of order."""

    def __init__(self, heads: int, kv_heads: int, size: int, parts: list[tuple[int, int]]) -> None:
        self.heads, self.kv_heads, self.size = heads, kv_heads, size
        pages = max(-(-(first + count) // PAGE) for first, count in parts)
        order = np.random.default_rng(3).permutation(len(parts) * pages)
        self.tables = torch.from_numpy(order.reshape(len(parts), pages))
        self.sequences = torch.cat([torch.full((count,), at) for at, (_, count) in enumerate(parts)])
        self.positions = torch.cat([torch.arange(first, first + count) for first, count in parts])
        at = self.tables[self.sequences, self.positions // PAGE]
        self.slots = at * PAGE + self.positions % PAGE
        self.rows = len(self.positions)
        shape = (len(parts) * pages, kv_heads, PAGE)
        content = floats(*shape, size, seed=4).to(torch.bfloat16).view(torch.int16)
        other = floats(*shape, size, seed=5).to(torch.bfloat16).view(torch.int16)
        scale = torch.zeros(shape)
        self.cache = KvLayer(content, scale, other, scale, scale)

    def moved(self) -> KvLayer:
        return KvLayer(*(part.clone().to(DEVICE) for part in self.cache))


CASES = pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "parts"),
    [
        (3, 1, 64, [(0, 5), (33, 1), (18, 30)]),
        (4, 2, 24, [(64, 3), (1, 1)]),
        pytest.param(8, 2, 128, [(130, 1), (60, 8)], marks=pytest.mark.slow),
    ],
)


@CASES
def test_rotate_store(heads: int, kv_heads: int, size: int, parts: list[tuple[int, int]]) -> None:
    case = Sequences(heads, kv_heads, size, parts)
    y, table = floats(case.rows, (heads + 2 * kv_heads) * size), floats(256, size // 2, 2, seed=6)
    inputs = (y, table, case.positions, case.slots, case.slots)
    q, got_q = (torch.zeros((case.rows, heads, size), dtype=torch.int16, device=at) for at in ("cpu", DEVICE))
    cache = case.moved()
    kernels.rotate_store(*map(on_device, inputs), got_q, torch.zeros(1), cache, faults(case.rows).to(DEVICE))
    bf16.rotate_store(*inputs, q, torch.zeros(1), case.cache, faults(case.rows))
    close(bf16.bf16(got_q), bf16.bf16(q))
    close(bf16.bf16(cache.keys), bf16.bf16(case.cache.keys))
    close(bf16.bf16(cache.values), bf16.bf16(case.cache.values))


@CASES
@pytest.mark.parametrize(
    ("tile", "cuts"),
    [(16, 3), pytest.param(16, 1, marks=pytest.mark.slow), pytest.param(64, 1, marks=pytest.mark.slow)],
)
def test_attend(heads: int, kv_heads: int, size: int, parts: list[tuple[int, int]], tile: int, cuts: int) -> None:
    case = Sequences(heads, kv_heads, size, parts)
    q = floats(case.rows, heads, size, seed=7).to(torch.bfloat16).view(torch.int16)
    where = (case.tables, case.sequences, case.positions, torch.zeros(1))
    factor = size**-0.5
    expected, got = torch.zeros(case.rows, heads * size), torch.zeros(case.rows, heads * size, device=DEVICE)
    bf16.attend(q, torch.zeros(1), case.cache, *where, factor, expected, faults(case.rows))
    kernels.attend(
        q.to(DEVICE), torch.zeros(1), case.moved(), *map(on_device, where), factor, got, faults(case.rows).to(DEVICE),
        tile, cuts,
    )  # fmt: skip
    close(got, expected)


SHAPES = (
    (ModuleShape("q", 0, 40, 70), ModuleShape("k", 40, 17, 70), ModuleShape("v", 57, 17, 70)),
    (ModuleShape("o", 0, 70, 40),),
    (ModuleShape("g", 0, 33, 70), ModuleShape("u", 33, 33, 70)),
    (ModuleShape("d", 0, 70, 33),),
)


def adapter(ranks: dict[tuple[int, str], int], seed: int) -> Any:
    random = np.random.default_rng(seed)
    modules = {}
    for (layer, name), rank in ranks.items():
        shape = next(module for group in SHAPES for module in group if module.name == name)
        modules[layer, name] = ModuleWeights(
            random.integers(-127, 128, (rank, shape.inputs)).astype(np.int8),
            random.uniform(0.001, 0.01, rank).astype(np.float32),
            random.integers(-127, 128, (shape.width, rank)).astype(np.int8),
            random.uniform(0.001, 0.01, shape.width).astype(np.float32),
            np.float32(random.uniform(0.5, 2)),
        )
    return pack_lora(SHAPES, 2, modules)


def test_adapters_of_many_ranks_in_one_batch() -> None:
    packed = [
        adapter({(1, "q"): 4, (1, "k"): 5, (1, "v"): 8, (0, "o"): 3}, 1),
        adapter({(1, "q"): 64, (1, "v"): 33}, 2),
        adapter({(1, "q"): 128, (1, "k"): 16, (1, "v"): 16}, 3),
    ]
    users = [(1, 2, (0,)), (2, 21, (2,)), (22, 24, (1, 0)), (24, 25, (0, 1)), (25, 29, (0,))]

    def array(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(DEVICE)

    def here(tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    placed = {where: [one.place(where) for one in packed] for where in (array, here)}
    uses = {
        where: [Use(first, last, tuple(loras[at] for at in chosen)) for first, last, chosen in users]
        for where, loras in placed.items()
    }
    x = limbs(30, 70)
    bf16.rows_of(x).copy_(floats(30, 70, seed=8))
    expected, before = floats(30, 74, seed=9), floats(30, 74, seed=9)
    got = expected.clone().to(DEVICE)
    bf16.lora_run(x, torch.zeros(30), exact_lora.lora_plan(uses[here]), 1, "qkv", expected, faults(30))
    tables = triton_lora.lora_plan(uses[array], DEVICE)
    kernels.lora_run(x.to(DEVICE), torch.zeros(30), tables, 1, "qkv", got, faults(30))
    assert float((expected - before).abs().max()) > 1
    assert torch.equal(expected[0], before[0])
    close(got, expected)
