"""Why each contributor got what: a receipt's evidence, put into words' reach.

Everything shown is read from the receipt's body, whose hashes the receipt signs; nothing is attributed anew. Whether it is
true is what `openledger verify receipt` says.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

from openledger.evm_ext.proofs.split import FeeParts, largest_remainder, split_fee
from openledger.genesis.hashing import keccak256
from openledger.kernels.attribution.evidence import Evidence, InvalidEvidence, SpanEvidence, decode_evidence
from openledger.kernels.attribution.vector import Amounts, present_kinds
from openledger.node.records import AnswerBody, InvalidRecord
from openledger.node.registry import ContributionRecord, Release

PPM: Final = 1_000_000
WORTH_PER_BIT: Final = 1 << 16
EQUAL_DIRECTIONS: Final = 512 * 512
"""The dot product of two vectors of the encoder that point the same way."""

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True)
class Piece:
    """A part of the answer and the numbers (from 0) of the spans it lies in."""

    text: str
    spans: tuple[int, ...]


@dataclass(frozen=True)
class ContributionShare:
    """What one contribution got. `by_kind`: parts per million of the whole score that each kind of evidence brought;
    `weight` of 10,000, after limits and rounding; `amount` in micro-OPEN of this answer's fee."""

    record: ContributionRecord
    weight: int
    amount: int
    by_kind: Mapping[str, int]


@dataclass(frozen=True)
class Explanation:
    """`pieces` is empty where the tokens cannot be read here. `kind_weights`: parts per million that each kind counted,
    those that found nothing left out."""

    body: AnswerBody
    evidence: Evidence
    release: Release
    pieces: tuple[Piece, ...]
    kind_weights: Mapping[str, int]
    parts: FeeParts
    shares: tuple[ContributionShare, ...]


def explain(
    body: AnswerBody,
    release: Release,
    contribution: Callable[[int], ContributionRecord],
    platform_bps: int,
    decode: Decode | None,
) -> Explanation:
    """Raises InvalidRecord where the body's evidence is not what its receipt signs."""
    receipt = body.signed_receipt()
    if keccak256(body.evidence) != receipt.evidence_hash:
        raise InvalidRecord("the evidence in this body is not what the receipt signs")
    try:
        evidence = decode_evidence(body.evidence)
    except InvalidEvidence as error:
        raise InvalidRecord(f"the evidence of this answer cannot be read: {error}") from error
    kinds = _amounts(body, evidence)
    counted = present_kinds(kinds, evidence.policy)
    whole = sum(counted.values())
    parts = split_fee(receipt.fee, platform_bps, release.split.parts)
    vector = [(c, w) for c, w in evidence.vector]
    amounts = dict(largest_remainder(parts.contributors, vector)) if vector else {}
    shares = tuple(
        ContributionShare(
            contribution(c),
            weight,
            amounts[c],
            {
                kind: int(PPM * Fraction(kind_weight * kinds[kind].get(c, 0), whole * sum(kinds[kind].values())))
                for kind, kind_weight in counted.items()
            },
        )
        for c, weight in sorted(vector, key=lambda entry: (-entry[1], entry[0]))
    )
    pieces = () if decode is None else cut(body.output_tokens, evidence.spans, decode)
    return Explanation(
        body, evidence, release, pieces, {kind: w * PPM // whole for kind, w in counted.items()}, parts, shares
    )


def _amounts(body: AnswerBody, evidence: Evidence) -> dict[str, Amounts]:
    spans: dict[int, int] = {}
    for span in evidence.spans:
        for contribution, amount in span.amounts().items():
            spans[contribution] = spans.get(contribution, 0) + amount
    retrieval: dict[int, int] = {}
    for chunk in body.retrieval.chunks if body.retrieval is not None else ():
        retrieval[chunk.contribution] = retrieval.get(chunk.contribution, 0) + max(chunk.score, 0)
    return {"spans": spans, "retrieval": retrieval}


def cut(tokens: Sequence[int], spans: Sequence[SpanEvidence], decode: Decode) -> tuple[Piece, ...]:
    """The answer's text cut wherever a span begins or ends. Raises InvalidRecord for a span beyond its end."""
    if any(e.span.end > len(tokens) for e in spans):
        raise InvalidRecord("a span of the evidence ends after the answer")
    edges = sorted({0, len(tokens), *(e.span.start for e in spans), *(e.span.end for e in spans)})
    # A character may take several tokens: what is not whole at an edge goes to the piece that completes it.
    ends = {edge: len(decode(tokens[:edge]).rstrip("\ufffd")) for edge in edges[:-1]}
    text = decode(tokens)
    ends[len(tokens)] = len(text)
    pieces = []
    for first, last in itertools.pairwise(edges):
        inside = tuple(n for n, e in enumerate(spans) if e.span.start <= first and last <= e.span.end)
        pieces.append(Piece(text[ends[first] : ends[last]], inside))
    return tuple(pieces)


def shown(
    explanation: Explanation, receipt_hash: bytes, metadata: Callable[[bytes], dict[str, Any] | None]
) -> dict[str, Any]:
    """As the API gives it: amounts in micro-OPEN, worth in bits, parts in ppm."""
    body, evidence = explanation.body, explanation.evidence
    retrieval = body.retrieval
    return {
        "receipt": "0x" + receipt_hash.hex(),
        "release": {"id": explanation.release.id, "name": explanation.release.name},
        "question": body.request.messages[-1].content if body.request.messages else body.request.prompt,
        "text": body.text,
        "pieces": [{"text": piece.text, "spans": list(piece.spans)} for piece in explanation.pieces],
        "searched": [{"datanet": index.datanet, "version": index.version} for index in evidence.indexes],
        "kind_weights_ppm": dict(explanation.kind_weights),
        "spans": [
            {
                "first_token": e.span.start,
                "tokens": e.span.end - e.span.start,
                "bits": round(e.worth / WORTH_PER_BIT, 2),
                "occurrences": e.span.count,
                "common_language": not e.holders,
                "contributions": [contribution for _, contribution in e.holders],
            }
            for e in evidence.spans
        ],
        "passages": [
            {
                "number": number,
                "contribution": chunk.contribution,
                "title": chunk.title,
                "text": chunk.text,
                "likeness_ppm": chunk.score * PPM // EQUAL_DIRECTIONS,
            }
            for number, chunk in enumerate(retrieval.chunks if retrieval is not None else (), 1)
        ],
        "contributions": [
            {
                "contribution": share.record.id,
                "datanet": share.record.datanet,
                "contributor": "0x" + share.record.contributor.hex(),
                "status": share.record.status.name.lower(),
                "metadata": metadata(share.record.metadata_hash),
                "by_kind_ppm": dict(share.by_kind),
                "weight": share.weight,
                "micro_open": share.amount,
            }
            for share in explanation.shares
        ],
        "fee_micro_open": explanation.parts.total,
        "parts_micro_open": explanation.parts._asdict(),
    }
