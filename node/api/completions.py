"""POST /v1/completions: a prompt continued as it stands, without a chat template; paid and answered for as a chat is.

`prompt` is text, a list of texts, a list of tokens or a list of those: one answer for each, times `n`. No passages are
searched, as a prompt has no place for them. Extensions and errors are those of a chat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from openledger.kernels.engine.messages import SCHEMA_DIALECT
from openledger.kernels.model.tokenizer import ModelTokenizer
from openledger.node.api.errors import ApiError, answering
from openledger.node.api.likelihoods import Seen, completion_logprobs, shown_tokens
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
    MAX_CHOICES,
    Extension,
    SharedBody,
    decode_body,
    logprobs_asked,
    refuse,
    shared_parameters,
)
from openledger.node.http import Request, Response, Router, StreamingResponse
from openledger.node.inference import Answered, Asked, Delta
from openledger.node.payments import SignedVoucher
from openledger.node.records import ChatRequest

USUAL_TOKENS = 16
"""OpenAI's default of `max_tokens` here."""

Prompt = str | tuple[int, ...]


class CompletionBody(SharedBody, frozen=True, kw_only=True):
    """The fields of OpenAI's request that mean something here."""

    prompt: str | list[Any] | None = None
    logprobs: int | None = None
    echo: bool | None = None
    best_of: int | None = None


@dataclass(frozen=True)
class CompletionShape:
    """See `paid_answers.Shape`. `prompts` by choice, for echo; `top` as in chats."""

    tokenizer: ModelTokenizer
    identifier: str
    model: str
    prompts: tuple[str, ...]
    top: int | None
    include_usage: bool
    offsets: dict[int, int] = field(default_factory=dict)
    """Where the next token of each choice of a stream begins."""

    def first(self) -> list[bytes]:
        """The chunks that begin a stream: the prompts, where they are wanted back."""
        return [self._chunk(choice, prompt) for choice, prompt in enumerate(self.prompts) if prompt]

    def delta(self, event: Delta) -> bytes:
        likelihoods = [event.likelihood] if event.likelihood is not None else []
        seen = shown_tokens(self.tokenizer, [event.token], likelihoods)
        if not event.text and not seen:
            return b""
        told = None
        if self.top is not None:
            offset = self.offsets.get(event.choice, 0)
            told = self._logprobs(seen, offset)
            self.offsets[event.choice] = offset + sum(len(text) for text in told["tokens"])
        return self._chunk(event.choice, event.text, logprobs=told)

    def end(self, event: Answered) -> bytes:
        return self._chunk(event.choice, "", finish_reason(event), openledger=extension(event))

    def usage(self, answers: Sequence[Answered]) -> bytes:
        return sse({**self._envelope(), "choices": [], "usage": usage(answers)}) if self.include_usage else b""

    def whole(self, answers: Sequence[Answered]) -> dict[str, Any]:
        return {
            **self._envelope(),
            "choices": [self._choice(answered, len(answers) > 1) for answered in answers],
            "usage": usage(answers),
            "openledger": extensions(answers),
        }

    def _choice(self, answered: Answered, one_of_many: bool) -> dict[str, Any]:
        body = answered.body
        told = None
        if self.top is not None:
            told = self._logprobs(shown_tokens(self.tokenizer, body.output_tokens, answered.likelihoods), 0)
        choice = {
            "index": answered.choice,
            "text": self.prompts[answered.choice] + body.text,
            "finish_reason": finish_reason(answered),
            "logprobs": told,
        }
        return {**choice, "openledger": extension(answered)} if one_of_many else choice

    def _logprobs(self, seen: Sequence[Seen], offset: int) -> dict[str, Any]:
        return completion_logprobs(self.tokenizer, seen, self.top or 0, offset)

    def _chunk(
        self, index: int, text: str, finish: str | None = None, logprobs: dict[str, Any] | None = None, **more: Any
    ) -> bytes:
        choice = {"index": index, "text": text, "finish_reason": finish, "logprobs": logprobs}
        return sse({**self._envelope(), "choices": [choice], **more})

    def _envelope(self) -> dict[str, Any]:
        return envelope("text_completion", self.identifier, self.model)


def parse_completion(
    raw: bytes, models: Models, voucher: SignedVoucher, max_output_tokens: int
) -> tuple[CompletionBody, list[Asked]]:
    """The answers that a request's body asks for. Raises ApiError naming the parameter that is wrong."""
    body = decode_body(raw, CompletionBody, "a completion")
    shared = shared_parameters(body, max_output_tokens)
    prompts = prompts_of(body.prompt)
    if len(prompts) * shared.n > MAX_CHOICES:
        raise refuse("n", f"one call gives at most {MAX_CHOICES} answers, not {len(prompts)} prompts times {shared.n}")
    if body.best_of not in (None, shared.n):
        raise ApiError(
            400, "unsupported_parameter", "best_of: every answer is paid for and shown: leave it out", param="best_of"
        )
    if body.echo and body.logprobs is not None:
        raise ApiError(
            400,
            "unsupported_parameter",
            "echo: log-probabilities of the prompt are not computed: ask for one of both",
            param="echo",
        )
    more = body.openledger or Extension()
    if more.passages:
        raise refuse("openledger.passages", "passages are put before a chat: ask /v1/chat/completions")
    served = models.served(body.model, more.adapters)
    logprobs = 0 if body.logprobs is None else logprobs_asked("logprobs", body.logprobs)
    asked: list[Asked] = []
    for prompt in prompts:
        request = ChatRequest(
            release=served.release.id,
            prompt=prompt,
            max_tokens=min(USUAL_TOKENS, max_output_tokens) if shared.max_tokens is None else shared.max_tokens,
            sampling=shared.sampling,
            stop=shared.stop,
            retrieval_k=0,
            user_seed=shared.seed,
            schema=shared.schema,
            schema_dialect=SCHEMA_DIALECT if shared.schema else "",
            adapters=served.used,
            choice=len(asked),
            channel_id=voucher.voucher.channel_id,
            max_claimable=voucher.voucher.max_claimable,
        )
        asked += Asked(request, served.release, served.adapters, logprobs).choices(shared.n)
    return body, asked


def prompts_of(given: str | list[Any] | None) -> list[Prompt]:
    """The prompts in any of the forms that they may have. Raises ApiError."""
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given:
        if all(isinstance(part, str) for part in given):
            return list(given)
        if _are_tokens(given):
            return [tuple(given)]
        if all(isinstance(part, list) and part and _are_tokens(part) for part in given):
            return [tuple(part) for part in given]
    raise refuse("prompt", "prompt must be text, a list of texts, a list of tokens or a list of such lists, none empty")


def _are_tokens(values: list[Any]) -> bool:
    return all(type(value) is int and 0 <= value < 1 << 32 for value in values)


class CompletionsApi:
    """The handler; see the module's text."""

    def __init__(self, answers: PaidAnswers, models: Models, max_output_tokens: int) -> None:
        self._answers = answers
        self._models = models
        self._max_output_tokens = max_output_tokens

    def mount(self, router: Router) -> None:
        router.add("POST", "/v1/completions", answering(self.complete))

    async def complete(self, http: Request) -> Response | StreamingResponse:
        voucher = self._answers.voucher(http)
        body, asked = await trio.to_thread.run_sync(
            parse_completion, http.body, self._models, voucher, self._max_output_tokens
        )
        prepared = await self._answers.prepare(http, voucher, asked)
        tokenizer = self._answers.tokenizer
        shape = CompletionShape(
            tokenizer=tokenizer,
            identifier=f"cmpl-{asked[0].request.hash.hex()[:24]}",
            model=body.model,
            prompts=tuple(_text(tokenizer, one.request) if body.echo else "" for one in asked),
            top=body.logprobs,
            include_usage=bool(body.stream_options and body.stream_options.include_usage),
        )
        if body.stream:
            return StreamingResponse(self._answers.stream(prepared, voucher, shape, http.path, shape.first()))
        return Response.json(await http.run_until_disconnect(self._answers.whole, prepared, voucher, shape, http.path))


def _text(tokenizer: ModelTokenizer, request: ChatRequest) -> str:
    prompt = request.prompt
    return prompt if isinstance(prompt, str) else tokenizer.decode(prompt or ())
