"""What a contributor and a Datanet's owner do, step by step, over a node's API and JSON-RPC.

Everything that changes the chain is signed here, with the caller's own key. Every function can be called again after
an interruption and goes on where it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
import trio

from openledger.evm_ext.proofs.datanet import Contribution, ContributionStatus, registry_domain
from openledger.genesis.parameters import MICRO_OPEN_WEI
from openledger.kernels.documents import DocumentError
from openledger.node.contract_reads import block_number, events_of, read, send_all
from openledger.node.datanets.documents import CheckedDocument, check_document, shown_source
from openledger.node.datanets.drafts import ContributionDraft, Drafts
from openledger.node.errors import UserError
from openledger.node.extraction.extract import EXTRACTED_SUFFIXES, extract_file
from openledger.node.payer import Api, ApiRefused
from openledger.node.predeploy_contracts import datanet_registry
from openledger.node.revert_words import in_words
from openledger.node.rpc_client import RpcClient
from openledger.node.wallet import TransactionReverted, Wallet

SIGNATURE_VALID_S = 24 * 3600
POLL_S = 0.5
PATIENCE_S = 180.0
"""How long one and the same problem of the node is waited out."""

Stage = Literal["committing", "uploading", "waiting", "revealing", "done"]


@dataclass(frozen=True)
class Economy:
    """What a contributor must know of the chain; the deposit is micro-OPEN, the window in blocks."""

    chain_id: int
    commit_deposit: int
    reveal_min_blocks: int
    reveal_max_blocks: int
    max_document_bytes: int


@dataclass(frozen=True)
class Contributed:
    """A document on chain. `name` is its file's name."""

    name: str
    contribution: int
    document_hash: bytes


@dataclass(frozen=True)
class ContributeProgress:
    """Where one document stands."""

    name: str
    stage: Stage
    contribution: int = 0


@dataclass(frozen=True)
class PublishProgress:
    """Where publishing a version stands; `done` of `total` in the stage's own units, 0 of 0 where there are none."""

    stage: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class PublishedVersion:
    """A version whose corpus is on chain."""

    datanet: int
    version: int
    root: bytes
    corpus_root: bytes
    tokens: int


def hash_of(text: str) -> bytes:
    """The bytes behind 0x and hex digits."""
    return bytes.fromhex(text.removeprefix("0x"))


async def economy(api: Api) -> Economy:
    """Deposit, window and limits, from a node."""
    told = await api.get("/v1/economy")
    return Economy(
        told["chain_id"],
        told["commit_deposit_micro_open"],
        told["reveal_min_blocks"],
        told["reveal_max_blocks"],
        told["max_document_bytes"],
    )


async def create_datanet(
    rpc: RpcClient,
    api: Api,
    wallet: Wallet,
    name: str,
    *,
    description: str = "",
    treasury: bytes | None = None,
    public: bool = True,
) -> int:
    """Create a Datanet owned by `wallet` and return its id.

    Raises TransactionReverted, ApiRefused, RpcError, RpcUnavailable, ApiUnavailable.
    """
    metadata = bytes(32)
    if description:
        kept = await api.request("POST", "/v1/content", json={"version": 1, "description": description})
        metadata = hash_of(kept["content_hash"])
    registry = datanet_registry()
    receipt = await wallet.send(rpc, registry, "create", name, metadata, treasury or bytes(20), public)
    return int(events_of(registry, receipt, "DatanetCreated")[0].arguments["datanet"])


def read_file(path: Path, licence: str, limit_bytes: int) -> CheckedDocument:
    """A file as a document that may be contributed, its text if it is of another kind. Raises UserError saying what to
    change."""
    try:
        if path.suffix.lower() in EXTRACTED_SUFFIXES:
            text = extract_file(path, limit_bytes=limit_bytes)
            return check_document(text.name, text.data, licence, limit_bytes=limit_bytes, source=text.source)
        size = path.stat().st_size
        # Type and size are told before a byte is read.
        data = path.read_bytes() if size <= limit_bytes else bytes(limit_bytes + 1)
        return check_document(path.name, data, licence, limit_bytes=limit_bytes)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except DocumentError as error:
        raise UserError(str(error)) from error


async def contribute(
    rpc: RpcClient,
    api: Api,
    wallet: Wallet,
    datanet: int,
    documents: Sequence[CheckedDocument],
    *,
    folder: Path,
    on_progress: Callable[[ContributeProgress], None] = lambda _: None,
) -> list[Contributed]:
    """Contribute documents to a Datanet: commit, upload, wait, reveal, each signed by `wallet`.

    The salt of each commitment is in a file below `folder` before it is used, so that an interrupted call can be
    repeated: what is done is not done again. A document is uploaded after its commitment is in a block: until then
    nobody else has seen it. Raises UserError (a document of somebody else's), TransactionReverted, ApiRefused,
    RpcError, RpcUnavailable, ApiUnavailable.
    """
    rules = await economy(api)
    registry = datanet_registry()
    await _datanet(rpc, datanet)  # an unknown one is said before anything is paid
    drafts = Drafts(folder, rules.chain_id, datanet, wallet.address)
    done: dict[bytes, Contributed] = {}
    unique = {document.hash: document for document in documents}

    for document_hash, document in unique.items():
        found = await _contribution_of(rpc, datanet, document_hash, wallet.address)
        if found:
            done[document_hash] = Contributed(document.metadata.name, found, document_hash)
            on_progress(ContributeProgress(document.metadata.name, "done", found))

    left = [(document, drafts.open(document)) for h, document in unique.items() if h not in done]
    committed = await _commit(rpc, wallet, rules, datanet, drafts, left, on_progress)
    for document, _ in left:
        on_progress(ContributeProgress(document.metadata.name, "uploading"))
        await _upload(api, document)
    if left:
        for document, _ in left:
            on_progress(ContributeProgress(document.metadata.name, "waiting"))
        first = max(committed.values()) + rules.reveal_min_blocks
        deadline = await _wait_for_block(rpc, first) + SIGNATURE_VALID_S
        calls = []
        for document, draft in left:
            on_progress(ContributeProgress(document.metadata.name, "revealing"))
            calls.append(_reveal_arguments(draft, rules.chain_id, deadline, wallet))
        receipts = await send_all(rpc, wallet, registry, "reveal", calls)
        for (document, draft), receipt in zip(left, receipts, strict=True):
            number = int(events_of(registry, receipt, "Contributed")[0].arguments["contribution"])
            drafts.close(draft)
            done[document.hash] = Contributed(document.metadata.name, number, document.hash)
            on_progress(ContributeProgress(document.metadata.name, "done", number))
    return [done[h] for h in unique]


async def _datanet(rpc: RpcClient, datanet: int) -> tuple[int, int]:
    """How many approvals and versions a Datanet has. Raises TransactionReverted for an unknown one."""
    try:
        *_, approvals, versions = await read(rpc, datanet_registry(), "getDatanet", datanet)
    except TransactionReverted as error:
        raise TransactionReverted(in_words(str(error))) from error
    return int(approvals), int(versions)


async def _wait_for_block(rpc: RpcClient, number: int) -> int:
    """The time of the newest block in seconds, once it is at least block `number`."""
    while True:
        head = await rpc.call("eth_getBlockByNumber", "latest", False)
        if int(head["number"], 16) >= number:
            return int(head["timestamp"], 16)
        await trio.sleep(POLL_S)


async def _contribution_of(rpc: RpcClient, datanet: int, document_hash: bytes, contributor: bytes) -> int:
    """The id of this contributor's contribution of a document, 0 where there is none.

    Raises UserError where the document is another's.
    """
    registry = datanet_registry()
    (found,) = await read(rpc, registry, "contributionOf", datanet, document_hash)
    if not found:
        return 0
    ((who, _, _, status, *_),) = await read(rpc, registry, "getContribution", found)
    if status == ContributionStatus.REJECTED:  # its document is free again
        return 0
    if hash_of(who) == contributor:
        return int(found)
    raise UserError(f"contribution {found} of Datanet {datanet} already holds this document, from {who}")


async def _commit(
    rpc: RpcClient,
    wallet: Wallet,
    rules: Economy,
    datanet: int,
    drafts: Drafts,
    left: Sequence[tuple[CheckedDocument, ContributionDraft]],
    on_progress: Callable[[ContributeProgress], None],
) -> dict[bytes, int]:
    """The block of each draft's commitment, by commitment; those that are not on chain yet are sent."""
    registry = datanet_registry()
    blocks: dict[bytes, int] = {}

    async def look(draft: ContributionDraft) -> bytes:
        commitment = draft.commitment(rules.chain_id)
        payer, block, _ = await read(rpc, registry, "commitments", commitment)
        if int(payer, 16):
            blocks[commitment] = int(block)
        return commitment

    missing = []
    now = await block_number(rpc)
    for document, draft in left:
        commitment = await look(draft)
        if commitment not in blocks:
            missing.append([datanet, commitment])
            on_progress(ContributeProgress(document.metadata.name, "committing"))
        elif now >= blocks[commitment] + rules.reveal_max_blocks:
            drafts.close(draft)
            raise UserError(
                f"the commitment to {document.metadata.name} was not revealed in time and is void: run the command "
                "again to commit anew (anyone may `forfeit` the old deposit)"
            )
    try:
        await send_all(rpc, wallet, registry, "commit", missing, value_wei=rules.commit_deposit * MICRO_OPEN_WEI)
    except TransactionReverted as error:
        # One that was sent before an interruption came into a block just now.
        if "CommitmentExists" not in str(error):
            raise
        return await _commit(rpc, wallet, rules, datanet, drafts, left, on_progress)
    for _, draft in left:
        await look(draft)
    return blocks


def _reveal_arguments(draft: ContributionDraft, chain_id: int, deadline: int, wallet: Wallet) -> list[Any]:
    reveal = Contribution(
        draft.datanet,
        draft.contributor,
        draft.document_hash,
        draft.metadata_hash,
        draft.size,
        draft.salt,
        deadline,
    )
    signature = reveal.sign(registry_domain(chain_id), wallet.private_key)
    values = tuple(getattr(reveal, name) for name in Contribution.TYPES)
    return [values, signature]


async def _upload(api: Api, document: CheckedDocument) -> None:
    about = document.metadata
    source = {} if about.source is None else {"source": orjson.dumps(shown_source(about.source)).decode()}
    kept = await api.request(
        "POST",
        "/v1/documents",
        params={"name": about.name, "licence": about.licence, "title": about.title, **source},
        content=document.data,
        headers={"content-type": about.media_type},
    )
    if (hash_of(kept["document_hash"]), hash_of(kept["metadata_hash"])) != (document.hash, about.hash):
        raise UserError(f"the node at {api.url} keeps {about.name} under other hashes: it runs another version")


async def _owners(sent: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """The receipt of what only an owner may send; a refusal says so in words."""
    try:
        return await sent
    except TransactionReverted as error:
        raise TransactionReverted(in_words(str(error))) from error


async def contributions(api: Api, datanet: int) -> list[dict[str, Any]]:
    """Everything contributed to a Datanet, as the API shows it."""
    found: list[dict[str, Any]] = []
    while True:
        after = found[-1]["id"] if found else 0
        told = await api.get(f"/v1/datanets/{datanet}/contributions?after={after}&limit=500")
        if not told["contributions"]:
            return found
        found += told["contributions"]


async def approve(rpc: RpcClient, wallet: Wallet, datanet: int, identifiers: Sequence[int]) -> None:
    """Admit pending contributions, in this order. Raises TransactionReverted, RpcError, RpcUnavailable."""
    await _owners(wallet.send(rpc, datanet_registry(), "approve", datanet, list(identifiers)))


async def reject(rpc: RpcClient, wallet: Wallet, contribution: int, reason: str) -> None:
    """Turn a pending contribution down. Raises as `approve`."""
    await _owners(wallet.send(rpc, datanet_registry(), "reject", contribution, reason))


async def publish(
    rpc: RpcClient,
    api: Api,
    wallet: Wallet,
    datanet: int,
    *,
    on_progress: Callable[[PublishProgress], None] = lambda _: None,
) -> PublishedVersion:
    """Publish the approved contributions as a version, have the node index it, and commit to its corpus.

    A version of the same contributions that is already there is used. Raises TransactionReverted, UserError, ApiRefused,
    RpcError, RpcUnavailable, ApiUnavailable.
    """
    registry = datanet_registry()
    approvals, versions = await _datanet(rpc, datanet)
    number, root = int(versions), b""
    if number:
        ((root, count, _),) = await read(rpc, registry, "getVersion", datanet, number)
    if not number or count != approvals:
        on_progress(PublishProgress("publishing the version"))
        receipt = await _owners(wallet.send(rpc, registry, "publishVersion", datanet))
        event = events_of(registry, receipt, "VersionPublished")[0].arguments
        number, root = int(event["version"]), event["root"]
    index = await _indexed(api, datanet, number, on_progress)
    if hash_of(index["version_root"]) != root:
        raise UserError(f"the node at {api.url} follows another chain than its JSON-RPC: check --api and --rpc")
    tokenizer = hash_of(index["tokenizer_hash"])
    roots = [hash_of(index[name]) for name in ("corpus_root", "retrieval_root", "information_root")]
    (on_chain,) = await read(rpc, registry, "getCorpus", datanet, number, tokenizer)
    if not on_chain[3]:
        on_progress(PublishProgress("committing to the corpus"))
        await _owners(wallet.send(rpc, registry, "setCorpus", datanet, number, tokenizer, *roots, index["tokens"]))
    elif [*on_chain[:3], on_chain[3]] != [*roots, index["tokens"]]:
        raise UserError(
            f"version {number} of Datanet {datanet} already has another corpus on chain than this node computes; "
            "it cannot be changed: approve something more and publish the next version"
        )
    on_progress(PublishProgress("done"))
    return PublishedVersion(datanet, number, root, roots[0], int(index["tokens"]))


async def _indexed(
    api: Api, datanet: int, version: int, on_progress: Callable[[PublishProgress], None]
) -> dict[str, Any]:
    """The index's roots, once the node has computed them. Raises UserError with what keeps it from it."""
    problem, since = "", trio.current_time()
    while True:
        told: dict[str, Any]
        try:
            told = await api.get(f"/v1/datanets/{datanet}/versions/{version}/corpus")
        except ApiRefused as error:
            if error.code != "not_registered":
                raise
            told = {"ready": False, "problem": "the node has not seen the version yet"}
        if told["ready"]:
            return told
        if told["problem"] != problem:
            problem, since = told["problem"], trio.current_time()
        if problem and trio.current_time() - since > PATIENCE_S:
            raise UserError(f"the node does not get version {version} of Datanet {datanet} indexed: {problem}")
        stage = problem or told.get("stage") or "waiting for the index"
        on_progress(PublishProgress(stage, told.get("done", 0), told.get("total", 0)))
        await trio.sleep(POLL_S)
