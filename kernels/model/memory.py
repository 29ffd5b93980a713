"""What a model takes in memory, from its configuration alone."""

from openledger.kernels.model.config import ModelConfig
from openledger.kernels.model.matrix import RESIDUAL_PARTS, Bits
from openledger.kernels.model.weights import tensor_order
from openledger.kernels.ops.linear4 import BLOCK, GROUP


def weight_bytes(config: ModelConfig, *, tied: bool, bits: Bits) -> int:
    """Bytes of the imported weights, the rotary table included where it is the model's own."""
    total = 0
    for planned in tensor_order(config, tied=tied):
        if planned.is_vector:
            total += 4 * planned.shape[0]
            continue
        rows, columns = planned.shape
        kept = [part for part in planned.parts if part.removesuffix(".weight").rpartition(".")[2] in RESIDUAL_PARTS]
        if kept and (planned.name not in ("embedding", "head") or bits == 8):
            rows += config.kv_heads * config.head_size if len(planned.parts) > 1 else rows
        packed = bits == 4 and planned.name not in ("embedding", "head")
        total += rows * (4 + (-(-columns // BLOCK) * (GROUP + 2) if packed else columns))
    if config.shipped_rotary is None:
        total += 4 * config.positions * config.head_size
    return total


def cache_bytes_per_token(config: ModelConfig) -> int:
    """Bytes of the key/value cache that a position takes."""
    return config.layers * config.kv_heads * (3 * config.head_size + 12)
