"""What every paid call does, whatever its shape: voucher or 402, passages and prompt, then the answers' events.

`openledger` of an answer holds citations, the attribution vector, the fee, and the signed receipt. Whoever hangs up early
owes what was generated until then; nothing is owed for what ends with an error.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import orjson

from openledger.evm_ext.proofs.receipt import Mode, Voucher
from openledger.kernels.attribution.errors import AttributionError
from openledger.kernels.model.tokenizer import ModelTokenizer, PromptError
from openledger.node.api.errors import ApiError
from openledger.node.catalog import ServedRelease
from openledger.node.http import Request
from openledger.node.inference import Answered, Asked, Delta, Inference, InferenceFailed, Prepared, citations
from openledger.node.payments import PAYMENT_HEADER, PaymentRequired, Payments, SignedVoucher, parse_voucher
from openledger.node.receipts import StaleChannel

_STATUS = {
    "prompt_too_long": 400,
    "bad_request": 400,
    "adapter_refused": 400,
    "numeric_fault": 500,
    "overloaded": 503,
    "engine_died": 503,
    "engine_unavailable": 503,
    "cancelled": 503,
    "timeout": 503,
}
_FINISH = {"cancelled": "length"}
"""OpenAI knows no other reason for an answer that was cut off; the receipt has the true one."""

NO_VOUCHER = SignedVoucher(Voucher(bytes(32), 0), b"")
DONE = b"data: [DONE]\n\n"


class Shape(Protocol):
    """How one kind of call shows its answers."""

    def delta(self, event: Delta) -> bytes:
        """A server-sent event for a piece of text; empty for none."""

    def end(self, event: Answered) -> bytes:
        """The event that ends one answer."""

    def whole(self, answers: Sequence[Answered]) -> dict[str, Any]:
        """All answers at once."""

    def usage(self, answers: Sequence[Answered]) -> bytes:
        """The event that tells of usage; empty where it was not asked for."""


class PaidAnswers:
    """Answers for vouchers."""

    def __init__(self, inference: Callable[[], Inference], payments: Payments) -> None:
        """`inference()` raises ApiError while the engine is not ready."""
        self._inference_of = inference
        self._payments = payments

    @property
    def tokenizer(self) -> ModelTokenizer:
        """Raises ApiError while the engine is not ready."""
        return self._inference_of().tokenizer

    def voucher(self, http: Request) -> SignedVoucher:
        """What the call is paid with; NO_VOUCHER where it has none, so that its price can be told. Raises ApiError."""
        header = http.headers.get(PAYMENT_HEADER)
        if header is None:
            return NO_VOUCHER
        try:
            return parse_voucher(header)
        except PaymentRequired as refused:
            raise self._unpaid(refused, None, http.path) from refused

    async def prepare(self, http: Request, voucher: SignedVoucher, asked: Sequence[Asked]) -> Prepared:
        """Fix the prompts of a call that can be paid. Raises ApiError: 402 with how to pay, what is wrong, what failed."""
        inference, release = self._inference_of(), asked[0].release
        try:
            most = inference.quote(asked)
        except PromptError as error:
            raise ApiError(400, "bad_request", str(error)) from error
        except InferenceFailed as error:
            raise failed(error) from error
        if voucher is NO_VOUCHER:
            raise self._unpaid(
                PaymentRequired(
                    "payment_required",
                    f"this call costs up to {most} micro-OPEN: open a channel with this provider and send a voucher in "
                    f"the {PAYMENT_HEADER} header",
                    most,
                ),
                release,
                http.path,
            )
        try:
            self._payments.check(voucher, 1)  # nobody makes the node search without being able to pay
            prepared = await inference.prepare(asked)
        except PaymentRequired as refused:
            refused.needed = refused.needed and max(refused.needed, self._payments.needed(voucher, most))
            raise self._unpaid(refused, release, http.path) from refused
        except InferenceFailed as error:
            raise failed(error) from error
        except AttributionError as error:
            raise ApiError(
                503, "retrieval_failed", f"the passages could not be searched: {error}", "server_error"
            ) from error
        # Admission is checked before a stream's first byte, so that a refusal is still a 402.
        try:
            self._payments.check(voucher, prepared.most)
        except PaymentRequired as refused:
            raise self._unpaid(refused, release, http.path) from refused
        return prepared

    async def whole(self, prepared: Prepared, voucher: SignedVoucher, shape: Shape, path: str) -> dict[str, Any]:
        """All answers in one. Raises ApiError."""
        answers: list[Answered] = []
        try:
            async with aclosing(self._events(prepared, voucher)) as events:
                async for event in events:
                    if isinstance(event, Answered):
                        answers.append(event)
        except PaymentRequired as refused:
            raise self._unpaid(refused, prepared.release, path) from refused
        return shape.whole(answers)

    async def stream(
        self, prepared: Prepared, voucher: SignedVoucher, shape: Shape, path: str, first: Sequence[bytes] = ()
    ) -> AsyncGenerator[bytes, None]:
        """The answers as server-sent events after `first`; an error is the last one."""
        answers: list[Answered] = []
        for piece in first:
            yield piece
        try:
            async with aclosing(self._events(prepared, voucher)) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        yield shape.delta(event)
                    else:
                        answers.append(event)
                        yield shape.end(event)
            yield shape.usage(answers)
        except ApiError as error:
            yield sse(error.body())
        except PaymentRequired as refused:
            yield sse(self._unpaid(refused, prepared.release, path).body())
        yield DONE

    async def _events(self, prepared: Prepared, voucher: SignedVoucher) -> AsyncGenerator[Delta | Answered, None]:
        """The answers' events, with failures as ApiError."""
        try:
            async with aclosing(self._inference_of().answer(prepared, voucher)) as events:
                async for event in events:
                    yield event
        except InferenceFailed as error:
            raise failed(error) from error
        except (AttributionError, StaleChannel) as error:
            raise ApiError(
                503,
                "attribution_failed",
                f"the answer could not be attributed ({error}); nothing is owed for this call",
                "server_error",
            ) from error

    def _unpaid(self, refused: PaymentRequired, release: ServedRelease | None, path: str) -> ApiError:
        error = ApiError(402, refused.code, str(refused), "payment_required")
        if release is not None:
            error.extra = self._payments.terms(release.id, release.price_in, release.price_out, refused.needed, path)
        return error


def failed(error: InferenceFailed) -> ApiError:
    """The answer of the API where there is none of the model."""
    status = _STATUS.get(error.code, 500)
    kind = "invalid_request_error" if status < 500 else "server_error"
    return ApiError(status, error.code, f"{error}; nothing is owed for this call", kind)


def sse(value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def envelope(kind: str, identifier: str, model: str) -> dict[str, Any]:
    """What all of OpenAI's answers begin with."""
    return {"id": identifier, "object": kind, "created": int(time.time()), "model": model}


def finish_reason(answered: Answered) -> str:
    """Why the answer ended, in OpenAI's words."""
    return _FINISH.get(answered.body.stop_reason, answered.body.stop_reason)


def usage(answers: Sequence[Answered]) -> dict[str, int]:
    """Tokens that are paid for: the prompt counts once for each answer."""
    prompt = sum(len(answered.body.prompt_tokens) for answered in answers)
    output = sum(len(answered.body.output_tokens) for answered in answers)
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def extensions(answers: Sequence[Answered]) -> dict[str, Any]:
    """The `openledger` part of a whole answer: that of its only one, or the sum, each choice having its own."""
    if len(answers) == 1:
        return extension(answers[0])
    return {
        "fee_micro_open": sum(answered.receipt.fee for answered in answers),
        "receipt_hashes": ["0x" + answered.receipt_hash.hex() for answered in answers],
    }


def extension(answered: Answered) -> dict[str, Any]:
    """The `openledger` part of one answer."""
    receipt = answered.receipt
    return {
        "receipt_hash": "0x" + answered.receipt_hash.hex(),
        "receipt": receipt.to_json(),
        "signature": "0x" + answered.body.signature.hex(),
        "fee_micro_open": receipt.fee,
        "vector": [{"contribution": c, "weight": w} for c, w in answered.body.vector],
        "citations": citations(answered),
        "spans": [
            {
                "start": s.start,
                "end": s.end,
                "worth": s.worth,
                "occurrences": s.occurrences,
                "contributions": s.contributions,
            }
            for s in answered.attributed.spans
        ],
        "marks": marks(receipt.mode),
    }


def marks(mode: int) -> dict[str, str]:
    """What of an answer can be recomputed bit for bit (`exact`), and what is only vouched for (`attested`)."""
    return {"tokens": "exact" if mode == Mode.EXACT else "attested", "spans": "exact", "retrieval": "exact"}
