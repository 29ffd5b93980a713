"""The mode `bf16`: near the exact logits, and a fingerprint of activations that tells adapters and models apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openledger.kernels.engine.adapters import inspect_adapter, read_adapter
from openledger.kernels.engine.residency import stack_adapter
from openledger.kernels.model.bf16 import AttestedTransformer
from openledger.kernels.model.load import Model, load_bf16, load_model
from openledger.kernels.model.transformer import Lora, Transformer
from openledger.kernels.ops.activations import (
    COMMITMENT_BYTES,
    POINTS,
    ActivationLog,
    commit,
    compare,
    compare_all,
)

from .conftest import Runner
from .tiny_model import write_tiny_adapter, write_tiny_model

TOKENS = np.random.default_rng(1).integers(0, 256, 40).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder / "tiny.gguf")
    write_tiny_adapter(folder / "adapter", 12)
    return folder


@pytest.fixture(scope="module")
def exact(folder: Path) -> Model:
    return load_model(folder / "cache", model_file=folder / "tiny.gguf", threads=1)


@pytest.fixture(scope="module")
def fast(folder: Path) -> Model:
    return load_bf16(folder / "cache", model_file=folder / "tiny.gguf", threads=1, backend="torch")


def adapter(folder: Path, model: Model) -> tuple[Lora, ...]:
    info = inspect_adapter(folder / "adapter", model.config)
    return (stack_adapter(read_adapter(info, model.config), model.config, model.transformer.steps.array),)


def run(transformer: Transformer, cuts: list[int], adapters: tuple[Lora, ...] = ()) -> tuple[Any, Any]:
    """Logits and last hidden states of TOKENS, run in these pieces."""
    runner = Runner(transformer, 16, 1, len(TOKENS))
    hidden = []
    at = 0
    for size in cuts:
        runner.step([(0, TOKENS[at : at + size], adapters)])
        if isinstance(transformer, AttestedTransformer):
            hidden.append(transformer.last_hidden(size).clone())
        at += size
    return np.concatenate(runner.logits[0]), torch.cat(hidden).numpy() if hidden else None


def test_logits_are_near_the_exact_ones_with_and_without_an_adapter(folder: Path, exact: Model, fast: Model) -> None:
    with_adapter, without = (run(exact.transformer, [40], chosen)[0] for chosen in (adapter(folder, exact), ()))
    for wanted, other, chosen in ((with_adapter, without, adapter(folder, fast)), (without, with_adapter, ())):
        got, _ = run(fast.transformer, [40], chosen)
        # Random weights make sharp attention, which enlarges what bf16 rounds.
        assert 0 < np.abs(got - wanted).mean() < 0.1 * np.abs(wanted).mean() < np.abs(got - other).mean()


def test_weights_are_kept_and_have_a_root_of_their_own(folder: Path, exact: Model, fast: Model) -> None:
    again = load_bf16(folder / "cache", model_file=folder / "tiny.gguf", threads=1, backend="torch")
    assert again.transformer.root == fast.transformer.root != exact.transformer.root
    assert fast.numerics == "bf16"
    assert exact.numerics == "exact-1"
    assert np.array_equal(run(again.transformer, [40])[0], run(fast.transformer, [40])[0])


def test_activations_of_another_cut_agree_and_those_without_the_adapter_do_not(folder: Path, fast: Model) -> None:
    chosen = adapter(folder, fast)
    log = ActivationLog()
    for row in run(fast.transformer, [7, *[1] * 33], chosen)[1]:
        log.add(row)
    assert len(log.commitments) == 2 * COMMITMENT_BYTES
    honest = compare_all(log.commitments, run(fast.transformer, [40], chosen)[1])
    assert [one.points for one in honest] == [POINTS, POINTS]
    assert all(one.honest for one in honest)
    missing = compare_all(log.commitments, run(fast.transformer, [40])[1])
    assert not any(one.honest for one in missing)


def test_a_commitment_says_the_largest_elements_and_nothing_else() -> None:
    hidden = np.random.default_rng(2).standard_normal((32, 300)).astype(np.float32)
    assert len(commit(hidden)) == COMMITMENT_BYTES
    same = compare(commit(hidden), hidden)
    assert (same.points, same.exponents, same.mantissa) == (POINTS, 0, 0.0)
    largest = np.unravel_index(np.abs(hidden).argmax(), hidden.shape)
    changed = hidden.copy()
    changed[largest] *= -1
    assert compare(commit(hidden), changed).exponents == 1
    small = np.unravel_index(np.abs(hidden).argmin(), hidden.shape)
    changed = hidden.copy()
    changed[small] *= 2
    assert compare(commit(hidden), changed).exponents == 0
    assert not compare(commit(hidden), hidden[::-1]).honest


def test_indices_that_are_the_same_under_one_prime_take_another() -> None:
    hidden = np.zeros((32, 4096), np.float32)
    flat = hidden.reshape(-1)
    flat[0], flat[65521] = 400, 500
    flat[1000:1126] = np.arange(1, 127)
    made = commit(hidden)
    assert int.from_bytes(made[:2], "little") == 65519
    assert compare(made, hidden).exponents == 0


def test_a_hidden_state_with_fewer_elements_than_points_is_committed_to() -> None:
    hidden = np.array([[1.0, -2.5, 0.0]], np.float32)
    assert compare(commit(hidden), hidden).points == 3
    assert compare(commit(hidden), hidden).exponents == 0
    assert not compare(commit(hidden), hidden * 2).honest


def test_bytes_that_are_no_commitment_are_refused() -> None:
    hidden = np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match="258 bytes, not 5"):
        compare(b"short", hidden)
    with pytest.raises(ValueError, match="not one of the primes"):
        compare(bytes(COMMITMENT_BYTES), hidden)
    with pytest.raises(ValueError, match="3 tokens have 258 bytes"):
        compare_all(commit(hidden) * 2, hidden)
