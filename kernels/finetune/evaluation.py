"""Held-out loss: what a model with and without its adapter expects of text it was not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from openledger.kernels.finetune.examples import Example


@dataclass(frozen=True)
class Batch:
    """Padded on the right. `targets` is -100 where nothing is to be predicted; all (examples, longest - 1) int64."""

    tokens: Tensor
    mask: Tensor
    targets: Tensor


def collate(examples: Sequence[Example], device: str = "cpu") -> Batch:
    """Examples as one batch: the token at t predicts the token at t + 1."""
    longest = max(len(e.tokens) for e in examples) - 1
    tokens = torch.zeros(len(examples), longest, dtype=torch.long)
    mask = torch.zeros(len(examples), longest, dtype=torch.long)
    targets = torch.full((len(examples), longest), -100)
    for row, example in enumerate(examples):
        length = len(example.tokens) - 1
        tokens[row, :length] = torch.tensor(example.tokens[:-1])
        mask[row, :length] = 1
        begin = max(example.context, 1) - 1
        targets[row, begin:length] = torch.tensor(example.tokens[begin + 1 :])
    return Batch(tokens.to(device), mask.to(device), targets.to(device))


def summed_loss(model: Any, batch: Batch) -> tuple[Tensor, int]:
    """Cross-entropy in nats summed over the predicted tokens, and their number.

    Logits are computed for those tokens only: over a vocabulary of 49,152 that is most of a small model's memory.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = inner.model(input_ids=batch.tokens, attention_mask=batch.mask, use_cache=False).last_hidden_state
    wanted = batch.targets != -100
    logits = inner.lm_head(hidden[wanted]).float()
    return functional.cross_entropy(logits, batch.targets[wanted], reduction="sum"), int(wanted.sum())


@torch.no_grad()
def mean_loss(model: Any, examples: Sequence[Example], batch_size: int, device: str = "cpu") -> float:
    """Nats per predicted token over the examples."""
    training = model.training
    model.eval()
    total = 0.0
    count = 0
    ordered = sorted(examples, key=lambda e: len(e.tokens))
    for at in range(0, len(ordered), batch_size):
        loss, tokens = summed_loss(model, collate(ordered[at : at + batch_size], device))
        total += float(loss)
        count += tokens
    model.train(training)
    return total / count


def compare(model: Any, examples: Sequence[Example], batch_size: int, device: str = "cpu") -> tuple[float, float]:
    """(loss of the base model, loss with the adapter) of a PEFT model on the same examples."""
    with model.disable_adapter():
        base = mean_loss(model, examples, batch_size, device)
    return base, mean_loss(model, examples, batch_size, device)
