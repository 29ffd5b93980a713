"""Datanets, their contributions and versions over REST. Reads only: what changes them is signed by its author and
sent over JSON-RPC.

GET  /v1/economy                                     what a contributor must know: deposit, reveal window, limits
GET  /v1/datanets?after=&limit=                      GET /v1/datanets/{id}
GET  /v1/datanets/{id}/contributions?after=&limit=   GET /v1/contributions/{id}
GET  /v1/datanets/{id}/versions                      newest last
GET  /v1/datanets/{id}/versions/{n}?after=&limit=    one, with its contributions in order of approval
POST /v1/datanets/{id}/versions/{n}/index            have the version indexed
GET  /v1/datanets/{id}/versions/{n}/corpus           200 with the roots, 202 with the progress while they are computed
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import trio

from openledger.evm_ext.proofs.content import InvalidContent
from openledger.genesis.predeploys import DATANET_REGISTRY
from openledger.node.api.errors import ApiError, number_parameter
from openledger.node.api.refusals import page, refusing
from openledger.node.content import ContentStore
from openledger.node.datanets.documents import MAX_METADATA_BYTES, MIN_WORDS, BadMetadata, DocumentMetadata
from openledger.node.datanets.follower import MAX_DESCRIPTION_BYTES
from openledger.node.datanets.indexes import BuiltIndex, IndexService, IndexState, PrivateDatanet
from openledger.node.datanets.registered import Registered, RegistryAt
from openledger.node.datanets.versions import VersionContents
from openledger.node.http import Request, Response, Router
from openledger.node.registry import ContributionRecord, Datanet, Registry

MAX_VERSIONS_SHOWN = 200


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


class DatanetsApi:
    """See the module's text. `indexes` None: this node does not index; `contents` reads what a version holds."""

    def __init__(
        self,
        *,
        chain_id: int,
        max_document_bytes: int,
        registry: RegistryAt,
        registered: Registered,
        content: ContentStore,
        indexes: IndexService | None,
        contents: Callable[[int, int], VersionContents],
    ) -> None:
        self._chain_id = chain_id
        self._max_document_bytes = max_document_bytes
        self._registry = registry
        self._registered = registered
        self._content = content
        self._indexes = indexes
        self._contents = contents

    def mount(self, router: Router) -> None:
        router.add("GET", "/v1/economy", refusing(self.economy))
        router.add("GET", "/v1/datanets", refusing(self.datanets))
        router.add("GET", "/v1/datanets/{id}", refusing(self.datanet))
        router.add("GET", "/v1/datanets/{id}/contributions", refusing(self.contributions))
        router.add("GET", "/v1/contributions/{id}", refusing(self.contribution))
        router.add("GET", "/v1/datanets/{id}/versions", refusing(self.versions))
        router.add("GET", "/v1/datanets/{id}/versions/{n}", refusing(self.version))
        router.add("POST", "/v1/datanets/{id}/versions/{n}/index", refusing(self.corpus))
        router.add("GET", "/v1/datanets/{id}/versions/{n}/corpus", refusing(self.corpus))

    async def economy(self, _request: Request) -> Response:
        def read() -> dict[str, Any]:
            registry = self._registry(None)
            least, most = registry.reveal_limits()
            return {
                "chain_id": self._chain_id,
                "datanet_registry": hexed(DATANET_REGISTRY),
                "commit_deposit_micro_open": registry.commit_deposit(),
                "reveal_min_blocks": least,
                "reveal_max_blocks": most,
                "max_document_bytes": self._max_document_bytes,
                "min_words": MIN_WORDS,
            }

        return Response.json(await trio.to_thread.run_sync(read))

    async def datanets(self, request: Request) -> Response:
        after, limit = page(request)

        def read() -> dict[str, Any]:
            registry = self._registry(None)
            count = registry.datanet_count()
            numbers = range(after + 1, min(after + limit, count) + 1)
            return {"count": count, "datanets": [self._shown_datanet(registry.datanet(i)) for i in numbers]}

        return Response.json(await trio.to_thread.run_sync(read))

    async def datanet(self, request: Request) -> Response:
        identifier = number_parameter(request, "id")
        return Response.json(
            await trio.to_thread.run_sync(lambda: self._shown_datanet(self._registry(None).datanet(identifier)))
        )

    async def contributions(self, request: Request) -> Response:
        identifier = number_parameter(request, "id")
        after, limit = page(request)

        def read() -> dict[str, Any]:
            registry = self._registry(None)
            registry.datanet(identifier)
            known = self._registered.contributions
            own = sorted(c for c, record in known.items() if record.datanet == identifier)
            # Those of the newest block may not have been noticed yet.
            own += [
                c
                for c in range(max(known, default=0) + 1, registry.contribution_count() + 1)
                if registry.contribution(c).datanet == identifier
            ]
            chosen = [c for c in own if c > after][:limit]
            return {
                "count": len(own),
                "contributions": [self._shown_contribution(registry.contribution(c)) for c in chosen],
            }

        return Response.json(await trio.to_thread.run_sync(read))

    async def contribution(self, request: Request) -> Response:
        identifier = number_parameter(request, "id")
        return Response.json(
            await trio.to_thread.run_sync(
                lambda: self._shown_contribution(self._registry(None).contribution(identifier))
            )
        )

    async def versions(self, request: Request) -> Response:
        identifier = number_parameter(request, "id")

        def read() -> dict[str, Any]:
            registry = self._registry(None)
            count = registry.datanet(identifier).versions
            numbers = range(max(1, count - MAX_VERSIONS_SHOWN + 1), count + 1)
            return {"count": count, "versions": [self._shown_version(registry, identifier, n) for n in numbers]}

        return Response.json(await trio.to_thread.run_sync(read))

    async def version(self, request: Request) -> Response:
        datanet, number = number_parameter(request, "id"), number_parameter(request, "n")
        after, limit = page(request)

        def read() -> dict[str, Any]:
            held = self._contents(datanet, number)
            listed = held.contributions[after : after + limit]
            return {
                **self._shown_version(self._registry(None), datanet, number),
                "contributions": [self._shown_contribution(record) for record in listed],
            }

        return Response.json(await trio.to_thread.run_sync(read))

    async def corpus(self, request: Request) -> Response:
        datanet, version = number_parameter(request, "id"), number_parameter(request, "n")
        if self._indexes is None:
            raise ApiError(403, "not_indexing", "this node does not index documents: ask a serving node")

        def check() -> None:
            registry = self._registry(None)
            if not registry.datanet(datanet).is_public:
                raise PrivateDatanet(f"Datanet {datanet} is private: its documents are not on this node")
            registry.version(datanet, version)

        await trio.to_thread.run_sync(check)
        state = self._indexes.ask_for(datanet, version)
        if state.built is None:
            return Response.json({"ready": False, **_shown_progress(state)}, 202)
        return Response.json({"ready": True, **shown_index(state.built)})

    def _small(self, content_hash: bytes, limit_bytes: int) -> bytes | None:
        """The content if it is here and no longer than it may be: anyone can register any hash."""
        try:
            return self._content.get(content_hash, limit_bytes)
        except InvalidContent:
            return None

    def _shown_datanet(self, datanet: Datanet) -> dict[str, Any]:
        data = self._small(datanet.metadata_hash, MAX_DESCRIPTION_BYTES)
        try:
            description = orjson.loads(data) if data else None
        except orjson.JSONDecodeError:
            description = None
        return {
            "id": datanet.id,
            "name": datanet.name,
            "owner": hexed(datanet.owner),
            "treasury": hexed(datanet.treasury),
            "is_public": datanet.is_public,
            "approvals": datanet.approvals,
            "versions": datanet.versions,
            "metadata_hash": hexed(datanet.metadata_hash),
            "metadata": description,
        }

    def _shown_contribution(self, record: ContributionRecord) -> dict[str, Any]:
        data = self._small(record.metadata_hash, MAX_METADATA_BYTES)
        try:
            metadata = None if data is None else orjson.loads(DocumentMetadata.decode(data).encode())
        except BadMetadata:
            metadata = None
        return {
            "id": record.id,
            "datanet": record.datanet,
            "contributor": hexed(record.contributor),
            "contributor_id": record.contributor_id,
            "status": record.status.name.lower(),
            "size": record.size,
            "commit_block": record.commit_block,
            "reveal_block": record.reveal_block,
            "document_hash": hexed(record.document_hash),
            "metadata_hash": hexed(record.metadata_hash),
            "metadata": metadata,
            "held": data is not None and self._small(record.document_hash, record.size) is not None,
        }

    def _shown_version(self, registry: Registry, datanet: int, number: int) -> dict[str, Any]:
        version = registry.version(datanet, number)
        state = self._indexes.state(datanet, number) if self._indexes is not None else IndexState()
        corpus = registry.corpus(datanet, number, state.built.tokenizer_hash) if state.built is not None else None
        return {
            "datanet": datanet,
            "version": number,
            "root": hexed(version.root),
            "count": version.count,
            "block_number": version.block_number,
            "indexed": state.built is not None,
            "tokens": state.built.tokens if state.built is not None else None,
            "corpus_on_chain": None if corpus is None else hexed(corpus.corpus_root),
        }


def _shown_progress(state: IndexState) -> dict[str, Any]:
    return {"stage": state.stage, "done": state.done, "total": state.total, "problem": state.problem}


def shown_index(built: BuiltIndex) -> dict[str, Any]:
    """An index's roots, as `DatanetRegistry.setCorpus` takes them, and what it holds."""
    return {
        "datanet": built.datanet,
        "version": built.version,
        "version_root": hexed(built.version_root),
        "tokenizer_hash": hexed(built.tokenizer_hash),
        "corpus_root": hexed(built.corpus_root),
        "retrieval_root": hexed(built.retrieval_root),
        "information_root": hexed(built.information_root),
        "embedder_hash": hexed(built.embedder_hash),
        "tokens": built.tokens,
        "chunks": built.chunks,
        "tokens_by_contribution": {str(c): n for c, n in built.tokens_by_contribution.items()},
        "unread_contributions": built.unread,
    }
