"""Spans: which parts of an answer stand in the data, word for word, and who holds them.

The longest match at an output position stands, in a sorted suffix array, beside the place where the rest of the
output would be inserted; so one binary search finds it. A span is maximal if its end exceeds every end before it.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from openledger.evm_ext.proofs.spans import CHUNK_TOKENS
from openledger.kernels.attribution.corpus import DEPTH, Tokens
from openledger.kernels.attribution.evidence import Occurrences, Span

_HOLDER_BLOCK = 1 << 14
_MANY_TOKENS = 1 << 20
"""From so many on, looking is left to compiled code: the process that serves a large index has it in memory anyway."""


class SegmentIndex:
    """A sorted segment to search in. Arrays may be memory-mapped; `counts` are the corpus's token counts."""

    def __init__(
        self, tokens: Tokens, array: Tokens, owners: Tokens, counts: NDArray[np.int64], depth: int = DEPTH
    ) -> None:
        self.tokens, self.array, self.owners, self.depth = tokens, array, owners, depth
        self.vocab = len(counts)
        # first[t]: rank of the first suffix that begins with a token >= t.
        self._first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        # Indexing a memoryview yields plain ints at a third of the cost of indexing numpy.
        self._text = tokens.data
        self._array = array.data

    def longest_match(self, output: Sequence[int], start: int) -> tuple[int, int]:
        """(length, rank): the longest match of output[start:] of at most `depth` tokens, and its insertion rank."""
        low, high = self._bucket(output[start])
        if low == high:
            return 0, low
        limit = min(self.depth, len(output) - start)
        rank, before, after = self._insert(output, start, limit, low, high)
        return max(before, after), rank

    def longest_matches(self, output: Sequence[int]) -> list[int]:
        """The length of the longest match from every token of the output on."""
        if len(self.tokens) < _MANY_TOKENS:
            return [self.longest_match(output, start)[0] for start in range(len(output))]
        from openledger.kernels.attribution.compiled import longest_matches

        lengths = np.empty(len(output), np.int64)
        longest_matches(self.tokens, self.array, self._first, np.asarray(output, np.int64), self.depth, lengths)
        return [int(length) for length in lengths]

    def interval(self, output: Sequence[int], start: int, end: int) -> tuple[int, int]:
        """[lo, hi): the ranks of the suffixes that begin with output[start:end]; lo == hi where none does."""
        low, high = self._bucket(output[start])
        length = end - start
        if length > self.depth:
            raise ValueError(f"a span has at most {self.depth} tokens, not {length}")
        first = self._insert(output, start, length, low, high)[0]
        # Gallop, then search: most spans have few occurrences in a large bucket.
        known, step = first, 1
        while known + step <= high and self._begins(output, start, length, known + step - 1):
            known += step
            step *= 2
        last = min(known + step - 1, high)
        while known < last:
            middle = (known + last) >> 1
            if self._begins(output, start, length, middle):
                known = middle + 1
            else:
                last = middle
        return first, known

    def holders(self, low: int, high: int, contributor_of: Mapping[int, int], most: int) -> dict[int, int]:
        """contributor -> its lowest contribution among the ranks [low, high); stops beyond `most` contributors."""
        found: dict[int, int] = {}
        for at in range(low, high, _HOLDER_BLOCK):
            positions = np.asarray(self.array[at : min(high, at + _HOLDER_BLOCK)])
            for contribution in np.unique(self.owners[positions // CHUNK_TOKENS]).tolist():
                contributor = contributor_of[contribution]
                found[contributor] = min(found.get(contributor, contribution), contribution)
            if len(found) > most:
                break
        return found

    def _bucket(self, token: int) -> tuple[int, int]:
        """The ranks of the suffixes that begin with a token."""
        if not 0 <= token < self.vocab:
            return 0, 0
        return int(self._first[token]), int(self._first[token + 1])

    def _insert(self, output: Sequence[int], start: int, length: int, low: int, high: int) -> tuple[int, int, int]:
        """(rank, before, after): the first rank in the bucket [low, high) whose suffix is not less than
        output[start:start+length], and the common prefixes with the ranks on both sides of it."""
        text, array = self._text, self._array
        # What lies outside the bucket shares no token; inside every suffix shares the first.
        before = after = 0
        while low < high:
            middle = (low + high) >> 1
            position = array[middle]
            common = max(1, min(before, after))
            while common < length and text[position + common] == output[start + common]:
                common += 1
            if common < length and text[position + common] < output[start + common]:
                low, before = middle + 1, common
            else:
                high, after = middle, common
        return low, before, after

    def _begins(self, output: Sequence[int], start: int, length: int, rank: int) -> bool:
        position = self._array[rank]
        text = self._text
        return all(text[position + j] == output[start + j] for j in range(length))


def maximal_spans(segments: Sequence[SegmentIndex], output: Sequence[int], shortest: int) -> tuple[Span, ...]:
    """The maximal spans of at least `shortest` tokens of an output in all segments together, by start.

    Exact: a span is found exactly if it occurs in some segment and no longer span around it does. Spans of `depth`
    tokens need not be maximal.
    """
    output = list(output)
    spans = []
    end = 0
    matches = [segment.longest_matches(output) for segment in segments]
    for start, length in enumerate(map(max, zip(*matches, strict=True))):
        if start + length <= end:
            continue
        end = start + length
        if length >= shortest:
            intervals = ((i, *s.interval(output, start, end)) for i, s in enumerate(segments))
            spans.append(Span(start, end, tuple(Occurrences(i, lo, hi) for i, lo, hi in intervals if lo < hi)))
    return tuple(spans)
