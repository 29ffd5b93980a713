"""An explanation adds up: its parts are the evidence's, its amounts the fee's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from openledger.evm_ext.proofs.datanet import ContributionStatus
from openledger.evm_ext.proofs.policy import AttributionPolicy
from openledger.evm_ext.proofs.receipt import Receipt
from openledger.genesis.hashing import keccak256
from openledger.genesis.parameters import Split
from openledger.kernels.attribution.evidence import Evidence, IndexRoots, Occurrences, Span, SpanEvidence
from openledger.kernels.attribution.messages import Retrieval, RetrievedChunk
from openledger.kernels.attribution.vector import attribution_vector
from openledger.kernels.engine.messages import Sampling
from openledger.node.explanation import PPM, Explanation, explain, shown
from openledger.node.records import AnswerBody, ChatRequest, InvalidRecord, Message
from openledger.node.registry import ContributionRecord, Release

H = [bytes([n]) * 32 for n in range(10)]
WORDS = ["What", " a", " wh\xc3", "\xa4", "le", " is", ".", ""]
RELEASE = Release(
    3, "whales", H[0][:20], H[0][:20], Split(1500, 500, 2000, 2000, 4000), True, 1, 1, *H[:5], ((1, 1, 9),), 5
)
REQUEST = ChatRequest(
    release=3,
    messages=(Message("user", "Where?"),),
    max_tokens=9,
    sampling=Sampling(),
    channel_id=H[1],
    max_claimable=9,
)
CONTRIBUTOR = {4: 1, 5: 1, 7: 2}


def decode(tokens: Sequence[int]) -> str:
    return "".join(WORDS[t] for t in tokens).encode("latin-1").decode("utf-8", "replace")


def answer(spans: tuple[SpanEvidence, ...], chunks: Sequence[tuple[int, int]] = (), **changed: Any) -> AnswerBody:
    retrieval = Retrieval(
        bytes(384),
        4,
        0,
        [RetrievedChunk(0, n, score, c, CONTRIBUTOR[c], f"T{c}", "…") for n, (c, score) in enumerate(chunks)],
    )
    kinds = {"spans": {}, "retrieval": {}}
    for span in spans:
        for c, amount in span.amounts().items():
            kinds["spans"][c] = kinds["spans"].get(c, 0) + amount
    for c, score in chunks:
        kinds["retrieval"][c] = kinds["retrieval"].get(c, 0) + score
    vector = attribution_vector(kinds, CONTRIBUTOR, AttributionPolicy())
    evidence = Evidence(AttributionPolicy(), (IndexRoots(1, 1, H[2], H[3]),), spans, None, vector).encode()
    receipt = Receipt(3, "exact-1", 0, REQUEST.hash, H[2], H[3], 0, H[4], H[4], H[5], keccak256(evidence), H[7], H[1], 10, 1_011, 99, H[8])  # fmt: skip
    body = AnswerBody(
        request=REQUEST, prompt_tokens=[1], output_tokens=list(range(len(WORDS))), stop_reason="stop", text=decode(range(8)),
        retrieval=retrieval, evidence=evidence, vector=list(vector), receipt=receipt.to_json(), signature=b"", voucher_signature=b"",
    )  # fmt: skip
    return body if not changed else AnswerBody(**{**{f: getattr(body, f) for f in body.__struct_fields__}, **changed})


def explained(body: AnswerBody, **options: Any) -> Explanation:
    def contribution(number: int) -> ContributionRecord:
        return ContributionRecord(
            number, H[number][:20], 1, CONTRIBUTOR[number], ContributionStatus.APPROVED, 9, 1, 2, H[1], H[2]
        )

    return explain(body, RELEASE, contribution, 100, options.get("decode", decode))


def span(start: int, end: int, worth: int, *holders: tuple[int, int]) -> SpanEvidence:
    return SpanEvidence(Span(start, end, (Occurrences(0, 1, 2),)), worth, holders)


def test_pieces_make_the_answer_and_know_their_spans() -> None:
    told = explained(answer((span(1, 5, 90, (1, 4)), span(4, 6, 10))))
    assert "".join(piece.text for piece in told.pieces) == told.body.text == "What a whäle is."
    assert [(p.text, p.spans) for p in told.pieces] == [
        ("What", ()), (" a whä", (0,)), ("le", (0, 1)), (" is", (1,)), (".", ()),
    ]  # fmt: skip
    assert explained(answer(()), decode=None).pieces == ()


def test_a_character_cut_by_a_span_goes_to_the_piece_that_completes_it() -> None:
    told = explained(answer((span(0, 3, 90, (1, 4)),)))
    assert [p.text for p in told.pieces] == ["What a wh", "äle is."]


def test_parts_by_kind_and_amounts_add_up() -> None:
    told = explained(answer((span(0, 4, 90, (1, 4), (2, 7)), span(4, 6, 10, (1, 5))), [(7, 300), (4, 100)]))
    assert told.kind_weights == {"spans": PPM * 50 // 85, "retrieval": PPM * 35 // 85}
    by = {share.record.id: share for share in told.shares}
    assert sorted(by) == [4, 5, 7]
    assert by[4].by_kind["spans"] == PPM * 50 * 45 // (85 * 100)
    assert by[7].by_kind["retrieval"] == PPM * 35 * 300 // (85 * 400)
    assert by[5].by_kind["retrieval"] == 0
    assert abs(sum(sum(share.by_kind.values()) for share in told.shares) - PPM) < 6
    assert sum(share.weight for share in told.shares) == 10_000
    assert told.parts.total == 1_001
    assert sum(share.amount for share in told.shares) == told.parts.contributors
    assert [share.weight for share in told.shares] == sorted((s.weight for s in told.shares), reverse=True)
    told_json = shown(told, H[9], lambda _: {"title": "T"})
    assert told_json["spans"][1]["contributions"] == [5]
    assert [p["contribution"] for p in told_json["passages"]] == [7, 4]


def test_nothing_found_is_nobodys() -> None:
    told = explained(answer((span(0, 4, 90),)))
    assert (told.shares, dict(told.kind_weights)) == ((), {})
    assert shown(told, H[9], lambda _: None)["spans"][0]["common_language"]


def test_evidence_that_the_receipt_does_not_sign_is_refused() -> None:
    body = answer((span(0, 4, 90, (1, 4)),))
    with pytest.raises(InvalidRecord, match="not what the receipt signs"):
        explained(answer((span(0, 4, 90, (1, 4)),), evidence=body.evidence[:-1] + b"\xff"))
    beyond = answer((span(0, 9, 90, (1, 4)),))
    with pytest.raises(InvalidRecord, match="ends after the answer"):
        explained(beyond)
    receipt = dataclasses.replace(body.signed_receipt(), evidence_hash=keccak256(b"\x07"))
    with pytest.raises(InvalidRecord, match="cannot be read"):
        explained(answer((), evidence=b"\x07", receipt=receipt.to_json()))
