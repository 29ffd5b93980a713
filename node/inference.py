"""One answer's way: release → passages → prompt → tokens → attribution → receipt.

    quote()    what the call can cost at most, before anything is computed for it
    answer()   streams the text; its last events carry the receipts, which are on disk by then

A call may ask for several answers: they are generated beside each other, and each has its receipt. Requests for
different adapters meet in the engine's batch by themselves.
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
from msgspec import structs

from openledger.evm_ext.proofs.receipt import Mode, Receipt, StopReason, Visibility, ledger_domain, mode_of, tokens_hash
from openledger.evm_ext.proofs.settlement import encode_entries
from openledger.evm_ext.proofs.split import token_price
from openledger.genesis.hashing import keccak256
from openledger.kernels.attribution.client import AttributionClient
from openledger.kernels.attribution.errors import AttributionError
from openledger.kernels.attribution.messages import Attributed, Retrieval, RetrievedChunk
from openledger.kernels.engine.client import EngineClient
from openledger.kernels.engine.messages import Adapter, Failed, Finished, Generate, Likelihood, Token
from openledger.kernels.model.tokenizer import Message as TemplateMessage
from openledger.kernels.model.tokenizer import ModelTokenizer, PromptError
from openledger.node.background import Background, NotRunning
from openledger.node.catalog import ServedRelease
from openledger.node.content import ContentStore
from openledger.node.engine_metrics import EngineMetrics
from openledger.node.payments import Admission, PaymentRequired, Payments, SignedVoucher
from openledger.node.prompt import last_question, with_passages
from openledger.node.receipts import BookedReceipt, ReceiptBook, StaleChannel
from openledger.node.records import AnswerBody, ChatRequest, retrieval_root
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
class Asked:
    """An answer that is asked for. `adapters` are what the engine loads; `logprobs` what is told beside, as in `Generate`."""

    request: ChatRequest
    release: ServedRelease
    adapters: tuple[Adapter, ...] = ()
    logprobs: int = 0

    def choices(self, count: int) -> list[Asked]:
        """This answer and others to the same request, each drawn by itself."""
        first = self.request.choice
        return [replace(self, request=structs.replace(self.request, choice=first + n)) for n in range(count)]


@dataclass(frozen=True)
class PreparedAnswer:
    """An answer ready to run: its prompt is fixed."""

    asked: Asked
    retrieval: Retrieval | None
    prompt_tokens: list[int]


@dataclass(frozen=True)
class Prepared:
    """A call ready to run. `most` is its greatest possible fee in micro-OPEN."""

    answers: tuple[PreparedAnswer, ...]
    most: int
    head: Head

    @property
    def release(self) -> ServedRelease:
        """The one of all its answers."""
        return self.answers[0].asked.release


@dataclass(frozen=True)
class Delta:
    """A piece of the text of answer number `choice`, and the tokens whose likelihoods were asked for."""

    choice: int
    text: str
    token: int
    likelihood: Likelihood | None = None


@dataclass(frozen=True)
class Answered:
    """The end of answer number `choice`: everything that is kept of it."""

    choice: int
    body: AnswerBody
    receipt: Receipt
    receipt_hash: bytes
    attributed: Attributed
    likelihoods: tuple[Likelihood, ...] = ()


def prompt_tokens(
    tokenizer: ModelTokenizer, request: ChatRequest, passages: Sequence[RetrievedChunk] = ()
) -> list[int]:
    """The tokens before the answer: those of the conversation, with the passages, by the model's chat template; or those
    of the prompt as it stands. Raises PromptError."""
    if request.prompt is None:
        messages = with_passages(request.messages, passages)
        return tokenizer.chat_prompt([TemplateMessage(m.role, m.content) for m in messages])
    tokens = tokenizer.prompt(request.prompt) if isinstance(request.prompt, str) else list(request.prompt)
    if not tokens:
        raise PromptError("the prompt is empty: give the model something to continue")
    for token in tokens:
        if not 0 <= token < tokenizer.vocabulary:
            raise PromptError(f"token {token} of the prompt is not in the vocabulary of {tokenizer.vocabulary}")
    return tokens


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
        answer_timeout_s: float = math.inf,
    ) -> None:
        """`answer_timeout_s`: how long an answer may take, its wait for the engine included; what there is by then is it."""
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
        self._answer_timeout_s = answer_timeout_s
        self._domain = ledger_domain(payments.chain_id)
        self._channel_locks: defaultdict[bytes, trio.Lock] = defaultdict(trio.Lock)

    @property
    def tokenizer(self) -> ModelTokenizer:
        """The model's."""
        return self._tokenizer

    def quote(self, asked: Sequence[Asked]) -> int:
        """About the most that the call can cost, in micro-OPEN, without searching for passages.

        Raises PromptError, InferenceFailed("prompt_too_long").
        """
        most = 0
        for one in asked:
            request = one.request
            prompt = len(prompt_tokens(self._tokenizer, request))
            self._check_length(prompt, request.max_tokens)
            bound = prompt + request.retrieval_k * PASSAGE_TOKENS_BOUND
            most += self._fee(one.release, bound, request.max_tokens)
        return most

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

    async def prepare(self, asked: Sequence[Asked]) -> Prepared:
        """Search for passages and fix the prompts. All of one call are of one release.

        Raises AttributionError, PromptError, InferenceFailed("prompt_too_long").
        """
        head, most = self._head(), 0
        found: dict[tuple[str, int], Retrieval] = {}
        answers = []
        for one in asked:
            request, release = one.request, one.release
            retrieval = None
            if release.index_folders and request.retrieval_k:
                question = last_question(request.messages)
                retrieval = found.get((question, request.retrieval_k))
                if retrieval is None:
                    retrieval = found[question, request.retrieval_k] = await self._attribution.retrieve(
                        release.index_folders,
                        question,
                        request.retrieval_k,
                        release.manifest.attribution.retrieval_minimum_score,
                    )
            prompt = prompt_tokens(self._tokenizer, request, retrieval.chunks if retrieval else ())
            self._check_length(len(prompt), request.max_tokens)
            most += self._fee(release, len(prompt), request.max_tokens)
            answers.append(PreparedAnswer(one, retrieval, prompt))
        return Prepared(tuple(answers), most, head)

    async def answer(self, prepared: Prepared, voucher: SignedVoucher) -> AsyncGenerator[Delta | Answered, None]:
        """The answers' texts as they come, then one `Answered` for each.

        Leaving the iteration early ends the answers there: what was sampled until then is owed, and its receipt (stop
        reason `cancelled`) is booked though nobody waits for it. Raises InferenceFailed, PaymentRequired,
        AttributionError, StaleChannel; nothing is owed then.
        """
        identifiers = [uuid.uuid4().hex for _ in prepared.answers]
        send, receive = trio.open_memory_channel[Delta | Answered | Exception](math.inf)
        try:
            self._background.start(self._work, identifiers, prepared, voucher, send)
        except NotRunning as error:
            raise InferenceFailed("engine_unavailable", str(error)) from error
        with receive:
            try:
                async for event in receive:
                    if isinstance(event, Exception):
                        raise event
                    yield event
            finally:
                self._stop(identifiers)

    def _stop(self, identifiers: Sequence[str]) -> None:
        for identifier in identifiers:
            self._engine.stop(identifier)

    async def _work(
        self,
        identifiers: list[str],
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
                    ended = []
                    for choice, finished in await self._generate_all(identifiers, prepared, admission.payer, tell):
                        answer = prepared.answers[choice]
                        release = answer.asked.release
                        attributed = await self._attribution.attribute(
                            release.index_folders,
                            finished.output_tokens,
                            answer.retrieval,
                            release.manifest.attribution,
                        )
                        ended.append((choice, answer, finished, attributed))
                    for choice, answer, finished, attributed in ended:
                        tell(await self._book_answer(choice, answer, prepared.head, admission, finished, attributed))
            except (InferenceFailed, PaymentRequired, AttributionError, StaleChannel) as error:
                tell(error)
            except Exception as error:  # the edge of this task: one answer's fault must not end the others
                log.exception("an answer failed", release=prepared.release.id)
                tell(InferenceFailed("internal_error", f"the node failed on this answer: {error}"))

    async def _generate_all(
        self, identifiers: list[str], prepared: Prepared, payer: bytes, tell: Callable[[Delta], None]
    ) -> list[tuple[int, Finished]]:
        """What the engine answered, by choice. Those that were stopped before they began are left out; where none is
        left, or any failed, InferenceFailed is raised."""
        finished: dict[int, Finished] = {}
        failures: list[InferenceFailed] = []
        late = False

        async def stop_when_late() -> None:
            nonlocal late
            await trio.sleep(self._answer_timeout_s)
            late = True
            self._stop(identifiers)

        async def generate(choice: int) -> None:
            try:
                answer = prepared.answers[choice]
                finished[choice] = await self._generate(choice, identifiers[choice], answer, payer, tell)
            except InferenceFailed as error:
                failures.append(error)
                if error.code != "cancelled":
                    answers.cancel_scope.cancel()

        async with trio.open_nursery() as clock:
            if math.isfinite(self._answer_timeout_s):
                clock.start_soon(stop_when_late)
            async with trio.open_nursery() as answers:
                for choice in range(len(identifiers)):
                    answers.start_soon(generate, choice)
            clock.cancel_scope.cancel()
        for error in failures:
            if error.code != "cancelled" or not finished:
                if late and error.code == "cancelled":
                    raise InferenceFailed(
                        "timeout", f"no answer had begun after {self._answer_timeout_s:g} s: try again later"
                    )
                raise error
        return sorted(finished.items())

    async def _generate(
        self, choice: int, identifier: str, answer: PreparedAnswer, payer: bytes, tell: Callable[[Delta], None]
    ) -> Finished:
        asked, request = answer.asked, answer.asked.request
        generate = Generate(
            request_id=identifier,
            prompt_tokens=answer.prompt_tokens,
            max_tokens=request.max_tokens,
            cache_salt=asked.release.id.to_bytes(8, "big"),
            payer=payer,
            adapters=list(asked.adapters),
            sampling=request.sampling,
            seed=request.seed,
            request_hash=request.hash,
            stop=list(request.stop),
            logprobs=asked.logprobs,
            schema=request.schema,
        )
        watch = self._metrics.watch()
        async with aclosing(self._engine.generate(generate)) as events:
            async for event in events:
                if isinstance(event, Token):
                    watch.token()
                    if event.text or event.likelihood is not None:
                        tell(Delta(choice, event.text, event.token, event.likelihood))
                elif isinstance(event, Failed):
                    watch.failed(event.code)
                    raise InferenceFailed(event.code, event.message)
                else:
                    watch.finished(event.stop_reason)
                    return event
        raise InferenceFailed("engine_died", "the engine ended without an answer: try again")

    async def _book_answer(
        self,
        choice: int,
        answer: PreparedAnswer,
        head: Head,
        admission: Admission,
        finished: Finished,
        attributed: Attributed,
    ) -> Answered:
        request, release = answer.asked.request, answer.asked.release
        channel_id = request.channel_id
        owed = self._fee(release, len(answer.prompt_tokens), len(finished.output_tokens))
        vector = tuple((contribution, weight) for contribution, weight in attributed.vector)
        mode = mode_of(release.manifest.numerics)
        attested = mode == Mode.ATTESTED
        receipt = Receipt(
            release=release.id,
            numerics=release.manifest.numerics,
            mode=mode,
            request_hash=request.hash,
            prompt_tokens_hash=tokens_hash(answer.prompt_tokens),
            output_tokens_hash=tokens_hash(finished.output_tokens),
            stop_reason=stop_reason_of(finished.stop_reason, finished.output_tokens, self._tokenizer.end_tokens),
            sampling_hash=request.sampling_hash,
            fingerprint=keccak256(finished.fingerprint) if attested else finished.fingerprint,
            retrieval_root=retrieval_root(answer.retrieval),
            evidence_hash=attributed.evidence_hash,
            vector_hash=keccak256(encode_entries(vector)),
            channel_id=channel_id,
            cumulative_before=0,
            cumulative_after=0,
            l2_block_number=head.number,
            l2_block_hash=head.hash,
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
                    prompt_tokens=answer.prompt_tokens,
                    output_tokens=finished.output_tokens,
                    stop_reason=finished.stop_reason,
                    text=finished.text,
                    retrieval=answer.retrieval,
                    evidence=attributed.evidence,
                    vector=attributed.vector,
                    receipt=receipt.to_json(),
                    signature=receipt.sign(self._domain, self._provider.private_key),
                    voucher_signature=admission.voucher.signature,
                    activations=finished.fingerprint if attested else b"",
                )
                booked = BookedReceipt(
                    receipt_hash, channel_id, release.id, before, before + owed, encode_entries(vector), b""
                )
                await trio.to_thread.run_sync(self._keep, body, booked, admission)
        log.info(
            "answered",
            release=release.id,
            prompt_tokens=len(answer.prompt_tokens),
            output_tokens=len(finished.output_tokens),
            fee_micro_open=owed,
            contributions=len(vector),
        )
        return Answered(choice, body, receipt, receipt_hash, attributed, tuple(finished.likelihoods))

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
