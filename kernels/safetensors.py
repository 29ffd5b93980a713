"""Reading safetensors files whose maker is not trusted: the header is checked against the file before memory is spent."""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from openledger.kernels.strict_json import parse_json

ITEM_BYTES: Final = {"F32": 4, "F16": 2, "BF16": 2}
MAX_HEADER_BYTES: Final = 32 << 20


class BadSafetensors(ValueError):
    """A file that is not what its header says; the message names the file and the tensor."""


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: `offset` from the file's start, in bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


def read_header(path: Path, *, max_header_bytes: int = MAX_HEADER_BYTES) -> dict[str, TensorEntry]:
    """The tensors of a file, every offset checked: none overlap, none leave gaps, all fill the file. Raises
    `BadSafetensors`, also for a type other than F32, F16 and BF16."""
    with path.open("rb") as file:
        return header_of(file, path.stat().st_size, path.name, max_header_bytes)


def header_of(file: BinaryIO, size: int, file_name: str, max_header_bytes: int) -> dict[str, TensorEntry]:
    """As `read_header`, of an open file of `size` bytes."""
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
    if length > min(max_header_bytes, size - 8):
        raise BadSafetensors(f"{file_name} is not a safetensors file: its header does not fit")
    raw = file.read(length)
    entries: dict[str, TensorEntry] = {}
    spans = []
    try:
        header = parse_json(raw)
        header.pop("__metadata__", None)
        for name, value in header.items():
            first, last = value["data_offsets"]
            shape = tuple(value["shape"])
            item = ITEM_BYTES.get(value["dtype"])
            if item is None:
                raise BadSafetensors(
                    f"tensor {name!r} of {file_name} is of type {value['dtype']}: use F32, F16 or BF16"
                )
            if not 1 <= len(shape) <= 8 or not all(type(n) is int and n > 0 for n in (*shape, last)):
                raise BadSafetensors(f"tensor {name!r} of {file_name} has the shape {list(shape)}")
            if type(first) is not int or first < 0 or last - first != math.prod(shape) * item:
                raise BadSafetensors(f"tensor {name!r} does not fill its place in {file_name}")
            if first % item:
                raise BadSafetensors(f"tensor {name!r} of {file_name} begins at {first}, not at a multiple of {item}")
            entries[name] = TensorEntry(value["dtype"], shape, 8 + length + first)
            spans.append((first, last))
    except BadSafetensors:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadSafetensors(f"{file_name} is not a safetensors file: {error}") from error
    end = 0
    for first, last in sorted(spans):
        if first != end:
            raise BadSafetensors(f"{file_name} has tensors that overlap or leave gaps")
        end = last
    if 8 + length + end != size:
        raise BadSafetensors(f"{file_name} has {size:,} bytes, its header describes {8 + length + end:,}")
    return entries


def read_tensor(data: Any, entry: TensorEntry) -> Any:
    """A tensor as binary32, from the file's bytes (a memory map of uint8)."""
    count = math.prod(entry.shape)
    raw = data[entry.offset : entry.offset + count * ITEM_BYTES[entry.dtype]].tobytes()
    if entry.dtype == "F32":
        return np.frombuffer(raw, "<f4").reshape(entry.shape)
    if entry.dtype == "F16":
        return np.frombuffer(raw, "<f2").astype(np.float32).reshape(entry.shape)
    return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(entry.shape)
