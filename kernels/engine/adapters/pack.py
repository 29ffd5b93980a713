"""An adapter's matrices quantised into one piece of memory, by a compiled kernel that lets other threads run.

The bits are those of `model/weights.py: quantize_matrix`. B is kept transposed; its rows of query and key are put in the
order of the base's rotary pairs, which Hugging Face keeps half a head apart.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from openledger.kernels.engine.adapters.errors import AdapterRefused
from openledger.kernels.engine.adapters.folder import AdapterInfo, ModuleEntry, read_files
from openledger.kernels.engine.adapters.shapes import group_shapes
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.ops.host import kernel
from openledger.kernels.ops.lora_layout import MODULES, ModuleWeights, PackedLora, empty_lora
from openledger.kernels.safetensors import TensorEntry

_FINITE = np.finfo(np.float32).max
_TOP = np.float32(127)


def read_adapter(info: AdapterInfo, config: ModelConfig) -> dict[tuple[int, str], ModuleWeights]:
    """Read and quantise all matrices. Raises `AdapterRefused` if a number is not finite."""
    return quantize_adapter(info.modules, read_files(info.folder, info.bytes)[1], config).modules()


def quantize_adapter(modules: Mapping[tuple[int, str], ModuleEntry], data: bytes, config: ModelConfig) -> PackedLora:
    """The matrices of a weights file with these contents. Raises `AdapterRefused` if a number is not finite."""
    ranks = [(layer, module, entry.a.shape[0]) for (layer, module), entry in modules.items()]
    packed = empty_lora(group_shapes(config), config.layers, ranks)
    for (layer, module), entry in modules.items():
        into = packed.module(layer, module)
        head = config.head_size if module in ("q_proj", "k_proj") else 0
        # `into.b` is a transposed view: what lies in memory is [rank, N].
        finite = _quantize_rows(tensor_values(data, entry.a), into.a, into.a_scales)
        finite &= _quantize_columns(tensor_values(data, entry.b), into.b.T, into.b_scales, head)
        if not finite:
            raise AdapterRefused(f"layer {layer} {module} of the adapter holds numbers that are not finite")
        place, _, index, _ = packed.layout.find(layer, module)
        packed.alphas[place * MODULES + index] = np.float32(entry.alpha)
    return packed


def tensor_values(data: bytes, entry: TensorEntry) -> Any:
    """A matrix of an adapter's weights file, binary32."""
    count = entry.shape[0] * entry.shape[1]
    if entry.dtype == "F32":
        return np.frombuffer(data, "<f4", count, entry.offset).reshape(entry.shape)
    if entry.dtype == "F16":
        return np.frombuffer(data, "<f2", count, entry.offset).astype(np.float32).reshape(entry.shape)
    halves = np.frombuffer(data, "<u2", count, entry.offset).astype(np.uint32)
    return (halves << 16).view(np.float32).reshape(entry.shape)


@kernel
def _scale(row: Any) -> Any:
    """The scale of a row; -1 if it holds a number that is not finite."""
    top = np.float32(0)
    for value in row:
        size = np.float32(abs(value))
        if not size <= _FINITE:
            return np.float32(-1)
        top = max(top, size)
    scale = np.float32(top / _TOP)
    return scale if scale > 0 else np.float32(1)


@kernel
def _quantize_rows(values: Any, into: Any, scales: Any) -> bool:
    for n in range(values.shape[0]):
        scale = _scale(values[n])
        if scale < 0:
            return False
        scales[n] = scale
        for k in range(values.shape[1]):
            whole = np.float32(np.rint(np.float32(values[n, k] / scale)))
            into[n, k] = np.int8(min(max(whole, -_TOP), _TOP))
    return True


@kernel
def _quantize_columns(values: Any, into: Any, scales: Any, head: int) -> bool:
    """As `_quantize_rows`, `into` [K, N]; rows of heads of the size `head` interleaved, if it is not 0."""
    for n in range(values.shape[0]):
        at = n
        if head:
            first, element = n // head * head, n % head
            half = head // 2
            at = first + 2 * element if element < half else first + 2 * (element - half) + 1
        scale = _scale(values[n])
        if scale < 0:
            return False
        scales[at] = scale
        for k in range(values.shape[1]):
            whole = np.float32(np.rint(np.float32(values[n, k] / scale)))
            into[k, at] = np.int8(min(max(whole, -_TOP), _TOP))
    return True
