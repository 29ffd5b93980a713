"""The loss of preferences and four-bit weights, against the formulas computed the long way round."""

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from openledger.kernels.finetune.examples import Example
from openledger.kernels.finetune.nf4 import BLOCK, LEVELS, Nf4Linear, freeze_in_nf4, pack_nf4, unpack_nf4
from openledger.kernels.finetune.objective import PreferenceObjective
from openledger.kernels.finetune.preferences import Pair


@pytest.fixture
def model() -> Any:
    """A small Llama with an adapter that does something."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    shape = LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    settings = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    tuned = get_peft_model(LlamaForCausalLM(shape), settings)
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return tuned.eval()


def log_probability(model: Any, example: Example) -> float:
    """Token by token, from a forward pass of its own for each."""
    total = 0.0
    for at in range(example.context, len(example.tokens)):
        logits = model(input_ids=torch.tensor([example.tokens[:at]])).logits[0, -1].double()
        total += float(torch.log_softmax(logits, -1)[example.tokens[at]])
    return total


def test_the_loss_is_that_of_equation_7(model: Any) -> None:
    pairs = [
        Pair(Example((3, 4, 5, 6, 7), 3), Example((3, 4, 5, 9), 3)),
        Pair(Example((8, 2, 1), 1), Example((8, 30, 31, 32, 33, 34), 1)),
    ]
    objective = PreferenceObjective(0.3, 1, "cpu")
    expected = []
    with torch.no_grad():
        for pair in pairs:
            ours = log_probability(model, pair.chosen) - log_probability(model, pair.rejected)
            with model.disable_adapter():
                reference = log_probability(model, pair.chosen) - log_probability(model, pair.rejected)
            expected.append(0.3 * (ours - reference))
    assert objective.margins(model, pairs).tolist() == pytest.approx(expected, abs=1e-4)
    loss = sum(math.log1p(math.exp(-margin)) for margin in expected) / 2
    assert float(objective.loss(model, pairs).detach()) == pytest.approx(loss, abs=1e-5)
    held = objective.held_out(model, pairs)
    assert held.loss == pytest.approx(loss, abs=1e-5)
    assert held.accuracy == sum(margin > 0 for margin in expected) / 2
    with model.disable_adapter():
        assert objective.held_out(model, pairs).loss == pytest.approx(math.log(2))


def test_only_the_adapter_learns_of_it_and_towards_what_was_chosen(model: Any) -> None:
    pairs = [Pair(Example((3, 4, 5, 6), 2), Example((3, 4, 9, 9), 2))]
    objective = PreferenceObjective(0.5, 1, "cpu")
    before = float(objective.margins(model, pairs).detach())
    objective.loss(model, pairs).backward()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == ("lora_" in name), name
            if parameter.grad is not None:
                parameter -= 0.05 * parameter.grad
    assert float(objective.margins(model, pairs).detach()) > before


def test_four_bits_keep_the_nearest_level_of_each_block() -> None:
    torch.manual_seed(1)
    weight = torch.randn(7, 50) * torch.logspace(-3, 2, 7)[:, None]
    weight[3] = 0
    packed, scales = pack_nf4(weight)
    whole = unpack_nf4(packed, scales, (7, 50), torch.float32)
    assert packed.dtype == torch.uint8
    assert packed.numel() * 2 == scales.numel() * BLOCK == 384
    flat, levels = weight.flatten(), torch.tensor(LEVELS)
    for at, value in enumerate(whole.flatten()):
        scale = scales[at // BLOCK]
        error = (flat[at] - levels * scale).abs().min()
        assert float((flat[at] - value).abs()) == pytest.approx(float(error), abs=1e-6 * float(scale))
    assert whole[3].abs().sum() == 0
    again, same = pack_nf4(whole)
    assert torch.equal(again, packed)
    assert torch.equal(same, scales)


def test_a_frozen_layer_passes_on_the_gradient_of_the_weights_it_stands_for() -> None:
    torch.manual_seed(2)
    layer = torch.nn.Linear(96, 24)
    frozen = Nf4Linear(layer)
    weight = unpack_nf4(frozen.packed, frozen.scales, (24, 96), torch.float32)
    x, y = (torch.randn(3, 5, 96).requires_grad_() for _ in range(2))
    y.data.copy_(x.data)
    frozen(x).square().sum().backward()
    functional.linear(y, weight, layer.bias).square().sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert torch.allclose(x.grad, y.grad)


def test_the_layers_under_an_adapter_shrink_to_under_a_sixth(model: Any) -> None:
    layers = [m.base_layer for m in model.modules() if isinstance(getattr(m, "base_layer", None), torch.nn.Linear)]
    before = sum(layer.weight.nbytes for layer in layers)
    tokens = torch.tensor([[3, 4, 5]])
    exact = model(input_ids=tokens).logits.detach()
    assert freeze_in_nf4(model) < before / 6
    assert not any(isinstance(getattr(m, "base_layer", None), torch.nn.Linear) for m in model.modules())
    close = model(input_ids=tokens).logits.detach()
    assert not torch.equal(close, exact)
    assert float((close - exact).abs().max()) < 0.2 * float(exact.abs().max())
