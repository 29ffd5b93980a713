"""Evidence: what an answer's vector rests on, as values and as the bytes that a receipt's `evidenceHash` commits to.

    evidence   00 | policy 25 | indexes | spans | retrieval | vector                               all big-endian
    indexes    u8 n | n x (datanet u32 | version u32 | corpusRoot 32 | informationRoot 32)
    spans      u16 n | n x (start u32 | end u32 | worth u64 | u8 places x (index u8 | lo u32 | hi u32)
               | u16 holders x (contributor u32 | contribution u32))
    retrieval  u8 0, or: u8 2 (the query vector is an exact encoder's) | u8 n x retrievalRoot 32 | query vector 384 | u8 k
               | minimum i32 | u8 n x (index u8 | chunk u32 | score i32)
    vector     u8 n | n x (contribution u32 | weight u16)

No numbers of its own: `attribute.py` finds them, `decode_evidence` reads them for people.
"""

import struct
from dataclasses import dataclass
from typing import Final

from openledger.evm_ext.proofs.policy import AttributionPolicy, InvalidPolicy
from openledger.evm_ext.proofs.settlement import encode_entries
from openledger.genesis.hashing import keccak256

EVIDENCE_VERSION: Final = 0
VECTOR_BYTES: Final = 384
_POLICY_BYTES: Final = 25
_EXACT_QUERY: Final = 2
_NO_RETRIEVAL: Final = b"\0"


class InvalidEvidence(ValueError):
    """Bytes that are not the evidence of an answer."""


@dataclass(frozen=True)
class Occurrences:
    """The ranks [lo, hi) of one segment; `segment` is its place in the sequence that was searched."""

    segment: int
    lo: int
    hi: int


@dataclass(frozen=True)
class Span:
    """output[start:end] and where it occurs, in every segment that holds it."""

    start: int
    end: int
    where: tuple[Occurrences, ...]

    @property
    def count(self) -> int:
        return sum(w.hi - w.lo for w in self.where)


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
class IndexRoots:
    """A Datanet version that was searched, and what its index commits to (32 bytes each)."""

    datanet: int
    version: int
    corpus_root: bytes
    information_root: bytes


@dataclass(frozen=True)
class ScoredChunk:
    """A chunk that reached the prompt: `index` is the place of its Datanet version in the evidence."""

    index: int
    chunk: int
    score: int


@dataclass(frozen=True)
class RetrievalEvidence:
    """What was searched for, in which vectors, and what reached the prompt, best first."""

    roots: tuple[bytes, ...]
    query_vector: bytes
    k: int
    minimum_score: int
    chunks: tuple[ScoredChunk, ...]

    def encode(self) -> bytes:
        return b"".join(
            (
                bytes([_EXACT_QUERY, len(self.roots)]),
                *self.roots,
                self.query_vector,
                struct.pack(">BiB", self.k, self.minimum_score, len(self.chunks)),
                *(struct.pack(">BIi", c.index, c.chunk, c.score) for c in self.chunks),
            )
        )

    @property
    def hash(self) -> bytes:
        return keccak256(self.encode())


@dataclass(frozen=True)
class Evidence:
    """Everything that decides a vector, and the vector."""

    policy: AttributionPolicy
    indexes: tuple[IndexRoots, ...]
    spans: tuple[SpanEvidence, ...]
    retrieval: RetrievalEvidence | None
    vector: tuple[tuple[int, int], ...]

    def encode(self) -> bytes:
        rows = [bytes([EVIDENCE_VERSION]), self.policy.encode(), bytes([len(self.indexes)])]
        for index in self.indexes:
            rows += [struct.pack(">II", index.datanet, index.version), index.corpus_root, index.information_root]
        rows.append(struct.pack(">H", len(self.spans)))
        for e in self.spans:
            rows.append(struct.pack(">IIQB", e.span.start, e.span.end, e.worth, len(e.span.where)))
            rows += [struct.pack(">BII", w.segment, w.lo, w.hi) for w in e.span.where]
            rows.append(struct.pack(">H", len(e.holders)))
            rows += [struct.pack(">II", *holder) for holder in e.holders]
        rows.append(_NO_RETRIEVAL if self.retrieval is None else self.retrieval.encode())
        rows.append(encode_entries(self.vector))
        return b"".join(rows)


def decode_evidence(data: bytes) -> Evidence:
    """The inverse of `Evidence.encode`. Raises InvalidEvidence for anything else."""
    rows = _Rows(data)
    if (version := rows.number(">B")) != EVIDENCE_VERSION:
        raise InvalidEvidence(f"evidence of version {version}, this program reads version {EVIDENCE_VERSION}")
    try:
        policy = AttributionPolicy.decode(rows.take(_POLICY_BYTES))
    except InvalidPolicy as error:
        raise InvalidEvidence(f"policy: {error}") from error
    indexes = tuple(
        IndexRoots(rows.number(">I"), rows.number(">I"), rows.take(32), rows.take(32)) for _ in range(rows.number(">B"))
    )
    spans = tuple(_span(rows, len(indexes)) for _ in range(rows.number(">H")))
    retrieval = _retrieval(rows, len(indexes))
    vector = tuple((c, w) for c, w in (rows.numbers(">IH") for _ in range(rows.number(">B"))))
    evidence = Evidence(policy, indexes, spans, retrieval, vector)
    rows.end()
    return evidence


class _Rows:
    """Bytes that are read from their beginning to their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise InvalidEvidence(f"the evidence ends after {len(self._data)} bytes, in the middle of something")
        self._at += count
        return self._data[self._at - count : self._at]

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def number(self, form: str) -> int:
        return self.numbers(form)[0]

    def end(self) -> None:
        if self._at != len(self._data):
            raise InvalidEvidence(f"{len(self._data) - self._at} bytes follow the end of the evidence")


def _span(rows: _Rows, indexes: int) -> SpanEvidence:
    start, end, worth, places = rows.numbers(">IIQB")
    where = tuple(Occurrences(*rows.numbers(">BII")) for _ in range(places))
    if not start < end or not all(w.segment < indexes and w.lo < w.hi for w in where):
        raise InvalidEvidence(f"a span from token {start} to {end} that is nowhere")
    holders = tuple((contributor, c) for contributor, c in (rows.numbers(">II") for _ in range(rows.number(">H"))))
    return SpanEvidence(Span(start, end, where), worth, holders)


def _retrieval(rows: _Rows, indexes: int) -> RetrievalEvidence | None:
    form = rows.number(">B")
    if not form:
        return None
    if form != _EXACT_QUERY:
        raise InvalidEvidence(f"retrieval of form {form}, this program reads form {_EXACT_QUERY}")
    roots = tuple(rows.take(32) for _ in range(rows.number(">B")))
    query_vector = rows.take(VECTOR_BYTES)
    k, minimum_score, count = rows.numbers(">BiB")
    chunks = tuple(ScoredChunk(*rows.numbers(">BIi")) for _ in range(count))
    if len(roots) != indexes or not all(chunk.index < indexes for chunk in chunks):
        raise InvalidEvidence("retrieval from Datanet versions that are not named")
    return RetrievalEvidence(roots, query_vector, k, minimum_score, chunks)
