"""What an adapter is trained for: to expect a text, or to prefer one answer to another.

Preferences (DPO: Rafailov et al. 2023, equation 7), with π the model with its adapter and π₀ the one without:

    loss = −log σ(β·(log π(chosen)/π₀(chosen) − log π(rejected)/π₀(rejected)))

No second model is held: the same one computes π₀ with its adapter switched off.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from openledger.kernels.finetune.evaluation import Batch, collate, mean_loss, summed_loss
from openledger.kernels.finetune.examples import Example
from openledger.kernels.finetune.preferences import Pair


class HeldOut(NamedTuple):
    """What was not trained on: its mean loss, and of preferences the share that the model has right."""

    loss: float
    accuracy: float | None = None


class Objective(Protocol):
    """Over examples of its own kind."""

    def loss(self, model: Any, batch: Sequence[Any]) -> Tensor:
        """What a step lowers: a scalar that has a gradient."""
        ...

    def held_out(self, model: Any, examples: Sequence[Any]) -> HeldOut: ...


class TextObjective:
    """Nats per predicted token."""

    def __init__(self, batch_size: int, device: str) -> None:
        self._batch_size = batch_size
        self._device = device

    def loss(self, model: Any, batch: Sequence[Example]) -> Tensor:
        summed, count = summed_loss(model, collate(batch, self._device))
        return summed / count

    def held_out(self, model: Any, examples: Sequence[Example]) -> HeldOut:
        return HeldOut(mean_loss(model, examples, self._batch_size, self._device))


class PreferenceObjective:
    """See above. A base model has the loss log 2 on everything, and prefers nothing."""

    def __init__(self, beta: float, batch_size: int, device: str) -> None:
        self._beta = beta
        self._batch_size = batch_size
        self._device = device

    def loss(self, model: Any, batch: Sequence[Pair]) -> Tensor:
        return -functional.logsigmoid(self.margins(model, batch)).mean()

    def margins(self, model: Any, batch: Sequence[Pair]) -> Tensor:
        """β·(…) of each pair: above 0 where the model prefers what was chosen, more than without its adapter."""
        collated = collate([*(pair.chosen for pair in batch), *(pair.rejected for pair in batch)], self._device)
        ours = log_probabilities(model, collated)
        with torch.no_grad(), model.disable_adapter():
            reference = log_probabilities(model, collated)
        chosen, rejected = (ours - reference).chunk(2)
        return self._beta * (chosen - rejected)

    @torch.no_grad()
    def held_out(self, model: Any, examples: Sequence[Pair]) -> HeldOut:
        training = model.training
        model.eval()
        margins = torch.cat(
            [
                self.margins(model, examples[at : at + self._batch_size])
                for at in range(0, len(examples), self._batch_size)
            ]
        )
        model.train(training)
        return HeldOut(float(-functional.logsigmoid(margins).mean()), float((margins > 0).float().mean()))


def log_probabilities(model: Any, batch: Batch) -> Tensor:
    """Of each row, the sum of log-probabilities of its targets, binary32."""
    inner = model.get_base_model()
    hidden = inner.model(input_ids=batch.tokens, attention_mask=batch.mask, use_cache=False).last_hidden_state
    wanted = batch.targets != -100
    logits = inner.lm_head(hidden[wanted]).float()
    losses = functional.cross_entropy(logits, batch.targets[wanted], reduction="none")
    rows = wanted.nonzero()[:, 0]
    return torch.zeros(len(batch.tokens), device=losses.device).index_add(0, rows, -losses)
