"""Adapters folded into a model file: by the written rule to the bit, and a model that answers almost as the adapters do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from safetensors.numpy import load_file

from openledger.kernels.engine.adapters import inspect_adapter, read_adapter
from openledger.kernels.engine.adapters.merge import Part, merge_adapters
from openledger.kernels.engine.residency import stack_adapter
from openledger.kernels.model.errors import DamagedModel
from openledger.kernels.model.generate import generate
from openledger.kernels.model.load import Model, load_model
from openledger.kernels.model.transformer import Batch, KvCache, Lora, Segment

from ..model.tiny_model import write_tiny_adapter, write_tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merge")
    write_tiny_model(folder / "tiny.gguf")
    write_tiny_adapter(folder / "first", 4, 1)
    write_tiny_adapter(folder / "second", 6, 2)
    return folder


@pytest.fixture(scope="module")
def base(folder: Path) -> Model:
    return load_model(folder / "cache", model_file=folder / "tiny.gguf", threads=1)


@pytest.fixture(scope="module")
def merged(folder: Path, base: Model) -> Path:
    parts = [
        Part(inspect_adapter(folder / "first", base.config)),
        Part(inspect_adapter(folder / "second", base.config), 500),
    ]
    merge_adapters(folder / "tiny.gguf", base.config, parts, folder / "merged.gguf", "tiny and two")
    return folder / "merged.gguf"


def logits(model: Model, tokens: list[int], adapters: tuple[Lora, ...] = ()) -> Any:
    at = np.arange(len(tokens))
    batch = Batch(
        np.array(tokens), at, at, at - 1, np.zeros_like(at), np.zeros((1, 1), np.int64), at,
        [Segment(0, len(tokens), adapters)] if adapters else [],
    )  # fmt: skip
    cache = KvCache(model.config, 1, 32, model.transformer.steps)
    return model.transformer.step(batch, cache)[0].copy()


def test_every_number_is_that_of_the_written_rule(folder: Path, merged: Path) -> None:
    before = {tensor.name: tensor for tensor in GGUFReader(folder / "tiny.gguf").tensors}
    after = {tensor.name: tensor for tensor in GGUFReader(merged).tensors}
    assert list(before) == list(after)
    changed = [name for name in before if before[name].data.tobytes() != after[name].data.tobytes()]
    assert changed == [f"blk.0.{part}.weight" for part in ("attn_q", "attn_v", "attn_output", "ffn_up", "ffn_down")]
    weights = np.array(before["blk.0.attn_q.weight"].data, np.float32)
    for name, alpha in (("first", np.float32(2.0)), ("second", np.float32(1.0))):
        tensors = load_file(folder / name / "adapter_model.safetensors")
        prefix = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
        a, b = tensors[f"{prefix}A.weight"], tensors[f"{prefix}B.weight"]
        # A head's rows: half a head apart in the adapter, side by side in the model.
        rows = [head * 64 + element // 2 + 32 * (element % 2) for head in range(2) for element in range(64)]
        delta = np.zeros_like(weights)
        for r in range(a.shape[0]):
            delta = delta + b[rows][:, r : r + 1] * a[r]
        weights = weights + alpha * delta
    assert after["blk.0.attn_q.weight"].data.tobytes() == weights.tobytes()


def test_the_merged_model_is_another_one_that_answers_nearly_alike(folder: Path, base: Model, merged: Path) -> None:
    model = load_model(folder / "cache", model_file=merged, threads=1)
    assert model.config.name == "tiny and two"
    assert model.transformer.root != base.transformer.root
    assert model.tokenizer.hash == base.tokenizer.hash
    tokens = list(range(60, 84))
    array = base.transformer.steps.array
    loras = [
        stack_adapter(read_adapter(inspect_adapter(folder / name, base.config), base.config), base.config, array)
        for name in ("first", "second")
    ]
    adapted = logits(base, tokens, (loras[0], loras[1].weighted(500, array)))
    plain = logits(base, tokens)
    folded = logits(model, tokens)
    # Both are the base and what the adapters add; they differ by what is rounded to int8.
    assert np.abs(folded - adapted).max() < 0.15 * np.abs(adapted - plain).max()
    assert (folded != adapted).any()


def test_merging_again_gives_the_same_file_and_the_same_answers(folder: Path, base: Model, merged: Path) -> None:
    parts = [
        Part(inspect_adapter(folder / "first", base.config)),
        Part(inspect_adapter(folder / "second", base.config), 500),
    ]
    merge_adapters(folder / "tiny.gguf", base.config, parts, folder / "again.gguf", "tiny and two")
    assert (folder / "again.gguf").read_bytes() == merged.read_bytes()
    left, right = (load_model(folder / "cache", model_file=file, threads=1) for file in (merged, folder / "again.gguf"))
    assert left.transformer.root == right.transformer.root
    assert generate(left, [[65, 66]], max_tokens=3) == generate(right, [[65, 66]], max_tokens=3)


def test_what_is_no_gguf_is_refused(folder: Path, base: Model, tmp_path: Path) -> None:
    part = Part(inspect_adapter(folder / "first", base.config))
    (tmp_path / "file").write_bytes(b"no model")
    with pytest.raises(DamagedModel, match="not a readable GGUF"):
        merge_adapters(tmp_path / "file", base.config, [part], tmp_path / "out.gguf", "x")
    assert not (tmp_path / "out.gguf").exists()
