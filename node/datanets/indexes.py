"""Attribution indexes of Datanet versions: built from the documents on this node, kept under the version's root.

Every node that serves or checks answers builds the same index from the same documents and compares the roots with
those that the Datanet's owner committed to on chain.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog
import trio

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.proofs.content import InvalidContent
from openledger.kernels.attribution.client import AttributionClient
from openledger.kernels.attribution.errors import AttributionError
from openledger.kernels.attribution.messages import BuildProgress, IndexDocument, IndexSummary
from openledger.kernels.documents import DocumentError, parse_document
from openledger.node.content import ContentStore
from openledger.node.datanets.chain_watch import common_block
from openledger.node.datanets.documents import MAX_METADATA_BYTES, UNNAMED, indexed_name
from openledger.node.datanets.registered import Registered, RegistryAt
from openledger.node.datanets.versions import VersionContents, VersionUnreadable, version_contents
from openledger.node.errors import UserError
from openledger.node.network import write_atomically
from openledger.node.predeploy_contracts import datanet_registry
from openledger.node.registry import ContributionRecord, NotRegistered

log = structlog.get_logger(__name__)

RETRY_S = 2.0
POLL_S = 0.1
Key = tuple[int, int]
"""Datanet and version."""


class IndexNotReady(UserError):
    """The index cannot be had now; the message says what is missing."""


class PrivateDatanet(UserError):
    """Its documents are not public, so this node has nothing to index."""


class BuiltIndex(msgspec.Struct, frozen=True, kw_only=True):
    """An index on this node's disk. `unread` are the contributions whose documents are not text."""

    datanet: int
    version: int
    version_root: bytes
    folder: str
    corpus_root: bytes
    retrieval_root: bytes
    information_root: bytes
    tokenizer_hash: bytes
    embedder_hash: bytes
    tokens: int
    chunks: int
    tokens_by_contribution: dict[int, int]
    unread: list[int]


@dataclass(frozen=True)
class IndexState:
    """Where the index of a version stands. `stage` says what is being done, `done` of `total` in its own units."""

    built: BuiltIndex | None = None
    stage: str = ""
    done: int = 0
    total: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class HeldDocument:
    """A contribution's document on this node, and the file name it is read under."""

    record: ContributionRecord
    data: bytes
    name: str
    problem: str | None


def held_documents(content: ContentStore, contributions: Sequence[ContributionRecord]) -> list[HeldDocument]:
    """The documents of these contributions; those that cannot be used say why in `problem`.

    An owner may approve anything, so everyone leaves out the same documents by the same rules: one whose length is not
    the registered one, and one that is not text. Raises IndexNotReady naming what is not on this node.
    """
    found = []
    for record in contributions:
        try:
            manifest = content.manifest(record.document_hash)
            about = content.manifest(record.metadata_hash)
        except InvalidContent as error:
            found.append(HeldDocument(record, b"", UNNAMED, str(error)))
            continue
        if manifest is not None and manifest.length != record.size:
            problem = f"it has {manifest.length:,} bytes, registered are {record.size:,}"
            found.append(HeldDocument(record, b"", UNNAMED, problem))
            continue
        data = content.get(record.document_hash, record.size)
        metadata = None
        if about is not None and about.length <= MAX_METADATA_BYTES:
            metadata = content.get(record.metadata_hash, MAX_METADATA_BYTES)
        if data is None or about is None or (metadata is None and about.length <= MAX_METADATA_BYTES):
            what = "document" if data is None else "metadata"
            raise IndexNotReady(f"the {what} of contribution {record.id} is not on this node yet")
        name = indexed_name(metadata)
        try:
            parse_document(name, data)
        except DocumentError as error:
            found.append(HeldDocument(record, data, name, str(error)))
        else:
            found.append(HeldDocument(record, data, name, None))
    return found


class IndexService:
    """Builds the indexes of versions that releases are made of, whose corpus is on chain (to check it), or that
    somebody asked for."""

    def __init__(
        self,
        *,
        folder: Path,
        chain: Chain,
        registry: RegistryAt,
        registered: Registered,
        content: ContentStore,
        attribution: AttributionClient,
    ) -> None:
        self._folder = folder
        self._chain = chain
        self._registry = registry
        self._registered = registered
        self._content = content
        self._attribution = attribution
        self._states: dict[Key, IndexState] = {}
        self._asked: set[Key] = set()
        self._committed: dict[int, int] = {}
        """Per Datanet the newest version whose corpus was set."""
        self._read_to = b""

    # asking; from any thread

    def state(self, datanet: int, version: int) -> IndexState:
        """Where an index stands; never blocks."""
        return self._states.get((datanet, version), IndexState())

    def ask_for(self, datanet: int, version: int) -> IndexState:
        """Have an index built soon, and where it stands now."""
        if self.state(datanet, version).built is None:
            self._asked.add((datanet, version))
        return self.state(datanet, version)

    def built(self, datanet: int, version: int) -> BuiltIndex:
        """The index if it is there. Raises IndexNotReady saying what is missing; then it is being built."""
        state = self.ask_for(datanet, version)
        if state.built is None:
            doing = state.problem or (f"{state.stage} {state.done}/{state.total}" if state.stage else "waiting")
            raise IndexNotReady(f"the index of version {version} of Datanet {datanet} is not built yet: {doing}")
        return state.built

    # building

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Build what is wanted, one index at a time, until cancelled."""
        task_status.started()
        while True:
            tried = await trio.to_thread.run_sync(self._wanted)
            for key in tried:
                await self._try(key)
            with trio.move_on_after(RETRY_S):
                while self._asked <= set(tried):  # noqa: ASYNC110  # it is asked from threads too
                    await trio.sleep(POLL_S)

    def _wanted(self) -> list[Key]:
        pinned = {(d, v) for release in self._registered.releases.values() for d, v, _ in release.datanets}
        reorganised = self._read_commitments()
        wanted = []
        for key in sorted(pinned | self._asked | set(self._committed.items())):
            built = self.state(*key).built
            if built is None or (reorganised and not self._still_true(key, built)):
                wanted.append(key)
        return wanted

    def _read_commitments(self) -> bool:
        """Notice corpora set since the last time: a node that is to check answers has the index ready in time.

        Returns whether blocks read before have left the chain.
        """
        contract = datanet_registry()
        head = self._chain.head("unsafe")
        kept = common_block(self._chain, self._read_to) if self._read_to else -1
        before = self._chain.header_by_hash(self._read_to) if self._read_to else None
        for located in self._chain.logs(kept + 1, head.number, [contract.address], [[contract.topic("CorpusSet")]]):
            event = contract.event(located.log.topics, located.log.data)
            if event is not None:
                datanet, version = int(event.arguments["datanet"]), int(event.arguments["version"])
                self._committed[datanet] = max(version, self._committed.get(datanet, 0))
        self._read_to = head.hash
        return before is None or kept < before.number

    def _still_true(self, key: Key, built: BuiltIndex) -> bool:
        """Whether the version still has that root: a reorg may have put another in its place."""
        try:
            return self._registry(None).version(*key).root == built.version_root
        except NotRegistered:
            return False

    async def _try(self, key: Key) -> None:
        if self.state(*key).built is None:
            self._states[key] = IndexState(stage="collecting documents", problem=self.state(*key).problem)
        try:
            built = await self.build(*key)
        except (
            NotRegistered, VersionUnreadable, IndexNotReady, PrivateDatanet, AttributionError, OSError,
        ) as error:  # fmt: skip
            if self.state(*key).problem != str(error):
                log.info("an index waits", datanet=key[0], version=key[1], problem=str(error))
            self._states[key] = IndexState(problem=str(error))
            if isinstance(error, NotRegistered | PrivateDatanet):
                self._asked.discard(key)
                self._committed.pop(key[0], None)
        else:
            self._states[key] = IndexState(built=built)
            self._asked.discard(key)

    async def build(self, datanet: int, version: int) -> BuiltIndex:
        """The index, built now unless it is on the disk.

        Raises NotRegistered, VersionUnreadable, PrivateDatanet, IndexNotReady (a document is not here yet),
        AttributionError, OSError.
        """
        contents = await trio.to_thread.run_sync(self._contents, datanet, version)
        place = self._folder / f"{datanet}-{version}-{contents.version.root.hex()[:24]}"
        summary_file = place.with_suffix(".built")
        if place.is_dir() and summary_file.exists():
            try:
                return msgspec.msgpack.decode(await trio.to_thread.run_sync(summary_file.read_bytes), type=BuiltIndex)
            except msgspec.MsgspecError:
                log.warning("an index's summary is damaged, building it again", file=str(summary_file))
        documents = place.with_suffix(".documents")
        try:
            listed, unread = await trio.to_thread.run_sync(self._lay_out, contents.contributions, documents)
            if not listed:
                raise IndexNotReady(f"no document of version {version} of Datanet {datanet} is readable text")
            summary = await self._attribution.build_index(
                datanet, version, listed, str(place), lambda progress: self._report((datanet, version), progress)
            )
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(lambda: shutil.rmtree(documents, ignore_errors=True))
        built = _built(summary, contents.version.root, unread)
        await trio.to_thread.run_sync(write_atomically, summary_file, msgspec.msgpack.encode(built))
        log.info("index built", datanet=datanet, version=version, tokens=built.tokens, chunks=built.chunks)
        return built

    def _report(self, key: Key, progress: BuildProgress) -> None:
        self._states[key] = IndexState(stage=progress.stage, done=progress.done, total=progress.total)

    def _contents(self, datanet: int, version: int) -> VersionContents:
        registry = self._registry(None)
        if not registry.datanet(datanet).is_public:
            raise PrivateDatanet(f"Datanet {datanet} is private: its documents are not on this node")
        return version_contents(self._chain, registry, datanet, version)

    def _lay_out(
        self, contributions: Sequence[ContributionRecord], folder: Path
    ) -> tuple[list[IndexDocument], list[int]]:
        """The version's documents as files below `folder`, and the contributions that are not text."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        listed: list[IndexDocument] = []
        unread: list[int] = []
        for document in held_documents(self._content, contributions):
            identifier = document.record.id
            if document.problem is not None:
                log.info("a document is not indexed", contribution=identifier, problem=document.problem)
                unread.append(identifier)
                continue
            path = folder / str(identifier)
            path.write_bytes(document.data)
            listed.append(IndexDocument(identifier, document.record.contributor_id, str(path), document.name))
        return listed, unread


def _built(summary: IndexSummary, root: bytes, unread: list[int]) -> BuiltIndex:
    return BuiltIndex(
        datanet=summary.datanet,
        version=summary.version,
        version_root=root,
        folder=summary.folder,
        corpus_root=summary.corpus_root,
        retrieval_root=summary.retrieval_root,
        information_root=summary.information_root,
        tokenizer_hash=summary.tokenizer_hash,
        embedder_hash=summary.embedder_hash,
        tokens=summary.tokens,
        chunks=summary.chunks,
        tokens_by_contribution=summary.tokens_by_contribution,
        unread=unread,
    )
