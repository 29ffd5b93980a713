"""Random models of each family as transformers makes them, in Hugging Face's layout, and as GGUF files of the same weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFWriter, TokenType
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from .tiny_model import byte_tokens

VOCABULARY = 272
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
    "initializer_range": 0.2, "eos_token_id": 256, "bos_token_id": 257,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-2": ("Llama", {"num_key_value_heads": 4, "rope_theta": 10000.0}),
    "llama-3.1": ("Llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "mistral": ("Mistral", {"sliding_window": 48, "rope_theta": 1000000.0}),
    "qwen2": ("Qwen2", {"rope_theta": 1000000.0, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3", {"head_dim": 32, "rope_theta": 1000000.0}),
}


def random_model(name: str, seed: int = 1, **changes: Any) -> Any:
    """A model of transformers with random weights, biases and norms included."""
    import transformers

    architecture, settings = FAMILIES[name]
    config = getattr(transformers, f"{architecture}Config")(**{**SIZES, **settings, **changes})
    torch.manual_seed(seed)
    model = getattr(transformers, f"{architecture}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter, values in model.named_parameters():
            if parameter.endswith("norm.weight"):
                values.uniform_(0.5, 2.0)
            elif parameter.endswith("bias"):
                values.normal_(0.0, 1.0)
    return model


def write_folder(folder: Path, model: Any, kind: torch.dtype = torch.float32, **saving: Any) -> Path:
    """As a user has it: `save_pretrained`, and a byte-level `tokenizer.json` with a chat template."""
    model.to(kind).save_pretrained(folder, **saving)
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(byte_tokens())}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<|end|>", "<|begin|>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    template = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    settings = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def write_gguf(path: Path, model: Any, factors: Any = None) -> Path:
    """The same weights as llama.cpp's converter writes them: for Llama's architecture with rotary pairs side by side."""
    config = model.config
    architecture = {"mistral": "llama"}.get(config.model_type, config.model_type)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer = GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_key_length(size)
    writer.add_value_length(size)
    if getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    tokens = [*byte_tokens(), "<|end|>", "<|begin|>", "ab"]
    spare = [f"[PAD{i}]" for i in range(len(tokens), VOCABULARY)]
    writer.add_token_list(tokens + spare)
    writer.add_token_types([1] * 256 + [TokenType.CONTROL] * 2 + [1] + [TokenType.UNUSED] * len(spare))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(256)
    if factors is not None:
        writer.add_tensor("rope_freqs.weight", np.array(factors, np.float32))
    for name, value in model.state_dict().items():
        values = value.float().numpy()
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if architecture == "llama" and (".q_proj." in name or ".k_proj." in name):
            heads = values.shape[0] // size
            values = np.ascontiguousarray(values.reshape(heads, 2, size // 2, -1).swapaxes(1, 2).reshape(values.shape))
        writer.add_tensor(_gguf_name(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_name(name: str) -> str:
    top = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if not name.startswith("model.layers."):
        return top.get(name, "output.weight")
    _, _, layer, rest = name.split(".", 3)
    part, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{_NAMES[part]}.{kind}"
