"""One answer's way: release → passages → prompt → tokens → attribution → receipt.

    quote()    what the call can cost at most, before anything is computed for it
    answer()   streams the text; its last event carries the receipt, which is on disk by then

Requests for different adapters meet in the engine's batch by themselves.
"""

from __future__ import annotations

import math
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
import structlog
import trio

from openledger.evm_ext.proofs.receipt import Mode, Receipt, StopReason, Visibility, ledger_domain, tokens_hash
from openledger.evm_ext.proofs.settlement import encode_entries
from openledger.evm_ext.proofs.split import token_price
from openledger.genesis.hashing import keccak256
from openledger.kernels.attribution.client import AttributionClient
from openledger.kernels.attribution.errors import AttributionError
from openledger.kernels.attribution.messages import Attributed, Retrieval
from openledger.kernels.engine.client import EngineClient
from openledger.kernels.engine.messages import Failed, Finished, Generate, Token
from openledger.kernels.model.tokenizer import Message as TemplateMessage
from openledger.kernels.model.tokenizer import ModelTokenizer
from openledger.node.background import Background, NotRunning
from openledger.node.catalog import ServedRelease
from openledger.node.content import ContentStore
from openledger.node.engine_metrics import EngineMetrics
from openledger.node.payments import Admission, PaymentRequired, Payments, SignedVoucher
from openledger.node.prompt import last_question, with_passages
from openledger.node.receipts import BookedReceipt, ReceiptBook, StaleChannel
from openledger.node.records import AnswerBody, ChatRequest, Message, retrieval_root
from openledger.node.wallet import Wallet

log = structlog.get_logger(__name__)

PASSAGE_TOKENS_BOUND = 256
"""A passage takes at most about this many tokens; used only to say beforehand what a call may cost."""


class InferenceFailed(Exception):
    """No answer; nothing is owed. `code` is the engine's, or `attribution_failed`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Head:
    """The L2 block whose registry fixed the price."""

    number: int
    hash: bytes


class HeadSource(Protocol):
    def __call__(self) -> Head: ...


@dataclass(frozen=True)
class Prepared:
    """A call ready to run: its prompt is fixed. `most` is its greatest possible fee in micro-OPEN."""

    request: ChatRequest
    release: ServedRelease
    retrieval: Retrieval | None
    prompt_tokens: list[int]
    most: int
    head: Head


@dataclass(frozen=True)
class Delta:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True)
class Answered:
    """The end of an answer: everything that is kept of it."""

    body: AnswerBody
    receipt: Receipt
    receipt_hash: bytes
    attributed: Attributed


def prompt_tokens(tokenizer: ModelTokenizer, messages: Sequence[Message]) -> list[int]:
    """The tokens of a conversation by the model's chat template. Raises PromptError."""
    return tokenizer.chat_prompt([TemplateMessage(m.role, m.content) for m in messages])


def stop_reason_of(finished_reason: str, output_tokens: Sequence[int], end_tokens: Sequence[int]) -> StopReason:
    """The receipt's stop reason from the engine's."""
    if finished_reason == "length":
        return StopReason.MAX_TOKENS
    if finished_reason == "cancelled":
        return StopReason.CANCELLED
    return StopReason.END_OF_TEXT if output_tokens and output_tokens[-1] in end_tokens else StopReason.STOP_SEQUENCE


class Inference:
    """Answers questions for one provider; see the module's text."""

    def __init__(
        self,
        *,
        engine: EngineClient,
        attribution: AttributionClient,
        tokenizer: ModelTokenizer,
        payments: Payments,
        book: ReceiptBook,
        content: ContentStore,
        provider: Wallet,
        head: HeadSource,
        platform_bps: int,
        background: Background,
        metrics: EngineMetrics,
    ) -> None:
        self._engine = engine
        self._attribution = attribution
        self._tokenizer = tokenizer
        self._payments = payments
        self._book = book
        self._content = content
        self._provider = provider
        self._head = head
        self._platform_bps = platform_bps
        self._background = background
        self._metrics = metrics
        self._domain = ledger_domain(payments.chain_id)
        self._channel_locks: defaultdict[bytes, trio.Lock] = defaultdict(trio.Lock)

    def quote(self, release: ServedRelease, request: ChatRequest) -> int:
        """About the most that the call can cost, in micro-OPEN, without searching for passages.

        Raises PromptError, InferenceFailed("prompt_too_long").
        """
        prompt = len(prompt_tokens(self._tokenizer, request.messages))
        self._check_length(prompt, request.max_tokens)
        return self._fee(release, prompt + request.retrieval_k * PASSAGE_TOKENS_BOUND, request.max_tokens)

    def _check_length(self, prompt_tokens: int, output_tokens: int) -> None:
        """The engine would refuse it too, but only after an answer has begun."""
        info = self._engine.info
        if info is not None and prompt_tokens + output_tokens > info.max_context:
            raise InferenceFailed(
                "prompt_too_long",
                f"a prompt of {prompt_tokens} tokens and an answer of up to {output_tokens} do not fit the context of "
                f"{info.max_context}: shorten the prompt, lower max_tokens or pass fewer passages",
            )

    def _fee(self, release: ServedRelease, prompt_tokens: int, output_tokens: int) -> int:
        return token_price(prompt_tokens, output_tokens, release.price_in, release.price_out, self._platform_bps)

    async def prepare(self, release: ServedRelease, request: ChatRequest) -> Prepared:
        """Search for passages and fix the prompt.

        Raises AttributionError, PromptError, InferenceFailed("prompt_too_long").
        """
        head = self._head()
        retrieval = None
        if release.index_folders and request.retrieval_k:
            retrieval = await self._attribution.retrieve(
                release.index_folders,
                last_question(request.messages),
                request.retrieval_k,
                release.manifest.attribution.retrieval_minimum_score,
            )
        messages = with_passages(request.messages, retrieval.chunks if retrieval else ())
        prompt = prompt_tokens(self._tokenizer, messages)
        self._check_length(len(prompt), request.max_tokens)
        most = self._fee(release, len(prompt), request.max_tokens)
        return Prepared(request, release, retrieval, prompt, most, head)

    async def answer(self, prepared: Prepared, voucher: SignedVoucher) -> AsyncGenerator[Delta | Answered, None]:
        """The answer's text as it comes, then `Answered`.

        Leaving the iteration early ends the answer there: what was sampled until then is owed, and its receipt (stop
        reason `cancelled`) is booked though nobody waits for it. Raises InferenceFailed, PaymentRequired,
        AttributionError, StaleChannel; nothing is owed then.
        """
        identifier = uuid.uuid4().hex
        send, receive = trio.open_memory_channel[Delta | Answered | Exception](math.inf)
        try:
            self._background.start(self._work, identifier, prepared, voucher, send)
        except NotRunning as error:
            raise InferenceFailed("engine_unavailable", str(error)) from error
        with receive:
            try:
                async for event in receive:
                    if isinstance(event, Exception):
                        raise event
                    yield event
            finally:
                self._engine.stop(identifier)

    async def _work(
        self,
        identifier: str,
        prepared: Prepared,
        voucher: SignedVoucher,
        send: trio.MemorySendChannel[Delta | Answered | Exception],
    ) -> None:
        """Answer and book, whether or not anybody still reads what is sent."""

        def tell(event: Delta | Answered | Exception) -> None:
            with suppress(trio.BrokenResourceError):
                send.send_nowait(event)

        with send:
            try:
                with self._payments.admit(voucher, prepared.most) as admission:
                    finished = await self._generate(identifier, prepared, admission.payer, tell)
                    release = prepared.release
                    attributed = await self._attribution.attribute(
                        release.index_folders, finished.output_tokens, prepared.retrieval, release.manifest.attribution
                    )
                    tell(await self._book_answer(prepared, admission, finished, attributed))
            except (InferenceFailed, PaymentRequired, AttributionError, StaleChannel) as error:
                tell(error)
            except Exception as error:  # the edge of this task: one answer's fault must not end the others
                log.exception("an answer failed", release=prepared.release.id)
                tell(InferenceFailed("internal_error", f"the node failed on this answer: {error}"))

    async def _generate(
        self, identifier: str, prepared: Prepared, payer: bytes, tell: Callable[[Delta], None]
    ) -> Finished:
        request, release = prepared.request, prepared.release
        generate = Generate(
            request_id=identifier,
            prompt_tokens=prepared.prompt_tokens,
            max_tokens=request.max_tokens,
            cache_salt=release.id.to_bytes(8, "big"),
            payer=payer,
            adapters=[release.adapter] if release.adapter else [],
            sampling=request.sampling,
            seed=request.seed,
            request_hash=request.hash,
            stop=list(request.stop),
        )
        began, first = trio.current_time(), True
        async with aclosing(self._engine.generate(generate)) as events:
            async for event in events:
                if isinstance(event, Token):
                    if first:
                        self._metrics.first_token.observe(trio.current_time() - began)
                        first = False
                    if event.text:
                        tell(Delta(event.text))
                elif isinstance(event, Failed):
                    self._metrics.answers.labels(event.code).inc()
                    raise InferenceFailed(event.code, event.message)
                else:
                    self._metrics.answer.observe(trio.current_time() - began)
                    self._metrics.answers.labels(event.stop_reason).inc()
                    return event
        raise InferenceFailed("engine_died", "the engine ended without an answer: try again")

    async def _book_answer(
        self, prepared: Prepared, admission: Admission, finished: Finished, attributed: Attributed
    ) -> Answered:
        request, release = prepared.request, prepared.release
        channel_id = request.channel_id
        owed = self._fee(release, len(prepared.prompt_tokens), len(finished.output_tokens))
        vector = tuple((contribution, weight) for contribution, weight in attributed.vector)
        receipt = Receipt(
            release=release.id,
            numerics=release.manifest.numerics,
            mode=Mode.EXACT,
            request_hash=request.hash,
            prompt_tokens_hash=tokens_hash(prepared.prompt_tokens),
            output_tokens_hash=tokens_hash(finished.output_tokens),
            stop_reason=stop_reason_of(finished.stop_reason, finished.output_tokens, self._tokenizer.end_tokens),
            sampling_hash=request.sampling_hash,
            fingerprint=finished.fingerprint,
            retrieval_root=retrieval_root(prepared.retrieval),
            evidence_hash=attributed.evidence_hash,
            vector_hash=keccak256(encode_entries(vector)),
            channel_id=channel_id,
            cumulative_before=0,
            cumulative_after=0,
            l2_block_number=prepared.head.number,
            l2_block_hash=prepared.head.hash,
            visibility=Visibility.PUBLIC,
        )
        # Receipts of a channel form a chain, so they are numbered one at a time, at the end of the answer.
        async with self._channel_locks[channel_id]:
            with trio.CancelScope(shield=True):
                before = self._payments.owed_by(channel_id)
                receipt = replace(receipt, cumulative_before=before, cumulative_after=before + owed)
                receipt_hash = receipt.hash(self._domain)
                body = AnswerBody(
                    request=request,
                    prompt_tokens=prepared.prompt_tokens,
                    output_tokens=finished.output_tokens,
                    stop_reason=finished.stop_reason,
                    text=finished.text,
                    retrieval=prepared.retrieval,
                    evidence=attributed.evidence,
                    vector=attributed.vector,
                    receipt=receipt.to_json(),
                    signature=receipt.sign(self._domain, self._provider.private_key),
                    voucher_signature=admission.voucher.signature,
                )
                booked = BookedReceipt(
                    receipt_hash, channel_id, release.id, before, before + owed, encode_entries(vector), b""
                )
                await trio.to_thread.run_sync(self._keep, body, booked, admission)
        log.info(
            "answered",
            release=release.id,
            prompt_tokens=len(prepared.prompt_tokens),
            output_tokens=len(finished.output_tokens),
            fee_micro_open=owed,
            contributions=len(vector),
        )
        return Answered(body, receipt, receipt_hash, attributed)

    def _keep(self, body: AnswerBody, booked: BookedReceipt, admission: Admission) -> None:
        encoded = body.encode()
        self._content.put_named(booked.hash, encoded)
        content_hash = self._content.put(encoded)
        self._book.add(
            replace(booked, body=content_hash), admission.voucher.voucher.max_claimable, admission.voucher.signature
        )


def citations(answered: Answered) -> list[dict[str, object]]:
    """What the answer may cite as [1], [2], …: the passages put before the model."""
    retrieval = answered.body.retrieval
    return [
        {"number": n, **{k: v for k, v in msgspec.to_builtins(c).items() if k != "index"}}
        for n, c in enumerate(retrieval.chunks if retrieval else (), 1)
    ]
