"""What is kept of an answer comes back as it was, or is refused by name."""

from typing import Any

import pytest

from openledger.evm_ext.proofs.receipt import Mode, Receipt, StopReason, Visibility, ledger_domain
from openledger.kernels.attribution.messages import Retrieval, RetrievedChunk
from openledger.kernels.engine.messages import Sampling
from openledger.node.records import AnswerBody, ChatRequest, InvalidRecord, Message, receipt_fields

CHUNK = RetrievedChunk(index=0, chunk=3, score=-7, contribution=4, contributor=2, title="A", text="ä")


def some_receipt() -> Receipt:
    values: dict[str, Any] = {}
    for number, (name, kind) in enumerate(Receipt.TYPES.items()):
        values[name] = {"bytes32": bytes([number]) * 32, "string": "exact-1"}.get(kind, number)
    values |= {"mode": Mode.EXACT, "stop_reason": StopReason.MAX_TOKENS, "visibility": Visibility.PUBLIC}
    return Receipt(**values)


def some_body(receipt: Receipt) -> AnswerBody:
    request = ChatRequest(
        release=1,
        messages=(Message("system", "s"), Message("user", "hi")),
        max_tokens=3,
        sampling=Sampling(),
        channel_id=bytes(32),
        max_claimable=1,
    )
    return AnswerBody(
        request=request,
        prompt_tokens=[1],
        output_tokens=[2],
        stop_reason="length",
        text="x",
        retrieval=Retrieval(b"\x80" * 384, 4, 65_536, [CHUNK]),
        evidence=b"e",
        vector=[(4, 10_000)],
        receipt=receipt_fields(receipt),
        signature=b"s",
        voucher_signature=b"v",
    )


def test_a_body_comes_back_with_its_receipt():
    receipt = some_receipt()
    body = some_body(receipt)
    again = AnswerBody.decode(body.encode())
    assert again == body
    assert again.request.hash == body.request.hash
    assert again.signed_receipt() == receipt
    assert again.signed_receipt().hash(ledger_domain(1)) == receipt.hash(ledger_domain(1))


@pytest.mark.parametrize("damage", [lambda b: b[:-3], lambda b: b"", lambda b: b"\xc1" + b, lambda b: bytes(1 << 21)])
def test_anything_else_is_refused(damage):
    with pytest.raises(InvalidRecord):
        AnswerBody.decode(damage(some_body(some_receipt()).encode()))


@pytest.mark.parametrize("change", [{"release": "one"}, {"fingerprint": b"short"}, {"unknown": 1}, {"numerics": 5}])
def test_a_receipt_that_is_none_is_refused(change):
    body = some_body(some_receipt())
    body.receipt.update(change)
    with pytest.raises(InvalidRecord):
        AnswerBody.decode(body.encode()).signed_receipt()
