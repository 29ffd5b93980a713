"""Adapters made by peft, and a way to run token sequences through the model in any split."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openledger.kernels.engine.adapters import inspect_adapter, read_adapter
from openledger.kernels.engine.residency import stack_adapter
from openledger.kernels.model.load import Model
from openledger.kernels.model.transformer import Batch, KvCache, Lora, Segment, Transformer

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Runner:
    """Runs several sequences side by side, each with its own adapters, and collects every position's logits."""

    def __init__(self, transformer: Transformer, page_tokens: int, sequences: int, length: int) -> None:
        self.transformer = transformer
        self.page = page_tokens
        pages = -(-length // page_tokens)
        self.cache = KvCache(transformer.config, sequences * pages, page_tokens, transformer.steps)
        # Pages out of order, as an allocator would hand them out.
        order = np.random.default_rng(1).permutation(sequences * pages)
        self.tables = order.reshape(sequences, pages)
        self.done = [0] * sequences
        self.logits: list[list[Any]] = [[] for _ in range(sequences)]

    def step(self, parts: list[tuple[int, list[int], tuple[Lora, ...]]]) -> None:
        """`parts`: (sequence, its next tokens, its adapters)."""
        tokens, positions, slots, previous, owners, segments = [], [], [], [], [], []
        for sequence, new, adapters in parts:
            at = np.arange(self.done[sequence], self.done[sequence] + len(new))
            table = self.tables[sequence]
            before = at - 1
            if adapters:
                segments.append(Segment(len(tokens), len(tokens) + len(new), adapters))
            tokens += new
            positions.append(at)
            slots.append(table[at // self.page] * self.page + at % self.page)
            previous.append(np.where(at > 0, table[before // self.page] * self.page + before % self.page, -1))
            owners.append(np.full(len(new), sequence))
            self.done[sequence] += len(new)
        batch = Batch(
            np.array(tokens), np.concatenate(positions), np.concatenate(slots), np.concatenate(previous),
            np.concatenate(owners), self.tables, np.arange(len(tokens)), segments,
        )  # fmt: skip
        logits, faults = self.transformer.step(batch, self.cache)
        assert not faults.any()
        row = 0
        for sequence, new, _ in parts:
            self.logits[sequence].append(logits[row : row + len(new)].copy())
            row += len(new)

    def hash(self, sequence: int) -> str:
        return hashlib.sha256(np.concatenate(self.logits[sequence]).tobytes()).hexdigest()


@pytest.fixture(scope="session")
def peft_adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int, int], Path]:
    """A folder as peft saves it, with random weights: (rank, seed) -> path."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    made: dict[tuple[int, int], Path] = {}

    def make(rank: int, seed: int) -> Path:
        if (rank, seed) not in made:
            with torch.device("meta"):
                base = LlamaForCausalLM(
                    LlamaConfig(
                        vocab_size=64, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                        num_attention_heads=9, num_key_value_heads=3,
                    )
                )  # fmt: skip
            settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS, task_type="CAUSAL_LM")
            adapted = get_peft_model(base, settings, low_cpu_mem_usage=True)
            torch.manual_seed(seed)
            for name, parameter in list(adapted.named_parameters()):
                if "lora_" in name:
                    owner = adapted.get_submodule(name.rpartition(".")[0])
                    owner.weight = torch.nn.Parameter(torch.randn(parameter.shape) * 0.03)
            folder = tmp_path_factory.mktemp(f"adapter-{rank}-{seed}")
            adapted.save_pretrained(str(folder))
            made[rank, seed] = folder
        return made[rank, seed]

    return make


@pytest.fixture(scope="session")
def load_lora(model: Model, peft_adapter: Callable[[int, int], Path]) -> Callable[[int, int], Lora]:
    """An adapter of `peft_adapter`, quantised."""

    def load(rank: int, seed: int) -> Lora:
        info = inspect_adapter(peft_adapter(rank, seed), model.config)
        return stack_adapter(read_adapter(info, model.config), model.config, model.transformer.steps.array)

    return load
