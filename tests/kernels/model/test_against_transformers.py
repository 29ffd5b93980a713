"""The exact model beside the same GGUF in transformers (fp32), and its adapters beside peft."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openledger.kernels.model.gguf import default_model_file
from openledger.kernels.model.load import Model
from openledger.kernels.model.tokenizer import Message
from openledger.kernels.model.transformer import Lora

from .conftest import Runner

QUESTIONS = ("What is the capital of France?", "Why is the sky blue?")
CHATS = [
    [Message("user", "What is the capital of France?")],
    [Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello! "), Message("user", "Naïve 日本 1234?")],
    [Message("user", "line one\n\n  line two\t"), Message("assistant", "")],
]  # fmt: skip


@pytest.fixture(scope="module")
def peer(model: Model) -> Any:
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    file = default_model_file()
    return AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def peer_tokenizer() -> Any:
    from transformers import AutoTokenizer

    file = default_model_file()
    return AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)


def logits_of(model: Model, tokens: list[int], adapters: tuple[Lora, ...] = ()) -> Any:
    runner = Runner(model.transformer, 16, 1, len(tokens))
    runner.step([(0, tokens, adapters)])
    return torch.from_numpy(np.concatenate(runner.logits[0]))


def divergence(ours: Any, theirs: Any) -> float:
    p, q = torch.log_softmax(theirs.double(), -1), torch.log_softmax(ours.double(), -1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def test_prompts_are_tokenised_as_transformers_does(model: Model, peer_tokenizer: Any) -> None:
    for chat in CHATS:
        turns = [{"role": m.role, "content": m.content} for m in chat]
        theirs = peer_tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
        assert model.tokenizer.chat_prompt(chat) == list(theirs)


def test_logits_stay_close_to_fp32(model: Model, peer: Any) -> None:
    tokens = model.tokenizer.chat_prompt([Message("user", " ".join(QUESTIONS))])
    with torch.inference_mode():
        theirs = peer(torch.tensor([tokens])).logits[0]
    assert divergence(logits_of(model, tokens), theirs) < 0.01


@pytest.mark.slow
def test_greedy_answers_agree_with_transformers_in_most_tokens(model: Model, peer: Any) -> None:
    agreed = total = 0
    for question in QUESTIONS:
        prompt = model.tokenizer.chat_prompt([Message("user", question)])
        with torch.inference_mode():
            answer = peer.generate(torch.tensor([prompt]), max_new_tokens=24, do_sample=False)[0].tolist()
        # Teacher-forced, so that one early difference does not count for all that follows.
        ours = logits_of(model, answer[:-1]).argmax(-1).tolist()[len(prompt) - 1 :]
        agreed += sum(a == b for a, b in zip(ours, answer[len(prompt) :]))
        total += len(ours)
    assert total >= 20
    assert agreed / total >= 0.9


def test_an_adapter_of_peft_gives_pefts_logits(
    model: Model, peer: Any, peft_adapter: Callable[[int, int], Path], load_lora: Callable[[int, int], Lora]
) -> None:
    from peft import PeftModel

    tokens = model.tokenizer.encode("An adapter changes what the model says next, by a little or by a lot.")
    base = logits_of(model, tokens)
    with torch.inference_mode():
        plain = peer(torch.tensor([tokens])).logits[0]
        adapted = PeftModel.from_pretrained(peer, str(peft_adapter(8, 1))).eval()
        try:
            theirs = adapted(torch.tensor([tokens])).logits[0]
        finally:
            adapted.unload()
    ours = logits_of(model, tokens, (load_lora(8, 1),))
    moved = divergence(plain, theirs)
    assert moved > 0.05
    assert divergence(ours, theirs) < min(0.02, moved / 5)
    assert divergence(base, theirs) > moved / 2
