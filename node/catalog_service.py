"""The releases that this node can serve now: registered, unchanged on disk, and made for this node's engine.

Implements `openledger.node.catalog.Catalog` over the registry, the content store and the indexes.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path

import structlog
import trio

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.proofs.content import InvalidContent
from openledger.evm_ext.proofs.release import DatanetPin, InvalidRelease, ReleaseManifest
from openledger.kernels.engine.client import EngineClient, EngineUnusable
from openledger.kernels.engine.messages import Adapter, Ready
from openledger.node.catalog import ReleaseNotReady, ServedRelease, UnknownRelease
from openledger.node.content import ContentMissing, ContentStore
from openledger.node.datanets.chain_watch import common_block, new_heads
from openledger.node.datanets.indexes import IndexNotReady, IndexService
from openledger.node.datanets.registered import RegistryAt
from openledger.node.predeploy_contracts import model_registry
from openledger.node.prompt import template_hash
from openledger.node.registry import NotRegistered, Registry, Release

log = structlog.get_logger(__name__)

NO_ADAPTER = bytes(32)
_NUMBERED = re.compile(r"release-([1-9]\d{0,9})")


class ReleaseCatalog:
    """See `Catalog`. What a release is made of never changes, so it is checked once; prices are read at every head."""

    def __init__(
        self,
        *,
        chain: Chain,
        registry: RegistryAt,
        content: ContentStore,
        indexes: IndexService,
        engine: EngineClient,
        adapters_folder: Path,
    ) -> None:
        self._chain = chain
        self._registry = registry
        self._content = content
        self._indexes = indexes
        self._engine = engine
        self._adapters_folder = adapters_folder
        self._lock = threading.Lock()
        self._head = b""
        self._registered: list[Release] = []
        self._ready: dict[bytes, ServedRelease] = {}
        """By release hash and adapter, independent of number and price."""
        self._waiting: dict[int, str] = {}

    def probe(self) -> str | None:
        """Nothing to serve is no fault: None always."""
        return None

    def waiting(self) -> dict[int, str]:
        """Active releases that cannot be served yet, and why."""
        return dict(self._waiting)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Get releases ready as they are registered, until cancelled."""
        task_status.started()
        try:
            await self._engine.ready()
        except EngineUnusable as error:
            log.error("no release can be served", error=str(error))
            await trio.sleep_forever()
        async for _ in new_heads(self._chain):
            await trio.to_thread.run_sync(self.releases)

    def releases(self) -> list[ServedRelease]:
        """Everything that can be served now, in order of registration. Blocks for reads."""
        served = []
        for release in self._refreshed():
            if not release.active:
                continue
            try:
                served.append(self._served(release))
            except ReleaseNotReady as error:
                self._waiting[release.id] = str(error)
            else:
                self._waiting.pop(release.id, None)
        return served

    def release(self, model: str) -> ServedRelease:
        """See `Catalog.release`. Of several releases with one name the one registered first has it."""
        found = _named(self._refreshed(), model)
        if not found.active:
            raise UnknownRelease(f"release {found.id} ({found.name}) is deprecated by its owner and no longer served")
        return self._served(found)

    def any_release(self, identifier: int) -> ServedRelease:
        """A release by its number, also a deprecated one: answers given before can still be checked.

        Raises UnknownRelease, ReleaseNotReady.
        """
        return self._served(_numbered(self._refreshed(), identifier))

    def _refreshed(self) -> list[Release]:
        """The releases as of the newest block; after the first time only those that events speak of are read again."""
        with self._lock:
            head = self._chain.head("unsafe")
            if head.hash == self._head:
                return self._registered
            registry = self._registry(head.hash)
            before = self._chain.header_by_hash(self._head) if self._head else None
            if before is None or common_block(self._chain, before.hash) < before.number:
                self._registered = list(registry.releases())
            else:
                changed = self._changed(before.number + 1, head.number)
                self._registered = [registry.release(r.id) if r.id in changed else r for r in self._registered]
                known = len(self._registered)
                self._registered += [registry.release(n) for n in range(known + 1, registry.release_count() + 1)]
            self._head = head.hash
            return self._registered

    def _changed(self, first: int, last: int) -> set[int]:
        """The releases whose price or status changed in these blocks."""
        contract = model_registry()
        events = [contract.event(e.log.topics, e.log.data) for e in self._chain.logs(first, last, [contract.address])]
        return {int(event.arguments["release"]) for event in events if event is not None}

    def _served(self, release: Release) -> ServedRelease:
        with self._lock:
            ready = self._ready.get(release.release_hash)
            if ready is None:
                ready = self._ready[release.release_hash] = self._prepare(release)
        return ServedRelease(
            id=release.id,
            manifest=ready.manifest,
            price_in=release.price_in,
            price_out=release.price_out,
            adapter=ready.adapter,
            index_folders=ready.index_folders,
            owner=release.owner,
        )

    def _prepare(self, release: Release) -> ServedRelease:
        """Check everything that a release commits to. Raises ReleaseNotReady."""
        manifest = self._manifest(release)
        info = self._engine.info
        if info is None:
            raise ReleaseNotReady("the engine is starting: try again in a few seconds")
        _check_engine(manifest, info)
        registry = self._registry(self._head)
        folders = tuple(self._index(release, manifest, pin, registry) for pin in manifest.datanets)
        return ServedRelease(release.id, manifest, release.price_in, release.price_out, self._adapter(release), folders)

    def _manifest(self, release: Release) -> ReleaseManifest:
        data = self._content.get(release.manifest_hash, 1 << 20)
        if data is None:
            raise ReleaseNotReady(f"the manifest of release {release.id} is not on this node yet")
        try:
            manifest = ReleaseManifest.decode(data)
        except InvalidRelease as error:
            raise ReleaseNotReady(f"release {release.id} cannot be served: its manifest is invalid: {error}") from error
        agree = {
            "release hash": manifest.hash == release.release_hash,
            "name": manifest.name == release.name,
            "adapter": manifest.adapter_hash == release.adapter_hash,
            "tokenizer": manifest.tokenizer_hash == release.tokenizer_hash,
            "split": manifest.split == release.split,
            "Datanets": [(p.datanet, p.version) for p in manifest.datanets]
            == [(datanet, version) for datanet, version, _ in release.datanets],
        }
        wrong = [name for name, same in agree.items() if not same]
        if wrong:
            raise ReleaseNotReady(
                f"release {release.id} cannot be served: its registration and its manifest have different {', '.join(wrong)}"
            )
        return manifest

    def _index(self, release: Release, manifest: ReleaseManifest, pin: DatanetPin, registry: Registry) -> str:
        try:
            built = self._indexes.built(pin.datanet, pin.version)
        except IndexNotReady as error:
            raise ReleaseNotReady(f"release {release.id}: {error}") from error
        where = f"release {release.id} cannot be served: version {pin.version} of Datanet {pin.datanet}"
        try:
            corpus = registry.corpus(pin.datanet, pin.version, manifest.tokenizer_hash)
        except NotRegistered as error:
            raise ReleaseNotReady(f"{where} is not registered: {error}") from error
        own = (built.version_root, built.corpus_root, built.retrieval_root)
        if (
            pin.version_root,
            pin.corpus_root,
            pin.retrieval_root,
        ) != own or manifest.embedder_hash != built.embedder_hash:
            raise ReleaseNotReady(f"{where} has other roots than its manifest says when computed from its documents")
        committed = (built.corpus_root, built.retrieval_root, built.information_root, built.tokens)
        if corpus is None or committed != (
            corpus.corpus_root, corpus.retrieval_root, corpus.information_root, corpus.tokens,
        ):  # fmt: skip
            raise ReleaseNotReady(f"{where} has other roots on chain than those computed from its documents")
        return built.folder

    def _adapter(self, release: Release) -> Adapter | None:
        if release.adapter_hash == NO_ADAPTER:
            return None
        try:
            return self.adapter(release.adapter_hash)
        except ReleaseNotReady as error:
            raise ReleaseNotReady(f"release {release.id}: {error}") from error

    def adapter(self, digest: bytes, weight_milli: int = 1000) -> Adapter:
        """See `Catalog.adapter`. The engine hashes the files once more before it loads them."""
        folder = self._adapters_folder / digest.hex()
        try:
            self._content.export_folder(digest, folder)
        except (ContentMissing, InvalidContent) as error:
            raise ReleaseNotReady(f"the adapter 0x{digest.hex()} is not on this node yet: {error}") from error
        return Adapter(str(folder), digest, weight_milli)


def _check_engine(manifest: ReleaseManifest, info: Ready) -> None:
    """Raises ReleaseNotReady unless this node's engine is the one the release was made for."""
    own = {
        "base model": (manifest.base_model_root, info.weights_root),
        "tokenizer": (manifest.tokenizer_hash, info.tokenizer_hash),
        "chat template": (manifest.template_hash, template_hash(info.template_hash)),
        "numeric tables": (manifest.tables_hash, info.tables_root),
        "numerics": (manifest.numerics, info.numerics),
    }
    wrong = [name for name, (wanted, have) in own.items() if wanted != have]
    if wrong:
        raise ReleaseNotReady(f"{manifest.name!r} was made for another {', '.join(wrong)} than this node's engine has")


def _named(registered: list[Release], model: str) -> Release:
    named = [release for release in registered if release.name == model]
    if named:
        return min(named, key=lambda release: (not release.active, release.id))
    if numbered := _NUMBERED.fullmatch(model):
        return _numbered(registered, int(numbered[1]))
    known = ", ".join(dict.fromkeys(release.name for release in registered if release.active)) or "none yet"
    raise UnknownRelease(
        f"there is no release named {model!r}; registered are: {known[:500]} (or release-N by its number)"
    )


def _numbered(registered: list[Release], identifier: int) -> Release:
    if not 1 <= identifier <= len(registered):
        raise UnknownRelease(f"there is no release {identifier}; {len(registered)} are registered")
    return registered[identifier - 1]
