"""Every step of exact-1 against a scalar reading of its definition, in plain Python numbers.

binary32 operations are done in binary64 and rounded once, which is exact for + - * / and sqrt.
"""

import math
import struct
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.genesis.tables import EXP, SIGMOID, load_table, rotary_name
from openledger.kernels.model import quantize4
from openledger.kernels.ops import activation, attention, head_norm, linear, linear4, lora, norm, quantize, rotary
from openledger.kernels.ops.lora import LoraRows
from openledger.kernels.ops.lora_layout import LoraGroup
from openledger.kernels.ops.rotary import KvLayer

torch.set_num_threads(1)
EXP_ENTRIES = np.frombuffer(load_table(EXP), "<u4")
SIGMOID_ENTRIES = np.frombuffer(load_table(SIGMOID), "<f4")
ROTARY = np.frombuffer(load_table(rotary_name(100000, 64)), "<f4").reshape(-1, 32, 2)
BACKENDS = ("torch", "host")


def r(x: float) -> float:
    """Round to binary32."""
    try:
        return struct.unpack("f", struct.pack("f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)


def scalar_q16(row: list[float], top: int = 32639) -> tuple[list[int], float]:
    a = max(abs(x) for x in row)
    if a < 2.0**-100:
        return [0] * len(row), 1.0
    s = r(a / top)
    return [max(-top, min(top, round(r(x / s)))) for x in row], s


def floats(shape: tuple[int, ...], seed: int, spread: float = 3.0) -> Any:
    """Random binary32 with magnitudes over many powers of ten."""
    random = np.random.default_rng(seed)
    return (random.standard_normal(shape) * 10.0 ** random.uniform(-spread, spread, shape)).astype(np.float32)


def wrap(backend: str, *arrays: Any) -> list[Any]:
    return [torch.from_numpy(a) if backend == "torch" else a for a in arrays]


def limb_buffers(rows: int, size: int) -> tuple[Any, Any, Any]:
    return np.zeros((2, rows, size), np.int8), np.zeros(rows, np.float32), np.zeros(rows, bool)


def joined(limbs: Any) -> Any:
    return limbs[0].astype(np.int64) * 256 + limbs[1]


EXTREMES = st.sampled_from([0.0, -0.0, 1e-45, -1e-40, 2.0**-100, 2.0**-101, 1.0, -1.0, 3.4028234663852886e38, -3e38])
ELEMENTS = st.one_of(EXTREMES, st.floats(width=32, allow_nan=False, allow_infinity=False))


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=150, deadline=None)
@given(row=st.lists(ELEMENTS, min_size=1, max_size=40))
def test_q16_is_its_definition_for_any_finite_row(backend: str, row: list[float]) -> None:
    x = np.array([row], np.float32)
    limbs, scales, faults = limb_buffers(1, len(row))
    run = quantize.quantize_rows if backend == "torch" else quantize.quantize_rows_host
    run(*wrap(backend, x, limbs, scales, faults))
    expected, scale = scalar_q16([float(v) for v in x[0]])
    assert joined(limbs)[0].tolist() == expected
    assert scales[0] == np.float32(scale)
    assert not faults[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_faults_its_own_row_only(backend: str, bad: float) -> None:
    x = floats((20, 33), 1)
    x[7, 5] = bad
    limbs, scales, faults = limb_buffers(20, 33)
    run = quantize.quantize_rows if backend == "torch" else quantize.quantize_rows_host
    run(*wrap(backend, x, limbs, scales, faults))
    assert faults.tolist() == [row == 7 for row in range(20)]
    assert not joined(limbs)[7].any()
    assert joined(limbs)[6].tolist() == scalar_q16([float(v) for v in x[6]])[0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rows", [1, 17])
def test_rms_norm_is_its_definition(backend: str, rows: int) -> None:
    x, weight, epsilon = floats((rows, 70), 2), floats((70,), 3, 1), 1e-5
    x[0] = 0
    limbs, scales, faults = limb_buffers(rows, 70)
    run, eps = (
        (norm.norm_quantize, torch.tensor(epsilon))
        if backend == "torch"
        else (norm.norm_quantize_host, np.float32(epsilon))
    )
    a, b, c, d, e = wrap(backend, x, weight, limbs, scales, faults)
    run(a, b, eps, c, d, e)
    for t in range(rows):
        row = [float(v) for v in x[t]]
        q, s = scalar_q16(row)
        m = r(r(r(r(float(sum(v * v for v in q))) / 70) * s) * s)
        root = r(math.sqrt(r(m + r(epsilon))))
        y = [r(r(v / root) * float(w)) for v, w in zip(row, weight)]
        expected, scale = scalar_q16(y)
        assert joined(limbs)[t].tolist() == expected
        assert scales[t] == np.float32(scale)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_norm_of_heads_is_that_of_each_by_itself_and_a_bias_is_one_sum(backend: str) -> None:
    heads, kv_heads, size, epsilon = 3, 2, 6, 1e-6
    y, bias = floats((70, (heads + 2 * kv_heads) * size + 2), 2), floats(((heads + 2 * kv_heads) * size,), 5)
    y[1] = 0
    query, key, faults = floats((size,), 3, 1), floats((size,), 4, 1), np.zeros(70, bool)
    got, biased = y.copy(), y.copy()
    wrapped = wrap(backend, got, query, key, faults)
    if backend == "torch":
        head_norm.norm_heads(*wrapped[:3], torch.tensor(epsilon), heads, kv_heads, wrapped[3])
    else:
        head_norm.norm_heads_host(*wrapped[:3], np.float32(epsilon), heads, kv_heads, wrapped[3])
    head_norm.add_bias(*wrap(backend, biased, bias))
    assert not faults.any()
    for t in (0, 1, 68):
        for head in range(heads + kv_heads):
            row = [float(v) for v in y[t, head * size : (head + 1) * size]]
            q, s = scalar_q16(row)
            m = r(r(r(r(float(sum(v * v for v in q))) / size) * s) * s)
            root = r(math.sqrt(r(m + r(epsilon))))
            expected = [r(r(v / root) * float(w)) for v, w in zip(row, query if head < heads else key)]
            assert got[t, head * size : (head + 1) * size].tolist() == expected
        assert biased[t, :-2].tolist() == [r(float(v) + float(b)) for v, b in zip(y[t], bias)]
    assert np.array_equal(got[:, (heads + kv_heads) * size :], y[:, (heads + kv_heads) * size :])
    assert np.array_equal(biased[:, -2:], y[:, -2:])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_head_that_is_not_finite_faults_its_row_and_becomes_zeros(backend: str) -> None:
    y, weight, faults = floats((3, 8), 1), np.ones(2, np.float32), np.zeros(3, bool)
    y[1, 3] = math.inf
    wrapped = wrap(backend, y, weight, weight, faults)
    if backend == "torch":
        head_norm.norm_heads(*wrapped[:3], torch.tensor(1e-6), 2, 1, wrapped[3])
    else:
        head_norm.norm_heads_host(*wrapped[:3], np.float32(1e-6), 2, 1, wrapped[3])
    assert faults.tolist() == [False, True, False]
    assert y[1, 2:4].tolist() == [0, 0]
    assert np.isfinite(y).all()


@pytest.mark.parametrize("columns", [1, 33, 64, 200])
def test_weights_of_four_bits_are_their_definition_and_their_product_is_that_of_the_unpacked(columns: int) -> None:
    values = floats((9, columns), columns, 0.5)
    values[1], values[2], values[3] = 0, np.abs(values[2]), -np.abs(values[3])
    packed, groups, scales = quantize4.quantize_rows(values)
    blocks = -(-columns // 64)
    assert packed.shape == (9, 32 * blocks)
    assert groups.shape == (9, 2 * blocks)
    whole = np.zeros((9, 64 * blocks), np.int64)
    for n in range(9):
        top = max(abs(float(v)) for v in values[n])
        sw = r(top / 126) or 1.0
        assert scales[n] == np.float32(sw)
        u = [round(r(r(float(v) / sw) * 256)) for v in values[n]] + [0] * (64 * blocks - columns)
        for group in range(2 * blocks):
            part, best = u[32 * group : 32 * group + 32], None
            for m in range(1, 16):
                around = (128 * m - min(0, *part)) // (256 * m)
                for z in range(around - 2, around + 2):
                    if not 0 <= z <= 15 or m * max(z, 15 - z) > 127:
                        continue
                    w = [min(max((v + 128 * m) // (256 * m) + z, 0), 15) for v in part]
                    error = sum((v - 256 * m * (one - z)) ** 2 for v, one in zip(part, w))
                    if best is None or error < best[0]:
                        best = (error, m, z, w)
            assert best is not None
            _, m, z, w = best
            assert groups[n, group] == m + 16 * z
            block, high = divmod(group, 2)
            nibbles = packed[n, 32 * block : 32 * block + 32] >> (4 * high) & 15
            assert nibbles.tolist() == w
            whole[n, 32 * group : 32 * group + 32] = [(one - z) * m for one in w]
    whole = whole[:, :columns]
    assert np.abs(whole).max() <= 127
    weight = linear4.Int4(torch.from_numpy(packed), torch.from_numpy(groups), columns)
    assert np.array_equal(linear4.unpack(weight).numpy(), whole)
    random = np.random.default_rng(1)
    q = random.integers(-32639, 32640, (3, columns))
    hi = (q + 128) >> 8
    limbs, s = np.stack([hi, q - 256 * hi]).astype(np.int8), floats((3,), 4, 1)
    y = np.zeros((3, 9), np.float32)
    linear4.few_rows_host(limbs, s, linear4.Int4(packed, groups, columns), scales, y)
    for t in range(3):
        for n in range(9):
            acc = sum(int(a) * int(b) for a, b in zip(q[t], whole[n]))
            assert y[t, n] == np.float32(r(r(r(float(acc)) * float(s[t])) * float(scales[n])))


@pytest.mark.parametrize("backend", BACKENDS)
def test_silu_product_is_its_definition(backend: str) -> None:
    rows, size = 18, 40
    y = floats((rows, 2 * size), 4, 1.5)
    y[0, :6] = [0.0, -0.0, 16.0, -16.0, 1e30, -1e30]
    limbs, scales, faults = limb_buffers(rows, size)
    run = activation.silu_quantize if backend == "torch" else activation.silu_quantize_host
    run(*wrap(backend, y, SIGMOID_ENTRIES.copy(), limbs, scales, faults))
    for t in range(rows):
        product = []
        for g, u in zip(y[t, :size].tolist(), y[t, size:].tolist()):
            e = float(SIGMOID_ENTRIES[round(r(min(abs(g), 16.0) * 4096))])
            sigma = e if g < 0 else r(1 - e)
            product.append(r(r(g * sigma) * u))
        expected, scale = scalar_q16(product)
        assert joined(limbs)[t].tolist() == expected
        assert scales[t] == np.float32(scale)


@pytest.mark.parametrize("product", ["native", "pieces"])
@pytest.mark.parametrize(("rows", "columns", "outputs"), [(1, 7, 3), (2, 1536, 65), (33, 2500, 40)])
def test_the_integer_product_is_exact_at_its_extremes(product: str, rows: int, columns: int, outputs: int) -> None:
    if product == "native" and not linear.native_product_is_exact():
        pytest.skip("this CPU has no exact int8 product (VNNI)")
    run = linear.native_product if product == "native" else linear.pieces_product
    random = np.random.default_rng(rows)
    for low, high, w in ((-128, -127, -127), (127, 128, 127), (-128, 128, None)):
        limbs = random.integers(low, high, (2 * rows, columns)).astype(np.int8)
        weight = random.integers(-127, 128, (outputs, columns)).astype(np.int8) if w is None else None
        if weight is None:
            weight = np.full((outputs, columns), w, np.int8)
        out = torch.empty((2 * rows, outputs), dtype=torch.int32)
        run(torch.from_numpy(limbs), torch.from_numpy(weight), out)
        assert (out.numpy() == limbs.astype(np.int64) @ weight.astype(np.int64).T).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rows", [1, 19])
def test_rescaling_rounds_once_from_the_integer(backend: str, rows: int) -> None:
    random = np.random.default_rng(5)
    acc = random.integers(-(2**31), 2**31, (2, rows, 9)).astype(np.int32)
    acc[:, 0, :3] = [[2**31 - 1, -(2**31), 2**16], [2**31 - 1, -(2**31), 1]]
    scales, weight_scales = floats((rows,), 6), floats((9,), 7)
    y = np.zeros((rows, 9), np.float32)
    run = linear.rescale if backend == "torch" else linear.rescale_host
    run(*wrap(backend, acc, scales, weight_scales, y))
    for t in range(rows):
        for n in range(9):
            total = int(acc[0, t, n]) * 256 + int(acc[1, t, n])
            assert y[t, n] == np.float32(r(r(r(float(total)) * float(scales[t])) * float(weight_scales[n])))


@pytest.mark.parametrize(("rows", "outputs"), [(1, 5), (3, 400)])
def test_the_product_for_few_rows_is_the_integer_product_rescaled(rows: int, outputs: int) -> None:
    columns = 1536
    random = np.random.default_rng(outputs)
    limbs = random.integers(-128, 128, (2, rows, columns)).astype(np.int8)
    limbs[0] = np.clip(limbs[0], -127, 126)
    weight = random.integers(-127, 128, (outputs, columns)).astype(np.int8)
    limbs[:, 0], weight[0] = 127, 127
    limbs[1, 0] = -1
    scales, weight_scales = floats((rows,), 6), floats((outputs,), 7)
    y, expected = np.zeros((2, rows, outputs), np.float32)
    linear.few_rows_host(limbs, scales, weight, weight_scales, y)
    acc = limbs.astype(np.int64) @ weight.astype(np.int64).T
    linear.rescale_host(acc.astype(np.int32), scales, weight_scales, expected)
    assert (y == expected).all()


def make_cache(pages: int, heads: int, page: int, size: int) -> KvLayer:
    shape = (pages, heads, page)
    return KvLayer(
        np.zeros((*shape, size), np.int16),
        np.zeros(shape, np.float32),
        np.zeros((*shape, size), np.int8),
        np.zeros(shape, np.float32),
        np.zeros(shape, np.float32),
    )


def scalar_rotate(x: list[float], position: int) -> list[float]:
    out = []
    for pair in range(len(x) // 2):
        c, s = (float(v) for v in ROTARY[position, pair])
        x0, x1 = x[2 * pair], x[2 * pair + 1]
        out += [r(r(x0 * c) - r(x1 * s)), r(r(x0 * s) + r(x1 * c))]
    return out


def scalar_kv(row: list[float], top: int) -> tuple[list[int], float]:
    q, s = scalar_q16(row, top)
    return q, 0.0 if max(abs(x) for x in row) < 2.0**-100 else s


@pytest.mark.parametrize("backend", BACKENDS)
def test_keys_values_and_attention_are_their_definition(backend: str) -> None:
    rows, heads, kv_heads, size, page = 21, 4, 2, 64, 4
    y = floats((rows, (heads + 2 * kv_heads) * size), 8, 0.7)
    y[:, : heads * size] *= 6
    y[2, heads * size :] = 0
    pages = np.array([[5, 1, 3, 0, 2, 4]], np.int64)
    positions = np.arange(rows)
    slots = pages[0][positions // page] * page + positions % page
    previous = np.concatenate(([-1], slots[:-1]))
    cache = make_cache(6, kv_heads, page, size)
    q, q_scales = np.zeros((rows, heads, size), np.int16), np.zeros((rows, heads), np.float32)
    faults, out = np.zeros(rows, bool), np.zeros((rows, heads * size), np.float32)
    exp, factor = attention.attention_table(load_table(EXP)), 0.125
    layer = KvLayer(*wrap(backend, *cache))
    store = rotary.rotate_store if backend == "torch" else rotary.rotate_store_host
    a = wrap(backend, y, ROTARY.copy(), positions, slots, previous, q, q_scales)
    store(*a, layer, *wrap(backend, faults))
    attend = attention.attend if backend == "torch" else attention.attend_host
    b = wrap(backend, pages, np.zeros(rows, np.int64), positions, exp)
    number = torch.tensor(factor) if backend == "torch" else np.float32(factor)
    attend(*wrap(backend, q, q_scales), layer, *b, number, *wrap(backend, out, faults))
    assert not faults.any()
    keys: list[list[Any]] = [[] for _ in range(kv_heads)]
    values: list[list[Any]] = [[] for _ in range(kv_heads)]
    for t in range(rows):
        parts = y[t].reshape(-1, size).astype(float).tolist()
        for kv in range(kv_heads):
            keys[kv].append(scalar_kv(scalar_rotate(parts[heads + kv], t), 1023))
            values[kv].append(scalar_kv(parts[heads + kv_heads + kv], 127))
        for head in range(heads):
            kv = head // (heads // kv_heads)
            qi, qs = scalar_q16(scalar_rotate(parts[head], t))
            scores = [r(r(r(r(float(sum(map(int.__mul__, qi, k)))) * qs) * ks) * factor) for k, ks in keys[kv]]
            m = max(scores)
            d = [round(min(r(r(m - s) * 4096), 55296.0)) for s in scores]
            p = [(int(EXP_ENTRIES[i]) + 2048) >> 12 for i in d]
            highest = max(vs for _, vs in values[kv])
            inverse = r(1 / highest) if highest else 0.0
            w = [round(r(r(pi * vs) * inverse)) for pi, (_, vs) in zip(p, values[kv])]
            for element in range(size):
                num = sum(wi * v[element] for wi, (v, _) in zip(w, values[kv]))
                expected = r(r(r(float(num)) / r(float(sum(p)))) * highest)
                assert out[t, head * size + element] == np.float32(expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_lora_adapter_is_its_definition(backend: str) -> None:
    rows, columns, width = 20, 130, 50
    random = np.random.default_rng(9)
    limbs = random.integers(-127, 127, (2, rows, columns)).astype(np.int8)
    scales = np.abs(floats((rows,), 10))
    ranks, widths, starts = (3, 16), (20, 12), (4, 30)
    a = random.integers(-127, 128, (sum(ranks), columns)).astype(np.int8)
    b = random.integers(-127, 128, sum(x * n for x, n in zip(ranks, widths))).astype(np.int8)
    a_scales, b_scales = np.abs(floats((sum(ranks),), 11)), np.abs(floats((sum(widths),), 12))
    modules = np.array([[3, 4, 20, 0], [16, 30, 12, 60]], np.int64)
    alphas = np.array([2.0, 0.3], np.float32)
    y, faults = floats((rows, width), 13), np.zeros(rows, bool)
    before = y.copy()
    group = LoraGroup(*wrap(backend, a, a_scales, b, b_scales, modules, alphas))
    run = lora.lora_apply if backend == "torch" else lora.lora_apply_host
    run(*wrap(backend, limbs, scales), [LoraRows(1, rows - 1, (group,))], *wrap(backend, y, faults))
    assert (y[0] == before[0]).all()
    assert (y[-1] == before[-1]).all()
    for t in range(1, rows - 1):
        q = joined(limbs)[t].tolist()
        expected = before[t].copy()
        at_rank = at_width = 0
        for (rank, start, n, offset), alpha in zip(modules.tolist(), alphas.tolist()):
            u = []
            for j in range(at_rank, at_rank + rank):
                acc = sum(x * int(w) for x, w in zip(q, a[j]))
                u.append(r(r(r(float(acc)) * float(scales[t])) * float(a_scales[j])))
            uq, us = scalar_q16(u)
            for c in range(n):
                acc = sum(x * int(b[offset + j * n + c]) for j, x in enumerate(uq))
                v = r(r(r(float(acc)) * us) * float(b_scales[at_width + c]))
                expected[start + c] = r(float(before[t, start + c]) + r(alpha * v))
            at_rank += rank
            at_width += n
        assert (y[t] == expected).all()
    assert starts == (modules[0, 1], modules[1, 1])


def test_host_kernels_fuse_nothing() -> None:
    """A product and a sum contracted into one operation would round once, not twice."""
    limbs, scales, faults = limb_buffers(1, 64)
    norm._norm_rows(floats((1, 64), 1), floats((64,), 2), np.float32(1e-5), limbs, scales, faults, 0, 1)
    y, no = np.zeros((1, 128), np.float32), np.zeros(1, bool)
    group = LoraGroup(
        np.ones((1, 64), np.int8), scales, np.ones(128, np.int8), np.ones(128, np.float32), np.array([[1, 0, 128, 0]]), scales
    )  # fmt: skip
    lora.lora_apply_host(limbs, scales, [LoraRows(0, 1, (group,))], y, no)
    # What comes from the cache does not know what it calls: compile the caller once more, so that the callee is asked for.
    caller: Any = lora._lora_serial
    for signature in caller.nopython_signatures:
        numba.njit(error_model="numpy")(caller.py_func).compile(signature.args)
    for function in (norm._norm_rows, lora._lora_rows):
        dispatcher: Any = function
        # Code from the cache cannot be inspected: compile once more.
        fresh = numba.njit(error_model="numpy")(dispatcher.py_func)
        for signature in dispatcher.nopython_signatures:
            fresh.compile(signature.args)
        code = "".join(fresh.inspect_asm().values())
        assert "mulss" in code or "mulps" in code
        assert "vfmadd" not in code
        assert "vfmsub" not in code
