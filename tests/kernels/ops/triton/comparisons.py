"""Every Triton kernel against its torch twin, bit for bit.

Not collected by itself: whether Triton interprets is decided when it is imported, so `test_interpreter.py` and `test_gpu.py`
run this file in a pytest process of its own. The twin always runs on the CPU: some of torch's own operations on a GPU are
rounded in another way (a division by a number is a product there).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from openledger.genesis.tables import EXP, SIGMOID, load_table
from openledger.kernels.ops import (
    activation,
    attention,
    fingerprint,
    head_norm,
    linear,
    linear4,
    lora,
    norm,
    quantize,
    rotary,
    sampling,
)
from openledger.kernels.ops.linear4 import Int4
from openledger.kernels.ops.lora import LoraRows
from openledger.kernels.ops.lora_layout import LoraGroup, ModuleShape, empty_lora
from openledger.kernels.ops.lora_plan import Use, plan_rows
from openledger.kernels.ops.rotary import KvLayer
from openledger.kernels.ops.triton import activation as triton_activation
from openledger.kernels.ops.triton import attention as triton_attention
from openledger.kernels.ops.triton import fingerprint as triton_fingerprint
from openledger.kernels.ops.triton import head_norm as triton_head_norm
from openledger.kernels.ops.triton import linear as triton_linear
from openledger.kernels.ops.triton import linear4 as triton_linear4
from openledger.kernels.ops.triton import lora as triton_lora
from openledger.kernels.ops.triton import norm as triton_norm
from openledger.kernels.ops.triton import quantize as triton_quantize
from openledger.kernels.ops.triton import rotary as triton_rotary
from openledger.kernels.ops.triton import sampling as triton_sampling
from openledger.kernels.ops.triton.launch import INTERPRETED

torch.set_num_threads(1)
DEVICE = "cpu" if INTERPRETED else "cuda"
SIGMOIDS = torch.from_numpy(np.frombuffer(load_table(SIGMOID), "<f4").copy())
EXPONENTIALS = torch.from_numpy(attention.attention_table(load_table(EXP)))
EXTREMES = [0.0, -0.0, 1e-45, -1e-40, 2.0**-100, 2.0**-101, 1.0, -1.0, 3.4028234663852886e38, -3e38, 16.0, -16.0]


def floats(shape: tuple[int, ...], seed: int, spread: float = 3.0) -> torch.Tensor:
    """Random binary32 with magnitudes over many powers of ten."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(shape) * 10.0 ** random.uniform(-spread, spread, shape)
    return torch.from_numpy(values.astype(np.float32))


def rows_with_extremes(rows: int, size: int, seed: int) -> torch.Tensor:
    """Ordinary rows; from 4 rows on, one of zeros, one that is tiny, one of extremes, one that is not finite."""
    x = floats((rows, size), seed)
    if rows >= 4:
        x[0] = 0
        x[1] *= 2.0**-110
        x[2] = torch.tensor((EXTREMES * size)[:size])
        x[3, size // 2] = [torch.nan, torch.inf, -torch.inf][seed % 3]
    return x


def limb_buffers(rows: int, size: int) -> list[torch.Tensor]:
    """Limbs, scales, faults, filled with what must be overwritten; one fault is there before."""
    faults = torch.zeros(rows, dtype=torch.bool)
    faults[-1] = rows > 4
    return [torch.full((2, rows, size), 99, dtype=torch.int8), torch.full((rows,), torch.nan), faults]


def compare(
    twin: Callable[..., None], kernel: Callable[..., None], inputs: list[Any], outputs: list[torch.Tensor],
    kernel_inputs: list[Any] | None = None, faulty_rows: bool = False,
) -> None:  # fmt: skip
    """Run both on copies of `outputs` and compare all bits; with `faulty_rows`, nothing but the flag of rows whose flag in
    the last output is set."""
    expected = [output.clone() for output in outputs]
    twin(*inputs, *expected)
    got = [output.clone().to(DEVICE) for output in outputs]
    kernel(*(to_device(value) for value in kernel_inputs or inputs), *got)
    if faulty_rows:
        good = ~expected[-1]
        expected[:-1] = [output[good] for output in expected[:-1]]
        got[:-1] = [output[good.to(DEVICE)] for output in got[:-1]]
    for index, (left, right) in enumerate(zip(got, expected)):
        same = bits(left.cpu()) == bits(right)
        assert bool(same.all()), f"output {index} differs in {int((~same).sum())} of {same.numel()} elements"


def to_device(value: Any) -> Any:
    return value.to(DEVICE) if isinstance(value, torch.Tensor) else value


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.view(torch.int32) if x.dtype == torch.float32 else x


ROWS = pytest.mark.parametrize(
    ("rows", "size"),
    [(1, 1), (5, 70), (17, 576), (4, 4097), *(pytest.param(*at, marks=pytest.mark.slow) for at in ((24, 1536), (5, 14336)))],
)  # fmt: skip


@ROWS
def test_quantize_rows(rows: int, size: int) -> None:
    x = rows_with_extremes(rows, size, rows)
    compare(quantize.quantize_rows, triton_quantize.quantize_rows, [x], limb_buffers(rows, size))


@ROWS
def test_norm_quantize(rows: int, size: int) -> None:
    x, weight = rows_with_extremes(rows, size, rows + 1), floats((size,), 3, 1)
    epsilon = torch.tensor(1e-5)
    inputs = [x, weight, epsilon]
    buffers = limb_buffers(rows, size)
    compare(norm.norm_quantize, triton_norm.norm_quantize, inputs, buffers, [x, weight, float(epsilon)])


def test_a_row_that_overflows_in_the_norm_is_a_fault() -> None:
    x = floats((5, 40), 1)
    weight = torch.full((40,), 3e38)
    epsilon = torch.tensor(1e-5)
    compare(
        norm.norm_quantize, triton_norm.norm_quantize, [x, weight, epsilon], limb_buffers(5, 40),
        [x, weight, float(epsilon)],
    )  # fmt: skip


@ROWS
@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_silu_quantize(rows: int, size: int, spread: float) -> None:
    y = rows_with_extremes(rows, 2 * size, rows + 2)
    y[-1] = floats((2 * size,), 5, spread)
    compare(activation.silu_quantize, triton_activation.silu_quantize, [y, SIGMOIDS], limb_buffers(rows, size))


def test_every_entry_of_the_sigmoid_is_found() -> None:
    gate = torch.arange(-66000, 66000, 16).float() / 4096
    gate = torch.cat((gate, gate + 1 / 8192, gate + 1 / 16384))[None]
    y = torch.cat((gate, torch.ones_like(gate)), 1)
    buffers = limb_buffers(1, gate.shape[1])
    compare(activation.silu_quantize, triton_activation.silu_quantize, [y, SIGMOIDS], buffers)


def linear_twin(*arguments: torch.Tensor) -> None:
    limbs, scales, weight, weight_scales, y = arguments
    rows, outputs = limbs.shape[1], weight.shape[0]
    acc = torch.empty((2, rows, outputs), dtype=torch.int32)
    linear.pieces_product(limbs.view(2 * rows, -1), weight, acc.view(2 * rows, outputs))
    linear.rescale(acc, scales, weight_scales, y)


@pytest.mark.parametrize("tile", [triton_linear.FEW_ROWS, triton_linear.MANY_ROWS, None])
@pytest.mark.parametrize(
    ("rows", "columns", "outputs"),
    [(1, 7, 3), (2, 1500, 65), (33, 576, 131), pytest.param(70, 1536, 300, marks=pytest.mark.slow)],
)
def test_linear(rows: int, columns: int, outputs: int, tile: Any) -> None:
    random = np.random.default_rng(rows)
    limbs = torch.from_numpy(random.integers(-128, 128, (2, rows, columns)).astype(np.int8))
    weight = torch.from_numpy(random.integers(-127, 128, (outputs, columns)).astype(np.int8))
    scales, weight_scales = floats((rows,), 6).abs(), floats((outputs,), 7).abs()
    inputs = [limbs, scales, weight, weight_scales, torch.zeros(rows, outputs)]

    def kernel(*arguments: Any) -> None:
        triton_linear.linear(*arguments, tile)

    compare(linear_twin, kernel, inputs[:4], [torch.full((rows, outputs), torch.nan)])


@pytest.mark.parametrize(
    ("rows", "columns", "outputs", "tile"),
    [
        (1, 7, 3, triton_linear.FEW_ROWS),
        (2, 1500, 65, triton_linear.FEW_ROWS),
        (2, 1500, 65, None),
        (5, 132_104, 2, None),
    ],
)
def test_the_sums_alone(rows: int, columns: int, outputs: int, tile: Any) -> None:
    random = np.random.default_rng(rows)
    limbs = torch.from_numpy(random.choice([-128, 127], (2, rows, columns)).astype(np.int8))
    weight = torch.from_numpy(random.choice([-127, 127], (outputs, columns)).astype(np.int8))
    whole = limbs[0].double() * 256 + limbs[1].double()
    sums = triton_linear.integer_product(limbs.to(DEVICE), weight.to(DEVICE), tile)
    assert sums.dtype == torch.int64
    assert torch.equal(sums.cpu(), (whole @ weight.double().t()).long())


def test_the_widest_sums_of_a_linear_layer_do_not_overflow() -> None:
    columns = 132_104
    limbs = torch.full((2, 2, columns), -128, dtype=torch.int8)
    limbs[0], limbs[:, 1] = -127, 127
    weight = torch.full((3, columns), -127, dtype=torch.int8)
    weight[1] = 127
    inputs = [limbs, torch.ones(2), weight, torch.ones(3)]
    compare(linear_twin, triton_linear.linear, inputs, [torch.zeros(2, 3)])


@pytest.mark.parametrize("tile", [triton_linear4.FEW_ROWS, triton_linear4.MANY_ROWS, None])
@pytest.mark.parametrize(
    ("rows", "columns", "outputs"), [(1, 7, 3), (33, 200, 131), pytest.param(70, 1536, 300, marks=pytest.mark.slow)]
)
def test_linear_of_four_bits(rows: int, columns: int, outputs: int, tile: Any) -> None:
    random = np.random.default_rng(rows)
    blocks = -(-columns // 64)
    limbs = torch.from_numpy(random.integers(-128, 128, (2, rows, columns)).astype(np.int8))
    packed = torch.from_numpy(random.integers(0, 256, (outputs, 32 * blocks)).astype(np.uint8))
    zeros, steps = random.integers(0, 16, (2, outputs, 2 * blocks))
    steps = np.maximum(np.minimum(steps, 127 // np.maximum(zeros, 15 - zeros)), 1)
    groups = torch.from_numpy((steps + 16 * zeros).astype(np.uint8))
    scales, weight_scales = floats((rows,), 6).abs(), floats((outputs,), 7).abs()

    def twin(*a: Any) -> None:
        linear_twin(*a[:2], linear4.unpack(Int4(a[2], a[3], columns)), *a[4:])

    def kernel(*a: Any) -> None:
        triton_linear4.linear4(*a[:2], Int4(a[2], a[3], columns), *a[4:], tile)

    compare(twin, kernel, [limbs, scales, packed, groups, weight_scales], [torch.full((rows, outputs), torch.nan)])


@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(3, 1, 64), (2, 2, 24), (1, 1, 518)])
def test_norm_heads(heads: int, kv_heads: int, size: int) -> None:
    y = rows_with_extremes(6, (heads + 2 * kv_heads) * size + 3, 4)
    y[4, : heads * size] = 0
    weights = [floats((size,), 3, 1), floats((size,), 4, 1)]
    epsilon = torch.tensor(1e-6)

    def twin(*a: Any) -> None:
        head_norm.norm_heads(a[2], a[0], a[1], epsilon, heads, kv_heads, a[3])

    def kernel(*a: Any) -> None:
        triton_head_norm.norm_heads(a[2], a[0], a[1], float(epsilon), heads, kv_heads, a[3])

    compare(twin, kernel, weights, [y, torch.zeros(6, dtype=torch.bool)])


class Case:
    """Sequences with a history in the cache (length, then how many rows the next step brings for each), some of it odd."""

    def __init__(
        self, heads: int, kv_heads: int, size: int, page: int, parts: list[tuple[int, int]], seed: int
    ) -> None:
        random = np.random.default_rng(seed)
        longest = max(history + new for history, new in parts)
        pages = -(-longest // page)
        order = torch.from_numpy(random.permutation(len(parts) * pages + 1)[: len(parts) * pages])
        self.tables = order.view(len(parts), pages)
        shape = (len(parts) * pages + 1, kv_heads, page)
        self.cache = KvLayer(
            torch.zeros((*shape, size), dtype=torch.int16), torch.zeros(shape),
            torch.zeros((*shape, size), dtype=torch.int8), torch.zeros(shape), torch.zeros(shape),
        )  # fmt: skip
        angles = torch.from_numpy(random.uniform(-4, 4, (longest, size // 2)))
        self.table = torch.stack((angles.cos(), angles.sin()), -1).float()
        self.heads, self.kv_heads, self.size, self.page = heads, kv_heads, size, page
        self.width = (heads + 2 * kv_heads) * size
        self.factor = torch.tensor(size**-0.5)
        self.random = random
        self.rows(parts, history=True, store=rotary.rotate_store)
        self.inputs = self.rows(parts, history=False, store=None)

    def rows(self, parts: list[tuple[int, int]], *, history: bool, store: Any) -> list[torch.Tensor]:
        """Positions, slots, previous, sequences of the rows of the history or of the step, and what is computed of them."""
        spans = [(0, old) if history else (old, old + new) for old, new in parts]
        positions = torch.cat([torch.arange(*span) for span in spans])
        sequences = torch.cat([torch.full((last - first,), i) for i, (first, last) in enumerate(spans)])
        slots = self.tables[sequences, positions // self.page] * self.page + positions % self.page
        before = (positions - 1).clamp_min(0)
        previous = self.tables[sequences, before // self.page] * self.page + before % self.page
        previous = torch.where(positions > 0, previous, -1)
        rows = len(positions)
        y = floats((rows, self.width + 3), int(self.random.integers(1 << 30)), 0.7)
        y[:, : self.heads * self.size] *= 6
        if rows > 3:
            y[1] = 0
            y[2, self.heads * self.size :] *= 2.0**-105
        y = y.contiguous()
        if store is not None:
            q = torch.zeros((rows, self.heads, self.size), dtype=torch.int16)
            scratch = [q, torch.zeros(rows, self.heads)]
            store(y, self.table, positions, slots, previous, *scratch, self.cache, torch.zeros(rows, dtype=torch.bool))
        return [y, positions, slots, previous, sequences]

    def outputs(self) -> list[torch.Tensor]:
        rows = len(self.inputs[0])
        return [
            torch.zeros((rows, self.heads, self.size), dtype=torch.int16), torch.zeros(rows, self.heads), *self.cache,
            torch.zeros(rows, dtype=torch.bool),
        ]  # fmt: skip

    def compare_store(self) -> None:
        y, positions, slots, previous, _ = self.inputs

        def run(store: Any) -> Any:
            return lambda *a: store(*a[:5], *a[5:7], KvLayer(*a[7:12]), a[12])

        inputs = [y, self.table, positions, slots, previous]
        compare(run(rotary.rotate_store), run(triton_rotary.rotate_store), inputs, self.outputs())

    def compare_attention(self, tile: int | None, parts: int | None, *, spoil: bool = False) -> None:
        y, positions, slots, previous, sequences = self.inputs
        q, q_scales, *_, faults = self.outputs()
        rotary.rotate_store(y, self.table, positions, slots, previous, q, q_scales, self.cache, faults)
        if spoil:
            q_scales[len(q) // 2] = 3e38
            q[len(q) // 2] = 32639
        out = torch.full((len(q), self.heads * self.size), torch.nan)

        def twin(*a: Any) -> None:
            attention.attend(a[0], a[1], KvLayer(*a[2:7]), *a[7:11], self.factor, *a[11:])

        def kernel(*a: Any) -> None:
            triton_attention.attend(
                a[0], a[1], KvLayer(*a[2:7]), *a[7:11], float(self.factor), *a[11:], tile=tile, parts=parts
            )  # fmt: skip

        inputs = [q, q_scales, *self.cache, self.tables, sequences, positions, EXPONENTIALS]
        compare(twin, kernel, inputs, [out, faults], faulty_rows=True)


MIXED = [(0, 5), (33, 1), (7, 9), (70, 1), (0, 1)]
CASES = pytest.mark.parametrize(
    ("heads", "kv_heads", "size", "page", "parts"),
    [
        (3, 1, 64, 16, MIXED),
        (4, 2, 24, 16, [(64, 3), (1, 1)]),
        (2, 2, 128, 64, [(130, 1), (60, 8)]),
        pytest.param(6, 2, 64, 64, [(0, 9), (140, 1), (63, 2)], marks=pytest.mark.slow),
        pytest.param(32, 1, 32, 16, [(33, 1), (5, 2), (0, 1)], marks=pytest.mark.slow),
        pytest.param(2, 1, 518, 4, [(9, 4), (3, 1)], marks=pytest.mark.slow),
    ],
)  # fmt: skip


@CASES
def test_rotate_store(heads: int, kv_heads: int, size: int, page: int, parts: list[tuple[int, int]]) -> None:
    Case(heads, kv_heads, size, page, parts, 1).compare_store()


def test_a_run_longer_than_a_tile_carries_its_prefix_maximum() -> None:
    Case(1, 1, 2, 16, [(3, 69), (0, 33), (40, 1)], 2).compare_store()


def test_a_number_that_is_not_finite_faults_its_row_and_stores_zeros() -> None:
    case = Case(2, 1, 8, 4, [(3, 6)], 3)
    case.inputs[0][0, 3], case.inputs[0][2, 20], case.inputs[0][4, 30] = torch.nan, torch.inf, -torch.inf
    case.compare_store()


@CASES
@pytest.mark.parametrize(("tile", "cuts"), [(16, 1), (64, 1), (16, 3)])
def test_attend(
    heads: int, kv_heads: int, size: int, page: int, parts: list[tuple[int, int]], tile: int, cuts: int
) -> None:
    Case(heads, kv_heads, size, page, parts, 4).compare_attention(tile, cuts)


def test_a_score_that_is_not_finite_faults_its_row_only() -> None:
    Case(4, 2, 24, 16, [(64, 3), (1, 4)], 5).compare_attention(None, 2, spoil=True)


def lora_group(modules: list[tuple[int, int, int]], columns: int, seed: int) -> LoraGroup:
    """Random matrices for modules of (rank, first column of y, width)."""
    random = np.random.default_rng(seed)
    ranks, widths = [rank for rank, _, _ in modules], [width for _, _, width in modules]
    starts = np.cumsum([0, *(rank * width for rank, width in zip(ranks, widths))])
    table = [(rank, column, width, int(start)) for (rank, column, width), start in zip(modules, starts)]
    return LoraGroup(
        torch.from_numpy(random.integers(-127, 128, (sum(ranks), columns)).astype(np.int8)),
        floats((sum(ranks),), seed + 1, 1).abs(),
        torch.from_numpy(random.integers(-127, 128, int(starts[-1])).astype(np.int8)),
        floats((sum(widths),), seed + 2, 1).abs(),
        torch.tensor(table),
        floats((len(modules),), seed + 3, 1),
    )


def compare_lora(columns: int, outputs: int, rows: int, users: list[LoraRows], x: torch.Tensor | None = None) -> None:
    random = np.random.default_rng(columns)
    limbs = torch.from_numpy(random.integers(-127, 127, (2, rows, columns)).astype(np.int8))
    scales = floats((rows,), 8).abs() if x is None else x
    # One copy of each: rows that share an adapter share its addresses.
    groups = {id(group): group for user in users for group in user.groups}
    moved = {
        key: LoraGroup(*(part.to(DEVICE) for part in group))._replace(modules=group.modules)
        for key, group in groups.items()
    }
    on_device = [LoraRows(u.first, u.last, tuple(moved[id(group)] for group in u.groups)) for u in users]

    def kernel(limbs: Any, scales: Any, y: Any, faults: Any) -> None:
        triton_lora.lora_apply(limbs, scales, on_device, y, faults)

    def twin(limbs: Any, scales: Any, y: Any, faults: Any) -> None:
        lora.lora_apply(limbs, scales, users, y, faults)

    compare(twin, kernel, [limbs, scales], [floats((rows, outputs), 9), torch.zeros(rows, dtype=torch.bool)])


QKV = [(0, 40), (40, 17), (57, 17)]


@pytest.mark.parametrize("columns", [70, pytest.param(1536, marks=pytest.mark.slow)])
def test_adapters_of_ranks_4_to_256_in_one_batch(columns: int) -> None:
    def adapter(ranks: list[int], seed: int) -> LoraGroup:
        return lora_group([(rank, *area) for rank, area in zip(ranks, QKV) if rank], columns, seed)

    small, middle, large = adapter([4, 5, 8], 1), adapter([64, 0, 33], 2), adapter([256, 128, 16], 3)
    users = [
        LoraRows(1, 2, (small,)),
        LoraRows(2, 21, (large,)),
        LoraRows(22, 24, (middle, small)),
        LoraRows(24, 25, (small, middle)),
        LoraRows(25, 29, (small,)),
        LoraRows(29, 30, (large, large)),
    ]
    compare_lora(columns, 80, 31, users)


def test_an_adapter_that_overflows_faults_its_rows_only() -> None:
    group = lora_group([(8, 0, 20), (8, 20, 10)], 64, 4)
    group.a_scales[3] = 3e38
    scales = torch.tensor([1.0, 3e30, 1.0, 2.0**-120])
    compare_lora(64, 30, 4, [LoraRows(0, 3, (lora_group([(16, 0, 20)], 64, 5),)), LoraRows(3, 4, (group,))], scales)
    compare_lora(64, 30, 4, [LoraRows(0, 4, (group,))], scales)


def test_a_batch_without_adapters_is_left_as_it_is() -> None:
    compare_lora(64, 30, 4, [])


def packed_lora(rank: int, seed: int) -> Any:
    """An adapter of one layer, in one buffer."""
    shapes = (
        (ModuleShape("q", 0, 40, 64), ModuleShape("k", 40, 17, 64), ModuleShape("v", 57, 17, 64)),
        *((ModuleShape(name, 0, 64, 64),) for name in ("o", "up", "down")),
    )
    packed = empty_lora(shapes, 1, [(0, name, rank) for name in ("q", "v")])
    random = np.random.default_rng(seed)
    for name in ("q", "v"):
        weights = packed.module(0, name)
        weights.a[:] = random.integers(-127, 128, weights.a.shape)
        weights.b[:] = random.integers(-127, 128, weights.b.shape)
        weights.a_scales[:], weights.b_scales[:] = 1e-3, 2e-3
    packed.alphas[:] = 0.7
    return packed


def test_tables_that_stay_where_they_are_serve_one_step_after_the_other() -> None:
    packs = [packed_lora(rank, seed) for seed, rank in enumerate((4, 40, 256))]
    ours, theirs = [pack.place(to_device) for pack in packs], [pack.place(lambda tensor: tensor) for pack in packs]
    rows = 20
    random = np.random.default_rng(5)
    limbs = torch.from_numpy(random.integers(-127, 127, (2, rows, 64)).astype(np.int8))
    scales = floats((rows,), 8).abs()
    # Fewer programs than there is to do: each takes several turns.
    fixed = triton_lora.FixedTables(
        DEVICE, rows=rows, adapters=8, per_row=2, ranks=768, widths=ours[0].widths, programs=2
    )  # fmt: skip
    steps: list[list[tuple[int, int, tuple[int, ...]]]] = [
        [(0, 3, (0,)), (4, 20, (1, 2))],
        [],
        [(0, 1, (2,)), (1, 2, (0, 1)), (2, 19, (2,)), (19, 20, (0,))],
    ]
    for mixes in steps:
        plan = plan_rows([Use(a, b, tuple(ours[n] for n in chosen)) for a, b, chosen in mixes], triton_lora.ROWS)
        assert fixed.fill(plan)
        uses = [Use(a, b, tuple(theirs[n] for n in chosen)) for a, b, chosen in mixes]

        def kernel(limbs: Any, scales: Any, y: Any, faults: Any) -> None:
            triton_lora.lora_run(limbs, scales, fixed.tables, 0, "qkv", y, faults)

        def twin(limbs: Any, scales: Any, y: Any, faults: Any, uses: Any = uses) -> None:
            lora.lora_apply(limbs, scales, lora.users_at(uses, 0, "qkv"), y, faults)

        compare(twin, kernel, [limbs, scales], [floats((rows, 74), 9), torch.zeros(rows, dtype=torch.bool)])
    orders = [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2)]
    many = [Use(row, row + 1, tuple(ours[n] for n in order)) for row, order in enumerate(orders)]
    assert not fixed.fill(plan_rows(many, triton_lora.ROWS))


def words(rows: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 2**32, (rows, 4)).astype(np.int64))


@pytest.mark.parametrize(("rows", "vocabulary"), [(1, 1), (3, 5), (4, 49152)])
def test_hash_rows(rows: int, vocabulary: int) -> None:
    logits = floats((rows, vocabulary), 1)
    logits[0, 0] = -0.0
    expected = fingerprint.hash_rows(logits, words(rows, 2))
    got = triton_fingerprint.hash_rows(logits.to(DEVICE), words(rows, 2).to(DEVICE))
    assert got.tolist() == expected.tolist()


TABLE = torch.from_numpy(np.frombuffer(load_table(EXP), "<u4").astype(np.int64))
SETTINGS = [
    # temperature, top-k, top-p, min-p, position
    (0, 0, 1_000_000, 0, 1),
    (1000, 0, 1_000_000, 0, 2),
    (1, 0, 1_000_000, 0, 3),
    (100_000, 0, 1_000_000, 0, 4),
    (900, 3, 1_000_000, 0, 5),
    (900, 0, 500_000, 0, 6),
    (1700, 0, 1_000_000, 300_000, 7),
    (3000, 40, 950_000, 20_000, 8),
    (50_000, 1000, 1, 1_000_000, 9),
    (2500, 2**31 - 1, 999_999, 1, 2**27),
]


@pytest.mark.parametrize(
    ("vocabulary", "spread"),
    [(1, 1.0), (3000, 1.0), *(pytest.param(*at, marks=pytest.mark.slow) for at in ((3000, 0.0), (49152, 3.0)))],
)
def test_sample(vocabulary: int, spread: float) -> None:
    random = np.random.default_rng(vocabulary)
    settings = torch.tensor(SETTINGS if vocabulary > 1 else SETTINGS[:3])
    rows = len(settings)
    # Rounding makes many equal logits: ties go to the smaller id.
    logits = torch.from_numpy(random.standard_normal((rows, vocabulary)).round(2).astype(np.float32)) * spread
    logits[0, vocabulary // 2] = 3e38
    logits[1, vocabulary // 3] = -3e38
    seeds = words(rows, 3)
    table = TABLE if vocabulary > 10_000 else TABLE[:30_000]
    expected = sampling.sample(logits, settings, seeds, table)
    got = triton_sampling.sample(logits.to(DEVICE), settings.to(DEVICE), seeds.to(DEVICE), table.to(DEVICE))
    assert got.tolist() == expected.tolist()


def test_distances_are_rounded_half_to_even_whatever_their_size() -> None:
    distances = [0.0, 0.5 / 4096, 1.5 / 4096, 2.5 / 4096, 1023.5, 1024 + 0.5 / 4096, 2047 + 1.5 / 4096, 2048.0, 3e5]
    logits = -torch.tensor([distances])
    settings = torch.tensor([(100_000, 0, 1_000_000, 0, at) for at in range(6)])
    seeds = words(6, 4)
    # A shorter table is quicker: what is beyond it has the weight 0.
    table = TABLE[:20_000]
    expected = sampling.sample(logits.expand(6, -1), settings, seeds, table)
    logits = logits.expand(6, -1).contiguous()
    got = triton_sampling.sample(logits.to(DEVICE), settings.to(DEVICE), seeds.to(DEVICE), table.to(DEVICE))
    assert len(set(expected.tolist())) > 2
    assert got.tolist() == expected.tolist()
