"""POST /v1/chat/completions, as OpenAI's clients call it, paid by a voucher.

Documented extensions: the request may carry `openledger: {"passages": K}` (how many passages to put before the
model); the answer carries `openledger` with citations, the attribution vector, the fee, and the signed receipt,
in the last chunk of a stream. Whoever hangs up early owes what was generated until then. Errors have OpenAI's shape; an unpaid call is 402 with `accepts`.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import msgspec
import orjson
import trio

from openledger.evm_ext.proofs.receipt import Voucher
from openledger.kernels.attribution.errors import AttributionError
from openledger.kernels.engine.messages import Sampling
from openledger.kernels.model.tokenizer import PromptError
from openledger.node.api.errors import ApiError, answering
from openledger.node.catalog import Catalog, ReleaseNotReady, ServedRelease, UnknownRelease
from openledger.node.http import Request, Response, Router, StreamingResponse, require_modest_json
from openledger.node.inference import Answered, Delta, Inference, InferenceFailed, Prepared, citations
from openledger.node.payments import PAYMENT_HEADER, PaymentRequired, Payments, SignedVoucher, parse_voucher
from openledger.node.receipts import StaleChannel
from openledger.node.records import ChatRequest, Message

MAX_MESSAGES = 256
MAX_STOPS = 4
MAX_PASSAGES = 8
_STATUS = {
    "prompt_too_long": 400,
    "bad_request": 400,
    "adapter_refused": 400,
    "numeric_fault": 500,
    "overloaded": 503,
    "engine_died": 503,
    "engine_unavailable": 503,
}


class _Extension(msgspec.Struct, frozen=True):
    passages: int = 4


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool = False


class _Part(msgspec.Struct, frozen=True):
    type: str
    text: str = ""


class _Turn(msgspec.Struct, frozen=True):
    role: str
    content: str | list[_Part] | None = None


class _ChatBody(msgspec.Struct, frozen=True):
    """The fields of OpenAI's request that mean something here; unknown ones are ignored."""

    model: str
    messages: list[_Turn]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None
    n: int = 1
    openledger: _Extension = _Extension()


def _text(turn: _Turn) -> str:
    if isinstance(turn.content, str):
        return turn.content
    if turn.content is None or any(part.type != "text" for part in turn.content):
        raise ApiError(400, "unsupported_content", "only text can be sent: the model sees no images or audio")
    return "".join(part.text for part in turn.content)


def _in_range(name: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise ApiError(400, "bad_parameter", f"{name} must be from {low} to {high}, not {value}")
    return value


def parse_request(
    raw: bytes, release_of: Catalog, voucher: SignedVoucher, max_output_tokens: int
) -> tuple[_ChatBody, ServedRelease, ChatRequest]:
    """The call in a request's body. Raises ApiError naming the parameter that is wrong."""
    try:
        require_modest_json(raw)
        body = msgspec.json.decode(raw, type=_ChatBody)
    except (ValueError, msgspec.MsgspecError) as error:
        raise ApiError(400, "bad_request", f"the request is not a chat completion: {error}") from error
    if not 0 < len(body.messages) <= MAX_MESSAGES:
        raise ApiError(400, "bad_parameter", f"messages must have 1 to {MAX_MESSAGES} entries")
    messages = []
    for turn in body.messages:
        role = "system" if turn.role == "developer" else turn.role
        if role not in ("system", "user", "assistant"):
            raise ApiError(
                400, "bad_parameter", f"the role of a message is system, user or assistant, not {turn.role!r}"
            )
        messages.append(Message(role, _text(turn)))  # type: ignore[arg-type]  # checked above
    if body.n != 1:
        raise ApiError(400, "bad_parameter", "n must be 1: ask again for another answer")
    stop = [body.stop] if isinstance(body.stop, str) else list(body.stop or [])
    if len(stop) > MAX_STOPS or any(not 0 < len(s) <= 256 for s in stop):
        raise ApiError(400, "bad_parameter", f"stop takes up to {MAX_STOPS} strings of 1 to 256 characters")
    asked = body.max_completion_tokens or body.max_tokens
    max_tokens = max_output_tokens if asked is None else int(_in_range("max_tokens", asked, 1, max_output_tokens))
    sampling = Sampling(
        temperature_milli=round(_in_range("temperature", body.temperature, 0, 2) * 1000),
        top_p_ppm=max(1, round(_in_range("top_p", body.top_p, 0, 1) * 1_000_000)),
        top_k=int(_in_range("top_k", body.top_k, 0, 1 << 20)),
        min_p_ppm=round(_in_range("min_p", body.min_p, 0, 1) * 1_000_000),
    )
    if body.seed is not None:
        _in_range("seed", body.seed, -(1 << 63), (1 << 63) - 1)
    passages = int(_in_range("openledger.passages", body.openledger.passages, 0, MAX_PASSAGES))
    try:
        release = release_of.release(body.model)
    except UnknownRelease as error:
        raise ApiError(404, "model_not_found", str(error)) from error
    except ReleaseNotReady as error:
        raise ApiError(503, "model_not_ready", str(error), "server_error") from error
    request = ChatRequest(
        release=release.id,
        messages=tuple(messages),
        max_tokens=max_tokens,
        sampling=sampling,
        stop=tuple(stop),
        retrieval_k=passages,
        user_seed=body.seed,
        channel_id=voucher.voucher.channel_id,
        max_claimable=voucher.voucher.max_claimable,
    )
    return body, release, request


_NO_VOUCHER = SignedVoucher(Voucher(bytes(32), 0), b"")


class ChatApi:
    """The handler; see the module's text."""

    def __init__(
        self, inference: Callable[[], Inference], payments: Payments, catalog: Catalog, max_output_tokens: int
    ) -> None:
        """`inference()` raises ApiError while the engine is not ready."""
        self._inference_of = inference
        self._payments = payments
        self._catalog = catalog
        self._max_output_tokens = max_output_tokens

    def mount(self, router: Router) -> None:
        router.add("POST", "/v1/chat/completions", answering(self.complete))

    @property
    def _inference(self) -> Inference:
        return self._inference_of()

    async def complete(self, http: Request) -> Response | StreamingResponse:
        header = http.headers.get(PAYMENT_HEADER)
        voucher = _NO_VOUCHER
        if header is not None:
            try:
                voucher = parse_voucher(header)
            except PaymentRequired as refused:
                raise self._unpaid(refused, None) from refused
        body, release, request = await trio.to_thread.run_sync(
            parse_request, http.body, self._catalog, voucher, self._max_output_tokens
        )
        try:
            most = self._inference.quote(release, request)
        except PromptError as error:
            raise ApiError(400, "bad_request", str(error)) from error
        except InferenceFailed as error:
            raise _failed(error) from error
        if header is None:
            raise self._unpaid(
                PaymentRequired(
                    "payment_required",
                    f"this call costs up to {most} micro-OPEN: open a channel with this provider and send a voucher in "
                    f"the {PAYMENT_HEADER} header",
                    most,
                ),
                release,
            )
        try:
            self._payments.check(voucher, 1)  # nobody makes the node search without being able to pay
            prepared = await self._inference.prepare(release, request)
        except PaymentRequired as refused:
            refused.needed = refused.needed and max(refused.needed, self._payments.needed(voucher, most))
            raise self._unpaid(refused, release) from refused
        except InferenceFailed as error:
            raise _failed(error) from error
        except AttributionError as error:
            raise ApiError(
                503, "retrieval_failed", f"the passages could not be searched: {error}", "server_error"
            ) from error
        identifier = f"chatcmpl-{request.hash.hex()[:24]}"
        if body.stream:
            usage = body.stream_options is not None and body.stream_options.include_usage
            # Admission is checked before the first byte, so that a refusal is still a 402.
            try:
                self._payments.check(voucher, prepared.most)
            except PaymentRequired as refused:
                raise self._unpaid(refused, release) from refused
            return StreamingResponse(self._stream(prepared, voucher, identifier, usage))
        return await http.run_until_disconnect(self._whole, prepared, voucher, identifier)

    def _unpaid(self, refused: PaymentRequired, release: ServedRelease | None) -> ApiError:
        error = ApiError(402, refused.code, str(refused), "payment_required")
        if release is not None:
            error.extra = self._payments.terms(release.id, release.price_in, release.price_out, refused.needed)
        return error

    async def _whole(self, prepared: Prepared, voucher: SignedVoucher, identifier: str) -> Response:
        text = []
        answered: Answered | None = None
        try:
            async with aclosing(self._events(prepared, voucher)) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        text.append(event.text)
                    else:
                        answered = event
        except PaymentRequired as refused:
            raise self._unpaid(refused, prepared.release) from refused
        assert answered is not None
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answered.body.text},
            "finish_reason": answered.body.stop_reason,
            "logprobs": None,
        }
        return Response.json(
            {
                **_envelope("chat.completion", identifier, prepared),
                "choices": [choice],
                "usage": _usage(answered),
                "openledger": extension(answered),
            }
        )

    async def _events(self, prepared: Prepared, voucher: SignedVoucher) -> AsyncGenerator[Delta | Answered, None]:
        """The answer's events, with failures as ApiError."""
        try:
            async with aclosing(self._inference.answer(prepared, voucher)) as events:
                async for event in events:
                    yield event
        except InferenceFailed as error:
            raise _failed(error) from error
        except (AttributionError, StaleChannel) as error:
            raise ApiError(
                503,
                "attribution_failed",
                f"the answer could not be attributed ({error}); nothing is owed for this call",
                "server_error",
            ) from error

    async def _stream(
        self, prepared: Prepared, voucher: SignedVoucher, identifier: str, include_usage: bool
    ) -> AsyncGenerator[bytes, None]:
        envelope = _envelope("chat.completion.chunk", identifier, prepared)

        def chunk(delta: dict[str, str], finish: str | None = None, **more: Any) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
            return _event({**envelope, "choices": [choice], **more})

        yield chunk({"role": "assistant", "content": ""})
        try:
            async with aclosing(self._events(prepared, voucher)) as events:
                async for event in events:
                    if isinstance(event, Delta):
                        yield chunk({"content": event.text})
                    else:
                        yield chunk({}, event.body.stop_reason, openledger=extension(event))
                        if include_usage:
                            yield _event({**envelope, "choices": [], "usage": _usage(event)})
        except ApiError as error:
            yield _event(error.body())
        except PaymentRequired as refused:
            yield _event(self._unpaid(refused, prepared.release).body())
        yield b"data: [DONE]\n\n"


def _failed(error: InferenceFailed) -> ApiError:
    status = _STATUS.get(error.code, 500)
    kind = "invalid_request_error" if status < 500 else "server_error"
    return ApiError(status, error.code, f"{error}; nothing is owed for this call", kind)


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _envelope(kind: str, identifier: str, prepared: Prepared) -> dict[str, Any]:
    return {"id": identifier, "object": kind, "created": int(time.time()), "model": prepared.release.model}


def _usage(answered: Answered) -> dict[str, int]:
    prompt, output = len(answered.body.prompt_tokens), len(answered.body.output_tokens)
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def extension(answered: Answered) -> dict[str, Any]:
    """The `openledger` part of an answer."""
    return {
        "receipt_hash": "0x" + answered.receipt_hash.hex(),
        "receipt": answered.receipt.to_json(),
        "signature": "0x" + answered.body.signature.hex(),
        "fee_micro_open": answered.receipt.fee,
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
        "marks": {"tokens": "exact", "spans": "exact", "retrieval": "exact"},
    }
