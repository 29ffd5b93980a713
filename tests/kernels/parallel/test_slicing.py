"""Shares of weights and adapters put together again give what was cut."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openledger.kernels.engine.adapters import inspect_adapter, read_adapter
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.model.load import Model, load_model
from openledger.kernels.model.steps import Steps
from openledger.kernels.model.transformer import Transformer
from openledger.kernels.model.weights import Weights
from openledger.kernels.parallel.slicing import share_of_adapter, share_of_config, share_of_weights, vocabulary_shares
from tests.kernels.model.tiny_model import FEED_FORWARD, write_tiny_adapter, write_tiny_model

RANKS = 2
Cut = tuple[Path, Model, Weights, list[Weights]]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Cut:
    """A model whose weights were caught on their way into it, and their shares."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder / "tiny.gguf", kv_heads=2)
    caught: list[Weights] = []

    def build(config: ModelConfig, weights: Weights, steps: Steps) -> Transformer:
        caught.append(weights)
        return Transformer(config, weights, steps)

    model = load_model(folder / "cache", model_file=folder / "tiny.gguf", threads=1, backend="torch", build=build)
    return folder, model, caught[0], [share_of_weights(caught[0], model.config, rank, RANKS) for rank in range(RANKS)]


def test_every_output_is_on_one_rank_with_its_residual(cut: Cut) -> None:
    _, model, whole, shares = cut
    local = share_of_config(model.config, RANKS)
    x = np.random.default_rng(1).integers(-128, 128, model.config.hidden).astype(np.float64)

    def outputs(weights: Weights, name: str) -> Any:
        matrix = weights.matrices[name]
        y = (matrix.w.astype(np.float64) @ x) * matrix.scales
        if matrix.count:
            y[matrix.first : matrix.first + matrix.count] += y[-matrix.count :]
        return y[: matrix.outputs]

    def joined(name: str, ends: list[int]) -> Any:
        parts = [np.split(outputs(share, name), ends) for share in shares]
        return np.concatenate([np.concatenate(part) for part in zip(*parts)])

    query, key = local.heads * local.head_size, local.kv_heads * local.head_size
    assert np.array_equal(joined("0.qkv", [query, query + key]), outputs(whole, "0.qkv"))
    assert np.array_equal(joined("1.gate_up", [local.feed_forward]), outputs(whole, "1.gate_up"))
    assert np.array_equal(joined("head", []), outputs(whole, "embedding"))
    assert [len(outputs(s, "head")) for s in shares] == vocabulary_shares(model.config.vocabulary, RANKS) == [129, 130]


def test_every_input_is_on_one_rank(cut: Cut) -> None:
    _, _, whole, shares = cut
    for name in ("0.output", "1.down"):
        assert np.array_equal(np.concatenate([s.matrices[name].w for s in shares], axis=1), whole.matrices[name].w)
        assert all(np.array_equal(s.matrices[name].scales, whole.matrices[name].scales) for s in shares)


def test_an_adapter_is_cut_where_its_layers_are(cut: Cut) -> None:
    folder, model, _, _ = cut
    info = inspect_adapter(write_tiny_adapter(folder / "adapter", 4, kv_heads=2), model.config)
    whole = read_adapter(info, model.config)
    first, second = (share_of_adapter(whole, model.config, rank, RANKS) for rank in range(RANKS))
    assert first.keys() == whole.keys()
    for key in ((0, "q_proj"), (0, "up_proj")):
        assert np.array_equal(np.concatenate([first[key].b, second[key].b]), whole[key].b)
        assert np.array_equal(first[key].a, whole[key].a)
    down = (0, "down_proj")
    assert first[down].a.shape == (4, FEED_FORWARD // RANKS)
    assert np.array_equal(np.concatenate([first[down].a, second[down].a], axis=1), whole[down].a)
    assert np.array_equal(second[down].b, whole[down].b)


def test_biases_go_with_their_outputs_and_norms_are_whole(cut: Cut) -> None:
    _, model, whole, _ = cut
    config = model.config
    bias = np.arange(config.qkv_width, dtype=np.float32)
    biased = Weights(whole.matrices, {**whole.vectors, "0.qkv_bias": bias}, whole.root)
    shares = [share_of_weights(biased, config, rank, RANKS) for rank in range(RANKS)]
    local = share_of_config(config, RANKS)
    ends = [local.heads * config.head_size, (local.heads + local.kv_heads) * config.head_size]
    parts = [np.split(share.vectors["0.qkv_bias"], ends) for share in shares]
    assert np.array_equal(np.concatenate([np.concatenate(part) for part in zip(*parts)]), bias)
    assert all(np.array_equal(share.vectors["norm"], whole.vectors["norm"]) for share in shares)
