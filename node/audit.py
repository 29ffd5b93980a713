"""Checking a receipt wholly, from what anyone can have: the chain, and content by hash.

Every step of an answer is done again and compared: messages → template → prompt tokens; a teacher-forced pass that
re-samples every token; the stop reason; the question's vector and the search for passages; spans and vector; the fee;
the signature; the place in the settlement.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal

import trio

from openledger.evm_ext.proofs.eip712 import InvalidSignature
from openledger.evm_ext.proofs.merkle import StandardTree
from openledger.evm_ext.proofs.receipt import Mode, Receipt, ledger_domain, mode_of, tokens_hash
from openledger.evm_ext.proofs.settlement import (
    InvalidSettlement,
    Settlement,
    decode_settlement,
    encode_entries,
)
from openledger.evm_ext.proofs.split import token_price
from openledger.genesis.counted import counted
from openledger.genesis.hashing import keccak256
from openledger.kernels.attribution.client import AttributionClient
from openledger.kernels.attribution.errors import AttributionError
from openledger.kernels.attribution.messages import Attributed
from openledger.kernels.engine.client import EngineClient, EngineError
from openledger.kernels.engine.messages import SCHEMA_DIALECT, Adapter, Verified, Verify
from openledger.kernels.model.tokenizer import ModelTokenizer, PromptError
from openledger.node.catalog import Catalog, ReleaseNotReady, ServedRelease, UnknownRelease
from openledger.node.inference import prompt_tokens, stop_reason_of
from openledger.node.prompt import last_question, template_hash
from openledger.node.records import AnswerBody, ChatRequest, InvalidRecord, decode_receipt_list, retrieval_root
from openledger.node.registry import NotRegistered, Registry

ATTESTED_LIMITS = (
    "attested: not drawn again. Activations tell a missing or another adapter and another model; not coarser weights, "
    "nor which of the likely tokens was drawn"
)

Verdict = Literal["good", "false", "unchecked"]
"""`unchecked`: something needed for the check is not here."""


@dataclass(frozen=True)
class Finding:
    """One thing checked about a receipt."""

    name: str
    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True)
class SettledPayload:
    """A settlement as it was executed: its block and calldata."""

    block_number: int
    payload: bytes


@dataclass(frozen=True)
class Sources:
    """Where an auditor looks. All of it is local to the auditor's node or checked by hash.

    `named(hash)` gives a receipt's body and the list behind a receipts root; `registry_at(block hash)` reads the
    contracts there, None at the head; `settlement(root)` finds the transaction that settled a root.
    """

    chain_id: int
    named: Callable[[bytes], bytes | None]
    registry_at: Callable[[bytes | None], Registry]
    canonical_hash: Callable[[int], bytes | None]
    settlement: Callable[[bytes], SettledPayload | None]
    catalog: Catalog
    platform_bps: int


class Auditor:
    """Re-does answers. One engine and one attribution process serve any number of audits."""

    def __init__(
        self, sources: Sources, engine: EngineClient, attribution: AttributionClient, tokenizer: ModelTokenizer
    ) -> None:
        self._sources = sources
        self._domain = ledger_domain(sources.chain_id)
        self._engine = engine
        self._attribution = attribution
        self._tokenizer = tokenizer

    async def audit(self, receipt_hash: bytes) -> AsyncGenerator[Finding, None]:
        """Each finding as it is made. What cannot be looked at ends the audit with an `unchecked` finding."""
        encoded = self._sources.named(receipt_hash)
        if encoded is None:
            yield Finding("body", "unchecked", "nobody asked has the body of this receipt")
            return
        try:
            body = AnswerBody.decode(encoded)
            receipt = body.signed_receipt()
        except InvalidRecord as error:
            yield Finding("body", "false", str(error))
            return
        yield _finding(
            "body", receipt.hash(self._domain) == receipt_hash, "its hash is the receipt's", "it is another receipt's"
        )
        for finding in self._papers(body, receipt):
            yield finding
        try:
            release = await trio.to_thread.run_sync(self._sources.catalog.any_release, receipt.release)
        except UnknownRelease as error:
            yield Finding("release", "false", str(error))
            return
        except ReleaseNotReady as error:
            yield Finding("release", "unchecked", str(error))
            return
        async with aclosing(self._redo(body, receipt, release)) as findings:
            async for finding in findings:
                yield finding
        yield await trio.to_thread.run_sync(self._settled, receipt_hash, body, receipt)

    def _papers(self, body: AnswerBody, receipt: Receipt) -> Iterator[Finding]:
        """What needs no model: signature, hashes, the block that pins the price."""
        registry = self._sources.registry_at(None)
        channel = registry.channel(receipt.channel_id)
        if channel is None:
            yield Finding("channel", "false", f"there is no channel 0x{receipt.channel_id.hex()}")
        else:
            try:
                signer = receipt.recover(self._domain, body.signature)
            except InvalidSignature as error:
                yield Finding("signature", "false", str(error))
            else:
                shown = f"0x{signer.hex()}"
                yield _finding("signature", signer == channel.receiver, f"by the provider {shown}", f"by {shown}")
        yield _finding("request", receipt.request_hash == body.request.hash)
        yield _finding(
            "request terms",
            (receipt.release, receipt.channel_id, receipt.sampling_hash)
            == (body.request.release, body.request.channel_id, body.request.sampling_hash),
        )
        pinned = self._sources.canonical_hash(receipt.l2_block_number)
        yield _finding(
            "price block", pinned == receipt.l2_block_hash, f"L2 block {receipt.l2_block_number}", "not on the chain"
        )

    async def _redo(self, body: AnswerBody, receipt: Receipt, release: ServedRelease) -> AsyncGenerator[Finding, None]:
        engine = await self._engine.ready()
        manifest = release.manifest
        same = (
            manifest.base_model_root == engine.weights_root
            and manifest.tokenizer_hash == engine.tokenizer_hash
            and manifest.tables_hash == engine.tables_root
            and manifest.template_hash == template_hash(engine.template_hash)
            and manifest.numerics == engine.numerics == receipt.numerics
        )
        yield _finding(
            "model", same, f"{manifest.base_model} under {manifest.numerics}", "the release is of another model"
        )
        attested = receipt.mode == Mode.ATTESTED
        yield _finding(
            "mode",
            receipt.mode == mode_of(manifest.numerics),
            "attested: nobody can recompute its tokens" if attested else "exact",
            f"{manifest.numerics} gives no exact answers" if not attested else f"{manifest.numerics} is exact",
        )

        passages = body.retrieval.chunks if body.retrieval else []
        try:
            prompt = prompt_tokens(self._tokenizer, body.request, passages)
        except PromptError as error:
            yield Finding("prompt", "false", str(error))
            return
        yield _finding(
            "prompt",
            prompt == body.prompt_tokens and tokens_hash(prompt) == receipt.prompt_tokens_hash,
            f"{counted(len(prompt), 'token')} from {_sources(body.request)} and {counted(len(passages), 'passage')}",
        )

        try:
            adapters = await trio.to_thread.run_sync(self._adapters, body.request, release)
        except ReleaseNotReady as error:
            yield Finding("adapters", "unchecked", str(error))
            return
        if body.request.schema_dialect not in ("", SCHEMA_DIALECT):
            said = f"its schema is read by {body.request.schema_dialect}, this node knows {SCHEMA_DIALECT}"
            yield Finding("tokens", "unchecked", said)
            return
        if body.request.adapters:
            yield await trio.to_thread.run_sync(self._owned, body.request, release)
        try:
            verified = await self._engine.verify(
                Verify(
                    request_id=f"audit-{receipt.request_hash.hex()}",
                    prompt_tokens=prompt,
                    max_tokens=body.request.max_tokens,
                    output_tokens=body.output_tokens,
                    stop_reason=body.stop_reason,
                    fingerprint=body.activations if attested else receipt.fingerprint,
                    adapters=adapters,
                    sampling=body.request.sampling,
                    seed=body.request.seed,
                    request_hash=body.request.hash,
                    stop=list(body.request.stop),
                    schema=body.request.schema,
                )
            )
        except EngineError as error:
            yield Finding("tokens", "unchecked", str(error))
        else:
            for finding in _attested(body, receipt, verified) if attested else _exact(body, receipt, verified):
                yield finding
        reason = stop_reason_of(body.stop_reason, body.output_tokens, self._tokenizer.end_tokens)
        yield _finding(
            "output",
            tokens_hash(body.output_tokens) == receipt.output_tokens_hash and reason == receipt.stop_reason,
            f"ended by {reason.name.lower().replace('_', ' ')}",
        )
        whole = self._tokenizer.decode(body.output_tokens)
        yield _finding("text", whole.startswith(body.text), "of these tokens", "not the text of the tokens")
        async for finding in self._attribution_again(body, receipt, release):
            yield finding
        yield self._fee(body, receipt)

    def _adapters(self, request: ChatRequest, release: ServedRelease) -> list[Adapter]:
        """What the request names, else the release's own. Raises ReleaseNotReady."""
        if not request.adapters:
            return [release.adapter] if release.adapter else []
        return [self._sources.catalog.adapter(used.digest, used.weight_milli) for used in request.adapters]

    def _owned(self, request: ChatRequest, release: ServedRelease) -> Finding:
        """Whether the adapters of an ensemble may earn for this release: none is registered by others alone."""
        registered = list(self._sources.registry_at(None).releases())
        for used in request.adapters:
            owners = {r.owner for r in registered if r.adapter_hash == used.digest}
            if owners and release.owner not in owners:
                return Finding("adapters", "false", f"0x{used.digest.hex()} is another owner's, who is not paid for it")
        return Finding(
            "adapters", "good", counted(len(request.adapters), "adapter") + " by hash, as the request names them"
        )

    async def _attribution_again(
        self, body: AnswerBody, receipt: Receipt, release: ServedRelease
    ) -> AsyncGenerator[Finding, None]:
        found, asked, policy = body.retrieval, body.request.retrieval_k, release.manifest.attribution
        if found is None:
            as_asked = not asked or not release.index_folders
        else:
            as_asked = (found.k, found.minimum_score) == (asked, policy.retrieval_minimum_score)
        yield _finding(
            "passages",
            as_asked and retrieval_root(found) == receipt.retrieval_root,
            f"{len(found.chunks) if found else 0} of at most {asked}",
            "not what the request and the policy ask for, or not what the receipt says",
        )
        if not release.index_folders:
            nothing = not body.vector and keccak256(encode_entries(())) == receipt.vector_hash
            yield _finding(
                "vector", nothing, "the release has no Datanets", "a release without Datanets pays nobody's data"
            )
            return
        try:
            if found is not None:
                (vector,) = await self._attribution.embed([last_question(body.request.messages)])
                yield _finding(
                    "query vector",
                    vector == found.query_vector,
                    "the question's",
                    "not the question's: it finds other passages",
                )
            again: Attributed = await self._attribution.attribute(
                release.index_folders, body.output_tokens, found, release.manifest.attribution
            )
        except AttributionError as error:
            yield Finding("attribution", "unchecked" if error.code == "unavailable" else "false", str(error))
            return
        yield _finding(
            "evidence",
            again.evidence_hash == receipt.evidence_hash and keccak256(body.evidence) == receipt.evidence_hash,
            f"{counted(len(again.spans), 'span')} found again",
        )
        entries = tuple((contribution, weight) for contribution, weight in again.vector)
        yield _finding(
            "vector",
            again.vector == body.vector and keccak256(encode_entries(entries)) == receipt.vector_hash,
            ", ".join(f"contribution {c}: {w / 100:.2f} %" for c, w in entries) or "nothing found",
        )

    def _fee(self, body: AnswerBody, receipt: Receipt) -> Finding:
        try:
            price_in, price_out = self._sources.registry_at(receipt.l2_block_hash).prices(receipt.release)
        except (NotRegistered, LookupError) as error:
            return Finding("fee", "false", str(error))
        right = token_price(
            len(body.prompt_tokens), len(body.output_tokens), price_in, price_out, self._sources.platform_bps
        )
        return _finding(
            "fee", receipt.fee == right, f"{right} micro-OPEN", f"{receipt.fee} instead of {right} micro-OPEN"
        )

    def _settled(self, receipt_hash: bytes, body: AnswerBody, receipt: Receipt) -> Finding:
        """Whether the ledger settled this receipt as it stands: place, channel, release, fee and vector."""
        for root, hashes in self._lists(receipt_hash):
            if StandardTree.of_receipts(hashes).root != root:
                return Finding("settlement", "false", f"the list of 0x{root.hex()} does not hash to it")
            settled = self._sources.settlement(root)
            if settled is None:
                return Finding("settlement", "unchecked", f"no settlement with root 0x{root.hex()} in the ledger")
            try:
                problem = _record_problem(decode_settlement(settled.payload), hashes.index(receipt_hash), body, receipt)
            except InvalidSettlement as error:
                return Finding("settlement", "false", str(error))
            return _finding("settlement", problem is None, f"in L2 block {settled.block_number}", problem or "")
        return Finding("settlement", "unchecked", "not settled yet")

    def _lists(self, receipt_hash: bytes) -> Iterator[tuple[bytes, list[bytes]]]:
        """Settlements whose list of receipts is here and holds this one, newest first."""
        registry = self._sources.registry_at(None)
        for number in range(registry.settlement_count(), 0, -1):
            root = registry.settlement(number).receipts_root
            listed = self._sources.named(root)
            if listed is not None:
                hashes = decode_receipt_list(listed)
                if receipt_hash in hashes:
                    yield root, hashes


def _finding(name: str, good: bool, detail: str = "", otherwise: str = "") -> Finding:
    return Finding(name, "good" if good else "false", detail if good else otherwise or detail)


def _exact(body: AnswerBody, receipt: Receipt, verified: Verified) -> Iterator[Finding]:
    """What teacher forcing says of an exact answer: everything."""
    yield _finding("tokens", verified.ok, f"all {len(body.output_tokens)} sampled again alike", verified.detail)
    yield _finding("fingerprint", verified.fingerprint == receipt.fingerprint, f"0x{verified.fingerprint.hex()}")


def _attested(body: AnswerBody, receipt: Receipt, verified: Verified) -> Iterator[Finding]:
    """What it says of an attested one: whether the activations are those of this model and these adapters."""
    committed = keccak256(body.activations) == receipt.fingerprint
    yield _finding("fingerprint", committed, "of its activations", "the activations are not those of the receipt")
    yield _finding("activations", verified.ok, verified.detail)
    yield Finding("tokens", "unchecked", ATTESTED_LIMITS)


def _sources(request: ChatRequest) -> str:
    return "the messages" if request.prompt is None else "the prompt as it stands"


def _record_problem(settlement: Settlement, index: int, body: AnswerBody, receipt: Receipt) -> str | None:
    """What differs between record `index` of a settlement and the receipt; None where nothing does."""
    for group in settlement.groups:
        if index >= len(group.records):
            index -= len(group.records)
            continue
        record = group.records[index]
        if group.channel_id != receipt.channel_id:
            return "the settlement debits another channel"
        if group.release != receipt.release:
            return f"the settlement names release {group.release}"
        if record.fee != receipt.fee:
            return f"the settlement takes {record.fee} micro-OPEN, the receipt says {receipt.fee}"
        if list(record.entries) != [(c, w) for c, w in body.vector]:
            return "the settlement pays by another vector"
        if receipt.cumulative_after > group.max_claimable:
            return f"no voucher covers {receipt.cumulative_after} micro-OPEN"
        return None
    return "the settlement has fewer records than its list has receipts"
