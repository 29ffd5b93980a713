"""One request on its way through the engine."""

from dataclasses import dataclass, field
from typing import Any, Final

from openledger.kernels.engine.answer import Answer
from openledger.kernels.engine.constraint import Constraint
from openledger.kernels.engine.kv_cache import prefix_next, prefix_start
from openledger.kernels.engine.messages import Generate, Likelihood, Verify
from openledger.kernels.model.judge import asked_row
from openledger.kernels.model.transformer import Lora
from openledger.kernels.ops.fingerprint import chain_next, chain_start

PASSED_PER_PRIORITY: Final = 16
"""Others let in before a sequence that waits is worth one priority more."""


@dataclass(eq=False)
class Sequence:
    """`tokens` are the prompt and what follows it: sampled so far, or, for a verification, what is claimed.

    `computed`: positions whose keys and values are in the cache. `judged`: output tokens sampled or checked; a sequence
    that lost its pages computes its positions again, but judges none of them twice. `arrived`: its number in the order of
    arrival. `passed`: how many others were let in while it waited.
    `constraint`: its schema and how far the document is.
    `page_keys`: the cache's keys of its first pages, as far as they were needed.
    """

    request: Generate | Verify
    tokens: list[int]
    answer: Answer
    adapters: tuple[Lora, ...] = ()
    adapter_key: tuple[bytes, ...] = ()
    pages: Any = None
    computed: int = 0
    judged: int = 0
    arrived: int = 0
    passed: int = 0
    fingerprint: bytes = b""
    likelihoods: list[Likelihood] = field(default_factory=list, repr=False)
    page_keys: list[bytes] = field(default_factory=list, repr=False)
    asked: Any = field(default=None, repr=False)
    constraint: Constraint | None = field(default=None, repr=False)

    @property
    def prompt_length(self) -> int:
        return len(self.request.prompt_tokens)

    @property
    def payer(self) -> bytes:
        """Who pays for it; whoever checks an answer has no name."""
        return self.request.payer if isinstance(self.request, Generate) else b""

    @property
    def priority(self) -> int:
        """What it asked for; whoever checks an answer asks for nothing."""
        return self.request.priority if isinstance(self.request, Generate) else 0

    @property
    def rank(self) -> tuple[int, int]:
        """The order of giving way: the last one gives way first. Who was often passed over rises, so nobody waits for ever."""
        return -self.priority - self.passed // PASSED_PER_PRIORITY, self.arrived

    @property
    def forced(self) -> bool:
        """Whether the output is given, to be checked."""
        return isinstance(self.request, Verify)

    @property
    def to_compute(self) -> int:
        """Positions that still have to run before the next token can be sampled. The last output token of a
        verification never runs: nothing is sampled from it."""
        return len(self.tokens) - self.computed - (1 if self.forced else 0)

    @property
    def decoding(self) -> bool:
        """Whether the next step is a single new token."""
        return not self.forced and self.judged > 0 and self.to_compute == 1

    def logit_positions(self, count: int) -> range:
        """Of the next `count` positions, those whose logits are needed."""
        first = max(self.computed, self.prompt_length - 1 + self.judged)
        end = self.computed + count
        return range(min(first, end), end)

    def asks(self) -> Any:
        """What is drawn from its next row of logits, as `model/judge.py` takes it."""
        if self.asked is None:
            request, sampling = self.request, self.request.sampling
            limits = (sampling.temperature_milli, sampling.top_k, sampling.top_p_ppm, sampling.min_p_ppm)
            self.asked = asked_row(limits, request.seed, request.request_hash)
            self.fingerprint = chain_start(request.request_hash)
        return self.asked

    @property
    def complete(self) -> bool:
        """Whether the last judged token ended the document."""
        return self.constraint is not None and self.constraint.ended == self.judged

    def masks(self, count: int) -> list[Any]:
        """What may be drawn from its next `count` rows of logits; none without a schema. Of an answer that is checked, each
        mask follows from the tokens that are claimed before it."""
        if self.constraint is None:
            return []
        masks = []
        for index in range(self.judged, self.judged + count):
            masks.append(self.constraint.mask())
            if isinstance(self.request, Verify):
                self.constraint.take(self.request.output_tokens[index])
                if not _allows(masks[-1], self.request.output_tokens[index]):
                    break
        return masks

    def drawn(self, token: int, logits_hash: int) -> None:
        """One more link of the fingerprint."""
        self.fingerprint = chain_next(self.fingerprint, logits_hash, token)
        self.judged += 1
        if self.constraint is not None and not self.forced:
            self.constraint.take(token)

    def keys_of_pages(self, count: int, page_tokens: int) -> list[bytes]:
        """The keys of its first `count` pages, all of whose tokens are known."""
        assert isinstance(self.request, Generate)
        while len(self.page_keys) < count:
            first = len(self.page_keys) * page_tokens
            before = self.page_keys[-1] if first else prefix_start(self.adapter_key, self.request.cache_salt)
            self.page_keys.append(prefix_next(before, self.tokens[first : first + page_tokens]))
        return self.page_keys[:count]


def _allows(mask: Any, token: int) -> bool:
    return bool(mask[token >> 5] >> (token & 31) & 1)
