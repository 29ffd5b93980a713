"""A Llama small enough for Triton's interpreter, with random weights, written as the GGUF file that a user would have."""

import json
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from safetensors.numpy import save_file

HIDDEN, FEED_FORWARD, HEADS, KV_HEADS, LAYERS = 128, 96, 2, 1, 2
"""Heads of 64: the only size whose rotary table is shipped."""


def byte_tokens() -> list[str]:
    """The 256 bytes as the letters that byte-level tokenizers write them with."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    letters |= {byte: chr(256 + at) for at, byte in enumerate(b for b in range(256) if b not in letters)}
    return [letters[byte] for byte in range(256)]


def write_tiny_model(path: Path, seed: int = 1, kv_heads: int = KV_HEADS) -> Path:
    """A model of 2 layers and 259 tokens."""
    random = np.random.default_rng(seed)
    tokens = [*byte_tokens(), "<|endoftext|>", "<|im_end|>", "ab"]
    writer = GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(kv_heads)
    writer.add_context_length(512)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 256 + [3, 3, 1])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(256)
    writer.add_chat_template("{% for message in messages %}{{ message.content }}{% endfor %}")

    def add(name: str, *shape: int) -> None:
        writer.add_tensor(name, (random.standard_normal(shape) * 0.2).astype(np.float32))

    add("token_embd.weight", len(tokens), HIDDEN)
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    for layer in range(LAYERS):
        size = HIDDEN // HEADS
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", random.uniform(0.5, 2, HIDDEN).astype(np.float32))
        add(f"blk.{layer}.attn_q.weight", HIDDEN, HIDDEN)
        add(f"blk.{layer}.attn_k.weight", kv_heads * size, HIDDEN)
        add(f"blk.{layer}.attn_v.weight", kv_heads * size, HIDDEN)
        add(f"blk.{layer}.attn_output.weight", HIDDEN, HIDDEN)
        add(f"blk.{layer}.ffn_gate.weight", FEED_FORWARD, HIDDEN)
        add(f"blk.{layer}.ffn_up.weight", FEED_FORWARD, HIDDEN)
        add(f"blk.{layer}.ffn_down.weight", HIDDEN, FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_tiny_adapter(folder: Path, rank: int, seed: int = 2, kv_heads: int = KV_HEADS) -> Path:
    """A LoRA adapter for it, in PEFT's layout: one module of each kind that the first layer has, the last layer bare."""
    random = np.random.default_rng(seed)
    shapes = {
        "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.v_proj": (kv_heads * HIDDEN // HEADS, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.up_proj": (FEED_FORWARD, HIDDEN),
        "mlp.down_proj": (HIDDEN, FEED_FORWARD),
    }
    tensors = {}
    for name, (outputs, inputs) in shapes.items():
        prefix = f"base_model.model.model.layers.0.{name}"
        tensors[f"{prefix}.lora_A.weight"] = (random.standard_normal((rank, inputs)) * 0.1).astype(np.float32)
        tensors[f"{prefix}.lora_B.weight"] = (random.standard_normal((outputs, rank)) * 0.1).astype(np.float32)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    modules = [name.partition(".")[2] for name in shapes]
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": modules}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder
