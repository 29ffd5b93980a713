"""ModelFactory over REST: fine-tuning jobs and releases. Registering a release is signed by its owner and sent over
JSON-RPC; what to sign is the answer of POST /v1/releases.

POST /v1/fine-tunes               {"name", "datanets": [{"datanet", "version"}], "parameters": {"max_steps", …}}; 201.
                                  "objective": "preferences" takes documents of lines {"prompt", "chosen", "rejected"}
                                  and "beta"; "quantization": "nf4" holds the base model in four bits
GET  /v1/fine-tunes               GET /v1/fine-tunes/{id}
GET  /v1/fine-tunes/{id}/events   server-sent events from the beginning (or after ?after= / Last-Event-ID), then live
POST /v1/fine-tunes/{id}/cancel
POST /v1/releases                 {"name", "job" or "merged_from", "price_in", "price_out", "split"?, "attribution"?}; 201
GET  /v1/releases                 GET /v1/releases/{id}
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any, TypeVar

import msgspec
import orjson
import trio

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.proofs.policy import AttributionPolicy, InvalidPolicy
from openledger.genesis.parameters import Split
from openledger.kernels.engine.client import EngineClient
from openledger.node.api.errors import ApiError, number_parameter
from openledger.node.api.refusals import page, refusing
from openledger.node.catalog_service import ReleaseCatalog
from openledger.node.content import ContentStore
from openledger.node.datanets.indexes import IndexService, PrivateDatanet, held_documents
from openledger.node.datanets.registered import RegistryAt
from openledger.node.datanets.service import PublishingService
from openledger.node.datanets.versions import version_contents
from openledger.node.factory.jobs import (
    ENDED,
    FineTuneJobs,
    Job,
    SourceDocument,
    TrainingParameters,
    TrainingSource,
)
from openledger.node.factory.releases import (
    NO_EMBEDDER,
    ReleaseDraft,
    ReleaseRefused,
    ReleaseSources,
    ReleaseTerms,
    draft_release,
    merged_copy,
    pin_of,
)
from openledger.node.http import Request, Response, Router, StreamingResponse, require_modest_json
from openledger.node.registry import Release

MAX_DATANETS = 16
MAX_NAME_BYTES = 128
MAX_MERGED = 8
MAX_TRAINING_BYTES = 64 << 20
KEEP_ALIVE_S = 15.0
MAX_PRICE = 10**12

T = TypeVar("T")
_U32 = Annotated[int, msgspec.Meta(ge=1, lt=1 << 32)]


class _VersionNamed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    datanet: _U32
    version: _U32


class _FineTune(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    datanets: list[_VersionNamed]
    parameters: TrainingParameters = TrainingParameters()


class _Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of what a job trained, or of the engine's own model, into which the adapters of these releases were merged."""

    name: str
    price_in: int
    price_out: int
    job: str = ""
    merged_from: list[int] = []
    split: Split = Split()
    attribution: AttributionPolicy = AttributionPolicy()


class FactoryApi:
    """See the module's text."""

    def __init__(
        self,
        *,
        chain: Chain,
        registry: RegistryAt,
        content: ContentStore,
        publishing: PublishingService | None,
        indexes: IndexService,
        jobs: FineTuneJobs,
        engine: EngineClient,
    ) -> None:
        self._chain = chain
        self._registry = registry
        self._content = content
        self._publishing = publishing
        self._indexes = indexes
        self._jobs = jobs
        self._engine = engine

    def mount(self, router: Router) -> None:
        router.add("POST", "/v1/fine-tunes", refusing(self.start))
        router.add("GET", "/v1/fine-tunes", refusing(self.list))
        router.add("GET", "/v1/fine-tunes/{id}", refusing(self.show))
        router.add("GET", "/v1/fine-tunes/{id}/events", refusing(self.events))
        router.add("POST", "/v1/fine-tunes/{id}/cancel", refusing(self.cancel))
        router.add("POST", "/v1/releases", refusing(self.draft))

    # fine-tuning

    async def start(self, request: Request) -> Response:
        asked = _body(request, _FineTune, "a fine-tuning job")
        if not 0 < len(asked.name.encode()) <= MAX_NAME_BYTES:
            raise ApiError(400, "bad_parameter", f"name must have 1 to {MAX_NAME_BYTES} bytes")
        named = sorted({(v.datanet, v.version) for v in asked.datanets})
        if not 0 < len(named) <= MAX_DATANETS or len({datanet for datanet, _ in named}) != len(named):
            raise ApiError(
                400, "bad_parameter", f"datanets must name 1 to {MAX_DATANETS} Datanets, each with one version"
            )
        sources, documents = await trio.to_thread.run_sync(self._gather, named)
        job = await self._jobs.submit(asked.name, sources, documents, asked.parameters)
        return Response.json(self._shown(job), 201)

    def _gather(self, named: list[tuple[int, int]]) -> tuple[list[TrainingSource], list[SourceDocument]]:
        """The documents of these versions. Raises NotRegistered, PrivateDatanet, IndexNotReady, ApiError."""
        registry = self._registry(None)
        sources: list[TrainingSource] = []
        documents: list[SourceDocument] = []
        size = 0
        for datanet, version in named:
            if not registry.datanet(datanet).is_public:
                raise PrivateDatanet(f"Datanet {datanet} is private: its documents are not on this node")
            contents = version_contents(self._chain, registry, datanet, version)
            size += sum(c.size for c in contents.contributions)
            if size > MAX_TRAINING_BYTES:
                raise ApiError(
                    413, "too_much_data", f"a job trains on at most {MAX_TRAINING_BYTES:,} bytes: name fewer Datanets"
                )
            sources.append(TrainingSource(datanet, version, "0x" + contents.version.root.hex()))
            for document in held_documents(self._content, contents.contributions):
                if document.problem is None:
                    documents.append(SourceDocument(document.record.id, document.name, document.data))
        return sources, documents

    async def list(self, request: Request) -> Response:
        after, limit = page(request)
        jobs = self._jobs.jobs()
        return Response.json(
            {"count": len(jobs), "fine_tunes": [self._shown(job) for job in jobs[after : after + limit]]}
        )

    async def show(self, request: Request) -> Response:
        return Response.json(self._shown(self._jobs.job(request.path_parameters["id"])))

    async def cancel(self, request: Request) -> Response:
        return Response.json(self._shown(await self._jobs.cancel(request.path_parameters["id"])))

    async def events(self, request: Request) -> StreamingResponse:
        text = request.headers.get("last-event-id") or request.query.get("after", "0")
        if not text.isdecimal() or len(text) > 10:
            raise ApiError(400, "bad_parameter", "after and Last-Event-ID are an event's number")
        job = self._jobs.job(request.path_parameters["id"])
        return StreamingResponse(self._stream(job.id, int(text)))

    async def _stream(self, identifier: str, after: int) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._jobs.events(identifier, after, KEEP_ALIVE_S)) as events:
            async for event in events:
                if event is None:
                    yield b": still here\n\n"
                else:
                    data = msgspec.json.encode(event)
                    yield b"id: %d\nevent: %s\ndata: %s\n\n" % (event.number, event.kind.encode(), data)

    def _shown(self, job: Job) -> dict[str, Any]:
        last = self._jobs.last_event(job.id)
        return {
            "id": job.id,
            "name": job.name,
            "state": job.state,
            "error": job.error or None,
            "datanets": [msgspec.to_builtins(source) for source in job.sources],
            "documents": len(job.documents),
            "parameters": msgspec.to_builtins(job.parameters),
            "created_at": job.created_at,
            "interruptions": job.interruptions,
            "progress": None if last is None or job.state in ENDED else msgspec.to_builtins(last),
            "record": job.record,
        }

    # releases

    async def draft(self, request: Request) -> Response:
        asked = _body(request, _Release, "a release")
        if not 0 < len(asked.name.encode()) <= MAX_NAME_BYTES:
            raise ApiError(400, "bad_parameter", f"name must have 1 to {MAX_NAME_BYTES} bytes")
        for name in ("price_in", "price_out"):
            if not 0 <= getattr(asked, name) <= MAX_PRICE:
                raise ApiError(
                    400, "bad_parameter", f"{name} must be from 0 to {MAX_PRICE} micro-OPEN per 1,000 tokens"
                )
        try:
            asked.attribution.validate()
        except InvalidPolicy as error:
            raise ApiError(400, "bad_parameter", f"attribution: {error}") from error
        if bool(asked.job) == bool(asked.merged_from) or len(asked.merged_from) > MAX_MERGED:
            raise ApiError(400, "bad_parameter", f"name either a job or 1 to {MAX_MERGED} releases in merged_from")
        adapter = self._jobs.adapter_folder(asked.job) if asked.job else None
        job = self._jobs.job(asked.job) if asked.job else None
        engine = await self._engine.ready()
        terms = ReleaseTerms(asked.name, asked.price_in, asked.price_out, asked.split, asked.attribution)

        def draft() -> ReleaseDraft:
            registry = self._registry(None)
            taken = next((r.id for r in registry.releases() if r.name == asked.name and r.active), None)
            if taken is not None:
                raise ReleaseRefused(f"release {taken} is already named {asked.name!r}: choose another name")
            if job is None:
                copy = merged_copy(self._content, registry, engine, asked.merged_from)
            else:
                copy = ReleaseSources(tuple((each.datanet, each.version) for each in job.sources), job.record)
            built = [self._indexes.built(datanet, version) for datanet, version in copy.datanets]
            embedders = {index.embedder_hash for index in built} or {NO_EMBEDDER}
            if len(embedders) != 1:
                raise ReleaseRefused("the Datanets were indexed with different embedders: index them again")
            pins = [pin_of(registry, index) for index in built]
            return draft_release(
                self._content, self._publishing, engine, terms, pins, embedders.pop(), adapter, copy.record
            )

        return Response.json(_shown_draft(await trio.to_thread.run_sync(draft)), 201)


class ReleasesApi:
    """Registered releases, on every node. `catalog` None: this node serves none of them."""

    def __init__(self, registry: RegistryAt, content: ContentStore, catalog: ReleaseCatalog | None) -> None:
        self._registry = registry
        self._content = content
        self._catalog = catalog

    def mount(self, router: Router) -> None:
        router.add("GET", "/v1/releases", refusing(self.list))
        router.add("GET", "/v1/releases/{id}", refusing(self.show))

    async def list(self, request: Request) -> Response:
        after, limit = page(request)

        def read() -> dict[str, Any]:
            registry = self._registry(None)
            count = registry.release_count()
            served = self._served()
            numbers = range(after + 1, min(after + limit, count) + 1)
            return {"count": count, "releases": [self._shown(registry.release(n), served) for n in numbers]}

        return Response.json(await trio.to_thread.run_sync(read))

    async def show(self, request: Request) -> Response:
        identifier = number_parameter(request, "id")

        def read() -> dict[str, Any]:
            release = self._registry(None).release(identifier)
            manifest = self._content.get(release.manifest_hash, 1 << 20)
            record = self._content.get(release.training_record, 1 << 20)
            return {
                **self._shown(release, self._served()),
                "manifest": None if manifest is None else orjson.loads(manifest),
                "training_record": None if record is None else orjson.loads(record),
            }

        return Response.json(await trio.to_thread.run_sync(read))

    def _served(self) -> set[int]:
        return set() if self._catalog is None else {release.id for release in self._catalog.releases()}

    def _shown(self, release: Release, served: set[int]) -> dict[str, Any]:
        waiting = {} if self._catalog is None else self._catalog.waiting()
        return {
            "id": release.id,
            "name": release.name,
            "owner": "0x" + release.owner.hex(),
            "trainer": "0x" + release.trainer.hex(),
            "active": release.active,
            "served_here": release.id in served,
            "waits_for": waiting.get(release.id),
            "price_in_micro_open_per_1000": release.price_in,
            "price_out_micro_open_per_1000": release.price_out,
            "split_bps": msgspec.to_builtins(release.split),
            "datanets": [{"datanet": d, "version": v, "tokens": t} for d, v, t in release.datanets],
            "release_hash": "0x" + release.release_hash.hex(),
            "manifest_hash": "0x" + release.manifest_hash.hex(),
            "adapter_hash": "0x" + release.adapter_hash.hex(),
            "tokenizer_hash": "0x" + release.tokenizer_hash.hex(),
            "training_record_hash": "0x" + release.training_record.hex(),
            "block_number": release.block_number,
        }


def _shown_draft(draft: ReleaseDraft) -> dict[str, Any]:
    return {
        "release_hash": "0x" + draft.manifest.hash.hex(),
        "manifest_hash": "0x" + draft.manifest_hash.hex(),
        "training_record_hash": "0x" + draft.training_record.hex(),
        "manifest": orjson.loads(draft.manifest.encode()),
    }


def _body(request: Request, kind: type[T], what: str) -> T:
    try:
        require_modest_json(request.body)
        return msgspec.json.decode(request.body, type=kind)
    except (msgspec.MsgspecError, ValueError) as error:  # Split says by ValueError what does not sum up
        raise ApiError(400, "bad_request", f"the body is not {what}: {error}") from error
