"""Models and adapters of random numbers: speed does not depend on what the numbers are."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file

from openledger.kernels.model.bf16 import NUMERICS as BF16
from openledger.kernels.model.bf16 import AttestedTransformer, bf16_steps
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.model.load import NUMERICS, Model
from openledger.kernels.model.steps import Steps, host_steps, triton_steps
from openledger.kernels.model.transformer import Transformer
from openledger.kernels.model.weights import ROTARY, Matrix, Weights, round_to_bf16
from openledger.kernels.ops.linear import native_product, native_product_is_exact, pieces_product

Numerics = Literal["exact-1", "bf16"]

LLAMA_8B = ModelConfig(
    name="Llama-3.1-8B shape, random weights", layers=32, hidden=4096, feed_forward=14336, heads=32, kv_heads=8,
    head_size=128, vocabulary=128256, context=8192, epsilon=1e-5, rotary_base=500000.0,
)  # fmt: skip
TOY = ModelConfig(
    name="toy, random weights", layers=2, hidden=64, feed_forward=96, heads=2, kv_heads=1, head_size=32, vocabulary=300,
    context=256, epsilon=1e-5, rotary_base=500000.0,
)  # fmt: skip


class Numbers:
    """A tokenizer for tokens that mean nothing."""

    end_tokens: frozenset[int] = frozenset()
    special_tokens: frozenset[int] = frozenset()

    def decode(self, tokens: Any, continued: bool = False) -> str:
        return "".join(f"{token} " for token in tokens)


def steps_of(backend: Literal["host", "torch", "interpret", "triton"], numerics: Numerics) -> Steps:
    if numerics == "bf16":
        return bf16_steps("torch" if backend == "host" else backend)
    if backend in ("interpret", "triton"):
        return triton_steps(backend)
    return host_steps(native_product if native_product_is_exact() else pieces_product)


def random_model(config: ModelConfig, steps: Steps, numerics: Numerics, seed: int = 1) -> Model:
    random = np.random.default_rng(seed)
    inner = config.heads * config.head_size
    shapes = {
        "qkv": (config.qkv_width, config.hidden, config.kv_heads * config.head_size),
        "output": (config.hidden, inner, 0),
        "gate_up": (2 * config.feed_forward, config.hidden, 0),
        "down": (config.hidden, config.feed_forward, 0),
    }

    def matrix(rows: int, columns: int, residual: int) -> Matrix:
        # Of a size that keeps activations where they are.
        scale = np.float32(1.0 / (73 * np.sqrt(columns)))
        if numerics == "bf16":
            whole = np.frombuffer(random.bytes(rows * columns), np.int8).reshape(rows, columns)
            parts = [round_to_bf16(whole[at : at + 4096].astype(np.float32) * scale) for at in range(0, rows, 4096)]
            return Matrix(np.concatenate(parts), np.ones(rows, np.float32))
        whole = np.frombuffer(random.bytes((rows + residual) * columns), np.int8).reshape(-1, columns)
        scales = np.full(rows + residual, scale)
        scales[rows:] /= 254
        return Matrix(np.maximum(whole, -127), scales, rows - residual, residual)

    matrices = {"embedding": matrix(config.vocabulary, config.hidden, 0), "head": None}
    matrices["head"] = matrix(config.vocabulary, config.hidden, config.vocabulary)
    vectors = {"norm": np.ones(config.hidden, np.float32)}
    for layer in range(config.layers):
        for group, shape in shapes.items():
            matrices[f"{layer}.{group}"] = matrix(*shape)
        for norm in ("attention_norm", "feed_forward_norm"):
            vectors[f"{layer}.{norm}"] = np.ones(config.hidden, np.float32)
    frequency = config.rotary_base ** (-np.arange(config.head_size // 2) * 2 / config.head_size)
    angle = np.arange(config.positions)[:, None] * frequency
    vectors[ROTARY] = np.stack((np.cos(angle), np.sin(angle)), -1).astype(np.float32)
    made = (AttestedTransformer if numerics == "bf16" else Transformer)(config, Weights(matrices, vectors, b""), steps)
    tokenizer: Any = Numbers()
    return Model(config, tokenizer, made, b"", "triton", 1, BF16 if numerics == "bf16" else NUMERICS)


def random_adapters(config: ModelConfig, folder: Path, count: int, rank: int, modules: tuple[str, ...]) -> list[Path]:
    """Folders in PEFT's layout; as binary16, so that a thousand of them fit a disk."""
    shapes = {
        "q_proj": ("self_attn", config.heads * config.head_size, config.hidden),
        "k_proj": ("self_attn", config.kv_heads * config.head_size, config.hidden),
        "v_proj": ("self_attn", config.kv_heads * config.head_size, config.hidden),
        "o_proj": ("self_attn", config.hidden, config.heads * config.head_size),
        "gate_proj": ("mlp", config.feed_forward, config.hidden),
        "up_proj": ("mlp", config.feed_forward, config.hidden),
        "down_proj": ("mlp", config.hidden, config.feed_forward),
    }
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": list(modules)}
    made = []
    for index in range(count):
        random = np.random.default_rng(index)
        tensors = {}
        for layer in range(config.layers):
            for module in modules:
                part, outputs, inputs = shapes[module]
                name = f"base_model.model.model.layers.{layer}.{part}.{module}"
                for kind, shape in (("A", (rank, inputs)), ("B", (outputs, rank))):
                    values = (random.random(shape, np.float32) - 0.5) * 0.02
                    tensors[f"{name}.lora_{kind}.weight"] = values.astype(np.float16)
        path = folder / f"adapter-{index}"
        path.mkdir()
        save_file(tensors, path / "adapter_model.safetensors")
        (path / "adapter_config.json").write_text(json.dumps(settings))
        made.append(path)
    return made
