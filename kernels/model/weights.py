"""Integer weights: imported once from a GGUF, kept on disk, named by a Merkle root.

    sw[n] = max_k |W[n, k]| / 127  (1 for a zero row);   int8 = rint(W[n, k] / sw[n]) clamped to +-127

Where int8 costs most (the value projection and the output head, chosen by measured divergence), the residual
`W - f32(int8) * sw` is quantised in the same way and its rows stand after the others: such an output is the
binary32 sum of two int8 products. All in binary32, so every machine imports the same bytes. The root commits to
each row:

    row      = keccak(0x20 | sw[n] binary32 | int8 row)         a norm is one row: keccak(0x21 | binary32 vector)
    tensor   = keccak(0x22 | name length u16 | name | rows u32 | columns u32 | domain-separated tree over rows)
    root     = domain-separated tree over the tensors, in the order of `tensor_order`

(little-endian; the tree is `openledger.evm_ext.proofs.merkle.DomainTree`). The cache file is in safetensors
layout and is memory-mapped, so processes on one machine share it.
"""

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from openledger.evm_ext.proofs.content import manifest_of_chunks
from openledger.evm_ext.proofs.merkle import DomainTree
from openledger.genesis.hashing import keccak256
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.model.errors import DamagedModel
from openledger.kernels.model.gguf import GgufFile, file_key

FORMAT: Final = "exact-1 weights 2"
MAX_W: Final = 127
_ROW, _VECTOR, _TENSOR = b"\x20", b"\x21", b"\x22"
_CHUNK = 1 << 20

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "qkv": ("attn_q", "attn_k", "attn_v"),
    "output": ("attn_output",),
    "gate_up": ("ffn_gate", "ffn_up"),
    "down": ("ffn_down",),
}
"""Matrices that share an input are one linear layer: name here -> names in the GGUF, in row order."""


RESIDUAL_PARTS: Final = ("attn_v", "token_embd", "output")
"""Matrices of the GGUF whose residual is kept too."""


@dataclass(frozen=True)
class Matrix:
    """`w` int8 [N + R, K], `scales` binary32 [N + R]: the last R rows are the residual of the R rows from
    `first`, R = `count`."""

    w: Any
    scales: Any
    first: int = 0
    count: int = 0

    @property
    def outputs(self) -> int:
        """N."""
        return int(self.w.shape[0]) - self.count


@dataclass(frozen=True)
class Weights:
    """All tensors by name (`layer.group` or `layer.norm`), and the root that a release commits to."""

    matrices: Mapping[str, Matrix]
    vectors: Mapping[str, Any]
    root: bytes


def quantize_matrix(values: Any) -> Matrix:
    """Per-row int8 of a finite float32 [N, K] array."""
    top = np.abs(values).max(axis=1)
    scales = np.where(top > 0, top / np.float32(MAX_W), np.float32(1.0)).astype(np.float32)
    # A row of subnormals has a scale of zero; its weights are zero for any activation.
    scales = np.where(scales > 0, scales, np.float32(1.0)).astype(np.float32)
    w = np.clip(np.rint(values / scales[:, None]), -MAX_W, MAX_W).astype(np.int8)
    return Matrix(np.ascontiguousarray(w), scales)


def quantize_parts(parts: Mapping[str, Any]) -> Matrix:
    """Matrices that share an input, stacked; at most one of them keeps its residual."""
    matrices = [quantize_matrix(values) for values in parts.values()]
    w, scales = [m.w for m in matrices], [m.scales for m in matrices]
    first = count = offset = 0
    for (part, values), matrix in zip(parts.items(), matrices):
        if part.removesuffix(".weight").rpartition(".")[2] in RESIDUAL_PARTS:
            first, count = offset, len(values)
            residual = quantize_matrix(values - matrix.w.astype(np.float32) * matrix.scales[:, None])
            w.append(residual.w)
            scales.append(residual.scales)
        offset += len(values)
    return Matrix(np.concatenate(w), np.concatenate(scales), first, count)


def tensor_order(config: ModelConfig, *, tied: bool) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """(name, names in the GGUF, is it a vector) in the order of the root."""
    yield "embedding", ("token_embd.weight",), False
    for layer in range(config.layers):
        yield f"{layer}.attention_norm", (f"blk.{layer}.attn_norm.weight",), True
        yield f"{layer}.feed_forward_norm", (f"blk.{layer}.ffn_norm.weight",), True
        for group, parts in GROUPS.items():
            yield f"{layer}.{group}", tuple(f"blk.{layer}.{part}.weight" for part in parts), False
    yield "norm", ("output_norm.weight",), True
    if not tied:
        yield "head", ("output.weight",), False


def tensor_hash(name: str, value: Matrix | Any) -> bytes:
    """The leaf of one tensor in the root."""
    if isinstance(value, Matrix):
        rows, columns = value.w.shape
        # One buffer of rows: the scale's bytes, then the row's.
        packed = np.empty((rows, 5 + columns), np.uint8)
        packed[:, 0] = _ROW[0]
        packed[:, 1:5] = np.ascontiguousarray(value.scales, "<f4").view(np.uint8).reshape(rows, 4)
        packed[:, 5:] = value.w.view(np.uint8)
        data = packed.tobytes()
        width = 5 + columns
        tree = DomainTree(keccak256(data[i : i + width]) for i in range(0, len(data), width)).root
    else:
        rows, columns = 1, len(value)
        tree = DomainTree([keccak256(_VECTOR + np.ascontiguousarray(value, "<f4").tobytes())]).root
    label = name.encode()
    return keccak256(_TENSOR + struct.pack("<H", len(label)) + label + struct.pack("<II", rows, columns) + tree)


def import_weights(
    gguf: GgufFile, config: ModelConfig, progress: Callable[[float], None] = lambda fraction: None
) -> Weights:
    """Quantise every tensor. Raises `DamagedModel` for missing or non-finite tensors and wrong shapes."""
    matrices: dict[str, Matrix] = {}
    vectors: dict[str, Any] = {}
    tied = "output.weight" not in set(gguf.names())
    order = list(tensor_order(config, tied=tied))
    shapes = _shapes(config)
    leaves = []
    for index, (name, parts, is_vector) in enumerate(order):
        values = {part: gguf.tensor(part) for part in parts}
        expected = shapes[name.rpartition(".")[2]]
        columns = {value.shape[1:] for value in values.values()}
        shape = (sum(len(value) for value in values.values()), *columns.pop())
        if columns or shape != expected:
            raise DamagedModel(f"tensor {name} has the shape {shape} instead of {expected}")
        if is_vector:
            vectors[name] = values[parts[0]]
            leaves.append(tensor_hash(name, vectors[name]))
        else:
            matrices[name] = quantize_parts(values)
            leaves.append(tensor_hash(name, matrices[name]))
        progress((index + 1) / len(order))
    return Weights(matrices, vectors, DomainTree(leaves).root)


def load_weights(
    gguf: GgufFile,
    config: ModelConfig,
    cache_folder: Path,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
) -> Weights:
    """The imported weights of a GGUF, from the cache if they are there and undamaged, else made and kept.

    Raises `DamagedModel`; OSError if the cache cannot be written.
    """
    path = cache_folder / f"{gguf.path.stem}-{file_key(gguf.path)}.exact-1.safetensors"
    if path.is_file():
        progress("checking weights", 0.0)
        cached = _read(path)
        if cached is not None:
            return cached
    weights = import_weights(gguf, config, lambda fraction: progress("importing weights", fraction))
    cache_folder.mkdir(parents=True, exist_ok=True)
    _write(path, weights)
    return _read(path) or weights


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    hidden, inner = config.hidden, config.feed_forward
    return {
        "embedding": (config.vocabulary, hidden),
        "head": (config.vocabulary, hidden),
        "norm": (hidden,),
        "attention_norm": (hidden,),
        "feed_forward_norm": (hidden,),
        "qkv": (config.qkv_width, hidden),
        "output": (hidden, config.heads * config.head_size),
        "gate_up": (2 * inner, hidden),
        "down": (hidden, inner),
    }


def _write(path: Path, weights: Weights) -> None:
    """Atomically: a crash leaves the old file or none."""
    tensors: dict[str, Any] = {}
    for name, vector in weights.vectors.items():
        tensors[name] = np.ascontiguousarray(vector, "<f4")
    for name, matrix in weights.matrices.items():
        tensors[f"{name}.scales"] = np.ascontiguousarray(matrix.scales, "<f4")
    for name, matrix in weights.matrices.items():
        tensors[name] = matrix.w
    header: dict[str, Any] = {}
    offset = 0
    for name, tensor in tensors.items():
        kind = "I8" if tensor.dtype == np.int8 else "F32"
        header[name] = {
            "dtype": kind,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    residuals = {name: [matrix.first, matrix.count] for name, matrix in weights.matrices.items()}
    body_hash = manifest_of_chunks(_chunks(tensors)).hash
    header["__metadata__"] = {
        "format": FORMAT,
        "root": weights.root.hex(),
        "contents": body_hash.hex(),
        "residuals": json.dumps(residuals),
    }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for tensor in tensors.values():
            file.write(tensor.tobytes())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _chunks(tensors: Mapping[str, Any]) -> Iterator[bytes]:
    pending = bytearray()
    for tensor in tensors.values():
        pending += tensor.tobytes()
        while len(pending) >= _CHUNK:
            yield bytes(pending[:_CHUNK])
            del pending[:_CHUNK]
    if pending:
        yield bytes(pending)


def _read(path: Path) -> Weights | None:
    """The weights in a cache file, memory-mapped; None if it is damaged or of another format."""
    data = np.memmap(path, np.uint8, "r")
    try:
        (length,) = struct.unpack("<Q", data[:8].tobytes())
        header = json.loads(data[8 : 8 + length].tobytes())
        metadata = header.pop("__metadata__")
        body = data[8 + length :]
        if metadata["format"] != FORMAT:
            return None
        pieces = (body[i : i + _CHUNK].tobytes() for i in range(0, len(body), _CHUNK))
        if manifest_of_chunks(pieces).hash.hex() != metadata["contents"]:
            return None
        arrays: dict[str, Any] = {}
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            kind = np.int8 if entry["dtype"] == "I8" else np.dtype("<f4")
            arrays[name] = body[first:last].view(kind).reshape(entry["shape"])
        root = bytes.fromhex(metadata["root"])
        residuals = json.loads(metadata["residuals"])
    except (ValueError, KeyError, TypeError, struct.error):
        return None
    matrices = {
        name: Matrix(array, arrays[f"{name}.scales"], *residuals[name])
        for name, array in arrays.items()
        if array.dtype == np.int8
    }
    vectors = {name: array for name, array in arrays.items() if array.dtype != np.int8 and not name.endswith(".scales")}
    return Weights(matrices, vectors, root)
