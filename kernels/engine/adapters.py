"""LoRA adapters in PEFT's folder layout: checked from the header before a tensor is read, then quantised.

Only `adapter_config.json` and `adapter_model.safetensors` are read. Pickles (`.bin`, `.pt`, …) can run code
when loaded and are refused by name. The digest of an adapter is the folder hash
(`openledger.evm_ext.proofs.content`) of those two files.
"""

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from openledger.evm_ext.proofs.content import content_hash, folder_hash
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.ops.limits import MAX_RANK
from openledger.kernels.ops.lora_layout import GROUPS, ModuleShape, Shapes
from openledger.kernels.ops.lora_layout import ModuleWeights as ModuleWeights

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"
MAX_CONFIG_BYTES: Final = 1 << 20
MAX_HEADER_BYTES: Final = 4 << 20
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_ITEM_BYTES: Final = {"F32": 4, "F16": 2, "BF16": 2}
_NAME: Final = re.compile(
    r"base_model\.model\.model\.layers\.(\d{1,4})\.(self_attn|mlp)\.(\w{1,32})\.lora_([AB])(?:\.default)?\.weight"
)
_MODULES: Final = {
    "q_proj": ("self_attn", "qkv"),
    "k_proj": ("self_attn", "qkv"),
    "v_proj": ("self_attn", "qkv"),
    "o_proj": ("self_attn", "output"),
    "gate_proj": ("mlp", "gate_up"),
    "up_proj": ("mlp", "gate_up"),
    "down_proj": ("mlp", "down"),
}
_UNSUPPORTED_FLAGS: Final = ("use_dora", "fan_in_fan_out", "lora_bias", "use_qalora", "megatron_config", "corda_config")


class AdapterRefused(Exception):
    """An adapter that will not be loaded; the message says why and what to do."""


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies in the file."""

    dtype: str
    shape: tuple[int, int]
    offset: int


@dataclass(frozen=True)
class ModuleEntry:
    """One adapted matrix."""

    a: TensorEntry
    b: TensorEntry
    alpha: float


@dataclass(frozen=True)
class AdapterInfo:
    """An adapter whose header has been checked; no tensor has been read."""

    folder: Path
    modules: Mapping[tuple[int, str], ModuleEntry]
    bytes: int
    max_rank: int


def module_shape(config: ModelConfig, module: str) -> tuple[int, int]:
    """(outputs, inputs) of a base matrix by its Hugging Face name."""
    attention, kv = config.heads * config.head_size, config.kv_heads * config.head_size
    return {
        "q_proj": (attention, config.hidden),
        "k_proj": (kv, config.hidden),
        "v_proj": (kv, config.hidden),
        "o_proj": (config.hidden, attention),
        "gate_proj": (config.feed_forward, config.hidden),
        "up_proj": (config.feed_forward, config.hidden),
        "down_proj": (config.hidden, config.feed_forward),
    }[module]


def adapter_digest(folder: str | Path) -> bytes:
    """What a release names the adapter by. Raises `AdapterRefused` if a file is missing."""
    files = {}
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        path = _regular_file(Path(folder), name)
        files[name] = content_hash(path.read_bytes())
    return folder_hash(files)


def inspect_adapter(
    folder: str | Path, config: ModelConfig, *, max_bytes: int = 512 << 20, max_rank: int = MAX_RANK
) -> AdapterInfo:
    """Check an adapter's files without reading a tensor. Raises `AdapterRefused`."""
    folder = Path(folder)
    if not folder.is_dir():
        raise AdapterRefused(f"there is no adapter folder {folder}")
    if not (folder / WEIGHTS_FILE).exists():
        for file in sorted(folder.iterdir()):
            if file.suffix in _PICKLES:
                raise AdapterRefused(
                    f"{file.name} is a pickle, which can run code when it is loaded: save the adapter as "
                    f"{WEIGHTS_FILE} (peft: save_pretrained(..., safe_serialization=True))"
                )
    settings = _settings(_regular_file(folder, CONFIG_FILE))
    path = _regular_file(folder, WEIGHTS_FILE)
    size = path.stat().st_size
    if size > max_bytes:
        raise AdapterRefused(f"{WEIGHTS_FILE} has {size:,} bytes, the limit is {max_bytes:,}")
    entries = _header(path, size)
    pairs: dict[tuple[int, str], dict[str, TensorEntry]] = {}
    for name, entry in entries.items():
        found = _NAME.fullmatch(name)
        if found is None or _MODULES.get(found[3], ("",))[0] != found[2]:
            raise AdapterRefused(
                f"tensor {name!r} is not a LoRA matrix of {', '.join(_MODULES)}: train with those target modules only"
            )
        layer = int(found[1])
        if layer >= config.layers:
            raise AdapterRefused(f"tensor {name!r} is for layer {layer}, the model has {config.layers}")
        part = pairs.setdefault((layer, found[3]), {})
        if found[4] in part:
            raise AdapterRefused(f"tensor {name!r} is there twice")
        part[found[4]] = entry
    if not pairs:
        raise AdapterRefused(f"{WEIGHTS_FILE} holds no LoRA matrices")
    modules = {}
    for (layer, module), part in sorted(pairs.items()):
        modules[layer, module] = _module(config, settings, layer, module, part, max_rank)
    return AdapterInfo(folder, modules, size, max(m.a.shape[0] for m in modules.values()))


def read_adapter(info: AdapterInfo, config: ModelConfig) -> dict[tuple[int, str], ModuleWeights]:
    """Read and quantise all matrices. Raises `AdapterRefused` if a number is not finite."""
    data = np.memmap(info.folder / WEIGHTS_FILE, np.uint8, "r")
    weights = {}
    for (layer, module), entry in info.modules.items():
        a, b = _tensor(data, entry.a), _tensor(data, entry.b)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise AdapterRefused(f"layer {layer} {module} of the adapter holds numbers that are not finite")
        if module in ("q_proj", "k_proj"):
            b = _interleave(b, config.head_size)
        qa, a_scales = _quantize(a)
        qb, b_scales = _quantize(b)
        weights[layer, module] = ModuleWeights(qa, a_scales, qb, b_scales, np.float32(entry.alpha))
    return weights


def group_shapes(config: ModelConfig) -> Shapes:
    """The modules of each group of a layer, and where their outputs stand."""
    groups = []
    for group in GROUPS:
        column, shapes = 0, []
        for module, (_, of) in _MODULES.items():
            if of == group:
                outputs, inputs = module_shape(config, module)
                shapes.append(ModuleShape(module, column, outputs, inputs))
                column += outputs
        groups.append(tuple(shapes))
    return tuple(groups)


def _quantize(values: Any) -> tuple[Any, Any]:
    from openledger.kernels.model.weights import quantize_matrix

    matrix = quantize_matrix(values)
    return matrix.w, matrix.scales


def _interleave(b: Any, head_size: int) -> Any:
    """Hugging Face keeps a head's rotary pairs half a head apart, GGUF side by side."""
    heads = b.shape[0] // head_size
    return np.ascontiguousarray(b.reshape(heads, 2, head_size // 2, b.shape[1]).swapaxes(1, 2).reshape(b.shape))


def _regular_file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise AdapterRefused(f"the adapter folder {folder} has no {name}")
    if path.resolve().parent != folder.resolve():
        raise AdapterRefused(f"{name} is a link out of the adapter folder: put the file itself there")
    return path


def _settings(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise AdapterRefused(f"{CONFIG_FILE} is larger than {MAX_CONFIG_BYTES:,} bytes")
    try:
        settings = json.loads(path.read_bytes())
    except ValueError as error:
        raise AdapterRefused(f"{CONFIG_FILE} is not JSON: {error}") from error
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        raise AdapterRefused(f"{CONFIG_FILE} does not describe a LoRA adapter (peft_type LORA)")
    for flag in _UNSUPPORTED_FLAGS:
        if settings.get(flag):
            raise AdapterRefused(f"the adapter uses {flag}, which is not supported: train a plain LoRA")
    if settings.get("bias", "none") != "none":
        raise AdapterRefused("the adapter trains biases, which is not supported: train with bias = none")
    if settings.get("modules_to_save"):
        raise AdapterRefused(f"the adapter replaces whole modules ({settings['modules_to_save']}), not supported")
    for key in ("r", "lora_alpha"):
        value = settings.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise AdapterRefused(f"{CONFIG_FILE} says {key} = {value!r}, which is not a number")
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(settings.get(key) or {}, dict):
            raise AdapterRefused(f"{CONFIG_FILE} says {key} = {settings[key]!r}, which is not a table")
    return settings


def _header(path: Path, size: int) -> dict[str, TensorEntry]:
    """The tensors named in a safetensors header, every offset checked against the file."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > min(MAX_HEADER_BYTES, size - 8):
            raise AdapterRefused(f"{WEIGHTS_FILE} is not a safetensors file: its header does not fit")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        header.pop("__metadata__", None)
        entries = {}
        spans = []
        for name, value in header.items():
            first, last = value["data_offsets"]
            shape = tuple(value["shape"])
            item = _ITEM_BYTES.get(value["dtype"])
            if item is None:
                raise AdapterRefused(f"tensor {name!r} is of type {value['dtype']}: use F32, F16 or BF16")
            if len(shape) != 2 or not all(type(n) is int and n > 0 for n in (*shape, last)):
                raise AdapterRefused(f"tensor {name!r} has the shape {list(shape)}, not that of a matrix")
            if type(first) is not int or first < 0 or last - first != shape[0] * shape[1] * item:
                raise AdapterRefused(f"tensor {name!r} does not fill its place in {WEIGHTS_FILE}")
            entries[name] = TensorEntry(value["dtype"], (shape[0], shape[1]), 8 + length + first)
            spans.append((first, last))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterRefused(f"{WEIGHTS_FILE} is not a safetensors file: {error}") from error
    end = 0
    for first, last in sorted(spans):
        if first != end:
            raise AdapterRefused(f"{WEIGHTS_FILE} has tensors that overlap or leave gaps")
        end = last
    if 8 + length + end != size:
        raise AdapterRefused(f"{WEIGHTS_FILE} has {size:,} bytes, its header describes {8 + length + end:,}")
    return entries


def _module(
    config: ModelConfig,
    settings: Mapping[str, Any],
    layer: int,
    module: str,
    part: Mapping[str, TensorEntry],
    max_rank: int,
) -> ModuleEntry:
    where = f"layer {layer} {module}"
    if set(part) != {"A", "B"}:
        raise AdapterRefused(f"{where} has only one of lora_A and lora_B")
    outputs, inputs = module_shape(config, module)
    rank = part["A"].shape[0]
    if part["A"].shape != (rank, inputs) or part["B"].shape != (outputs, rank):
        raise AdapterRefused(
            f"{where} has lora_A {list(part['A'].shape)} and lora_B {list(part['B'].shape)}; this model needs "
            f"[r, {inputs}] and [{outputs}, r]: it was trained on another model"
        )
    if rank > max_rank:
        raise AdapterRefused(f"{where} has rank {rank}, the limit is {max_rank}")
    prefix = "self_attn" if module in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
    name = f"model.layers.{layer}.{prefix}.{module}"
    declared = _pattern(settings, "rank_pattern", name, settings["r"])
    if declared != rank:
        raise AdapterRefused(f"{where} has rank {rank}, {CONFIG_FILE} says {declared}")
    alpha = float(_pattern(settings, "alpha_pattern", name, settings["lora_alpha"]))
    scale = alpha / math.sqrt(rank) if settings.get("use_rslora") else alpha / rank
    if not abs(scale) <= float(np.finfo(np.float32).max):
        raise AdapterRefused(f"{where} has the scale {scale}, which is not finite")
    return ModuleEntry(part["A"], part["B"], scale)


def _pattern(settings: Mapping[str, Any], key: str, name: str, default: Any) -> Any:
    """PEFT's rule: the first pattern that matches the end of the module's name."""
    for pattern, value in (settings.get(key) or {}).items():
        try:
            matches = len(pattern) <= 256 and re.match(rf"(.*\.)?({pattern})$", name)
        except re.error as error:
            raise AdapterRefused(f"{CONFIG_FILE} has the {key} {pattern!r}, not a pattern: {error}") from error
        if matches:
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise AdapterRefused(f"{CONFIG_FILE} has a {key} that is not a number: {value!r}")
            return value
    return default


def _tensor(data: Any, entry: TensorEntry) -> Any:
    rows, columns = entry.shape
    raw = data[entry.offset : entry.offset + rows * columns * _ITEM_BYTES[entry.dtype]].tobytes()
    if entry.dtype == "F32":
        return np.frombuffer(raw, "<f4").reshape(rows, columns)
    if entry.dtype == "F16":
        return np.frombuffer(raw, "<f2").astype(np.float32).reshape(rows, columns)
    return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(rows, columns)
