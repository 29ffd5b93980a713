"""The shape of a decoder of the families that exact-1 covers, whatever file it came from.

| family | differs from Llama in |
|---|---|
| llama (2, 3, and 3.1 with its rotary scaling), mistral | – |
| qwen2 | a bias on query, key and value |
| qwen3 | an RMSNorm of each query and key head; a head size of its own |

`gguf.py` and `huggingface.py` read it from their files; DeepSeek's distilled models are of the families llama and qwen2.
"""

import math
from dataclasses import dataclass
from typing import Final

from openledger.genesis.tables import EXP, SIGMOID, is_shipped, rotary_name
from openledger.kernels.model.errors import UnsupportedModel
from openledger.kernels.model.rotary_table import MAX_POSITIONS, Scaling
from openledger.kernels.ops.limits import MAX_COLUMNS, MAX_HEAD_SIZE

MAX_LAYERS: Final = 1024
FAMILIES: Final = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and constants of one decoder. `epsilon` and `rotary_base` are as the file states them.

    `attention_bias`: query, key and value have one. `head_norm`: each query and key head is normalised. `scaling`: of the
    rotary frequencies. `window`: positions that a query sees, itself included; 0 for all.
    """

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
    family: str = "llama"
    attention_bias: bool = False
    head_norm: bool = False
    scaling: Scaling = None
    window: int = 0

    @property
    def qkv_width(self) -> int:
        return (self.heads + 2 * self.kv_heads) * self.head_size

    @property
    def shipped_rotary(self) -> str | None:
        """The name of the model's rotary table where that is shipped; None where it is part of the model's weights."""
        if self.scaling is not None or not self.rotary_base.is_integer():
            return None
        name = rotary_name(self.rotary_base, self.head_size)
        return name if is_shipped(name) else None

    @property
    def positions(self) -> int:
        """Positions that can be served: within a window and within the longest table there is, nothing is approximated."""
        return min(self.context, self.window or self.context, MAX_POSITIONS)

    @property
    def tables(self) -> tuple[str, ...]:
        """The shipped tables that this model's numerics use, in the order a release commits to them."""
        rotary = self.shipped_rotary
        return (EXP, SIGMOID) if rotary is None else (EXP, SIGMOID, rotary)

    def checked(self) -> "ModelConfig":
        """Itself. Raises `UnsupportedModel` for sizes that do not fit each other or these numerics."""
        sizes = (
            self.layers,
            self.hidden,
            self.feed_forward,
            self.heads,
            self.kv_heads,
            self.head_size,
            self.vocabulary,
        )
        if min(*sizes, self.context) < 1 or self.heads % self.kv_heads or self.head_size % 2:
            raise UnsupportedModel(
                f"{self.heads} heads of {self.head_size} and {self.kv_heads} key/value heads in {self.layers} layers of "
                f"{self.hidden} and {self.feed_forward} do not make a model"
            )
        if (
            max(self.hidden, self.feed_forward, self.heads * self.head_size) > MAX_COLUMNS
            or self.head_size > MAX_HEAD_SIZE
        ):
            raise UnsupportedModel("a layer is too wide for exact sums in int32")
        if self.layers > MAX_LAYERS:
            raise UnsupportedModel(f"the model has {self.layers:,} layers, the limit is {MAX_LAYERS:,}")
        if not 0 < self.epsilon < math.inf or not 1 < self.rotary_base < math.inf:
            raise UnsupportedModel(f"epsilon {self.epsilon} or rotary base {self.rotary_base} makes no sense")
        return self
