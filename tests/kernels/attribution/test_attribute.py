import dataclasses
from pathlib import Path

import numpy as np
import pytest

from openledger.evm_ext.proofs.merkle import InvalidProof
from openledger.evm_ext.proofs.openings import SpanMembership
from openledger.evm_ext.proofs.policy import AttributionPolicy
from openledger.evm_ext.proofs.scores import ScoreMembership
from openledger.kernels.attribution.attribute import attribute, retrieve
from openledger.kernels.attribution.corpus import information_of
from openledger.kernels.attribution.errors import BadRequest, IndexDamaged, IndexMissing
from openledger.kernels.attribution.index import MANIFEST, Index, build_index
from openledger.kernels.attribution.prover import prove_scores, prove_spans
from openledger.kernels.attribution.retrieval import passage

from .conftest import AMBER, BREAD, WHALE, HashEncoder, WordTokenizer, source

ANSWER = "Well: Ambergris is soft, waxy, and so highly fragrant and that is called blubber, and it is something"


def test_words_of_two_holders_are_shared_and_of_one_are_not(index: Index, words: WordTokenizer) -> None:
    result = attribute([index], words.encode(ANSWER), None, AttributionPolicy())
    assert [(e.span.start, e.span.end, e.span.count) for e in result.spans] == [(1, 10, 2), (11, 18, 1)]
    shared, single = result.spans
    assert shared.holders == ((1, 9), (2, 7))
    assert single.holders == ((1, 5),)
    tokens = words.encode(ANSWER)
    counts, total = index.counts, int(index.counts.sum())
    assert shared.worth == sum(information_of(int(counts[t]), total) for t in tokens[1:10])
    assert sum(shared.amounts().values()) == shared.worth
    assert [c for c, _ in result.vector] == [5, 7, 9]
    assert sum(w for _, w in result.vector) == 10_000
    assert result.vector == tuple(sorted(result.vector))


def test_the_same_answer_has_the_same_evidence_and_another_has_not(index: Index, words: WordTokenizer) -> None:
    tokens = words.encode(ANSWER)
    again = attribute([Index(index.folder)], tokens, None, AttributionPolicy())
    assert attribute([index], tokens, None, AttributionPolicy()).evidence == again.evidence
    assert attribute([index], tokens[:-1], None, AttributionPolicy()).evidence_hash != again.evidence_hash
    assert attribute([index], tokens, None, AttributionPolicy(top=15)).evidence_hash != again.evidence_hash


def test_common_language_pays_nobody(index: Index, words: WordTokenizer) -> None:
    result = attribute([index], words.encode(ANSWER), None, AttributionPolicy(most_holders=1))
    assert [e.holders for e in result.spans] == [(), ((1, 5),)]
    assert result.vector == ((5, 10_000),)


def test_an_answer_without_evidence_has_an_empty_vector(index: Index, words: WordTokenizer) -> None:
    result = attribute([index], words.encode("nothing of this is in there at all"), None, AttributionPolicy())
    assert result.vector == ()
    assert result.retrieval_hash == bytes(32)
    assert attribute([index], [], None, AttributionPolicy()).vector == ()
    assert attribute([], words.encode("a release without Datanets"), None, AttributionPolicy()).vector == ()


def test_an_answer_without_indexes_pays_nobody(words: WordTokenizer) -> None:
    found = attribute([], [1, 2, 3], None, AttributionPolicy())
    assert (found.vector, found.spans) == ((), ())
    assert found.evidence_hash == attribute([], [4], None, AttributionPolicy()).evidence_hash


def test_what_reached_the_prompt_is_paid(index: Index, words: WordTokenizer) -> None:
    query = HashEncoder().embed(passage("Bread", BREAD.strip()))
    found = retrieve([index], query, 3, 1)
    assert found.chunks[0].contribution == 12
    assert found.chunks[0].text == "Bread\n\n" + BREAD.split("\n\n")[1].strip()
    first = dataclasses_like(found, 1)
    assert attribute([index], [], first, AttributionPolicy()).vector == ((12, 10_000),)
    both = dict(attribute([index], words.encode(ANSWER), first, AttributionPolicy()).vector)
    assert both[12] == 4118


def dataclasses_like(retrieval, count):  # type: ignore[no-untyped-def]
    return type(retrieval)(retrieval.query_vector, retrieval.k, retrieval.minimum_score, retrieval.chunks[:count])


def test_a_provider_cannot_choose_what_was_retrieved(index: Index) -> None:
    found = retrieve([index], HashEncoder().embed("anything"), 4, 0)
    assert len(found.chunks) >= 2
    forged = type(found)(found.query_vector, found.k, found.minimum_score, found.chunks[1:])
    with pytest.raises(BadRequest, match="not the first"):
        attribute([index], [], forged, AttributionPolicy())


def test_retrieval_is_exhaustive_with_ties_by_place(index: Index, tmp_path: Path, words: WordTokenizer) -> None:
    build_index(tmp_path / "two", 4, 1, [source(20, 1, AMBER, "b.txt")], words, HashEncoder())
    other = Index(tmp_path / "two")
    query = HashEncoder().embed("q")
    found = retrieve([index, other], query, 64, 0)
    q = np.frombuffer(query, np.int8).astype(int)
    everything = [
        (-int(np.frombuffer(row.tobytes(), np.int8).astype(int) @ q), number, chunk)
        for number, i in enumerate((index, other))
        for chunk, row in enumerate(i.vectors)
    ]
    expected = sorted(e for e in everything if e[0] <= 0)
    assert [(-c.score, c.index, c.chunk) for c in found.chunks] == expected


def test_bad_requests_are_named(index: Index, tmp_path: Path, words: WordTokenizer) -> None:
    with pytest.raises(BadRequest, match="twice"):
        attribute([index, Index(index.folder)], [], None, AttributionPolicy())
    with pytest.raises(BadRequest, match="sentinel"):
        attribute([index], [2**32 - 1], None, AttributionPolicy())
    with pytest.raises(BadRequest, match="policy: top"):
        attribute([index], [], None, AttributionPolicy(top=99))
    with pytest.raises(BadRequest, match="k is 0"):
        retrieve([index], bytes(384), 0, 0)
    with pytest.raises(BadRequest, match="minimum score is -1"):
        retrieve([index], bytes(384), 1, -1)
    with pytest.raises(ValueError, match="no u32"):
        build_index(tmp_path / "two", 4, 1, [source(5, 2**32, AMBER)], words, HashEncoder())
    with pytest.raises(ValueError, match="two contributors"):
        build_index(tmp_path / "two", 4, 1, [source(5, 1, AMBER), source(5, 2, BREAD)], words, HashEncoder())
    with pytest.raises(BadRequest, match="384"):
        retrieve([index], bytes(3), 1, 0)
    build_index(tmp_path / "two", 4, 1, [source(5, 2, AMBER)], words, HashEncoder())
    with pytest.raises(BadRequest, match="different contributors"):
        attribute([index, Index(tmp_path / "two")], [], None, AttributionPolicy())


def test_an_index_is_built_once_and_the_same_everywhere(index: Index, tmp_path: Path, words: WordTokenizer) -> None:
    documents = [source(12, 3, BREAD), source(5, 1, WHALE), source(9, 1, AMBER), source(7, 2, AMBER, "b.txt")]
    other = build_index(tmp_path / "other", 3, 1, documents, words, HashEncoder())
    assert other == index.manifest
    before = (index.folder / MANIFEST).stat().st_mtime_ns
    build_index(index.folder, 3, 1, documents, words, HashEncoder())
    assert (index.folder / MANIFEST).stat().st_mtime_ns == before
    build_index(index.folder, 3, 2, documents[:2], words, HashEncoder())
    assert [c.contribution for c in Index(index.folder).manifest.contributions] == [5, 12]
    index = Index(index.folder)
    index.check()


def test_a_damaged_index_is_told_from_a_missing_one(index: Index, tmp_path: Path) -> None:
    with pytest.raises(IndexMissing, match="build it first"):
        Index(tmp_path / "nowhere")
    array = index.folder / "suffix_array.u32"
    whole = array.read_bytes()
    array.write_bytes(whole[:-4])
    with pytest.raises(IndexDamaged, match="missing or not"):
        Index(index.folder)
    array.write_bytes(whole[4:] + whole[:4])
    with pytest.raises(IndexDamaged, match="wrong suffix array"):
        Index(index.folder).check()
    (index.folder / MANIFEST).write_text("{")
    with pytest.raises(IndexDamaged, match="cannot be read"):
        Index(index.folder)


def test_span_proofs_verify_and_no_changed_one_does(index: Index, words: WordTokenizer) -> None:
    tokens = words.encode(ANSWER)
    (span, _) = attribute([index], tokens, None, AttributionPolicy()).spans
    data = prove_spans(index, tokens, span.span.start, span.span.end).encode()
    proof = SpanMembership.decode(data)
    proof.verify()
    assert proof.corpus_root.hex() == index.manifest.corpus_root
    owners = {proof.ranks[r // 16][r % 16][1] for w in span.span.where for r in range(w.lo, w.hi)}
    assert owners == {7, 9}
    wanted = tokens[span.span.start : span.span.end]
    for where in span.span.where:
        position = proof.ranks[where.lo // 16][where.lo % 16][0]
        found = [proof.texts[(position + j) // 32][1][(position + j) % 32] for j in range(len(wanted))]
        assert found == wanted
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(InvalidProof):
            SpanMembership.decode(bytes(changed)).verify()


def test_absence_is_shown_by_its_neighbours(index: Index, words: WordTokenizer) -> None:
    tokens = words.encode("and it is soft")
    lo, hi = index.segment.interval(tokens, 0, 4)
    assert lo == hi
    proof = prove_spans(index, tokens, 0, 4)
    proof.verify()
    assert {(lo - 1) // 16, lo // 16} == set(proof.ranks)
    with pytest.raises(BadRequest, match="not a span"):
        prove_spans(index, tokens, 2, 9)


def test_score_proofs_yield_the_scores_of_retrieval(index: Index) -> None:
    query = HashEncoder().embed("which")
    found = retrieve([index], query, 4, 0).chunks
    data = prove_scores(index, query, [c.chunk for c in found]).encode()
    proof = ScoreMembership.decode(data)
    assert proof.verify() == {c.chunk: c.score for c in found}
    assert proof.retrieval_root.hex() == index.manifest.retrieval_root
    opened = proof.vectors[found[0].chunk]
    assert opened.contribution == found[0].contribution
    forged = dataclasses.replace(
        proof,
        vectors={**proof.vectors, found[0].chunk: dataclasses.replace(opened, vector=bytes([1]) * 384)},
    )
    with pytest.raises(InvalidProof):
        forged.verify()
    with pytest.raises(BadRequest, match="name 1 to"):
        prove_scores(index, query, [10_000])
