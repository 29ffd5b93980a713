"""When an answer ends and what of it may be shown: one rule for generating and for verifying.

In this order: a stop token ends it (its text is not shown); a stop string in the text ends it (the text before
it is the answer); a document that is complete by the request's schema ends it; `max_tokens` tokens end it.
"""

from collections.abc import Sequence

from openledger.kernels.engine.messages import StopReason
from openledger.kernels.model.tokenizer import ModelTokenizer, TextStream


class Answer:
    """Tokens in, text and the reason to stop out."""

    def __init__(
        self, tokenizer: ModelTokenizer, stop: Sequence[str], stop_tokens: Sequence[int], max_tokens: int
    ) -> None:
        self._stream = TextStream(tokenizer)
        self._stop = tuple(stop)
        self._stop_tokens = frozenset(stop_tokens)
        self._max_tokens = max_tokens
        self._count = 0
        self._shown = 0
        self.text = ""

    def push(self, token: int, complete: bool = False) -> tuple[str, StopReason | None]:
        """One more token, `complete` if it ends a document: the text that can be shown now, and why the answer ends here,
        if it does."""
        self._count += 1
        if token in self._stop_tokens:
            return self._end(self._stream.finish()), "stop"
        before = len(self.text)
        self.text += self._stream.push(token)
        if self._cut(before):
            return self._show(len(self.text)), "stop"
        if complete:
            return self._end(self._stream.finish()), "stop"
        if self._count >= self._max_tokens:
            return self._end(self._stream.finish()), "length"
        return self._show(len(self.text) - self._held()), None

    def _end(self, rest: str) -> str:
        self.text += rest
        return self._show(len(self.text))

    def _show(self, end: int) -> str:
        new = self.text[self._shown : end]
        self._shown = max(self._shown, end)
        return new

    def _cut(self, before: int) -> bool:
        """Cut the text at the first stop string that the newest text completes."""
        found = -1
        for stop in self._stop:
            at = self.text.find(stop, max(0, before - len(stop) + 1))
            if at >= 0 and (found < 0 or at < found):
                found = at
        if found < 0:
            return False
        self.text = self.text[:found]
        return True

    def _held(self) -> int:
        """How much of the end could still become a stop string."""
        longest = 0
        for stop in self._stop:
            for size in range(min(len(stop) - 1, len(self.text)), longest, -1):
                if self.text.endswith(stop[:size]):
                    longest = size
                    break
        return longest
