"""Adapters folded into a model's weights: a new GGUF, so a new model whose weights root is its own.

Everything is binary32, one operation at a time. For each adapter in the order given, `delta[n, k]` begins as 0 and takes
`B[n, r] * A[r, k]` for r = 0, 1, … in turn; then `W[n, k] = W[n, k] + alpha * delta[n, k]`. W is the tensor as the base's file
gives it, A and B are the adapter's as its file gives them, alpha is that of a request (kernels/README.md, step 9), at the
adapter's weight. Changed tensors are written as F32, all others with the bytes they have, so the file's bytes depend on
nothing else.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from openledger.kernels.engine.adapters import AdapterInfo, AdapterRefused
from openledger.kernels.engine.adapters.folder import read_files
from openledger.kernels.engine.adapters.pack import tensor_values
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.model.errors import DamagedModel
from openledger.kernels.model.rotary_order import interleave
from openledger.kernels.ops.host import kernel

TENSORS: Final = {
    "q_proj": "attn_q",
    "k_proj": "attn_k",
    "v_proj": "attn_v",
    "o_proj": "attn_output",
    "gate_proj": "ffn_gate",
    "up_proj": "ffn_up",
    "down_proj": "ffn_down",
}


@dataclass(frozen=True)
class Part:
    """An adapter to fold in, and its weight in thousandths."""

    adapter: AdapterInfo
    weight_milli: int = 1000


@kernel
def _fold(weights: Any, a: Any, b: Any, alpha: Any) -> None:
    outputs, columns = weights.shape
    delta = np.empty(columns, np.float32)
    for n in range(outputs):
        delta[:] = np.float32(0)
        for r in range(a.shape[0]):
            factor, row = b[n, r], a[r]
            for k in range(columns):
                delta[k] = np.float32(delta[k] + np.float32(factor * row[k]))
        into = weights[n]
        for k in range(columns):
            into[k] = np.float32(into[k] + np.float32(alpha * delta[k]))


def merge_adapters(base: Path, config: ModelConfig, parts: Sequence[Part], target: Path, name: str) -> None:
    """Write the model file `base` (a GGUF) with these adapters folded in; `target` appears whole or not at all.

    Raises `AdapterRefused`, `DamagedModel` (the base is no GGUF), OSError.
    """
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter
    from gguf.quants import dequantize

    try:
        reader = GGUFReader(base)
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise DamagedModel(
            f"{base} is not a readable GGUF file, and adapters are merged into GGUF files: {error}"
        ) from error
    architecture = str(reader.fields["general.architecture"].contents())
    contents = [read_files(part.adapter.folder, part.adapter.bytes)[1] for part in parts]
    changed: dict[str, Any] = {}
    for tensor in reader.tensors:
        folded = [
            (part, data, layer, module)
            for part, data in zip(parts, contents)
            for layer, module in part.adapter.modules
            if tensor.name == f"blk.{layer}.{TENSORS[module]}.weight"
        ]
        if not folded:
            continue
        shape = tuple(int(size) for size in reversed(tensor.shape))
        weights = np.array(dequantize(tensor.data, tensor.tensor_type), np.float32).reshape(shape)
        for part, data, layer, module in folded:
            entry = part.adapter.modules[layer, module]
            a, b = tensor_values(data, entry.a), tensor_values(data, entry.b)
            if architecture == "llama" and module in ("q_proj", "k_proj"):
                b = interleave(b, config.head_size)
            alpha = np.float32(np.float64(np.float32(entry.alpha)) * part.weight_milli / 1000)
            _fold(weights, np.ascontiguousarray(a), np.ascontiguousarray(b), alpha)
        if not np.isfinite(weights).all():
            raise AdapterRefused(f"folded into {tensor.name}, the adapters leave numbers that are not finite")
        changed[tensor.name] = weights
    wanted = {f"blk.{layer}.{TENSORS[module]}.weight" for part in parts for layer, module in part.adapter.modules}
    if wanted - set(changed):
        raise DamagedModel(f"{base.name} has no tensor {min(wanted - set(changed))}")
    temporary = target.with_name(f"{target.name}.{os.getpid()}.new")
    writer = GGUFWriter(temporary, architecture)
    writer.add_name(name)
    for field in reader.fields.values():
        if field.name in ("general.architecture", "general.name") or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    for tensor in reader.tensors:
        merged = changed.get(tensor.name)
        if merged is None:
            writer.add_tensor_info(
                tensor.name, tensor.data.shape, tensor.data.dtype, tensor.data.nbytes, tensor.tensor_type
            )
        else:
            kind = GGMLQuantizationType.F32
            writer.add_tensor_info(tensor.name, merged.shape, merged.dtype, merged.nbytes, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:
        merged = changed.get(tensor.name)
        writer.write_tensor_data(tensor.data if merged is None else merged)
    writer.close()
    temporary.replace(target)
