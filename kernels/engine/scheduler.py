"""Which rows run in the next step: continuous batching with chunked prefill.

Of those that wait, the first one is next whose payer has the fewest running, or else was let in longest ago: a thousand
requests of one payer delay another payer's by one place. A sequence is admitted when pages for its prompt and its longest answer are free, so a running one never has to
give pages back. Decoding sequences run every step; prompts fill what is left of the step in order of arrival, in
smaller pieces while somebody is waiting for the next token.
"""

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.kv_cache import PageAllocator
from openledger.kernels.engine.sequence import Sequence

MAX_LOGIT_ROWS: Final = 64
"""Rows whose logits one sequence may ask for in a step: bounds memory when verifying."""


@dataclass
class Scheduler:
    config: EngineConfig
    pages: PageAllocator
    waiting: deque[Sequence] = field(default_factory=deque)
    running: list[Sequence] = field(default_factory=list)
    turns: dict[bytes, int] = field(default_factory=dict)
    """When each payer with requests here was last let in, as a growing number."""
    reused: int = 0
    """Positions that did not have to be computed, because a prompt began as another one had."""

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, wherever it is, and take its pages back."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        if all(other.payer != sequence.payer for other in (*self.running, *self.waiting)):
            self.turns.pop(sequence.payer, None)
        if sequence.pages is not None:
            self.pages.give_back(sequence.pages.tolist())
            sequence.pages = None

    def plan(self) -> list[tuple[Sequence, int]]:
        """The sequences of the next step and how many positions each runs; those that share adapters together."""
        self._admit()
        rows = [(sequence, 1) for sequence in self.running if sequence.decoding]
        room = self.config.max_step_tokens
        if rows:
            room = max(room // 4, 32)
        room -= len(rows)
        logit_room = 4 * MAX_LOGIT_ROWS
        for sequence in self.running:
            if sequence.decoding or room <= 0:
                continue
            count = min(sequence.to_compute, room)
            if sequence.forced:
                before = max(0, sequence.prompt_length - 1 - sequence.computed)
                count = min(count, before + min(MAX_LOGIT_ROWS, logit_room))
                logit_room -= max(0, count - before)
            if count > 0:
                rows.append((sequence, count))
                room -= count
        return sorted(rows, key=lambda row: row[0].adapter_key)

    def _admit(self) -> None:
        while self.waiting and len(self.running) < self.config.max_batch:
            sequence = self._next()
            positions = sequence.prompt_length + sequence.request.max_tokens
            if sequence.forced:
                positions = len(sequence.tokens)
            taken = self.pages.take(positions, self._prefix(sequence))
            if taken is None:
                return
            pages, found = taken
            sequence.pages = np.array(pages, np.int64)
            sequence.computed = found * self.pages.page_tokens
            self.reused += sequence.computed
            self.waiting.remove(sequence)
            self.running.append(sequence)
            self.turns[sequence.payer] = max(self.turns.values(), default=0) + 1

    def _next(self) -> Sequence:
        running = Counter(sequence.payer for sequence in self.running)
        return min(self.waiting, key=lambda sequence: (running[sequence.payer], self.turns.get(sequence.payer, 0)))

    def _prefix(self, sequence: Sequence) -> list[bytes]:
        """Keys of the pages that another sequence may have filled. Its last token always runs, as its logits are
        wanted; and who checks an answer computes all of it."""
        if sequence.forced or not self.pages.keeps:
            return []
        page_tokens = self.pages.page_tokens
        return sequence.keys_of_pages((sequence.prompt_length - 1) // page_tokens, page_tokens)

    def keep(self, sequence: Sequence, count: int) -> None:
        """The last `count` computed positions are in the cache: pages that are full now may serve others."""
        if sequence.forced or not self.pages.keeps:
            return
        page_tokens = self.pages.page_tokens
        first, end = (sequence.computed - count) // page_tokens, sequence.computed // page_tokens
        for page, key in zip(sequence.pages[first:end].tolist(), sequence.keys_of_pages(end, page_tokens)[first:]):
            self.pages.keep(page, key)
