"""Adapter folders: what is accepted, and every refusal by name before a tensor is read."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openledger.kernels.engine.adapters import (
    AdapterRefused,
    adapter_digest,
    inspect_adapter,
    read_adapter,
)
from openledger.kernels.model.load import Model

from .conftest import adapter_tensors

Write = Callable[..., Path]
FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


def test_a_good_adapter_is_described_and_read(model: Model, write_adapter: Write) -> None:
    info = inspect_adapter(write_adapter(), model.config)
    assert len(info.modules) == 21
    assert info.max_rank == 4
    weights = read_adapter(info, model.config)
    module = weights[0, "down_proj"]
    assert module.a.shape == (4, 1536)
    assert module.b.shape == (576, 4)
    assert module.alpha == np.float32(2.0)


def test_query_rows_are_put_side_by_side_as_the_model_keeps_them(model: Model, write_adapter: Write) -> None:
    tensors = adapter_tensors(1)
    rows = np.arange(576, dtype=np.float32)
    tensors[FIRST.replace("lora_A", "lora_B")] = np.repeat(rows[:, None] + 1, 4, 1)
    weights = read_adapter(inspect_adapter(write_adapter(tensors=tensors), model.config), model.config)
    module = weights[0, "q_proj"]
    order = np.rint(module.b[:, 0] * module.b_scales - 1).astype(int)
    assert order[:6].tolist() == [0, 32, 1, 33, 2, 34]
    assert sorted(order.tolist()) == list(range(576))


def test_rank_stabilised_and_patterned_scales(model: Model, write_adapter: Write) -> None:
    folder = write_adapter(use_rslora=True, alpha_pattern={"q_proj": 3, r"layers\.1\.mlp\.up_proj": 5})
    modules = inspect_adapter(folder, model.config).modules
    assert modules[0, "v_proj"].alpha == 4.0
    assert modules[2, "q_proj"].alpha == 1.5
    assert modules[1, "up_proj"].alpha == 2.5


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_half_precision_files_are_read(model: Model, write_adapter: Write, dtype: Any) -> None:
    tensors = {name: value.astype(dtype) for name, value in adapter_tensors(1).items()}
    weights = read_adapter(inspect_adapter(write_adapter(tensors=tensors), model.config), model.config)
    module = weights[0, "v_proj"]
    wanted = tensors[FIRST.replace("q_proj", "v_proj")].astype(np.float32)
    assert np.abs(module.a * module.a_scales[:, None] - wanted).max() < 0.01


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"peft_type": "IA3"}, "peft_type LORA"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias = none"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"r": 8}, "has rank 4, adapter_config.json says 8"),
        ({"lora_alpha": "x"}, "lora_alpha = 'x'"),
        ({"lora_alpha": 1e300}, "not finite"),
        ({"rank_pattern": {"(": 4}}, "not a pattern"),
        ({"rank_pattern": [1]}, "not a table"),
    ],
)
def test_configurations_that_are_not_a_plain_lora_are_refused(
    model: Model, write_adapter: Write, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(AdapterRefused) as refused:
        inspect_adapter(write_adapter(**changes), model.config)
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.update({FIRST: t[FIRST][:, :-1]}), "trained on another model"),
        (lambda t: t.pop(FIRST), "only one of"),
        (lambda t: t.update({FIRST: t[FIRST].astype(np.float64)}), "F64"),
        (lambda t: t.update({FIRST: t[FIRST].reshape(-1)}), "not that of a matrix"),
        (lambda t: t.update({"lm_head.weight": t[FIRST]}), "lm_head.weight"),
        (lambda t: t.update({FIRST.replace("layers.0", "layers.30"): t[FIRST]}), "layer 30"),
        (lambda t: t.clear(), "no LoRA matrices"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(
    model: Model, write_adapter: Write, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    tensors = adapter_tensors(1)
    change(tensors)
    tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    with pytest.raises(AdapterRefused) as refused:
        inspect_adapter(write_adapter(tensors=tensors), model.config)
    assert says in str(refused.value)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(model: Model, write_adapter: Write, bad: float) -> None:
    tensors = adapter_tensors(1)
    tensors[FIRST][2, 7] = bad
    info = inspect_adapter(write_adapter(tensors=tensors), model.config)
    with pytest.raises(AdapterRefused, match="layer 0 q_proj"):
        read_adapter(info, model.config)


def test_a_pickle_is_refused_by_name_and_never_opened(model: Model, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04cos\nsystem\n.")
    with pytest.raises(AdapterRefused, match=r"adapter_model\.bin is a pickle.*safe_serialization"):
        inspect_adapter(tmp_path, model.config)


def header_file(header: Any, body: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + body


ONE = {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "header does not fit"),
        (b"PK\x03\x04" + b"\0" * 100, "header does not fit"),
        (header_file({"a": ONE}, b"\0" * 8, length=2**63), "header does not fit"),
        (header_file(b"not json"), "not a safetensors file"),
        (header_file(b"[1]"), "not a safetensors file"),
        (header_file({"a": 5}), "not a safetensors file"),
        (header_file({"a": {**ONE, "data_offsets": [0, 10**12]}}, b"\0" * 8), "does not fill its place"),
        (header_file({"a": {**ONE, "shape": [2**40, 2**40]}}, b"\0" * 8), "does not fill its place"),
        (header_file({"a": {**ONE, "shape": [-1, -2]}}, b"\0" * 8), r"has the shape \[-1, -2\]"),
        (header_file({"a": ONE, "b": ONE}, b"\0" * 8), "overlap or leave gaps"),
        (header_file({"a": {**ONE, "data_offsets": [8, 16]}}, b"\0" * 16), "overlap or leave gaps"),
        (header_file({"a": ONE}, b"\0" * 80), "header describes"),
    ],
)
def test_hostile_files_are_refused_from_their_header(
    model: Model, write_adapter: Write, content: bytes, says: str
) -> None:
    folder = write_adapter()
    (folder / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(AdapterRefused, match=says):
        inspect_adapter(folder, model.config)


def test_sizes_ranks_and_links_are_limited(model: Model, write_adapter: Write, tmp_path: Path) -> None:
    folder = write_adapter()
    with pytest.raises(AdapterRefused, match="the limit is 1,000"):
        inspect_adapter(folder, model.config, max_bytes=1000)
    with pytest.raises(AdapterRefused, match="has rank 4, the limit is 2"):
        inspect_adapter(folder, model.config, max_rank=2)
    with pytest.raises(AdapterRefused, match="no adapter folder"):
        inspect_adapter(tmp_path / "absent", model.config)
    linked = write_adapter()
    (linked / "adapter_model.safetensors").unlink()
    (linked / "adapter_model.safetensors").symlink_to(folder / "adapter_model.safetensors")
    with pytest.raises(AdapterRefused, match="link out of the adapter folder"):
        inspect_adapter(linked, model.config)
    (folder / "adapter_config.json").write_bytes(b" " * (2 << 20))
    with pytest.raises(AdapterRefused, match="has 2,097,152 bytes, the limit is 1,048,576"):
        inspect_adapter(folder, model.config)


def test_the_digest_covers_both_files(write_adapter: Write) -> None:
    first, second, other = write_adapter(1), write_adapter(1), write_adapter(2)
    assert adapter_digest(first) == adapter_digest(second) != adapter_digest(other)
    (second / "README.md").write_text("not part of it")
    assert adapter_digest(first) == adapter_digest(second)
    (second / "adapter_config.json").write_text("{}")
    assert adapter_digest(first) != adapter_digest(second)
