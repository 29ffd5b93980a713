"""Proofs for the precompiles `SPANS` and `SCORES`: what an index holds, shown under its committed roots."""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np

from openledger.evm_ext.proofs.openings import Openings, SpanMembership
from openledger.evm_ext.proofs.policy import AttributionPolicy
from openledger.evm_ext.proofs.scores import MAX_OPENED as MAX_VECTORS
from openledger.evm_ext.proofs.scores import ScoreMembership, VectorOpening
from openledger.evm_ext.proofs.span_statements import (
    MAX_OUTPUT_TOKENS,
    MAX_STATED,
    Absence,
    Account,
    BadText,
    HiddenHolder,
    HiddenMatch,
    SpanProof,
    StatedSpan,
    Unsorted,
)
from openledger.evm_ext.proofs.spans import CHUNK_RANKS, CHUNK_TOKENS, SENTINEL
from openledger.kernels.attribution.encoder import DIMENSION
from openledger.kernels.attribution.errors import BadRequest
from openledger.kernels.attribution.evidence import Span
from openledger.kernels.attribution.index import Index
from openledger.kernels.attribution.retrieval import SCALE_BITS
from openledger.kernels.attribution.spans import maximal_spans

MAX_HOLDER_CHUNKS = 256
"""Rank chunks opened to show who holds a span; a commoner span is shown by its edges and as many of its first."""


def prove_spans(index: Index, output_tokens: Sequence[int], start: int, end: int) -> SpanMembership:
    """What shows where output_tokens[start:end] stands: the ranks that hold it, the ranks beside them, and the text
    at the first, the last and both neighbours.

    If it stands nowhere, the two neighbours of its place in the order. Raises `BadRequest`.
    """
    if not 0 <= start < end <= len(output_tokens) or end - start > index.manifest.depth:
        raise BadRequest(f"[{start}, {end}) is not a span of 1 to {index.manifest.depth} tokens of the output")
    lo, hi = index.segment.interval(output_tokens, start, end)
    needed = _Needed(index)
    needed.interval(output_tokens[start:end], lo, hi, whole=True)
    if hi > lo:
        inside = range(lo // CHUNK_RANKS, (hi - 1) // CHUNK_RANKS + 1)
        needed.ranks.update(inside[:MAX_HOLDER_CHUNKS])
    return SpanMembership(*_opened(index, needed))


def prove_account(
    index: Index, output_tokens: Sequence[int], spans: Sequence[Span], policy: AttributionPolicy
) -> SpanProof:
    """The whole account of an answer in one index: where each span stands in it, by whom, and that nothing else does.

    `spans` are the maximal ones of all the release's indexes together; those that this index lacks are shown to be absent.
    The owners of a span are named while its ranks fit into `MAX_HOLDER_CHUNKS` chunks. Raises `BadRequest`.
    """
    segment, needed = index.segment, _Needed(index)
    output = tuple(output_tokens)
    if len(output) > MAX_OUTPUT_TOKENS or any(not 0 <= token < segment.vocab for token in output):
        raise BadRequest(f"an account is given of at most {MAX_OUTPUT_TOKENS:,} tokens of the vocabulary")
    stated = []
    for span in sorted(spans, key=lambda span: span.start):
        lo, hi = segment.interval(output, span.start, span.end)
        named = hi - lo <= MAX_HOLDER_CHUNKS * CHUNK_RANKS
        stated.append(StatedSpan(span.start, span.end, lo, hi, named))
        needed.interval(output[span.start : span.end], lo, hi)
        if named:
            needed.ranks.update(rank // CHUNK_RANKS for rank in range(lo, hi, CHUNK_RANKS))
            needed.ranks.update({(hi - 1) // CHUNK_RANKS} if hi > lo else ())
    absences = _absences(index, output, spans, policy.shortest_span)
    for absence in absences:
        needed.interval(output[absence.start : absence.end], absence.rank, absence.rank)
    if len(stated) > MAX_STATED or len(absences) > MAX_STATED:
        raise BadRequest(f"the answer needs {len(stated)} spans and {len(absences)} absences, {MAX_STATED} of each fit")
    return SpanProof(
        Account(policy.shortest_span, output, tuple(stated), tuple(absences)), Openings(*_opened(index, needed))
    )


def prove_hidden_match(
    index: Index, output_tokens: Sequence[int], spans: Sequence[tuple[int, int]], policy: AttributionPolicy
) -> SpanProof | None:
    """A match that an account with these spans leaves out, if there is one: the first."""
    output = tuple(output_tokens)
    for found in maximal_spans([index.segment], output, policy.shortest_span):
        if not any(start <= found.start and found.end <= end for start, end in spans):
            position = int(index.array[found.where[0].lo])
            needed = _Needed(index)
            needed.text(position, output[found.start : found.end])
            statement = HiddenMatch(policy.shortest_span, output, tuple(spans), position, found.start, found.end)
            return SpanProof(statement, Openings(*_opened(index, needed)))
    return None


def prove_hidden_holder(
    index: Index, output_tokens: Sequence[int], span: tuple[int, int], owners: Sequence[int]
) -> SpanProof | None:
    """A holder of the span output_tokens[start:end] who is not named, if there is one: the first by rank."""
    output, (start, end) = tuple(output_tokens), span
    for rank in range(*index.segment.interval(output, start, end)):
        position = int(index.array[rank])
        if int(index.owners[position // CHUNK_TOKENS]) not in owners:
            needed = _Needed(index)
            needed.text(position, output[start:end])
            return SpanProof(
                HiddenHolder(output, start, end, tuple(owners), position), Openings(*_opened(index, needed))
            )
    return None


def convict(index: Index) -> SpanProof | None:
    """What shows that an index is not its corpus's own, if it is not: the first rule of text, order or owners that it breaks.

    Reads all of it. Raises nothing: an index that cannot be convicted is the true one.
    """
    n, vocab = index.manifest.tokens, index.segment_header.vocab
    for chunk in range(n // CHUNK_TOKENS):
        following = [chunk + 1] if (chunk + 1) * CHUNK_TOKENS < n else []
        needed = _Needed(index)
        needed.texts.update((chunk, *following))
        tokens = index.tokens[chunk * CHUNK_TOKENS : (chunk + 1) * CHUNK_TOKENS]
        owner, after = int(index.owners[chunk]), int(index.owners[chunk + 1]) if following else None
        ended = int(tokens[-1]) == SENTINEL
        if (
            bool(((tokens >= vocab) & (tokens != SENTINEL)).any())
            or (after is None and not ended)
            or (after is not None and (after < owner or (after != owner and not ended)))
        ):
            return SpanProof(BadText(chunk), Openings(*_opened(index, needed)))
    for rank in range(n):
        here = int(index.array[rank])
        needed = _Needed(index)
        needed.ranks.update(r // CHUNK_RANKS for r in (rank - 1, rank) if r >= 0)
        before = int(index.array[rank - 1]) if rank else -1
        if here < n and before >= 0 and before != here:
            needed.order(before, here)
        proof = SpanProof(Unsorted(rank), Openings(*_opened(index, needed)))
        if here >= n or (rank and not _is_before(index, before, here)):
            return proof
    return None


def _is_before(index: Index, a: int, b: int) -> bool:
    depth = index.manifest.depth
    for x, y in zip(index.tokens[a : a + depth].tolist(), index.tokens[b : b + depth].tolist()):
        if x != y:
            return bool(x < y)
        if x == SENTINEL:
            break
    return a < b


def _absences(index: Index, output: Sequence[int], spans: Sequence[Span], shortest: int) -> list[Absence]:
    """Few windows that stand nowhere and leave no room for a match outside of the spans: see `span_statements.py`.

    From each token the first window that is absent ends one token after its longest match; the last such window that ends
    soon enough serves all the tokens before it.
    """
    segment = index.segment
    matches = [segment.longest_match(output, start) for start in range(len(output))]
    ends = [start + length for start, (length, _) in enumerate(matches)]
    ordered = sorted((span.start, span.end) for span in spans)
    absences: list[Absence] = []
    covered = known = start = 0
    while start < len(output):
        while known < len(ordered) and ordered[known][0] <= start:
            covered = ordered[known][1]
            known += 1
        end = max(start + shortest, covered + 1)
        if end > len(output):
            break
        if end - start > segment.depth:
            start += 1
            continue
        last = bisect_left(ends, end) - 1
        if last < start:
            raise BadRequest(f"the output has a match from token {start} on that none of the spans contains")
        absences.append(Absence(last, ends[last] + 1, matches[last][1]))
        start = last + 1
    return absences


class _Needed:
    """Chunks of an index that a verifier has to see."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.texts: set[int] = set()
        self.ranks: set[int] = set()

    def interval(self, pattern: Sequence[int], lo: int, hi: int, *, whole: bool = False) -> None:
        """What shows that a pattern begins the suffixes of ranks [lo, hi): their first, their last and both neighbours.
        `whole`: as many tokens of each as the pattern has, though the first would tell."""
        for rank in {lo - 1, lo, hi - 1, hi} if lo < hi else {lo - 1, hi}:
            if 0 <= rank < self._index.manifest.tokens:
                self.ranks.add(rank // CHUNK_RANKS)
                self.text(int(self._index.array[rank]), pattern, whole=whole)

    def text(self, position: int, pattern: Sequence[int], *, whole: bool = False) -> None:
        """The text from a position on, up to the first token that differs from the pattern."""
        tokens = self._index.tokens[position : position + len(pattern)]
        different = np.flatnonzero(tokens != np.asarray(pattern[: len(tokens)], np.int64))
        last = position + (len(tokens) - 1 if whole or not len(different) else int(different[0]))
        self.texts.update(range(position // CHUNK_TOKENS, last // CHUNK_TOKENS + 1))

    def order(self, a: int, b: int) -> None:
        """The texts from two positions on, as far as they are equal."""
        n = self._index.manifest.tokens
        for step in range(self._index.manifest.depth):
            if max(a, b) + step >= n:
                return
            self.texts.update(((a + step) // CHUNK_TOKENS, (b + step) // CHUNK_TOKENS))
            x, y = int(self._index.tokens[a + step]), int(self._index.tokens[b + step])
            if x != y or x == SENTINEL:
                return


def _opened(index: Index, needed: _Needed) -> tuple[Any, ...]:
    """The fields of `Openings`."""
    header = index.segment_header
    return (
        bytes.fromhex(index.manifest.corpus_root),
        (header.root,),
        0,
        header,
        {c: (int(index.owners[c]), _text_chunk(index, c)) for c in sorted(needed.texts)},
        {c: _rank_chunk(index, c) for c in sorted(needed.ranks)},
        index.text_tree.siblings(needed.texts) if needed.texts else (),
        index.rank_tree.siblings(needed.ranks) if needed.ranks else (),
    )


def prove_scores(index: Index, query_vector: bytes, chunks: Sequence[int]) -> ScoreMembership:
    """The vectors of these chunks under the index's retrieval root. Raises `BadRequest`."""
    entries = index.manifest.chunks
    if len(query_vector) != DIMENSION:
        raise BadRequest(f"a query vector has {DIMENSION} bytes, not {len(query_vector)}")
    if not 0 < len(set(chunks)) <= MAX_VECTORS or not all(0 <= c < len(entries) for c in chunks):
        raise BadRequest(f"name 1 to {MAX_VECTORS} chunks below {len(entries)}")
    tree = index.vector_tree
    return ScoreMembership(
        retrieval_root=bytes.fromhex(index.manifest.retrieval_root),
        count=tree.size,
        dimension=DIMENSION,
        scale_bits=SCALE_BITS,
        embedder_hash=bytes.fromhex(index.manifest.embedder_hash),
        tree_root=tree.root,
        query=query_vector,
        vectors={
            c: VectorOpening(entries[c].contribution, entries[c].offset, entries[c].length, index.vectors[c].tobytes())
            for c in sorted(set(chunks))
        },
        siblings=tree.siblings(chunks),
    )


def _text_chunk(index: Index, chunk: int) -> tuple[int, ...]:
    return tuple(index.tokens[chunk * CHUNK_TOKENS : (chunk + 1) * CHUNK_TOKENS].tolist())


def _rank_chunk(index: Index, chunk: int) -> tuple[tuple[int, int], ...]:
    positions = index.array[chunk * CHUNK_RANKS : (chunk + 1) * CHUNK_RANKS]
    owners = index.owners[positions // CHUNK_TOKENS]
    return tuple(zip(positions.tolist(), owners.tolist(), strict=True))
