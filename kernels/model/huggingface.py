"""Reading a model folder in Hugging Face's layout: `config.json`, and safetensors in one file or in shards with an index.

Nothing of it is run, and no tensor is read before the headers of all files have been checked. A folder's files may be links, as
in Hugging Face's own cache.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from openledger.genesis.hashing import keccak256
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.model.errors import DamagedModel, ModelMissing, UnsupportedModel
from openledger.kernels.model.rotary_table import Llama3Scaling, Scaling
from openledger.kernels.safetensors import BadSafetensors, TensorEntry, read_header, read_tensor
from openledger.kernels.strict_json import parse_json

CONFIG_FILE: Final = "config.json"
WEIGHTS_FILE: Final = "model.safetensors"
INDEX_FILE: Final = "model.safetensors.index.json"
MAX_JSON_BYTES: Final = 64 << 20
MAX_SHARDS: Final = 1024

_ARCHITECTURES: Final = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
_REFUSED: Final = {
    "quantization_config": "a quantised checkpoint: use the original in BF16, F16 or F32, or a GGUF",
    "vision_config": "a model with vision",
    "audio_config": "a model with audio",
    "num_local_experts": "a mixture of experts",
    "num_experts": "a mixture of experts",
    "n_routed_experts": "a mixture of experts",
    "mlp_bias": "biases in the feed-forward layers",
    "alibi": "ALiBi instead of rotary embedding",
}
_TOP: Final = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_PARTS: Final = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_LAYER: Final = re.compile(r"model\.layers\.(\d{1,5})\.(.+)\.(weight|bias)")
_SHARD: Final = re.compile(r"[\w][\w.-]*\.safetensors")
_IGNORED: Final = re.compile(r".*rotary_emb\.inv_freq")
"""Old checkpoints keep the frequencies, which the configuration gives."""


class HuggingFaceFolder:
    """A folder's configuration and tensors: a `TensorSource`. Its headers are checked when it is opened."""

    halves = True

    def __init__(self, path: Path) -> None:
        """Raises `ModelMissing`, `DamagedModel`, `UnsupportedModel`."""
        self.path = path
        self.settings = read_json(path / CONFIG_FILE)
        self._config = config_from_json(self.settings, path.resolve().name)
        self._files = _weight_files(path)
        self._where: dict[str, tuple[Path, TensorEntry]] = {}
        tied = bool(self.settings.get("tie_word_embeddings", False))
        for file in self._files:
            try:
                entries = read_header(file)
            except (BadSafetensors, OSError) as error:
                raise DamagedModel(f"the model folder {path} is damaged: {error}") from error
            for name, entry in entries.items():
                ours = _our_name(name)
                if ours in self._where:
                    raise DamagedModel(f"tensor {name} is in two files of {path}")
                if not (tied and ours == "output.weight"):
                    self._where[ours] = (file, entry)
        self._maps: dict[Path, Any] = {}

    def config(self) -> ModelConfig:
        return self._config

    def key(self) -> str:
        stamps = [
            (file.name, file.stat().st_size, file.stat().st_mtime_ns)
            for file in (self.path / CONFIG_FILE, *self._files)
        ]
        return keccak256(f"{self.path.resolve()}|{stamps}".encode()).hex()[:16]

    def names(self) -> Iterator[str]:
        return (name for name in self._where if not _IGNORED.fullmatch(name))

    def tensor(self, name: str) -> Any:
        """A tensor as a numpy float32 array. Raises `DamagedModel`."""
        if name not in self._where:
            raise DamagedModel(f"{self.path.name} has no tensor {name}")
        file, entry = self._where[name]
        data = self._maps.get(file)
        if data is None:
            data = self._maps[file] = np.memmap(file, np.uint8, "r")
        values = read_tensor(data, entry)
        if not np.isfinite(values).all():
            raise DamagedModel(f"tensor {name} of {file.name} holds numbers that are not finite")
        return values


def config_from_json(settings: Mapping[str, Any], name: str) -> ModelConfig:
    """The configuration in a `config.json`. Raises `UnsupportedModel`, by name, for what these numerics do not cover."""
    for key, what in _REFUSED.items():
        if settings.get(key):
            raise UnsupportedModel(f"{CONFIG_FILE} sets {key}: {what} is not supported")
    found = settings.get("architectures") or ["none"]
    family = _ARCHITECTURES.get(found[0]) if isinstance(found, list) else None
    if family is None:
        raise UnsupportedModel(f"the model's architecture is {found}; supported are {', '.join(_ARCHITECTURES)}")
    activation = settings.get("hidden_act", "silu")
    if activation != "silu":
        raise UnsupportedModel(f"the model's activation is {activation!r}; only silu is supported")
    if family != "qwen2" and settings.get("attention_bias"):
        raise UnsupportedModel(
            "the model has biases on all of attention's layers (attention_bias), which is not supported"
        )
    if settings.get("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedModel("rotary embedding over a part of the head is not supported")
    try:
        hidden, heads = int(settings["hidden_size"]), int(settings["num_attention_heads"])
        size = settings.get("head_dim")
        if size is None and (heads < 1 or hidden % heads):
            raise UnsupportedModel(f"{heads} heads do not divide a hidden size of {hidden}")
        base, scaling = _rotary(settings)
        return ModelConfig(
            name=name,
            layers=int(settings["num_hidden_layers"]),
            hidden=hidden,
            feed_forward=int(settings["intermediate_size"]),
            heads=heads,
            kv_heads=int(settings.get("num_key_value_heads") or heads),
            head_size=int(size or hidden // heads),
            vocabulary=int(settings["vocab_size"]),
            context=int(settings["max_position_embeddings"]),
            epsilon=float(settings["rms_norm_eps"]),
            rotary_base=base,
            family=family,
            attention_bias=family == "qwen2",
            head_norm=family == "qwen3",
            scaling=scaling,
            window=_window(family, settings),
        ).checked()
    except KeyError as error:
        raise UnsupportedModel(f"{CONFIG_FILE} does not say {error.args[0]}") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise UnsupportedModel(f"{CONFIG_FILE} describes the model wrongly: {error}") from error


def read_json(path: Path, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """A JSON object from a file of the folder. Raises `ModelMissing`, `DamagedModel`."""
    if not path.is_file():
        raise ModelMissing(f"the model folder {path.parent} has no {path.name}")
    if path.stat().st_size > limit:
        raise DamagedModel(f"{path} is larger than {limit:,} bytes")
    try:
        found = parse_json(path.read_bytes())
    except ValueError as error:
        raise DamagedModel(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DamagedModel(f"{path} is not a JSON object")
    return found


def _rotary(settings: Mapping[str, Any]) -> tuple[float, Scaling]:
    """Base and scaling, as written before and since transformers 5 (`rope_scaling`, `rope_parameters`)."""
    parameters = settings.get("rope_parameters") or {}
    scaling = {**parameters, **(settings.get("rope_scaling") or {})}
    base = float(settings.get("rope_theta") or parameters.get("rope_theta") or 10000.0)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return base, None
    if kind != "llama3":
        raise UnsupportedModel(f"the model's rotary scaling is {kind!r}; only llama3 is supported")
    return base, Llama3Scaling(
        float(scaling["factor"]),
        float(scaling["low_freq_factor"]),
        float(scaling["high_freq_factor"]),
        int(scaling["original_max_position_embeddings"]),
    )


def _window(family: str, settings: Mapping[str, Any]) -> int:
    """A sliding window that any layer has, 0 for none."""
    window = settings.get("sliding_window")
    if not window or (family.startswith("qwen") and not settings.get("use_sliding_window")):
        return 0
    return int(window)


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, by its index if it has one."""
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if not (folder / INDEX_FILE).is_file():
        others = sorted(file.name for file in folder.iterdir() if file.suffix in (".bin", ".pt", ".pth"))
        if others:
            raise UnsupportedModel(
                f"{others[0]} is a pickle, which can run code when it is loaded: save the model as safetensors "
                "(transformers: save_pretrained)"
            )
        raise ModelMissing(f"the model folder {folder} has neither {WEIGHTS_FILE} nor {INDEX_FILE}")
    shards = read_json(folder / INDEX_FILE).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise DamagedModel(f"{INDEX_FILE} has no weight_map")
    names = set(map(str, shards.values()))
    if len(names) > MAX_SHARDS:
        raise DamagedModel(f"{INDEX_FILE} names {len(names)} files, the limit is {MAX_SHARDS}")
    for name in sorted(names):
        if not _SHARD.fullmatch(name):
            raise DamagedModel(f"{INDEX_FILE} names {name!r}, which is no file of the folder")
        if not (folder / name).is_file():
            raise ModelMissing(f"the model folder {folder} has no {name}, which its index names")
    return [folder / name for name in sorted(names)]


def _our_name(name: str) -> str:
    found = _LAYER.fullmatch(name)
    if found is None:
        return _TOP.get(name, name)
    part = _PARTS.get(found[2])
    return name if part is None else f"blk.{int(found[1])}.{part}.{found[3]}"
