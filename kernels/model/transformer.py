"""The forward pass of `exact-1`: a batch of rows from any mix of sequences, adapters, prefill and decode.

    x = f32(W[token]) * sw[token] + f32(R[token]) * sr[token]        R: the residual rows
    per layer:  x = x + output(q16(attention(rotate(qkv(norm(x))))))
                x = x + down(q16(silu(gate(norm(x))) * up(norm(x))))
    logits = head(norm(x))

Nothing in it depends on which rows travel together: see the folder's README for the rule.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from openledger.genesis.tables import EXP, SIGMOID, load_table
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.model.steps import Steps
from openledger.kernels.model.weights import ROTARY, Matrix, Weights
from openledger.kernels.ops.attention import attention_table
from openledger.kernels.ops.head_norm import add_bias
from openledger.kernels.ops.linear import fold_residual
from openledger.kernels.ops.linear4 import Int4
from openledger.kernels.ops.lora import users_at
from openledger.kernels.ops.lora_layout import Lora as Lora
from openledger.kernels.ops.lora_plan import Use
from openledger.kernels.ops.rotary import KvLayer

Segment = Use
"""Rows `first` .. `last` of the batch that use these adapters (`Lora`), in this order."""


@dataclass(frozen=True)
class Batch:
    """One step's rows. A sequence's rows come in order of position; int64 arrays unless noted.

    `tokens` [T], `positions` [T], `slots` [T] (where each row's key and value go), `previous` [T] (the slot
    of the position before, -1 at the start), `sequences` [T] (row of `tables`), `tables` [S, pages],
    `logit_rows` (which rows' logits are wanted), `segments` (rows with adapters, disjoint).
    """

    tokens: Any
    positions: Any
    slots: Any
    previous: Any
    sequences: Any
    tables: Any
    logit_rows: Any
    segments: Sequence[Segment] = ()


class Inputs(NamedTuple):
    """A batch's arrays where the backend computes, as it takes them."""

    tokens: Any
    positions: Any
    slots: Any
    previous: Any
    sequences: Any
    tables: Any
    logit_rows: Any


_VIEWS: Final = 256
"""Views of buffers that are kept, so that the same batch size makes no new ones."""


class Buffers:
    """Scratch memory by name, kept between steps and grown when a step needs more."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._held: dict[str, Tensor] = {}
        self._views: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def take(self, name: str, kind: torch.dtype, *shape: int) -> Tensor:
        view = self._views.get((name, shape))
        if view is not None:
            return view
        size = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.numel() < size or len(self._views) >= _VIEWS:
            # Views of what was there before would keep it.
            self._views.clear()
        if held is None or held.numel() < size:
            held = self._held[name] = torch.empty(size, dtype=kind, device=self._device)
        view = self._views[name, shape] = held[:size].view(shape)
        return view


class KvCache:
    """Pages for every layer. Memory is taken from the system only when a page is first written."""

    def __init__(self, config: ModelConfig, pages: int, page_tokens: int, steps: Steps) -> None:
        self.pages = pages
        self.page_tokens = page_tokens
        shape = (pages, config.kv_heads, page_tokens)
        row = (*shape, config.head_size)

        def zeros(size: tuple[int, ...], kind: Any) -> Any:
            # numpy asks the system for zero pages and touches none; torch.zeros writes them all.
            return steps.array(torch.from_numpy(np.zeros(size, kind)))

        self.layers = [
            KvLayer(
                zeros(row, np.int16),
                zeros(shape, np.float32),
                zeros(row, steps.value_kind),
                zeros(shape, np.float32),
                zeros(shape, np.float32),
            )
            for _ in range(config.layers)
        ]


class Transformer:
    """A model's weights and tables, ready to run. Not safe for use from two threads at once."""

    def __init__(self, config: ModelConfig, weights: Weights, steps: Steps) -> None:
        self.config = config
        self.steps = steps
        self.root = weights.root
        self._matrices: dict[str, tuple[Any, Any]] = {
            name: (_placed(matrix, steps), steps.array(_tensor(matrix.scales)))
            for name, matrix in weights.matrices.items()
        }
        self._residuals = {name: (matrix.first, matrix.count) for name, matrix in weights.matrices.items()}
        self._vectors = {
            name: steps.array(_tensor(vector)) for name, vector in weights.vectors.items() if name != ROTARY
        }
        self._head = "head" if "head" in weights.matrices else "embedding"
        exp = load_table(EXP)
        self._exp = steps.array(torch.from_numpy(attention_table(exp)))
        self._sigmoid = steps.array(torch.from_numpy(np.frombuffer(load_table(SIGMOID), "<f4").copy()))
        name = config.shipped_rotary
        rotary = weights.vectors[ROTARY] if name is None else np.frombuffer(load_table(name), "<f4").copy()
        self._rotary = steps.array(_tensor(rotary.reshape(-1, config.head_size // 2, 2)))
        self.max_context = min(config.positions, len(self._rotary))
        self._epsilon = steps.scalar(config.epsilon)
        # Root and quotient are correctly rounded everywhere; a power is not.
        self._factor = steps.scalar(1.0 / math.sqrt(config.head_size))
        self._buffers = Buffers(steps.device)

    def step(self, batch: Batch, cache: KvCache) -> tuple[Any, Any]:
        """As `forward`, in numpy arrays."""
        logits, faults = self.forward(batch, cache)
        return logits.cpu().numpy(), faults.cpu().numpy()

    @torch.inference_mode()
    def forward(self, batch: Batch, cache: KvCache) -> tuple[Tensor, Tensor]:
        """Run the rows and store their keys and values. Returns the logits of `logit_rows`, float32
        [rows, vocabulary], and a bool per row: a numeric fault. Both are overwritten by the next call."""
        parts = (
            batch.tokens,
            batch.positions,
            batch.slots,
            batch.previous,
            batch.sequences,
            batch.tables,
            batch.logit_rows,
        )
        # One copy to the device for all of them.
        flat = self.steps.array(torch.from_numpy(np.concatenate([np.ravel(part) for part in parts]).astype(np.int64)))
        ends = np.cumsum([np.size(part) for part in parts]).tolist()
        arrays = [flat[end - np.size(part) : end].reshape(np.shape(part)) for part, end in zip(parts, ends)]
        plan = self.steps.lora_plan(batch.segments) if batch.segments else None
        return self.run(Inputs(*arrays), plan, cache, self._buffers)

    def run(self, inputs: Inputs, plan: Any, cache: KvCache, buffers: Buffers) -> tuple[Tensor, Tensor]:
        """`forward` of what is on the device already, in `buffers`, with what `steps.lora_plan` gave: reads nothing back and
        sends nothing, so that a GPU can record it."""
        config, steps, rows = self.config, self.steps, len(inputs.tokens)
        array = steps.array
        inner = config.heads * config.head_size
        x_tensor = buffers.take("x", torch.float32, rows, config.hidden)
        x = array(x_tensor)
        _, residual = self._residuals["embedding"]
        weight, weight_scales = self._matrices["embedding"]
        steps.embed(inputs.tokens, weight, weight_scales, config.vocabulary if residual else 0, x)
        faults_tensor = buffers.take("faults", torch.bool, rows).zero_()
        faults = array(faults_tensor)
        scales = array(buffers.take("scales", torch.float32, rows))
        q = array(buffers.take("q", torch.int16, rows, config.heads, config.head_size))
        q_scales = array(buffers.take("q_scales", torch.float32, rows, config.heads))
        attended = array(buffers.take("attended", torch.float32, rows, inner))
        narrow = array(buffers.take("limbs", torch.int8, 2, rows, config.hidden))
        wide = array(buffers.take("limbs_wide", torch.int8, 2, rows, config.feed_forward))
        joined = array(buffers.take("limbs_heads", torch.int8, 2, rows, inner))
        _, positions, slots, previous, sequences, tables, logit_rows = inputs
        for layer in range(config.layers):
            kv = cache.layers[layer]
            weight = self._vectors[f"{layer}.attention_norm"]
            steps.norm_quantize(x, weight, self._epsilon, narrow, scales, faults)
            y = self._linear(layer, "qkv", narrow, scales, plan, faults, buffers)
            if config.head_norm:
                query, key = self._vectors[f"{layer}.query_norm"], self._vectors[f"{layer}.key_norm"]
                steps.norm_heads(y, query, key, self._epsilon, config.heads, config.kv_heads, faults)
            steps.rotate_store(y, self._rotary, positions, slots, previous, q, q_scales, kv, faults)
            steps.attend(q, q_scales, kv, tables, sequences, positions, self._exp, self._factor, attended, faults)
            steps.quantize_rows(attended, joined, scales, faults)
            steps.add(x, self._linear(layer, "output", joined, scales, plan, faults, buffers))
            weight = self._vectors[f"{layer}.feed_forward_norm"]
            steps.norm_quantize(x, weight, self._epsilon, narrow, scales, faults)
            y = self._linear(layer, "gate_up", narrow, scales, plan, faults, buffers)
            steps.silu_quantize(y, self._sigmoid, wide, scales, faults)
            steps.add(x, self._linear(layer, "down", wide, scales, plan, faults, buffers))
        logits = self._logits(x_tensor, logit_rows, faults_tensor, buffers)
        steps.join_faults(faults_tensor)
        return logits, faults_tensor

    def _logits(self, x: Tensor, logit_rows: Any, faults: Tensor, buffers: Buffers) -> Tensor:
        steps = self.steps
        wanted = torch.from_numpy(logit_rows) if isinstance(logit_rows, np.ndarray) else logit_rows
        rows = len(wanted)
        if not rows:
            return torch.empty((0, self.config.vocabulary), dtype=torch.float32)
        limbs = steps.array(buffers.take("limbs", torch.int8, 2, rows, self.config.hidden))
        scales = steps.array(buffers.take("scales", torch.float32, rows))
        chosen = torch.zeros(rows, dtype=torch.bool, device=steps.device)
        steps.norm_quantize(
            steps.array(x[wanted]), self._vectors["norm"], self._epsilon, limbs, scales, steps.array(chosen)
        )  # fmt: skip
        parts = self._product(self._head, limbs, scales, "logits", buffers, steps.linear)
        tensor = torch.from_numpy(parts) if isinstance(parts, np.ndarray) else parts
        tensor = steps.join_logits(tensor[:, : tensor.shape[1] - self._residuals[self._head][1]])
        # An infinity would survive the argmax; a sum of absolute values shows it in one pass.
        chosen |= ~torch.isfinite(tensor.abs().amax(-1))
        faults[wanted] |= chosen
        return tensor

    def _linear(
        self,
        layer: int,
        group: str,
        limbs: Any,
        scales: Any,
        plan: Any,
        faults: Any,
        buffers: Buffers,
    ) -> Any:
        steps, spread = self.steps, group in ("output", "down")
        product = steps.linear_across if spread else steps.linear
        y = self._product(f"{layer}.{group}", limbs, scales, "y", buffers, product)
        if plan is not None and spread and steps.lora_across is not None:
            users = users_at(plan.uses, layer, group)
            if users:
                steps.lora_across(limbs, scales, users, y, faults)
        elif plan is not None:
            steps.lora_run(limbs, scales, plan, layer, group, y, faults)
        return y

    def _product(self, name: str, limbs: Any, scales: Any, into: str, buffers: Buffers, product: Any) -> Any:
        weight, weight_scales = self._matrices[name]
        y = self.steps.array(buffers.take(into, torch.float32, limbs.shape[1], weight.shape[0]))
        product(limbs, scales, weight, weight_scales, y)
        first, count = self._residuals[name]
        if count:
            fold_residual(y, first, count)
        bias = self._vectors.get(f"{name}_bias")
        if bias is not None:
            add_bias(y, bias)
        return y


def _placed(matrix: Matrix, steps: Steps) -> Any:
    """The integers of a matrix as `steps.linear` takes them: int8 as they are, or packed."""
    w = steps.array(_tensor(matrix.w))
    if matrix.groups is None:
        return w
    return Int4(w, steps.array(_tensor(matrix.groups)), matrix.columns)


def _tensor(array: Any) -> Tensor:
    """A tensor over a numpy array that nobody writes to (memory-mapped weights are read-only)."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(np.asarray(array))
