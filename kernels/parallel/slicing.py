"""Which part of a model each rank holds.

Layers come in pairs. The first of a pair (`qkv`, `gate_up`) is cut by its outputs: a rank has whole heads, or whole
channels of the feed-forward. The second (`output`, `down`) is cut by its inputs, which are the first one's outputs, and
its integer sums are added over the ranks. The head is cut by the vocabulary: in a small model it holds a large part of
the weights that a step reads, and what has to be gathered is one row of logits for each token that is drawn. The token
table and the norms are whole on every rank.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from openledger.kernels.engine.adapters import ModuleWeights
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.model.errors import UnsupportedModel
from openledger.kernels.model.weights import Matrix, Weights


def check_ranks(config: ModelConfig, ranks: int) -> None:
    """Raises `UnsupportedModel` if the model cannot be cut into so many parts."""
    for name, size in (
        ("attention heads", config.heads),
        ("key/value heads", config.kv_heads),
        ("feed-forward channels", config.feed_forward),
    ):
        if size % ranks:
            possible = [n for n in range(2, 65) if not any(s % n for s in _divided(config))]
            advice = " or ".join(map(str, possible)) if possible else "1"
            raise UnsupportedModel(
                f"tensor_parallel = {ranks} does not divide the {size} {name} of {config.name}: use {advice}"
            )


def share_of_config(config: ModelConfig, ranks: int) -> ModelConfig:
    """What one of `ranks` equal shares looks like."""
    return replace(
        config,
        heads=config.heads // ranks,
        kv_heads=config.kv_heads // ranks,
        feed_forward=config.feed_forward // ranks,
    )


def vocabulary_shares(vocabulary: int, ranks: int) -> list[int]:
    """How many tokens' logits each rank computes: in order, as even as they can be."""
    return [(rank + 1) * vocabulary // ranks - rank * vocabulary // ranks for rank in range(ranks)]


def share_of_weights(weights: Weights, config: ModelConfig, rank: int, ranks: int) -> Weights:
    """One rank's weights, of the whole model's root. Raises `UnsupportedModel` for a layer that it knows no cut of."""
    matrices: dict[str, Matrix] = {"embedding": weights.matrices["embedding"]}
    shares = vocabulary_shares(config.vocabulary, ranks)
    first = sum(shares[:rank])
    head = weights.matrices["head"] if "head" in weights.matrices else weights.matrices["embedding"]
    matrices["head"] = _rows(head, np.arange(first, first + shares[rank]))
    for name, matrix in weights.matrices.items():
        group = name.rpartition(".")[2]
        if group == "qkv":
            matrices[name] = _rows(matrix, _qkv_rows(config, rank, ranks))
        elif group == "gate_up":
            gate = _part(config.feed_forward, rank, ranks)
            matrices[name] = _rows(matrix, np.concatenate([gate, config.feed_forward + gate]))
        elif group in ("output", "down"):
            columns = _part(matrix.w.shape[1], rank, ranks)
            matrices[name] = replace(matrix, w=np.ascontiguousarray(matrix.w[:, columns]))
        elif name not in ("embedding", "head"):
            raise UnsupportedModel(f"layer {name} cannot be cut for tensor_parallel: use tensor_parallel = 1")
    vectors = {
        name: vector[_qkv_rows(config, rank, ranks)] if name.endswith(".qkv_bias") else vector
        for name, vector in weights.vectors.items()
    }
    return Weights(matrices, vectors, weights.root)


def share_of_adapter(
    modules: Mapping[tuple[int, str], ModuleWeights], config: ModelConfig, rank: int, ranks: int
) -> dict[tuple[int, str], ModuleWeights]:
    """One rank's part of an adapter: of B where the layer is cut by outputs, of A where it is cut by inputs."""
    heads, kv_heads = config.heads * config.head_size, config.kv_heads * config.head_size
    outputs = {
        "q_proj": heads,
        "k_proj": kv_heads,
        "v_proj": kv_heads,
        "gate_proj": config.feed_forward,
        "up_proj": config.feed_forward,
    }
    shares = {}
    for (layer, module), whole in modules.items():
        if module in outputs:
            rows = _part(outputs[module], rank, ranks)
            share = replace(whole, b=np.ascontiguousarray(whole.b[rows]), b_scales=whole.b_scales[rows].copy())
        else:
            columns = _part(whole.a.shape[1], rank, ranks)
            share = replace(whole, a=np.ascontiguousarray(whole.a[:, columns]))
        shares[layer, module] = share
    return shares


def _divided(config: ModelConfig) -> tuple[int, ...]:
    return config.heads, config.kv_heads, config.feed_forward


def _part(size: int, rank: int, ranks: int) -> Any:
    share = size // ranks
    return np.arange(rank * share, (rank + 1) * share)


def _qkv_rows(config: ModelConfig, rank: int, ranks: int) -> Any:
    query, key = config.heads * config.head_size, config.kv_heads * config.head_size
    return np.concatenate(
        [
            _part(query, rank, ranks),
            query + _part(key, rank, ranks),
            query + key + _part(key, rank, ranks),
        ]
    )


def _rows(matrix: Matrix, rows: Any) -> Matrix:
    """The matrix with these of its outputs, which are in order, and the residual rows that belong to them."""
    residual = rows[(rows >= matrix.first) & (rows < matrix.first + matrix.count)]
    kept = np.concatenate([rows, matrix.outputs + residual - matrix.first])
    first = int(np.searchsorted(rows, matrix.first)) if len(residual) else 0
    return Matrix(np.ascontiguousarray(matrix.w[kept]), matrix.scales[kept].copy(), first, len(residual))
