"""The engine inside its process: requests in, messages out, one step at a time. No I/O of its own."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from torch import Tensor

from openledger.genesis.counted import counted
from openledger.kernels.engine.adapters import AdapterRefused, ModuleWeights, module_shape
from openledger.kernels.engine.answer import Answer
from openledger.kernels.engine.attested import Attestation
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.constraint import SchemaCompiler, SchemaRefused
from openledger.kernels.engine.kv_cache import PageAllocator
from openledger.kernels.engine.messages import (
    MAX_LOGPROBS,
    MAX_PRIORITY,
    Failed,
    FailureCode,
    Finished,
    FromWorker,
    Generate,
    Likelihood,
    Load,
    Sampling,
    StopReason,
    Token,
    Verified,
    Verify,
)
from openledger.kernels.engine.residency import AdapterStore, pack_adapter
from openledger.kernels.engine.scheduler import Scheduler
from openledger.kernels.engine.sequence import Sequence
from openledger.kernels.model.batch import Part, batch_of
from openledger.kernels.model.decode import DecodeSteps
from openledger.kernels.model.judge import POSITION, Judge, Judged
from openledger.kernels.model.likelihood import likelihood
from openledger.kernels.model.load import Model
from openledger.kernels.model.transformer import Batch, KvCache
from openledger.kernels.parallel.load import adapter_placer

MAX_ADAPTERS: Final = 8
MAX_STOP_STRINGS: Final = 16
MAX_STOP_CHARACTERS: Final = 256


class RequestRefused(Exception):
    """A request that cannot be served; `code` as in `messages.Failed`."""

    def __init__(self, code: FailureCode, message: str) -> None:
        super().__init__(message)
        self.code: FailureCode = code


class ServingEngine:
    """Serves one model. Not thread-safe: one thread submits, cancels and steps."""

    def __init__(self, model: Model, config: EngineConfig) -> None:
        config.check()
        self.model = model
        self.config = config
        self.max_context = min(config.max_context, model.transformer.max_context)
        pages = -(-config.kv_tokens // config.page_tokens)
        steps = model.transformer.steps
        recorded = config.decode_graphs == "always" or (config.decode_graphs == "auto" and steps.name == "triton")
        recorded = recorded and config.tensor_parallel == 1
        self._cache = KvCache(model.transformer.config, pages + recorded, config.page_tokens, steps)
        self._scheduler = Scheduler(config, PageAllocator(pages, config.page_tokens, config.kept_tokens))
        self._place = adapter_placer(model)
        alone = steps.array if config.tensor_parallel == 1 else None
        self._adapters = AdapterStore(model.config, config, self._place, alone, pinned=steps.device == "cuda")
        self._scheduler.place, self._scheduler.leave = self._bring_adapters, self._leave_adapters
        self._judge = Judge(steps)
        # Before anything is recorded: its place does not move afterwards.
        self._attestation = Attestation(model.transformer, max(config.max_step_tokens, config.max_batch))
        self._decode = (
            DecodeSteps(
                model.transformer,
                self._judge,
                self._cache,
                rows=config.max_batch,
                context=self.max_context,
                spare=pages,
            )
            if recorded
            else None
        )
        self._schemas = SchemaCompiler(model.tokenizer, model.config.vocabulary)
        self._sequences: dict[str, Sequence] = {}
        self._loading: set[str] = set()
        self._prompt_tokens = 0
        self._generated_tokens = 0

    @property
    def idle(self) -> bool:
        """Nothing to run and nothing being loaded."""
        return not self._sequences

    @property
    def only_loading(self) -> bool:
        """All there is to do is to wait for adapters."""
        return bool(self._sequences) and len(self._loading) == len(self._sequences)

    def submit(self, request: Generate | Verify) -> list[FromWorker]:
        """Take a request, or say why not."""
        if request.request_id in self._sequences:
            return [Failed(request.request_id, "bad_request", f"request {request.request_id!r} is already running")]
        try:
            self._check(request)
            constraint = self._schemas.compile(request.schema) if request.schema else None
        except RequestRefused as error:
            return [Failed(request.request_id, error.code, str(error))]
        except SchemaRefused as error:
            return [Failed(request.request_id, "bad_request", str(error))]
        ends = self.model.tokenizer.end_tokens if request.stop_tokens is None else request.stop_tokens
        answer = Answer(self.model.tokenizer, request.stop, ends, request.max_tokens)
        tokens = list(request.prompt_tokens)
        if isinstance(request, Verify):
            tokens += request.output_tokens
        sequence = Sequence(request, tokens, answer, constraint=constraint)
        self._sequences[request.request_id] = sequence
        if request.adapters:
            self._loading.add(request.request_id)
            self._adapters.ask(request.request_id, request.adapters)
        else:
            self._scheduler.add(sequence)
        return []

    def cancel(self, request_id: str) -> list[FromWorker]:
        """Stop working on a request. What was sampled of an answer until then is its result."""
        sequence = self._sequences.get(request_id)
        if sequence is None:
            return []
        if sequence.judged and not sequence.forced:
            return [self._finish(sequence, "cancelled")]
        return [self._fail(sequence, "cancelled", "the request was cancelled")]

    def step(self) -> list[FromWorker]:
        """Run one batch. Returns what it gave; nothing if there was nothing to run."""
        messages = list(self._collect_adapters())
        plan: list[tuple[Sequence, int]] = []
        masks: dict[int, Any] = {}
        rows = 0
        for sequence, count in self._scheduler.plan():
            wanted = len(sequence.logit_positions(count))
            try:
                masks.update(enumerate(sequence.masks(wanted), rows))
            except SchemaRefused as error:
                messages.append(self._fail(sequence, "bad_request", str(error)))
                continue
            rows += wanted
            plan.append((sequence, count))
        if not plan:
            return messages
        batch, asked = self._batch(plan)
        logits, judged = self._run(batch, asked, masks)
        hidden = self._attestation.hidden(len(asked))
        row = logit_row = 0
        for sequence, count in plan:
            wanted = len(sequence.logit_positions(count))
            faulty = bool(judged.faults[row : row + count].any())
            if not sequence.judged:
                self._prompt_tokens += max(0, min(count, sequence.prompt_length - sequence.computed))
            sequence.computed += count
            if faulty:
                where = "the model's numbers left the range of binary32; nothing is owed for this request"
                messages.append(self._fail(sequence, "numeric_fault", where))
            else:
                self._scheduler.keep(sequence, count)
                for index in range(logit_row, logit_row + wanted):
                    if hidden is not None:
                        self._attestation.add(sequence.request.request_id, hidden[index], sequence.forced)
                    messages += self._take(sequence, judged.tokens[index], judged.hashes[index], logits[index])
                    if sequence.request.request_id not in self._sequences:
                        break
            row += count
            logit_row += wanted
        return messages

    def _run(self, batch: Batch, asked: Any, masks: Mapping[int, Any]) -> tuple[Tensor, Judged]:
        """Logits and what follows from them: as it was recorded, or step by step."""
        recorded = self._decode.run(batch, asked, masks) if self._decode is not None else None
        if recorded is not None:
            return recorded
        logits, faults = self.model.transformer.forward(batch, self._cache)
        return logits, self._judge.outcome(logits, faults, batch.logit_rows, asked, masks)

    def warm_up(self) -> None:
        """Run one prompt through, so that no request waits for kernels to be compiled."""
        modules = {
            (0, "o_proj"): ModuleWeights(*_zero_module(*module_shape(self.model.config, "o_proj")), np.float32(0.0))
        }
        lora = self._place(pack_adapter(modules, self.model.config))
        sampling = Sampling(temperature_milli=1000)
        for prompt in (1, min(200, self.max_context - 2)):
            request = Generate(
                request_id="",
                prompt_tokens=[0] * prompt,
                max_tokens=2,
                stop_tokens=[],
                sampling=sampling,
                cache_salt=b"warm",
            )
            self.submit(request)
            self._sequences[""].adapters = (lora,)
            while not self.idle:
                self.step()
        self._prompt_tokens = self._generated_tokens = 0
        if self._decode is not None:
            self._decode.prepare()

    def load(self) -> Load:
        pages, counts = self._scheduler.pages, self._adapters.counts
        return Load(
            running=len(self._scheduler.running),
            waiting=len(self._scheduler.waiting) + len(self._loading),
            kv_tokens_used=(pages.total - pages.free) * pages.page_tokens,
            kv_tokens=pages.total * pages.page_tokens,
            adapters_resident=len(self._adapters.host),
            adapter_hits_total=counts.host_hits,
            adapter_loads_total=counts.disk_hits + counts.source_loads,
            adapters_on_device=len(self._adapters.device),
            adapter_device_bytes=self._adapters.device.bytes,
            adapter_host_bytes=self._adapters.host.bytes,
            adapter_device_hits_total=counts.device_hits,
            adapter_device_loads_total=counts.device_loads,
            adapter_disk_hits_total=counts.disk_hits,
            adapter_evictions_total=counts.evictions,
            reused_tokens_total=self._scheduler.reused,
            preemptions_total=self._scheduler.preempted,
            prompt_tokens_total=self._prompt_tokens,
            generated_tokens_total=self._generated_tokens,
        )

    def close(self) -> None:
        self._adapters.close()

    def _check(self, request: Generate | Verify) -> None:
        vocabulary, length = self.model.config.vocabulary, len(request.prompt_tokens)
        output = request.output_tokens if isinstance(request, Verify) else []
        if not length:
            raise RequestRefused("bad_request", "the prompt is empty")
        if request.max_tokens < 1:
            raise RequestRefused("bad_request", f"max_tokens must be at least 1, not {request.max_tokens}")
        if length >= self.max_context or length + request.max_tokens > self.max_context:
            raise RequestRefused(
                "prompt_too_long",
                f"a prompt of {length} tokens and an answer of up to {request.max_tokens} do not fit the context "
                f"of {self.max_context}: shorten the prompt or lower max_tokens",
            )
        for token in (*request.prompt_tokens, *output, *(request.stop_tokens or ())):
            if not 0 <= token < vocabulary:
                raise RequestRefused("bad_request", f"token {token} is not in the vocabulary of {vocabulary}")
        if len(request.seed) != 32 or len(request.request_hash) != 32:
            raise RequestRefused("bad_request", "seed and request_hash have 32 bytes each")
        try:
            request.sampling.check()
        except ValueError as error:
            raise RequestRefused("bad_request", str(error)) from error
        if len(request.stop) > MAX_STOP_STRINGS or any(
            not 0 < len(stop) <= MAX_STOP_CHARACTERS for stop in request.stop
        ):
            raise RequestRefused(
                "bad_request",
                f"at most {MAX_STOP_STRINGS} stop strings of 1 to {MAX_STOP_CHARACTERS} characters are allowed",
            )
        if isinstance(request, Generate):
            if abs(request.priority) > MAX_PRIORITY:
                raise RequestRefused("bad_request", f"priority is from -{MAX_PRIORITY} to {MAX_PRIORITY}")
            if not 0 <= request.logprobs <= MAX_LOGPROBS:
                raise RequestRefused("bad_request", f"logprobs is from 0 to {MAX_LOGPROBS}, not {request.logprobs}")
        if len(request.adapters) > MAX_ADAPTERS:
            raise RequestRefused("bad_request", f"at most {MAX_ADAPTERS} adapters can be used in one request")
        if isinstance(request, Verify) and not 0 < len(output) <= request.max_tokens:
            raise RequestRefused(
                "bad_request", f"{len(output)} output tokens to verify, but max_tokens is {request.max_tokens}"
            )
        if len(self._sequences) >= self.config.max_waiting:
            raise RequestRefused("overloaded", f"{len(self._sequences)} requests are being served: try again later")
        if isinstance(request, Generate) and request.payer:
            theirs = sum(sequence.payer == request.payer for sequence in self._sequences.values())
            if theirs >= self.config.max_waiting_per_payer:
                raise RequestRefused("overloaded", f"{theirs} requests of this payer are being served: wait for them")

    def _collect_adapters(self) -> Iterator[FromWorker]:
        for request_id, outcome in self._adapters.loaded():
            sequence = self._sequences[request_id]
            if isinstance(outcome, AdapterRefused):
                yield self._fail(sequence, "adapter_refused", str(outcome))
                continue
            self._loading.remove(request_id)
            sequence.adapter_key = outcome
            self._scheduler.add(sequence)

    def _bring_adapters(self, sequence: Sequence) -> bool:
        """Its adapters onto the device, before it runs. False while there is no room for them."""
        if sequence.request.adapters:
            adapters = self._adapters.place(sequence.request.request_id)
            if adapters is None:
                return False
            sequence.adapters = adapters
        return True

    def _leave_adapters(self, sequence: Sequence) -> None:
        """It does not run after all, or gave way."""
        if sequence.request.adapters:
            self._adapters.leave(sequence.request.request_id)
            sequence.adapters = ()

    def _batch(self, plan: list[tuple[Sequence, int]]) -> tuple[Batch, Any]:
        """What the step computes, and what is drawn from each row of logits."""
        parts, asked = [], []
        for sequence, count in plan:
            first, wanted = sequence.computed, sequence.logit_positions(count)
            tokens = sequence.tokens[first : first + count]
            parts.append(Part(tokens, first, sequence.pages, len(wanted), sequence.adapters))
            for position in wanted:
                row = sequence.asks().copy()
                row[POSITION] = position + 1
                asked.append(row)
        return batch_of(parts, self.config.page_tokens), np.array(asked)

    def _take(self, sequence: Sequence, token: int, logits_hash: int, logits: Tensor) -> list[FromWorker]:
        """What was drawn from a row of logits: the next token, or the check of a claimed one."""
        request = sequence.request
        sequence.drawn(token, logits_hash)
        if isinstance(request, Verify):
            return self._compare(sequence, request, token)
        self._generated_tokens += 1
        sequence.tokens.append(token)
        text, reason = sequence.answer.push(token, sequence.complete)
        told = Likelihood(*likelihood(logits, token, request.logprobs)) if request.logprobs else None
        if told is not None:
            sequence.likelihoods.append(told)
        messages: list[FromWorker] = [Token(request.request_id, token, text, told)]
        if reason is not None:
            messages.append(self._finish(sequence, reason))
        return messages

    def _finish(self, sequence: Sequence, reason: StopReason) -> Finished:
        attested = self._attestation.fingerprint(sequence.request.request_id)
        self._forget(sequence)
        return Finished(
            request_id=sequence.request.request_id,
            stop_reason=reason,
            output_tokens=sequence.tokens[sequence.prompt_length :],
            text=sequence.answer.text,
            fingerprint=attested if self._attestation.on else sequence.fingerprint,
            prompt_tokens=sequence.prompt_length,
            likelihoods=sequence.likelihoods,
        )

    def _compare(self, sequence: Sequence, request: Verify, token: int) -> list[FromWorker]:
        index = sequence.judged - 1
        claimed = request.output_tokens[index]
        last = index == len(request.output_tokens) - 1
        if self._attestation.on:
            token = claimed
        if token != claimed:
            return [self._verdict(sequence, f"output token {index} is {token}, not {claimed}")]
        _, reason = sequence.answer.push(token, sequence.complete)
        if reason is None and last and request.stop_reason == "cancelled":
            reason = "cancelled"
        if reason is None and last:
            return [self._verdict(sequence, f"the answer does not end after {counted(index + 1, 'token')}")]
        if reason is not None and not last:
            return [
                self._verdict(
                    sequence, f"the answer ends ({reason}) after {counted(index + 1, 'token')}, more are claimed"
                )
            ]
        if not last:
            return []
        if reason != request.stop_reason:
            return [self._verdict(sequence, f"the answer ends by {reason!r}, not by {request.stop_reason!r}")]
        if self._attestation.on:
            return [self._verdict(sequence, self._attestation.verdict(request))]
        if sequence.fingerprint != request.fingerprint:
            return [
                self._verdict(
                    sequence,
                    f"same tokens, but the fingerprint is 0x{sequence.fingerprint.hex()}, "
                    f"not 0x{request.fingerprint.hex()}: the logits were others",
                )
            ]
        return [self._verdict(sequence, "")]

    def _verdict(self, sequence: Sequence, difference: str) -> Verified:
        self._forget(sequence)
        agrees = "re-run, activations agree" if self._attestation.on else "re-sampled, same fingerprint"
        return Verified(
            request_id=sequence.request.request_id,
            ok=not difference,
            detail=difference or f"{counted(sequence.judged, 'token')} {agrees}",
            fingerprint=sequence.fingerprint,
        )

    def _fail(self, sequence: Sequence, code: FailureCode, message: str) -> Failed:
        self._forget(sequence)
        return Failed(sequence.request.request_id, code, message)

    def _forget(self, sequence: Sequence) -> None:
        self._sequences.pop(sequence.request.request_id, None)
        self._loading.discard(sequence.request.request_id)
        self._scheduler.remove(sequence)
        self._adapters.release(sequence.request.request_id)
        self._attestation.forget(sequence.request.request_id)


def _zero_module(outputs: int, inputs: int) -> tuple[Any, Any, Any, Any]:
    one = np.ones(1, np.float32)
    return np.zeros((1, inputs), np.int8), one, np.zeros((outputs, 1), np.int8), np.ones(outputs, np.float32)
