"""Answers to a fixed list of prompts, by one backend from the first step to the last: for comparing machines.

No queue, no streaming: the engine serves, this compares. What it gives depends on the prompts, the sampling and the seed
alone; `batch`, `chunk`, `page_tokens` and the backend only move the work.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import torch

from openledger.genesis.hashing import keccak256
from openledger.genesis.tables import EXP, load_table
from openledger.kernels.model.load import Model
from openledger.kernels.model.transformer import Batch, KvCache, Lora, Segment
from openledger.kernels.ops.fingerprint import chain_next, chain_start
from openledger.kernels.ops.random import words

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
    request: bytes
    fingerprint: bytes
    computed: int = 0

    @property
    def to_compute(self) -> int:
        return len(self.tokens) - self.computed


@dataclass
class _Rows:
    """The rows of one step, as they are put together."""

    tokens: list[int] = field(default_factory=list)
    positions: list[Any] = field(default_factory=list)
    slots: list[Any] = field(default_factory=list)
    previous: list[Any] = field(default_factory=list)
    sequences: list[Any] = field(default_factory=list)
    tables: list[Any] = field(default_factory=list)
    logit_rows: list[int] = field(default_factory=list)

    def add(self, sequence: _Running, count: int, page: int) -> None:
        first = sequence.computed
        positions = np.arange(first - 1, first + count)
        slots = np.where(positions >= 0, sequence.pages[positions // page] * page + positions % page, -1)
        self.sequences.append(np.full(count, len(self.tables)))
        self.tokens += sequence.tokens[first : first + count]
        self.positions.append(positions[1:])
        self.slots.append(slots[1:])
        self.previous.append(slots[:-1])
        self.tables.append(sequence.pages)
        if count == sequence.to_compute:
            self.logit_rows.append(len(self.tokens) - 1)

    def batch(self, adapters: tuple[Lora, ...]) -> Batch:
        return Batch(
            np.array(self.tokens, np.int64), np.concatenate(self.positions), np.concatenate(self.slots),
            np.concatenate(self.previous), np.concatenate(self.sequences), np.stack(self.tables),
            np.array(self.logit_rows, np.int64), [Segment(0, len(self.tokens), adapters)] if adapters else [],
        )  # fmt: skip


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
    cache = KvCache(model.config, min(batch, len(prompts)) * per_sequence, page_tokens, model.transformer.steps)
    free = [np.arange(slot * per_sequence, (slot + 1) * per_sequence) for slot in range(min(batch, len(prompts)))]
    exp = model.transformer.steps.array(torch.from_numpy(np.frombuffer(load_table(EXP), "<u4").astype(np.int64)))
    waiting = list(enumerate(prompts))[::-1]
    running: list[_Running] = []
    done: dict[int, Generated] = {}
    while waiting or running:
        while waiting and free:
            index, prompt = waiting.pop()
            request = request_hash(prompt, draw)
            running.append(_Running(index, list(prompt), len(prompt), free.pop(), request, chain_start(request)))
        rows = _Rows()
        counts = [min(sequence.to_compute, chunk) for sequence in running]
        judged = [sequence for sequence, count in zip(running, counts) if count == sequence.to_compute]
        for sequence, count in zip(running, counts):
            rows.add(sequence, count, page_tokens)
        logits, faults = model.transformer.forward(rows.batch(adapters), cache)
        _refuse_faults(running, counts, faults.cpu().numpy())
        for sequence, count in zip(running, counts):
            sequence.computed += count
        if not judged:
            continue
        for sequence, token, value in zip(judged, *_judge(model, logits, judged, draw, exp)):
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


def _judge(
    model: Model, logits: torch.Tensor, judged: list[_Running], draw: Draw, exp: Any
) -> tuple[list[int], list[int]]:
    """The next token of each sequence and the hash of its logits."""
    steps = model.transformer.steps

    def array(rows: list[Any]) -> Any:
        return steps.array(torch.tensor(rows, dtype=torch.int64))

    limits = (draw.temperature_milli, draw.top_k, draw.top_p_ppm, draw.min_p_ppm)
    settings = array([(*limits, len(sequence.tokens)) for sequence in judged])
    seeds = array([words(draw.seed)[:4]] * len(judged))
    requests = array([words(sequence.request)[:4] for sequence in judged])
    values = steps.array(logits)
    tokens = steps.sample(values, settings, seeds, exp).tolist()
    return tokens, [value % 2**64 for value in steps.hash_rows(values, requests).tolist()]


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
