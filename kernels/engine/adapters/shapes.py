"""The matrices of a layer that adapters change, by their Hugging Face names."""

from collections.abc import Mapping
from typing import Final

from openledger.kernels.model.config import ModelConfig
from openledger.kernels.ops.lora_layout import GROUPS, ModuleShape, Shapes

MODULES: Final[Mapping[str, tuple[str, str]]] = {
    "q_proj": ("self_attn", "qkv"),
    "k_proj": ("self_attn", "qkv"),
    "v_proj": ("self_attn", "qkv"),
    "o_proj": ("self_attn", "output"),
    "gate_proj": ("mlp", "gate_up"),
    "up_proj": ("mlp", "gate_up"),
    "down_proj": ("mlp", "down"),
}
"""Name -> (its parent in Hugging Face's model, the linear layer that it is part of here)."""


def module_shape(config: ModelConfig, module: str) -> tuple[int, int]:
    """(outputs, inputs) of a base matrix."""
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


def group_shapes(config: ModelConfig) -> Shapes:
    """The modules of each group of a layer, and where their outputs stand. `config` may be a share of a model's."""
    groups = []
    for group in GROUPS:
        column, shapes = 0, []
        for module, (_, of) in MODULES.items():
            if of == group:
                outputs, inputs = module_shape(config, module)
                shapes.append(ModuleShape(module, column, outputs, inputs))
                column += outputs
        groups.append(tuple(shapes))
    return tuple(groups)


def module_path(layer: int, module: str) -> str:
    """A matrix by the name that PEFT's patterns are matched against."""
    return f"model.layers.{layer}.{MODULES[module][0]}.{module}"
