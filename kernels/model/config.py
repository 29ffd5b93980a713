"""The shape of a model of the Llama family, read from its GGUF metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openledger.genesis.tables import EXP, SIGMOID, TableMissing, load_table, rotary_name
from openledger.kernels.model.errors import UnsupportedModel
from openledger.kernels.ops.limits import MAX_COLUMNS, MAX_HEAD_SIZE


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of one decoder. `epsilon` and `rotary_base` are as the file states them."""

    name: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int
    epsilon: float
    rotary_base: float

    @property
    def qkv_width(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head_size

    @property
    def rotary_table(self) -> str:
        return rotary_name(self.rotary_base, self.head_size)

    @property
    def tables(self) -> tuple[str, ...]:
        """The numeric tables that this model's numerics use, in the order a release commits to them."""
        return (EXP, SIGMOID, self.rotary_table)


def config_from_metadata(metadata: Mapping[str, Any]) -> ModelConfig:
    """The configuration in a GGUF's key-value pairs. Raises `UnsupportedModel` for anything but a plain Llama."""
    architecture = metadata.get("general.architecture")
    if architecture != "llama":
        raise UnsupportedModel(f"the model's architecture is {architecture!r}; only 'llama' is supported")
    for key in ("llama.expert_count", "llama.rope.scaling.type", "llama.rope.scaling.factor"):
        if metadata.get(key):
            raise UnsupportedModel(f"the model sets {key} = {metadata[key]!r}, which is not supported")
    try:
        config = ModelConfig(
            name=str(metadata.get("general.name", "unnamed")),
            layers=int(metadata["llama.block_count"]),
            hidden=int(metadata["llama.embedding_length"]),
            feed_forward=int(metadata["llama.feed_forward_length"]),
            heads=int(metadata["llama.attention.head_count"]),
            kv_heads=int(metadata["llama.attention.head_count_kv"]),
            head_size=int(metadata["llama.embedding_length"]) // max(1, int(metadata["llama.attention.head_count"])),
            vocabulary=len(metadata["tokenizer.ggml.tokens"]),
            context=int(metadata["llama.context_length"]),
            epsilon=float(metadata["llama.attention.layer_norm_rms_epsilon"]),
            rotary_base=float(metadata["llama.rope.freq_base"]),
        )
    except KeyError as error:
        raise UnsupportedModel(f"the model file does not say {error.args[0]}") from error
    if config.hidden % config.heads or config.heads % config.kv_heads or config.head_size % 2:
        raise UnsupportedModel(
            f"{config.heads} heads and {config.kv_heads} key/value heads do not divide a hidden size of {config.hidden}"
        )
    if metadata.get("llama.rope.dimension_count", config.head_size) != config.head_size:
        raise UnsupportedModel("rotary embedding over a part of the head is not supported")
    if max(config.hidden, config.feed_forward) > MAX_COLUMNS or config.head_size > MAX_HEAD_SIZE:
        raise UnsupportedModel("a layer is too wide for exact sums in int32")
    try:
        load_table(config.rotary_table)
    except TableMissing as error:
        raise UnsupportedModel(f"{error}: build it with openledger.genesis.tables.build") from error
    return config
