import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.kernels.attribution import spans as spans_module
from openledger.kernels.attribution.corpus import ContributionTokens, Corpus, lay_out
from openledger.kernels.attribution.spans import SegmentIndex, maximal_spans
from openledger.kernels.attribution.suffix_array import suffix_array

VOCAB = 4
corpora = st.lists(st.lists(st.lists(st.integers(0, 2), max_size=40), min_size=1, max_size=3), min_size=1, max_size=4)


def corpus_of(contributions: list[list[list[int]]], first_id: int = 10) -> Corpus:
    return lay_out((ContributionTokens(first_id + 3 * i, d) for i, d in enumerate(contributions)), VOCAB)


def index_of(corpus: Corpus, depth: int = 256) -> SegmentIndex:
    array = suffix_array(corpus.tokens, depth)
    return SegmentIndex(corpus.tokens, array, corpus.owners, corpus.counts(), depth)


def places(tokens: list[int], pattern: list[int]) -> list[int]:
    return [p for p in range(len(tokens)) if tokens[p : p + len(pattern)] == pattern]


def brute_spans(texts: list[list[int]], output: list[int], shortest: int, depth: int) -> list[tuple[int, int]]:
    found = []
    end = 0
    for start in range(len(output)):
        best = max(
            (
                length
                for length in range(1, min(depth, len(output) - start) + 1)
                if any(places(t, output[start : start + length]) for t in texts)
            ),
            default=0,
        )
        if start + best > end:
            end = start + best
            if best >= shortest:
                found.append((start, end))
    return found


@settings(max_examples=120, deadline=None)
@given(
    corpora,
    corpora,
    st.lists(st.integers(0, 3), max_size=24),
    st.integers(2, 6),
    st.sampled_from([8, 256]),
)
def test_maximal_spans_of_two_segments_are_those_of_brute_force(
    one: list[list[list[int]]], two: list[list[list[int]]], output: list[int], shortest: int, depth: int
) -> None:
    corpora = [corpus_of(c, first) for c, first in ((one, 10), (two, 100)) if any(any(d) for d in c)]
    segments = [index_of(c, depth) for c in corpora]
    texts = [c.tokens.tolist() for c in corpora]
    spans = maximal_spans(segments, output, shortest)
    assert [(s.start, s.end) for s in spans] == brute_spans(texts, output, shortest, depth)
    for span in spans:
        pattern = output[span.start : span.end]
        assert span.count == sum(len(places(t, pattern)) for t in texts)
        for where in span.where:
            corpus, segment = corpora[where.segment], segments[where.segment]
            assert sorted(segment.array[where.lo : where.hi].tolist()) == places(texts[where.segment], pattern)
            owners = {int(corpus.owners[p // 32]) for p in places(texts[where.segment], pattern)}
            itself = {int(o): int(o) for o in corpus.owners}
            assert segment.holders(where.lo, where.hi, itself, 64) == {o: o for o in owners}


@settings(max_examples=60, deadline=None)
@given(corpora, st.lists(st.integers(-1, 5), max_size=24), st.sampled_from([8, 256]))
def test_compiled_code_finds_the_same_matches(
    contributions: list[list[list[int]]], output: list[int], depth: int
) -> None:
    if not any(any(d) for d in contributions):
        return
    segment = index_of(corpus_of(contributions), depth)
    expected = segment.longest_matches(output)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans_module, "_MANY_TOKENS", 1)
        assert segment.longest_matches(output) == expected


@settings(max_examples=100, deadline=None)
@given(corpora, st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_an_interval_holds_exactly_the_occurrences(contributions: list[list[list[int]]], pattern: list[int]) -> None:
    if not any(any(d) for d in contributions):
        return
    corpus = corpus_of(contributions)
    segment = index_of(corpus)
    lo, hi = segment.interval(pattern, 0, len(pattern))
    assert sorted(segment.array[lo:hi].tolist()) == places(corpus.tokens.tolist(), pattern)


def test_a_long_answer_copied_from_a_document_is_found_in_pieces_of_the_depth() -> None:
    document = [(i * i + i // 7) % 3 for i in range(700)]
    segment = index_of(corpus_of([[document]]))
    spans = maximal_spans([segment], document, 6)
    assert spans[0].start == 0
    assert spans[0].end == 256
    covered = {i for s in spans for i in range(s.start, s.end)}
    assert covered == set(range(700))


def test_holders_count_contributors_once_and_name_their_lowest_contribution() -> None:
    corpus = corpus_of([[[1, 2, 0]] for _ in range(10)])
    segment = index_of(corpus)
    lo, hi = segment.interval([1, 2, 0], 0, 3)
    contributor_of = {10 + 3 * i: 7 if i % 2 else 8 for i in range(10)}
    assert segment.holders(lo, hi, contributor_of, 64) == {8: 10, 7: 13}


def test_tokens_outside_the_vocabulary_match_nothing() -> None:
    segment = index_of(corpus_of([[[1, 2, 1, 2, 1, 2, 1]]]))
    assert [(s.start, s.end) for s in maximal_spans([segment], [9, 1, 2, 1, 2, 1, 2, 2**31], 6)] == [(1, 7)]
    assert maximal_spans([], [1, 2, 3], 1) == ()
