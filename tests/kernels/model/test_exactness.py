"""One sequence, one set of logit bits: whatever travels with it, however it is cut, whoever computes it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from openledger.kernels.model.load import Model, load_model
from openledger.kernels.model.transformer import Lora
from openledger.kernels.ops.host import set_threads
from openledger.kernels.ops.linear import native_product_is_exact

from .conftest import Runner

TEXT = "The Rayleigh scattering of sunlight by molecules of air explains why the sky appears blue during the day."
LENGTH = 20
VECTOR = "b05f085da0f0777d72de00574df6efbe0d11a63e3bd0c27bcb5e677b335fdb45"
"""SHA-256 over the logits of the first 20 tokens of TEXT; also in kernels/README.md."""


@pytest.fixture(scope="module")
def tokens(model: Model) -> list[int]:
    return model.tokenizer.encode(TEXT)[:LENGTH]


def prefill_hash(model: Model, tokens: list[int], adapters: tuple[Lora, ...] = (), page: int = 16) -> str:
    runner = Runner(model.transformer, page, 1, len(tokens))
    runner.step([(0, tokens, adapters)])
    return runner.hash(0)


def test_the_logits_are_the_committed_vector(model: Model, tokens: list[int]) -> None:
    assert prefill_hash(model, tokens) == VECTOR


@pytest.mark.parametrize("page", [16, 64])
@pytest.mark.parametrize("cuts", [[1] * LENGTH, [7, 1, 5, 1, 6], [19, 1]])
def test_chunks_and_pages_do_not_show(model: Model, tokens: list[int], cuts: list[int], page: int) -> None:
    runner = Runner(model.transformer, page, 1, LENGTH)
    at = 0
    for size in cuts:
        runner.step([(0, tokens[at : at + size], ())])
        at += size
    assert runner.hash(0) == VECTOR


def test_a_batch_of_eight_with_mixed_adapters_gives_each_sequence_its_own_bits(
    model: Model, tokens: list[int], load_lora: Callable[[int, int], Lora]
) -> None:
    first, second = load_lora(8, 1), load_lora(16, 2)
    choices: list[tuple[Lora, ...]] = [(), (first,), (second,), (first, second), (second, first), (), (first,), ()]
    prompts = [tokens[i % 3 :] + tokens[: i % 3] for i in range(8)]
    alone = [prefill_hash(model, prompt, adapters) for prompt, adapters in zip(prompts, choices)]
    assert len(set(alone)) == 8
    assert alone[0] == VECTOR
    together = Runner(model.transformer, 16, 8, LENGTH)
    together.step([(i, prompts[i][:9], choices[i]) for i in range(8)])
    for at in range(9, LENGTH):
        order = [i for i in range(8) if (i + at) % 4] if at < 14 else range(8)
        together.step([(i, prompts[i][together.done[i] : together.done[i] + 1], choices[i]) for i in order])
    for i in range(8):
        rest = prompts[i][together.done[i] :]
        if rest:
            together.step([(i, rest, choices[i])])
    assert [together.hash(i) for i in range(8)] == alone


def test_the_torch_definitions_and_the_host_kernels_give_the_same_bits(
    model: Model, tokens: list[int], model_cache: Path, peft_adapter: Callable[[int, int], Path],
    load_lora: Callable[[int, int], Lora],
) -> None:  # fmt: skip
    from openledger.kernels.engine.adapters import inspect_adapter, read_adapter
    from openledger.kernels.engine.residency import stack_adapter

    defined = load_model(model_cache, threads=1, backend="torch")
    assert prefill_hash(defined, tokens) == VECTOR
    info = inspect_adapter(peft_adapter(8, 1), defined.config)
    lora = stack_adapter(read_adapter(info, defined.config), defined.config, defined.transformer.steps.array)
    assert prefill_hash(defined, tokens, (lora,)) == prefill_hash(model, tokens, (load_lora(8, 1),))


def test_two_threads_give_the_bits_of_one(model: Model) -> None:
    long = model.tokenizer.encode(TEXT * 5)[:90]
    one = prefill_hash(model, long)
    try:
        torch.set_num_threads(2)
        set_threads(2)
        assert prefill_hash(model, long) == one
    finally:
        torch.set_num_threads(1)
        set_threads(1)


def test_the_fallback_without_vnni_gives_the_same_bits(model: Model, tokens: list[int], model_cache: Path) -> None:
    fallback = load_model(model_cache, threads=1, linear="pieces")
    assert fallback.linear == "pieces"
    assert prefill_hash(fallback, tokens[:6]) == prefill_hash(model, tokens[:6])


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from openledger.kernels.model.load import load_model
model = load_model(Path(sys.argv[1]), threads=1)
import hashlib, numpy as np
from openledger.kernels.model.transformer import Batch, KvCache
tokens = model.tokenizer.encode(sys.argv[3])[:6]
at = np.arange(6)
cache = KvCache(model.config, 1, 16, model.transformer.steps)
batch = Batch(np.array(tokens), at, at, at - 1, np.zeros(6, np.int64), np.zeros((1, 1), np.int64), at)
logits, faults = model.transformer.step(batch, cache)
print(model.linear, hashlib.sha256(logits.tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_a_cpu_limited_to_avx2_proves_its_native_product_wrong_and_falls_back(
    model: Model, tokens: list[int], model_cache: Path
) -> None:
    """With VNNI hidden, torch's int8 product saturates; the self-test must see it and the bits must stay."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(model_cache), "", TEXT],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip
    linear, hashed = done.stdout.split()
    assert hashed == prefill_hash(model, tokens[:6])
    if model.linear == "native":
        assert native_product_is_exact()
        assert linear == "pieces"
