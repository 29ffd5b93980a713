"""Answers to a fixed list of prompts, by one backend from the first step to the last: for comparing machines.

No queue, no streaming: the engine serves, this compares. What it gives depends on the prompts, the sampling and the seed
alone; `batch`, `chunk`, `page_tokens` and the backend only move the work.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from openledger.genesis.hashing import keccak256
from openledger.kernels.model.batch import Part, batch_of
from openledger.kernels.model.judge import POSITION, Judge, asked_row
from openledger.kernels.model.load import Model
from openledger.kernels.model.transformer import KvCache, Lora
from openledger.kernels.ops.fingerprint import chain_next, chain_start

DOMAIN: Final = b"openledger model run"


class PromptRefused(ValueError):
    """A prompt that this model cannot answer; the message says which and why."""


class NumericFault(ArithmeticError):
    """The model's numbers left the range of binary32 for a prompt."""


@dataclass(frozen=True)
class Draw:
    """How tokens are drawn: temperature in thousandths (0: the likeliest token), top-k (0: all), top-p and min-p in
    millionths, and 32 bytes of seed."""

    temperature_milli: int = 0
    top_k: int = 0
    top_p_ppm: int = 1_000_000
    min_p_ppm: int = 0
    seed: bytes = bytes(32)


@dataclass(frozen=True)
class Generated:
    """An answer: all tokens drawn (one that ends it included), their text, the fingerprint after the last, why it ends."""

    tokens: tuple[int, ...]
    text: str
    fingerprint: bytes
    stop_reason: Literal["stop", "length"]


@dataclass
class _Running:
    index: int
    tokens: list[int]
    prompt: int
    pages: Any
    asked: Any
    fingerprint: bytes
    computed: int = 0

    @property
    def to_compute(self) -> int:
        return len(self.tokens) - self.computed

    def part(self, count: int, adapters: tuple[Lora, ...]) -> Part:
        """Its next positions; logits are wanted of the last one there is."""
        first = self.computed
        logits = int(count == self.to_compute)
        return Part(self.tokens[first : first + count], first, self.pages, logits, adapters)


def request_hash(prompt: Sequence[int], draw: Draw) -> bytes:
    """What keys the fingerprint of an answer: keccak(domain | seed | tokens of the prompt as u32 little-endian)."""
    return keccak256(DOMAIN + draw.seed + struct.pack(f"<{len(prompt)}I", *prompt))


def generate(
    model: Model,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    draw: Draw = Draw(),
    batch: int = 8,
    chunk: int = 128,
    page_tokens: int = 16,
    adapters: tuple[Lora, ...] = (),
) -> list[Generated]:
    """The answer to each prompt, in their order. At most `batch` run at once; of a prompt, at most `chunk` tokens a step.

    Raises `PromptRefused`; `NumericFault`.
    """
    _check(model, prompts, max_tokens)
    per_sequence = -(-(max((len(prompt) for prompt in prompts), default=0) + max_tokens) // page_tokens)
    cache = KvCache(
        model.transformer.config, min(batch, len(prompts)) * per_sequence, page_tokens, model.transformer.steps
    )
    free = [np.arange(slot * per_sequence, (slot + 1) * per_sequence) for slot in range(min(batch, len(prompts)))]
    judge = Judge(model.transformer.steps)
    limits = (draw.temperature_milli, draw.top_k, draw.top_p_ppm, draw.min_p_ppm)
    waiting = list(enumerate(prompts))[::-1]
    running: list[_Running] = []
    done: dict[int, Generated] = {}
    while waiting or running:
        while waiting and free:
            index, prompt = waiting.pop()
            request = request_hash(prompt, draw)
            asked = asked_row(limits, draw.seed, request)
            running.append(_Running(index, list(prompt), len(prompt), free.pop(), asked, chain_start(request)))
        counts = [min(sequence.to_compute, chunk) for sequence in running]
        judged = [sequence for sequence, count in zip(running, counts) if count == sequence.to_compute]
        batch_now = batch_of([sequence.part(count, adapters) for sequence, count in zip(running, counts)], page_tokens)
        logits, faults = model.transformer.forward(batch_now, cache)
        asked_now = np.array([sequence.asked for sequence in judged])
        if judged:
            asked_now[:, POSITION] = [len(sequence.tokens) for sequence in judged]
        found = judge.outcome(logits, faults, batch_now.logit_rows, asked_now)
        _refuse_faults(running, counts, found.faults)
        for sequence, count in zip(running, counts):
            sequence.computed += count
        for sequence, token, value in zip(judged, found.tokens, found.hashes):
            sequence.tokens.append(token)
            sequence.fingerprint = chain_next(sequence.fingerprint, value, token)
            reason = _stop_reason(model, sequence, token, max_tokens)
            if reason is not None:
                answer = tuple(sequence.tokens[sequence.prompt :])
                text = model.tokenizer.decode(answer)
                done[sequence.index] = Generated(answer, text, sequence.fingerprint, reason)
                running.remove(sequence)
                free.append(sequence.pages)
    return [done[index] for index in range(len(prompts))]


def _stop_reason(model: Model, sequence: _Running, token: int, max_tokens: int) -> Literal["stop", "length"] | None:
    if token in model.tokenizer.end_tokens:
        return "stop"
    return "length" if len(sequence.tokens) - sequence.prompt >= max_tokens else None


def _refuse_faults(running: list[_Running], counts: list[int], faults: Any) -> None:
    row = 0
    for sequence, count in zip(running, counts):
        if faults[row : row + count].any():
            raise NumericFault(f"the model's numbers left the range of binary32 for prompt {sequence.index}")
        row += count


def _check(model: Model, prompts: Sequence[Sequence[int]], max_tokens: int) -> None:
    limit = model.transformer.max_context
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise PromptRefused(f"prompt {index} is empty")
        if len(prompt) + max_tokens > limit:
            raise PromptRefused(
                f"prompt {index} has {len(prompt)} tokens, which with {max_tokens} more do not fit the context of {limit}"
            )
