"""Integer weights: imported once from a model's files, kept on disk, named by a Merkle root.

    sw[n] = max_k |W[n, k]| / 127  (1 for a zero row);   int8 = rint(W[n, k] / sw[n]) clamped to +-127

Where int8 costs most (the value projection and the output head, chosen by measured divergence), the residual
`W - f32(int8) * sw` is quantised in the same way and its rows stand after the others: such an output is the
binary32 sum of two int8 products. All in binary32, so every machine imports the same bytes. The root commits to
each row:

    row      = keccak(0x20 | sw[n] binary32 | int8 row)         of 4 bits: keccak(0x23 | sw[n] | groups | packed row)
                                                                of bf16: keccak(0x24 | binary32 1 | bf16 row)
                                                                a norm or a bias is one row: keccak(0x21 | binary32 vector)
    tensor   = keccak(0x22 | name length u16 | name | rows u32 | columns u32 | domain-separated tree over rows)
    root     = domain-separated tree over the tensors, in the order of `tensor_order`

(little-endian; the tree is `openledger.evm_ext.proofs.merkle.DomainTree`). A rotary table that is not shipped is a tensor
too, a row per position: keccak(0x21 | cosine, sine, cosine, … binary32). With weights of 4 bits (`quantize4.py`) the layers'
matrices are packed, and the token table and the head are int8 without a residual. The cache file is in safetensors
layout and is memory-mapped, so processes on one machine share it.
"""

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from openledger.evm_ext.proofs.content import manifest_of_chunks
from openledger.evm_ext.proofs.merkle import DomainTree
from openledger.genesis.hashing import keccak256
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.model.errors import DamagedModel, UnsupportedModel
from openledger.kernels.model.matrix import Bits as Bits
from openledger.kernels.model.matrix import Matrix as Matrix
from openledger.kernels.model.matrix import quantize_matrix as quantize_matrix
from openledger.kernels.model.matrix import quantize_parts as quantize_parts
from openledger.kernels.model.matrix import round_to_bf16 as round_to_bf16
from openledger.kernels.model.rotary_order import interleave
from openledger.kernels.model.rotary_table import rotary_table
from openledger.kernels.model.source import TensorSource

FORMAT: Final = "exact-1 weights 2"
_ROW, _VECTOR, _TENSOR, _ROW4, _ROW16 = b"\x20", b"\x21", b"\x22", b"\x23", b"\x24"
_CHUNK = 1 << 20
_KINDS: Final = {"int8": "I8", "uint8": "U8", "int16": "BF16", "float32": "F32"}
_DTYPES: Final[Mapping[str, Any]] = {
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BF16": np.dtype("<i2"),
    "F32": np.dtype("<f4"),
}

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "qkv": ("attn_q", "attn_k", "attn_v"),
    "output": ("attn_output",),
    "gate_up": ("ffn_gate", "ffn_up"),
    "down": ("ffn_down",),
}
"""Matrices that share an input are one linear layer: name here -> names in the GGUF, in row order."""

ROTATED_PARTS: Final = ("attn_q", "attn_k", "attn_q_norm", "attn_k_norm")
"""Tensors whose rows or elements are rotary pairs of heads."""

ROTARY: Final = "rotary"
"""The model's own rotary table, binary32 [positions, head size / 2, 2]."""


@dataclass(frozen=True)
class Weights:
    """All tensors by name (`layer.group`, `layer.norm`, `layer.qkv_bias`, `rotary`), and the root that a release commits to."""

    matrices: Mapping[str, Matrix]
    vectors: Mapping[str, Any]
    root: bytes


class Planned(NamedTuple):
    """A tensor of the root: its name, the names in the file of what stands in it in this order, and its shape."""

    name: str
    parts: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def is_vector(self) -> bool:
        return len(self.shape) == 1


def tensor_order(config: ModelConfig, *, tied: bool) -> Iterator[Planned]:
    """What is imported, in the order of the root. The rotary table, if it is the model's own, comes after these."""
    hidden, inner, size = config.hidden, config.feed_forward, config.head_size
    shapes = {
        "qkv": (config.qkv_width, hidden),
        "output": (hidden, config.heads * size),
        "gate_up": (2 * inner, hidden),
        "down": (hidden, inner),
    }
    yield Planned("embedding", ("token_embd.weight",), (config.vocabulary, hidden))
    for layer in range(config.layers):
        yield Planned(f"{layer}.attention_norm", (f"blk.{layer}.attn_norm.weight",), (hidden,))
        yield Planned(f"{layer}.feed_forward_norm", (f"blk.{layer}.ffn_norm.weight",), (hidden,))
        for group, parts in GROUPS.items():
            yield Planned(f"{layer}.{group}", tuple(f"blk.{layer}.{part}.weight" for part in parts), shapes[group])
        if config.attention_bias:
            biases = tuple(f"blk.{layer}.{part}.bias" for part in GROUPS["qkv"])
            yield Planned(f"{layer}.qkv_bias", biases, (config.qkv_width,))
        if config.head_norm:
            yield Planned(f"{layer}.query_norm", (f"blk.{layer}.attn_q_norm.weight",), (size,))
            yield Planned(f"{layer}.key_norm", (f"blk.{layer}.attn_k_norm.weight",), (size,))
    yield Planned("norm", ("output_norm.weight",), (hidden,))
    if not tied:
        yield Planned("head", ("output.weight",), (config.vocabulary, hidden))


def tensor_hash(name: str, value: Matrix | Any) -> bytes:
    """The leaf of one tensor in the root."""
    if isinstance(value, Matrix):
        rows, columns = len(value.w), value.columns or value.w.shape[1]
        parts = [np.ascontiguousarray(value.scales, "<f4").view(np.uint8).reshape(rows, 4), value.w.view(np.uint8)]
        if value.groups is not None:
            parts.insert(1, value.groups)
        kind = _ROW16 if value.w.dtype == np.int16 else _ROW if value.groups is None else _ROW4
        # One buffer of rows, each hashed by itself.
        packed = np.concatenate([np.full((rows, 1), kind[0], np.uint8), *parts], 1)
        data, width = packed.tobytes(), packed.shape[1]
        tree = DomainTree(keccak256(data[i : i + width]) for i in range(0, len(data), width)).root
    else:
        table = np.ascontiguousarray(value, "<f4").reshape(1 if value.ndim == 1 else len(value), -1)
        rows, columns = table.shape
        tree = DomainTree(keccak256(_VECTOR + row.tobytes()) for row in table).root
    label = name.encode()
    return keccak256(_TENSOR + struct.pack("<H", len(label)) + label + struct.pack("<II", rows, columns) + tree)


def import_weights(
    source: TensorSource,
    config: ModelConfig,
    progress: Callable[[float], None] = lambda fraction: None,
    bits: Bits = 8,
) -> Weights:
    """Quantise every tensor. Raises `DamagedModel` for missing or non-finite tensors and wrong shapes, `UnsupportedModel` for
    a tensor that this model would not use."""
    matrices: dict[str, Matrix] = {}
    vectors: dict[str, Any] = {}
    names = set(source.names())
    order = list(tensor_order(config, tied="output.weight" not in names))
    for extra in sorted(names - {part for planned in order for part in planned.parts}):
        raise UnsupportedModel(f"the model has a tensor {extra}, which a model of the family {config.family} has not")
    leaves = []
    for index, planned in enumerate(order):
        values = {part: _in_order(source, part, config) for part in planned.parts}
        columns = {value.shape[1:] for value in values.values()}
        shape = (sum(len(value) for value in values.values()), *columns.pop())
        if columns or shape != planned.shape:
            raise DamagedModel(f"tensor {planned.name} has the shape {shape} instead of {planned.shape}")
        if planned.is_vector:
            vectors[planned.name] = np.concatenate(list(values.values()))
            leaves.append(tensor_hash(planned.name, vectors[planned.name]))
        else:
            if bits == 4 and planned.name in ("embedding", "head"):
                matrices[planned.name] = quantize_matrix(*values.values())
            else:
                matrices[planned.name] = quantize_parts(values, bits)
            leaves.append(tensor_hash(planned.name, matrices[planned.name]))
        progress((index + 1) / len(order))
    if config.shipped_rotary is None:
        try:
            vectors[ROTARY] = rotary_table(config.rotary_base, config.head_size, config.positions, config.scaling)
        except ValueError as error:
            raise UnsupportedModel(str(error)) from error
        leaves.append(tensor_hash(ROTARY, vectors[ROTARY]))
    return Weights(matrices, vectors, DomainTree(leaves).root)


def _in_order(source: TensorSource, part: str, config: ModelConfig) -> Any:
    """A tensor with the rotary pairs of its heads side by side."""
    values = source.tensor(part)
    rotated = part.rpartition(".")[0].rpartition(".")[2] in ROTATED_PARTS
    if not (source.halves and rotated) or len(values) % config.head_size:
        return values
    return interleave(values, config.head_size)


def load_weights(
    source: TensorSource,
    config: ModelConfig,
    cache_folder: Path,
    progress: Callable[[str, float], None] = lambda stage, fraction: None,
    bits: Bits = 8,
) -> Weights:
    """The imported weights of a model, in 8 or 4 bits, from the cache if they are there and undamaged, else made and kept.

    Raises `DamagedModel`; OSError if the cache cannot be written.
    """
    kind = {16: "bf16", 8: "exact-1", 4: "exact-1-int4"}[bits]
    path = cache_folder / f"{source.path.stem}-{source.key()}.{kind}.safetensors"
    if path.is_file():
        progress("checking weights", 0.0)
        cached = _read(path)
        if cached is not None:
            return cached
    weights = import_weights(source, config, lambda fraction: progress("importing weights", fraction), bits)
    cache_folder.mkdir(parents=True, exist_ok=True)
    _write(path, weights)
    return _read(path) or weights


def _write(path: Path, weights: Weights) -> None:
    """Atomically: a crash leaves the old file or none."""
    tensors: dict[str, Any] = {}
    for name, vector in weights.vectors.items():
        tensors[name] = np.ascontiguousarray(vector, "<f4")
    for name, matrix in weights.matrices.items():
        tensors[f"{name}.scales"] = np.ascontiguousarray(matrix.scales, "<f4")
    for name, matrix in weights.matrices.items():
        if matrix.groups is not None:
            tensors[f"{name}.groups"] = matrix.groups
    for name, matrix in weights.matrices.items():
        tensors[name] = matrix.w
    header: dict[str, Any] = {}
    offset = 0
    for name, tensor in tensors.items():
        kind = _KINDS[tensor.dtype.name]
        header[name] = {
            "dtype": kind,
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    residuals = {name: _residual(matrix) for name, matrix in weights.matrices.items()}
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


def _residual(matrix: Matrix) -> list[int]:
    return [matrix.first, matrix.count] + ([] if matrix.groups is None else [matrix.columns])


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
            arrays[name] = body[first:last].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        root = bytes.fromhex(metadata["root"])
        residuals = json.loads(metadata["residuals"])
    except (ValueError, KeyError, TypeError, struct.error):
        return None
    matrices = {}
    for name, (first, count, *columns) in residuals.items():
        groups = arrays.get(f"{name}.groups")
        matrices[name] = Matrix(arrays[name], arrays[f"{name}.scales"], first, count, groups, *columns)
    vectors = {
        name: array for name, array in arrays.items() if array.dtype == np.float32 and not name.endswith(".scales")
    }
    return Weights(matrices, vectors, root)
