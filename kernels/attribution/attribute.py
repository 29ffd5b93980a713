"""Attribution of one answer: a pure function of indexes, tokens, retrieval and policy.

The provider runs it to write a receipt; a verifier runs it again and compares the evidence hash. Spans are exact.
Retrieval is exact given its query vector; whoever has the question computes that vector again (`encoder.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from openledger.evm_ext.proofs.policy import AttributionPolicy
from openledger.evm_ext.proofs.settlement import encode_entries
from openledger.evm_ext.proofs.spans import SENTINEL
from openledger.genesis.hashing import keccak256
from openledger.kernels.attribution.corpus import information_of
from openledger.kernels.attribution.errors import BadRequest
from openledger.kernels.attribution.evidence import Evidence, IndexRoots, RetrievalEvidence, ScoredChunk, SpanEvidence
from openledger.kernels.attribution.index import Index
from openledger.kernels.attribution.messages import Retrieval, RetrievedChunk
from openledger.kernels.attribution.retrieval import search
from openledger.kernels.attribution.spans import maximal_spans
from openledger.kernels.attribution.vector import Vector, attribution_vector

MAX_INDEXES: Final = 64
MAX_OUTPUT_TOKENS: Final = 1 << 16


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
    retrieved = _retrieval_evidence(indexes, retrieval)
    evidence = Evidence(policy, tuple(_roots(index) for index in indexes), spans, retrieved, vector).encode()
    return Attribution(vector, spans, retrieval, retrieved.hash if retrieved is not None else bytes(32), evidence)


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


def _roots(index: Index) -> IndexRoots:
    m = index.manifest
    return IndexRoots(m.datanet, m.version, bytes.fromhex(m.corpus_root), bytes.fromhex(m.information_root))


def _retrieval_evidence(indexes: Sequence[Index], retrieval: Retrieval | None) -> RetrievalEvidence | None:
    if retrieval is None:
        return None
    return RetrievalEvidence(
        tuple(bytes.fromhex(i.manifest.retrieval_root) for i in indexes),
        retrieval.query_vector,
        retrieval.k,
        retrieval.minimum_score,
        tuple(ScoredChunk(c.index, c.chunk, c.score) for c in retrieval.chunks),
    )
