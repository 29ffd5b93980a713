"""POST /v1/chat/completions, as OpenAI's clients call it, paid by a voucher.

Documented extensions: the request may carry `openledger: {"passages": K, "adapters": [{"model", "weight"}]}` (how many
passages to put before the model; whose adapters to add up instead of the model's own), `top_k` and `min_p`. The answer
carries `openledger` (see `paid_answers.py`), of a stream in the last chunk of each choice. Errors have OpenAI's shape; an
unpaid call is 402 with `accepts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from openledger.kernels.engine.messages import SCHEMA_DIALECT
from openledger.kernels.model.tokenizer import ModelTokenizer
from openledger.node.api.errors import ApiError, answering
from openledger.node.api.likelihoods import chat_logprobs, shown_tokens
from openledger.node.api.models import Models
from openledger.node.api.paid_answers import (
    PaidAnswers,
    envelope,
    extension,
    extensions,
    finish_reason,
    sse,
    usage,
)
from openledger.node.api.parameters import (
    Extension,
    SharedBody,
    decode_body,
    in_range,
    logprobs_asked,
    refuse,
    shared_parameters,
)
from openledger.node.http import Request, Response, Router, StreamingResponse
from openledger.node.inference import Answered, Asked, Delta
from openledger.node.payments import SignedVoucher
from openledger.node.records import ChatRequest, Message

MAX_MESSAGES = 256
MAX_PASSAGES = 8
USUAL_PASSAGES = 4


class _Part(msgspec.Struct, frozen=True):
    type: str
    text: str = ""


class _Turn(msgspec.Struct, frozen=True):
    role: str
    content: str | list[_Part] | None = None


class ChatBody(SharedBody, frozen=True, kw_only=True):
    """The fields of OpenAI's request that mean something here."""

    messages: list[_Turn]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    modalities: list[str] | None = None


@dataclass(frozen=True)
class ChatShape:
    """See `paid_answers.Shape`. `top` is how many alternatives of each token are told; None for no log-probabilities."""

    tokenizer: ModelTokenizer
    identifier: str
    model: str
    top: int | None
    include_usage: bool

    def first(self, choices: int) -> list[bytes]:
        """The chunks that begin a stream."""
        return [self._chunk(choice, {"role": "assistant", "content": ""}) for choice in range(choices)]

    def delta(self, event: Delta) -> bytes:
        likelihoods = [event.likelihood] if event.likelihood is not None else []
        seen = shown_tokens(self.tokenizer, [event.token], likelihoods)
        if not event.text and not seen:
            return b""
        told = chat_logprobs(self.tokenizer, seen, self.top) if self.top is not None else None
        return self._chunk(event.choice, {"content": event.text}, logprobs=told)

    def end(self, event: Answered) -> bytes:
        return self._chunk(event.choice, {}, finish_reason(event), openledger=extension(event))

    def usage(self, answers: Sequence[Answered]) -> bytes:
        if not self.include_usage:
            return b""
        return sse({**self._envelope("chat.completion.chunk"), "choices": [], "usage": usage(answers)})

    def whole(self, answers: Sequence[Answered]) -> dict[str, Any]:
        return {
            **self._envelope("chat.completion"),
            "choices": [self._choice(answered, len(answers) > 1) for answered in answers],
            "usage": usage(answers),
            "openledger": extensions(answers),
        }

    def _choice(self, answered: Answered, one_of_many: bool) -> dict[str, Any]:
        body = answered.body
        told = None
        if self.top is not None:
            seen = shown_tokens(self.tokenizer, body.output_tokens, answered.likelihoods)
            told = chat_logprobs(self.tokenizer, seen, self.top)
        choice = {
            "index": answered.choice,
            "message": {"role": "assistant", "content": body.text, "refusal": None},
            "finish_reason": finish_reason(answered),
            "logprobs": told,
        }
        return {**choice, "openledger": extension(answered)} if one_of_many else choice

    def _chunk(
        self,
        index: int,
        delta: dict[str, str],
        finish: str | None = None,
        logprobs: dict[str, Any] | None = None,
        **more: Any,
    ) -> bytes:
        choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
        return sse({**self._envelope("chat.completion.chunk"), "choices": [choice], **more})

    def _envelope(self, kind: str) -> dict[str, Any]:
        return envelope(kind, self.identifier, self.model)


def parse_chat(
    raw: bytes, models: Models, voucher: SignedVoucher, max_output_tokens: int
) -> tuple[ChatBody, list[Asked]]:
    """The answers that a request's body asks for. Raises ApiError naming the parameter that is wrong."""
    body = decode_body(raw, ChatBody, "a chat completion")
    messages = _messages(body.messages)
    if body.max_completion_tokens is not None:
        body = msgspec.structs.replace(body, max_tokens=body.max_completion_tokens)
    shared = shared_parameters(body, max_output_tokens)
    if body.modalities is not None and set(body.modalities) != {"text"}:
        raise ApiError(400, "unsupported_parameter", "modalities: these models only write text", param="modalities")
    logprobs = 0
    if body.logprobs:
        logprobs = logprobs_asked("top_logprobs", body.top_logprobs or 0)
    elif body.top_logprobs:
        raise refuse("top_logprobs", "top_logprobs is only told where logprobs is true")
    more = body.openledger or Extension()
    passages = USUAL_PASSAGES if more.passages is None else more.passages
    in_range("openledger.passages", passages, 0, MAX_PASSAGES)
    served = models.served(body.model, more.adapters)
    request = ChatRequest(
        release=served.release.id,
        messages=messages,
        max_tokens=max_output_tokens if shared.max_tokens is None else shared.max_tokens,
        sampling=shared.sampling,
        stop=shared.stop,
        retrieval_k=passages,
        user_seed=shared.seed,
        schema=shared.schema,
        schema_dialect=SCHEMA_DIALECT if shared.schema else "",
        adapters=served.used,
        channel_id=voucher.voucher.channel_id,
        max_claimable=voucher.voucher.max_claimable,
    )
    asked = Asked(request, served.release, served.adapters, logprobs)
    return body, asked.choices(shared.n)


def _messages(turns: list[_Turn]) -> tuple[Message, ...]:
    if not 0 < len(turns) <= MAX_MESSAGES:
        raise refuse("messages", f"messages must have 1 to {MAX_MESSAGES} entries")
    messages = []
    for turn in turns:
        role = "system" if turn.role == "developer" else turn.role
        if role not in ("system", "user", "assistant"):
            raise refuse("messages", f"the role of a message is system, user or assistant, not {turn.role!r:.80}")
        messages.append(Message(role, _text(turn)))  # type: ignore[arg-type]  # checked above
    return tuple(messages)


def _text(turn: _Turn) -> str:
    if isinstance(turn.content, str):
        return turn.content
    if turn.content is None or any(part.type != "text" for part in turn.content):
        raise ApiError(
            400, "unsupported_content", "only text can be sent: the model sees no images or audio", param="messages"
        )
    return "".join(part.text for part in turn.content)


class ChatApi:
    """The handler; see the module's text."""

    def __init__(self, answers: PaidAnswers, models: Models, max_output_tokens: int) -> None:
        self._answers = answers
        self._models = models
        self._max_output_tokens = max_output_tokens

    def mount(self, router: Router) -> None:
        router.add("POST", "/v1/chat/completions", answering(self.complete))

    async def complete(self, http: Request) -> Response | StreamingResponse:
        voucher = self._answers.voucher(http)
        body, asked = await trio.to_thread.run_sync(
            parse_chat, http.body, self._models, voucher, self._max_output_tokens
        )
        prepared = await self._answers.prepare(http, voucher, asked)
        shape = ChatShape(
            tokenizer=self._answers.tokenizer,
            identifier=f"chatcmpl-{asked[0].request.hash.hex()[:24]}",
            model=body.model,
            top=(body.top_logprobs or 0) if body.logprobs else None,
            include_usage=bool(body.stream_options and body.stream_options.include_usage),
        )
        if body.stream:
            first = shape.first(len(asked))
            return StreamingResponse(self._answers.stream(prepared, voucher, shape, http.path, first))
        return Response.json(await http.run_until_disconnect(self._answers.whole, prepared, voucher, shape, http.path))
