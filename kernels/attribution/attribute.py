"""Attribution of one answer: a pure function of indexes, tokens, retrieval and policy.

The provider runs it to write a receipt; a verifier runs it again and compares the evidence hash. Spans are exact.
Retrieval is exact given its query vector; whoever has the question computes that vector again (`encoder.py`).
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from openledger.evm_ext.proofs.policy import AttributionPolicy
from openledger.evm_ext.proofs.settlement import encode_entries
from openledger.evm_ext.proofs.spans import SENTINEL
from openledger.genesis.hashing import keccak256
from openledger.kernels.attribution.corpus import information_of
from openledger.kernels.attribution.errors import BadRequest
from openledger.kernels.attribution.index import Index
from openledger.kernels.attribution.messages import Retrieval, RetrievedChunk
from openledger.kernels.attribution.retrieval import search
from openledger.kernels.attribution.spans import Span, maximal_spans
from openledger.kernels.attribution.vector import Vector, attribution_vector

EVIDENCE_VERSION: Final = 0
MAX_INDEXES: Final = 64
MAX_OUTPUT_TOKENS: Final = 1 << 16


@dataclass(frozen=True)
class SpanEvidence:
    """A maximal span, its worth in 1/65536 bit, and who shares it: (contributor, contribution) by contributor.

    `holders` is empty for common language, which more contributors hold than the policy pays.
    """

    span: Span
    worth: int
    holders: tuple[tuple[int, int], ...]

    def amounts(self) -> dict[int, int]:
        """contribution -> part of the worth: equal parts, the units left over one each to the first holders."""
        if not self.holders:
            return {}
        part, left = divmod(self.worth, len(self.holders))
        return {contribution: part + (i < left) for i, (_, contribution) in enumerate(self.holders)}


@dataclass(frozen=True)
class Attribution:
    """The vector and what it rests on. Hashes are 32 bytes; `retrieval_hash` is zero if nothing was retrieved."""

    vector: Vector
    spans: tuple[SpanEvidence, ...]
    retrieval: Retrieval | None
    retrieval_hash: bytes
    evidence: bytes

    @property
    def evidence_hash(self) -> bytes:
        return keccak256(self.evidence)

    @property
    def vector_hash(self) -> bytes:
        return keccak256(encode_entries(self.vector))


def retrieve(indexes: Sequence[Index], query_vector: bytes, k: int, minimum_score: int) -> Retrieval:
    """The k nearest chunks of these indexes together. Raises `BadRequest`."""
    try:
        found = search([i.vectors for i in indexes], query_vector, k, minimum_score)
    except ValueError as error:
        raise BadRequest(str(error)) from error
    chunks = []
    for number, chunk, score in found:
        index = indexes[number]
        entry = index.manifest.chunks[chunk]
        chunks.append(
            RetrievedChunk(
                index=number,
                chunk=chunk,
                score=score,
                contribution=entry.contribution,
                contributor=index.contributor_of[entry.contribution],
                title=entry.title,
                text=index.chunk_text(chunk),
            )
        )
    return Retrieval(query_vector, k, minimum_score, chunks)


def attribute(
    indexes: Sequence[Index], output_tokens: Sequence[int], retrieval: Retrieval | None, policy: AttributionPolicy
) -> Attribution:
    """Who is behind this answer; nobody, where there are no indexes (a release without Datanets).

    `retrieval` holds what reached the prompt: the first chunks, best first, of what `retrieve` finds for its query
    vector, k and minimum score in the same indexes. Raises `BadRequest` if it holds anything else, if indexes
    repeat or disagree on tokenizer or contributors, or if a parameter is out of range.
    """
    _check(indexes, output_tokens, policy)
    contributor_of: dict[int, int] = {}
    for index in indexes:
        for contribution, contributor in index.contributor_of.items():
            if contributor_of.setdefault(contribution, contributor) != contributor:
                raise BadRequest(f"the indexes name different contributors for contribution {contribution}")
    spans = _spans(indexes, output_tokens, contributor_of, policy)
    kinds: dict[str, dict[int, int]] = {"spans": {}, "retrieval": {}}
    for span in spans:
        for contribution, amount in span.amounts().items():
            kinds["spans"][contribution] = kinds["spans"].get(contribution, 0) + amount
    if retrieval is not None:
        _check_retrieval(indexes, retrieval)
        for chunk in retrieval.chunks:
            paid = kinds["retrieval"].get(chunk.contribution, 0) + max(chunk.score, 0)
            kinds["retrieval"][chunk.contribution] = paid
    vector = attribution_vector(kinds, contributor_of, policy)
    retrieved = _encode_retrieval(indexes, retrieval)
    evidence = b"".join(
        (
            bytes([EVIDENCE_VERSION]),
            policy.encode(),
            _encode_indexes(indexes),
            _encode_spans(spans),
            retrieved,
            encode_entries(vector),
        )
    )
    retrieval_hash = keccak256(retrieved) if retrieval is not None else bytes(32)
    return Attribution(vector, spans, retrieval, retrieval_hash, evidence)


def _check(indexes: Sequence[Index], output_tokens: Sequence[int], policy: AttributionPolicy) -> None:
    try:
        policy.validate()
    except ValueError as error:
        raise BadRequest(f"policy: {error}") from error
    if len(indexes) > MAX_INDEXES:
        raise BadRequest(f"an answer is attributed in at most {MAX_INDEXES} indexes, not {len(indexes)}")
    if len({(i.manifest.datanet, i.manifest.version) for i in indexes}) != len(indexes):
        raise BadRequest("the same Datanet version is named twice")
    if len({i.manifest.tokenizer_hash for i in indexes}) > 1:
        raise BadRequest("the indexes were made with different tokenizers")
    if len(output_tokens) > MAX_OUTPUT_TOKENS:
        raise BadRequest(f"{len(output_tokens)} output tokens, the limit is {MAX_OUTPUT_TOKENS}")
    if any(not 0 <= t < SENTINEL for t in output_tokens):
        raise BadRequest("an output token is not a u32 below the sentinel")


def _check_retrieval(indexes: Sequence[Index], retrieval: Retrieval) -> None:
    found = retrieve(indexes, retrieval.query_vector, retrieval.k, retrieval.minimum_score)
    if retrieval.chunks != found.chunks[: len(retrieval.chunks)]:
        raise BadRequest("the retrieved chunks are not the first ones that this query vector finds")


def _spans(
    indexes: Sequence[Index],
    output_tokens: Sequence[int],
    contributor_of: Mapping[int, int],
    policy: AttributionPolicy,
) -> tuple[SpanEvidence, ...]:
    segments = [i.segment for i in indexes]
    counts = {t: sum(int(i.counts[t]) for i in indexes if t < len(i.counts)) for t in set(output_tokens)}
    total = sum(int(i.counts.sum()) for i in indexes)
    information = {t: information_of(count, total) for t, count in counts.items() if count}
    evidence = []
    for span in maximal_spans(segments, output_tokens, policy.shortest_span):
        worth = sum(information[t] for t in output_tokens[span.start : span.end])
        holders: dict[int, int] = {}
        for place in span.where:
            found = segments[place.segment].holders(place.lo, place.hi, contributor_of, policy.most_holders)
            for contributor, contribution in found.items():
                holders[contributor] = min(holders.get(contributor, contribution), contribution)
        paid = sorted(holders.items()) if len(holders) <= policy.most_holders else []
        evidence.append(SpanEvidence(span, worth, tuple(paid)))
    return tuple(evidence)


def _encode_indexes(indexes: Sequence[Index]) -> bytes:
    """u8 indexes | indexes x (datanet u32 | version u32 | corpusRoot 32 | informationRoot 32)"""
    rows = [bytes([len(indexes)])]
    for index in indexes:
        m = index.manifest
        rows += [
            struct.pack(">II", m.datanet, m.version),
            bytes.fromhex(m.corpus_root),
            bytes.fromhex(m.information_root),
        ]
    return b"".join(rows)


def _encode_spans(spans: Sequence[SpanEvidence]) -> bytes:
    """u16 spans | spans x (start u32 | end u32 | worth u64 | u8 places x (index u8 | lo u32 | hi u32)
    | u16 holders x (contributor u32 | contribution u32))"""
    rows = [struct.pack(">H", len(spans))]
    for e in spans:
        rows.append(struct.pack(">IIQB", e.span.start, e.span.end, e.worth, len(e.span.where)))
        rows += [struct.pack(">BII", w.segment, w.lo, w.hi) for w in e.span.where]
        rows.append(struct.pack(">H", len(e.holders)))
        rows += [struct.pack(">II", *holder) for holder in e.holders]
    return b"".join(rows)


def _encode_retrieval(indexes: Sequence[Index], retrieval: Retrieval | None) -> bytes:
    """u8 0, or: u8 2 (the query vector is an exact encoder's) | u8 indexes x retrievalRoot 32 | query vector 384 | u8 k | minimum i32
    | u8 chunks x (index u8 | chunk u32 | score i32)"""
    if retrieval is None:
        return b"\0"
    return b"".join(
        (
            bytes([2, len(indexes)]),
            *(bytes.fromhex(i.manifest.retrieval_root) for i in indexes),
            retrieval.query_vector,
            struct.pack(">BiB", retrieval.k, retrieval.minimum_score, len(retrieval.chunks)),
            *(struct.pack(">BIi", c.index, c.chunk, c.score) for c in retrieval.chunks),
        )
    )
