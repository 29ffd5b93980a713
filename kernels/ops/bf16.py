"""The steps of the mode `bf16`: served where nobody disputes. Definitions in torch.

Same arguments in the same order as the steps of exact-1, so one forward pass runs both; the bytes of two int8 limbs hold
one row of bf16, those of an int16 weight, query or cache entry one bf16. Scales of rows, weights and cache are not used.

| held as bf16 | held as binary32 |
|---|---|
| base weights, what enters a linear layer, queries, keys, values, what enters an adapter's B | the residual stream, sums, norms, rotary, softmax, outputs of linear layers, logits |

Adapters stay int8 with a scale per row, as imported: an int8 is a bf16 exactly, and the scales come after the sums. Orders
of sums are a library's, so machines differ in the last bits: answers are *attested* (`ops/activations.py`), never exact.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from openledger.kernels.ops.lora import users_at
from openledger.kernels.ops.lora_plan import Plan
from openledger.kernels.ops.rotary import KvLayer, rotate


def rows_of(limbs: Tensor) -> Tensor:
    """The bf16 rows [T, K] in a buffer for limbs, int8 [2, T, K]."""
    return limbs.reshape(-1).view(torch.bfloat16).view(limbs.shape[1:])


def bf16(held: Tensor) -> Tensor:
    """What an int16 tensor holds."""
    return held.view(torch.bfloat16)


def linear(limbs: Tensor, scales: Tensor, weight: Tensor, weight_scales: Tensor, y: Tensor) -> None:
    """`weight` int16 [N, K]; `y` [T, N] = rows . weight, summed by the BLAS of the device."""
    y.copy_(rows_of(limbs) @ bf16(weight).t())


def embed(tokens: Tensor, weight: Tensor, scales: Tensor, residual: int, x: Tensor) -> None:
    """`x` [T, D] = the tokens' rows."""
    x.copy_(bf16(weight[tokens]))


def _rms(x: Tensor, weight: Tensor, epsilon: Any) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight


def _fault(x: Tensor, faults: Tensor) -> None:
    faults.logical_or_(~torch.isfinite(x).flatten(1).all(-1))


def norm_quantize(x: Tensor, weight: Tensor, epsilon: Any, limbs: Tensor, scales: Tensor, faults: Tensor) -> None:
    """RMSNorm of `x` [T, D] into rows of bf16."""
    y = _rms(x, weight, epsilon)
    _fault(y, faults)
    rows_of(limbs).copy_(y)


def quantize_rows(x: Tensor, limbs: Tensor, scales: Tensor, faults: Tensor) -> None:
    """`x` [T, K] as rows of bf16."""
    _fault(x, faults)
    rows_of(limbs).copy_(x)


def silu_quantize(y: Tensor, sigmoid: Tensor, limbs: Tensor, scales: Tensor, faults: Tensor) -> None:
    """`y` [T, 2F] (gate, then up): silu(gate) * up as rows of bf16; the table is not used."""
    gate, up = y.chunk(2, -1)
    product = torch.nn.functional.silu(gate) * up
    _fault(product, faults)
    rows_of(limbs).copy_(product)


def norm_heads(
    y: Tensor, query_weight: Tensor, key_weight: Tensor, epsilon: Any, heads: int, kv_heads: int, faults: Tensor
) -> None:
    """RMSNorm of each query and key head of `y` by itself, in place."""
    size = query_weight.shape[0]
    for first, count, weight in ((0, heads, query_weight), (heads, kv_heads, key_weight)):
        part = y[:, first * size : (first + count) * size].reshape(len(y), count, size)
        y[:, first * size : (first + count) * size] = _rms(part, weight, epsilon).flatten(1)


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
    """Rotate queries and keys; queries into `q` [T, H, D], keys and values into the cache at `slots`."""
    tokens, heads, size = q.shape
    kv_heads, page = cache.keys.shape[1:3]
    parts = y[:, : (heads + 2 * kv_heads) * size].reshape(tokens, heads + 2 * kv_heads, size)
    _fault(parts, faults)
    rotated = rotate(parts[:, : heads + kv_heads], table[positions])
    bf16(q).copy_(rotated[:, :heads])
    at = (slots // page, slice(None), slots % page)
    bf16(cache.keys)[at] = rotated[:, heads:].to(torch.bfloat16)
    bf16(cache.values)[at] = parts[:, heads + kv_heads :].to(torch.bfloat16)


def attend(
    q: Tensor,
    q_scales: Tensor,
    cache: KvLayer,
    tables: Tensor,
    sequences: Tensor,
    positions: Tensor,
    exp: Tensor,
    factor: Any,
    out: Tensor,
    faults: Tensor,
) -> None:
    """Causal attention, softmax in binary32: `out` [T, H * D]."""
    heads, size = q.shape[1:]
    kv_heads, page = cache.keys.shape[1:3]
    for sequence in torch.unique(sequences).tolist():
        rows = (sequences == sequence).nonzero()[:, 0]
        length = int(positions[rows].max()) + 1
        pages = tables[sequence, : (length + page - 1) // page]
        keys, values = (
            bf16(part)[pages].transpose(1, 2).flatten(0, 1)[:length].transpose(0, 1).float()
            for part in (cache.keys, cache.values)
        )
        queries = bf16(q)[rows].float().view(len(rows), kv_heads, heads // kv_heads, size).permute(1, 2, 0, 3)
        scores = (queries @ keys[:, None].transpose(-1, -2)) * factor
        hidden = torch.arange(length, device=q.device)[None, :] > positions[rows][:, None]
        p = torch.softmax(scores.masked_fill(hidden, float("-inf")), -1)
        result = p.to(torch.bfloat16).float() @ values[:, None]
        out[rows] = result.permute(2, 0, 1, 3).reshape(len(rows), heads * size)


def lora_run(limbs: Tensor, scales: Tensor, plan: Plan, layer: int, group: str, y: Tensor, faults: Tensor) -> None:
    """`y` += alpha * ((bf16(rows . A * sa)) . B * sb), for each adapter in the request's order."""
    lora_apply(limbs, users_at(plan.uses, layer, group), y)


def lora_apply(limbs: Tensor, users: Sequence[Any], y: Tensor) -> None:
    """The same, of `LoraRows`."""
    x = rows_of(limbs)
    for user in users:
        rows = slice(user.first, user.last)
        for part in user.groups:
            u = (x[rows].float() @ part.a.float().t()) * part.a_scales
            u = u.to(torch.bfloat16).float()
            rank_offset = width_offset = 0
            for (rank, column, width, start), alpha in zip(part.modules.tolist(), part.alphas):
                b = part.b[start : start + rank * width].view(rank, width).float()
                v = (u[:, rank_offset : rank_offset + rank] @ b) * part.b_scales[width_offset : width_offset + width]
                y[rows, column : column + width] += alpha * v
                rank_offset += rank
                width_offset += width
