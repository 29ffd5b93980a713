"""Which rows run in the next step: continuous batching with chunked prefill, and who gives way when there is no room.

**Who is next.** Of those that wait, the one with the highest priority; among equals the one whose payer has the fewest
running, or else was let in longest ago: a thousand requests of one payer delay another payer's by one place. For every
`PASSED_PER_PRIORITY` others that were let in before it, a sequence counts as one priority higher.

**Who gives way.** A sequence is let in when there are pages for what is known of it; pages for its answer are taken as it
grows. When none is left, the youngest of the lowest priority gives its pages back and waits again with its tokens and its
fingerprint: what it had computed is computed again, to the same bits, and no token is sampled twice. The first in rank
never gives way and fits alone, so something always gets done. A request of higher priority than one that runs takes its
place if there is no other.

**What runs.** Decoding sequences run every step; prompts fill what is left of the step, in order of rank, in smaller pieces
while somebody is waiting for the next token.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.kv_cache import PageAllocator
from openledger.kernels.engine.sequence import Sequence

MAX_LOGIT_ROWS: Final = 64
"""Rows whose logits one sequence may ask for in a step: bounds memory when verifying."""

_LEAST_PROMPT: Final = 16
"""Positions of prompts that a step takes at least."""


@dataclass
class Scheduler:
    config: EngineConfig
    pages: PageAllocator
    place: Callable[[Sequence], bool] = lambda sequence: True
    """Puts a sequence's adapters where they are computed with; False while there is no room for them."""
    leave: Callable[[Sequence], None] = lambda sequence: None
    """Lets them go: only what runs may keep others from having room."""
    waiting: list[Sequence] = field(default_factory=list)
    running: list[Sequence] = field(default_factory=list)
    turns: dict[bytes, int] = field(default_factory=dict)
    """When each payer with requests here was last let in, as a growing number."""
    arrivals: int = 0
    reused: int = 0
    """Positions that did not have to be computed, because a prompt began as another one had."""
    preempted: int = 0
    """How often a sequence gave way."""

    def add(self, sequence: Sequence) -> None:
        self.arrivals += 1
        sequence.arrived = self.arrivals
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, wherever it is, and take its pages back."""
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        if all(other.payer != sequence.payer for other in (*self.running, *self.waiting)):
            self.turns.pop(sequence.payer, None)
        self._take_pages(sequence)

    def plan(self) -> list[tuple[Sequence, int]]:
        """The sequences of the next step and how many positions each runs; those that share adapters together."""
        self._admit()
        ranked = sorted(self.running, key=lambda sequence: sequence.rank)
        rows = [(sequence, 1) for sequence in ranked if sequence.decoding and self._grow(sequence)]
        room = self.config.max_step_tokens
        if rows:
            # Never nothing: however many decode, prompts go on.
            room = max(min(room, max(room // 4, 32)) - len(rows), min(room, _LEAST_PROMPT))
        logit_room = 4 * MAX_LOGIT_ROWS
        for sequence in ranked:
            if sequence.pages is None or sequence.decoding or room <= 0:
                continue
            count = min(sequence.to_compute, room)
            if sequence.forced:
                before = max(0, sequence.prompt_length - 1 + sequence.judged - sequence.computed)
                count = min(count, before + min(MAX_LOGIT_ROWS, logit_room))
                logit_room -= max(0, count - before)
            if count > 0:
                rows.append((sequence, count))
                room -= count
        return sorted(rows, key=lambda row: row[0].adapter_key)

    def _grow(self, sequence: Sequence) -> bool:
        """A page for its next position, if it needs one. False if it gave way itself. Whoever gives way ranks behind it, so
        has not been planned yet."""
        while sequence.pages is not None and len(sequence.pages) < self.pages.needed(sequence.computed + 1):
            taken = self.pages.take(1)
            if taken is None:
                self._preempt(self._last())
            else:
                sequence.pages = np.append(sequence.pages, taken[0])
        return sequence.pages is not None

    def _admit(self) -> None:
        without_room: list[Sequence] = []
        while len(without_room) < len(self.waiting):
            sequence = self._next(without_room)
            if not self.place(sequence):
                if sequence.passed >= self.config.max_batch:
                    # Others went before it often enough: what they hold becomes free when they end.
                    return
                without_room.append(sequence)
                continue
            if not self._make_room(sequence):
                self.leave(sequence)
                return
            self.waiting.remove(sequence)
            self.running.append(sequence)
            self.turns[sequence.payer] = max(self.turns.values(), default=0) + 1
            for other in self.waiting:
                other.passed += 1

    def _make_room(self, sequence: Sequence) -> bool:
        """Pages for all that is known of it and a place in the batch. Whoever runs keeps a page each to grow by; only those
        of lower priority are sent away."""
        lower = [other for other in self.running if -other.rank[0] < sequence.priority]
        tokens = len(sequence.tokens)
        if lower and self.pages.needed(tokens) > self.pages.free + sum(len(other.pages) for other in lower):
            lower = []
        while True:
            grow = sum(not other.forced for other in self.running)
            if len(self.running) < self.config.max_batch:
                taken = self.pages.take(tokens, self._prefix(sequence), spare=grow)
                if taken is not None:
                    pages, found = taken
                    sequence.pages = np.array(pages, np.int64)
                    sequence.computed = found * self.pages.page_tokens
                    self.reused += sequence.computed
                    return True
            if not lower:
                return False
            lower.remove(last := max(lower, key=lambda other: other.rank))
            self._preempt(last)

    def _preempt(self, sequence: Sequence) -> None:
        """Take its pages; it waits until there is room to compute again what it had."""
        self.preempted += 1
        self.leave(sequence)
        self._take_pages(sequence)
        sequence.computed = 0
        self.running.remove(sequence)
        self.waiting.append(sequence)

    def _take_pages(self, sequence: Sequence) -> None:
        if sequence.pages is not None:
            self.pages.give_back(sequence.pages.tolist())
            sequence.pages = None

    def _last(self) -> Sequence:
        return max(self.running, key=lambda sequence: sequence.rank)

    def _next(self, without_room: list[Sequence]) -> Sequence:
        running = Counter(sequence.payer for sequence in self.running)

        def place(sequence: Sequence) -> tuple[int, int, int, int]:
            level, arrived = sequence.rank
            return level, running[sequence.payer], self.turns.get(sequence.payer, 0), arrived

        return min((each for each in self.waiting if each not in without_room), key=place)

    def _prefix(self, sequence: Sequence) -> list[bytes]:
        """Keys of the pages that another sequence may have filled. Its last token always runs, as its logits are
        wanted; and who checks an answer computes all of it."""
        if sequence.forced or not self.pages.keeps:
            return []
        page_tokens = self.pages.page_tokens
        return sequence.keys_of_pages((len(sequence.tokens) - 1) // page_tokens, page_tokens)

    def keep(self, sequence: Sequence, count: int) -> None:
        """The last `count` computed positions are in the cache: pages that are full now may serve others."""
        if sequence.forced or not self.pages.keeps:
            return
        page_tokens = self.pages.page_tokens
        first, end = (sequence.computed - count) // page_tokens, sequence.computed // page_tokens
        for page, key in zip(sequence.pages[first:end].tolist(), sequence.keys_of_pages(end, page_tokens)[first:]):
            self.pages.keep(page, key)
