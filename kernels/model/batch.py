"""What a step computes, put together from parts of sequences: one place for the engine and for `generate`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openledger.kernels.model.transformer import Batch, Lora, Segment


@dataclass(frozen=True)
class Part:
    """The next positions of one sequence: `tokens` from position `first` on, in `pages` (int64 array, pages of the whole
    sequence in order). Of the last `logits` of them, logits are wanted."""

    tokens: Sequence[int]
    first: int
    pages: Any
    logits: int
    adapters: tuple[Lora, ...] = ()


def batch_of(parts: Sequence[Part], page_tokens: int) -> Batch:
    """One step for these parts, in their order; neighbours with the same adapters share a segment."""
    counts = np.array([len(part.tokens) for part in parts])
    starts = np.cumsum(counts) - counts
    rows = int(counts.sum())
    tables = np.zeros((len(parts), max(len(part.pages) for part in parts)), np.int64)
    tokens = np.empty(rows, np.int64)
    segments: list[Segment] = []
    for index, (part, start, count) in enumerate(zip(parts, starts.tolist(), counts.tolist())):
        tables[index, : len(part.pages)] = part.pages
        tokens[start : start + count] = part.tokens
        if part.adapters:
            last = segments[-1] if segments else None
            if last is not None and last.last == start and _same(last.adapters, part.adapters):
                segments[-1] = Segment(last.first, start + count, last.adapters)
            else:
                segments.append(Segment(start, start + count, part.adapters))
    sequences = np.repeat(np.arange(len(parts)), counts)
    positions = np.arange(rows) + np.repeat(np.array([part.first for part in parts]) - starts, counts)
    slots = tables[sequences, positions // page_tokens] * page_tokens + positions % page_tokens
    before = np.maximum(positions - 1, 0)
    previous = tables[sequences, before // page_tokens] * page_tokens + before % page_tokens
    previous[positions == 0] = -1
    wanted = np.array([part.logits for part in parts])
    logit_rows = np.arange(int(wanted.sum())) + np.repeat(starts + counts - np.cumsum(wanted), wanted)
    return Batch(tokens, positions, slots, previous, sequences, tables, logit_rows, segments)


def _same(left: tuple[Lora, ...], right: tuple[Lora, ...]) -> bool:
    return len(left) == len(right) and all(one is other for one, other in zip(left, right))
