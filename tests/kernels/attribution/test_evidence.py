"""Evidence as bytes: read back exactly, and nothing else is taken for it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.evm_ext.proofs.policy import AttributionPolicy, InvalidPolicy
from openledger.kernels.attribution.attribute import attribute, retrieve
from openledger.kernels.attribution.evidence import (
    Evidence,
    IndexRoots,
    InvalidEvidence,
    Occurrences,
    RetrievalEvidence,
    ScoredChunk,
    Span,
    SpanEvidence,
    decode_evidence,
)
from openledger.kernels.attribution.index import Index

from .conftest import WordTokenizer

u16, u32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
roots = st.binary(min_size=32, max_size=32)


@st.composite
def evidences(draw: st.DrawFn) -> Evidence:
    indexes = draw(st.lists(st.builds(IndexRoots, u32, u32, roots, roots), max_size=3))
    place = st.integers(0, max(len(indexes) - 1, 0))
    spans = []
    for _ in range(draw(st.integers(0, 4)) if indexes else 0):
        start, length, low = draw(u16), draw(st.integers(1, 256)), draw(u16)
        where = Occurrences(draw(place), low, low + length)
        holders = draw(st.lists(st.tuples(u32, u32), max_size=3))
        spans.append(
            SpanEvidence(Span(start, start + length, (where,)), draw(st.integers(0, 2**64 - 1)), tuple(holders))
        )
    retrieval = None
    if indexes and draw(st.booleans()):
        chunks = draw(st.lists(st.builds(ScoredChunk, place, u32, st.integers(-(2**31), 2**31 - 1)), max_size=4))
        vector = draw(st.binary(min_size=384, max_size=384))
        retrieval = RetrievalEvidence(tuple(draw(roots) for _ in indexes), vector, 4, -7, tuple(chunks))
    entries = draw(st.sampled_from([(), ((3, 10_000),), ((1, 4_000), (9, 6_000))]))
    policy = AttributionPolicy(top=draw(st.integers(1, 16)))
    return Evidence(policy, tuple(indexes), tuple(spans), retrieval, entries)


@given(evidences())
@settings(max_examples=60, deadline=None)
def test_evidence_comes_back_and_no_part_of_it_does(evidence: Evidence) -> None:
    data = evidence.encode()
    assert decode_evidence(data) == evidence
    for cut in (1, len(data) // 2, len(data) - 1):
        with pytest.raises(InvalidEvidence):
            decode_evidence(data[:cut])
    with pytest.raises(InvalidEvidence, match="follow the end"):
        decode_evidence(data + b"\0")


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_other_bytes_are_refused_or_say_the_same_again(data: bytes) -> None:
    try:
        evidence = decode_evidence(b"\0" + AttributionPolicy().encode() + data)
    except InvalidEvidence:
        return
    assert decode_evidence(evidence.encode()) == evidence


def test_what_attribution_writes_is_read(index: Index, words: WordTokenizer) -> None:
    tokens = words.encode("Well: Ambergris is soft, waxy, and so highly fragrant and that is called blubber")
    retrieval = retrieve([index], index.vectors[0].tobytes(), 3, 0)
    found = attribute([index], tokens, retrieval, AttributionPolicy())
    evidence = decode_evidence(found.evidence)
    assert (evidence.spans, evidence.vector, evidence.policy) == (found.spans, found.vector, AttributionPolicy())
    assert evidence.retrieval is not None
    assert retrieval.chunks
    assert evidence.retrieval.hash == found.retrieval_hash
    assert [c.score for c in evidence.retrieval.chunks] == [c.score for c in retrieval.chunks]


def test_a_policy_comes_back() -> None:
    policy = AttributionPolicy(400_000, 400_000, 200_000, 7, 8, 9, 10, 11)
    assert AttributionPolicy.decode(policy.encode()) == policy
    for bad in (b"", bytes(25), policy.encode()[:-1], policy.encode()[:-2] + b"\xff\xff"):
        with pytest.raises(InvalidPolicy):
            AttributionPolicy.decode(bad)
