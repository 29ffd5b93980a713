"""Taking content in and publishing it once the chain names it.

A document is shown to nobody before its contribution is revealed on chain: an observer of the DA layer could
otherwise commit to it first. So the way is: taken in (durable) → revealed → DA layer → announced.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from openledger.node.content import ContentMissing, ContentStore
from openledger.node.datanets.bundles import bundles
from openledger.node.datanets.documents import CheckedDocument, DocumentMetadata, check_document
from openledger.node.datanets.outbox import Outbox, OutboxItem
from openledger.node.datanets.registered import Registered
from openledger.node.errors import UserError
from openledger.node.extraction.extract import Source
from openledger.node.predeploy_contracts import datanet_registry
from openledger.node.registry import ContributionRecord
from openledger.node.rpc_client import RpcClient, RpcError, RpcUnavailable
from openledger.node.wallet import TransactionReverted, Wallet
from openledger.rollup.da.client import DAError
from openledger.rollup.da.direct import DALayer

log = structlog.get_logger(__name__)

MAX_UNPUBLISHED_BYTES = 1 << 30
MAX_SMALL_CONTENT_BYTES = 64 << 10
RETRY_S = 2.0


class OutboxFull(UserError):
    """This node holds too much that nobody contributed yet."""


@dataclass(frozen=True)
class Accepted:
    """A document taken in: it is on this node's disk under `document_hash`, its metadata under `metadata_hash`."""

    document_hash: bytes
    metadata_hash: bytes
    size: int
    words: int
    metadata: DocumentMetadata


class PublishingService:
    """Takes content in, publishes it on the DA layer and announces it with the node's wallet."""

    def __init__(
        self,
        *,
        folder: Path,
        content: ContentStore,
        registered: Registered,
        da: DALayer,
        rpc_url: str,
        wallet: Wallet,
        max_document_bytes: int,
        sending: trio.Lock | None = None,
    ) -> None:
        """`sending` is held while the wallet's next nonce is taken and used; share it with whoever else sends."""
        self._outbox = Outbox(folder / "outbox.sqlite")
        self._content = content
        self._registered = registered
        self._da = da
        self._rpc_url = rpc_url
        self._wallet = wallet
        self._max_document_bytes = max_document_bytes
        self._sending = sending or trio.Lock()
        self._problem: str | None = None

    def close(self) -> None:
        self._outbox.close()

    def probe(self) -> str | None:
        """What keeps content from being published, or None."""
        return self._problem

    # taking in; each returns when it is durable

    async def accept_document(
        self, name: str, data: bytes, licence: str, title: str = "", source: Source | None = None
    ) -> Accepted:
        """Keep a document. Raises DocumentError, BadMetadata, OutboxFull."""
        return await trio.to_thread.run_sync(self._accept_document, name, data, licence, title, source)

    def _accept_document(self, name: str, data: bytes, licence: str, title: str, source: Source | None) -> Accepted:
        checked: CheckedDocument = check_document(
            name, data, licence, title=title, limit_bytes=self._max_document_bytes, source=source
        )
        metadata = checked.metadata.encode()
        self._make_sure_of_room(len(data) + len(metadata))
        document_hash, metadata_hash = self._content.put(data), self._content.put(metadata)
        # The same text may be contributed under another name: each metadata goes out by itself as well.
        self._outbox.add(document_hash, (document_hash, metadata_hash), len(data) + len(metadata))
        self._outbox.add(metadata_hash, (metadata_hash,), len(metadata))
        log.info("document taken in", document="0x" + document_hash.hex(), name=checked.metadata.name, bytes=len(data))
        return Accepted(document_hash, metadata_hash, len(data), checked.words, checked.metadata)

    async def accept_content(self, data: bytes) -> bytes:
        """Keep small content (a Datanet's description) and return its hash. Raises UserError, OutboxFull."""
        if not 0 < len(data) <= MAX_SMALL_CONTENT_BYTES:
            raise UserError(f"content here has 1 to {MAX_SMALL_CONTENT_BYTES:,} bytes, not {len(data):,}")

        def keep() -> bytes:
            self._make_sure_of_room(len(data))
            kept = self._content.put(data)
            self._outbox.add(kept, (kept,), len(data))
            return kept

        return await trio.to_thread.run_sync(keep)

    def queue(self, name: bytes, contents: tuple[bytes, ...], size: int) -> None:
        """Publish contents that are in the content store already, once the chain names `name`. Blocks."""
        self._outbox.add(name, contents, size)

    def _make_sure_of_room(self, size: int) -> None:
        held = self._outbox.unpublished_bytes()
        if held + size > MAX_UNPUBLISHED_BYTES:
            raise OutboxFull(
                f"this node already holds {held:,} bytes that were uploaded but not contributed: "
                "contribute them, or use another node"
            )

    # going out

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish and announce what the chain names, until cancelled."""
        task_status.started()
        async for _ in self._registered.changes():
            while not await self.publish_once():  # noqa: ASYNC110  # nobody says when the DA layer is back
                await trio.sleep(RETRY_S)

    async def publish_once(self) -> bool:
        """Publish what is due now; False where something failed and should be tried again."""
        due = await trio.to_thread.run_sync(lambda: list(self._due()))
        try:
            for item, contribution in due:
                await self._announce(item, contribution, await self._published(item))
        except DAError as error:
            self._problem = f"the DA layer does not take documents: {error}"
        except (RpcUnavailable, RpcError, TransactionReverted) as error:
            self._problem = f"documents cannot be announced: {error}"
        except ContentMissing as error:
            self._problem = f"the content store lost what was to be published: {error}"
        else:
            self._problem = None
            return True
        log.warning("publishing waits", problem=self._problem)
        return False

    def _due(self) -> Iterator[tuple[OutboxItem, int]]:
        named: list[tuple[bytes, int]] = []
        for contribution in self._registered.contributions.values():
            named += [(contribution.document_hash, contribution.id), (contribution.metadata_hash, 0)]
        for release in self._registered.releases.values():
            named += [(h, 0) for h in (release.manifest_hash, release.training_record, release.adapter_hash)]
        named += [(datanet.metadata_hash, 0) for datanet in self._registered.datanets.values()]
        # Whoever has a document has its metadata from the same bundle: nothing more is announced for it.
        with_document = {c.metadata_hash for c in self._registered.contributions.values() if self._goes_with(c)}
        for name, contribution_id in dict.fromkeys(named):
            if name in with_document and contribution_id == 0:
                continue
            item = self._outbox.get(name)
            if item is not None and not self._outbox.is_announced(name, contribution_id):
                yield item, contribution_id

    def _goes_with(self, contribution: ContributionRecord) -> bool:
        item = self._outbox.get(contribution.document_hash)
        return item is not None and contribution.metadata_hash in item.contents

    async def _published(self, item: OutboxItem) -> tuple[bytes, ...]:
        """The item's DA commitments, after publishing it where that was not done."""
        if item.commitments is not None:
            return item.commitments
        commitments = []
        for bundle in bundles(self._content, item.contents):
            commitments.append(await self._da.put(bundle))
        await trio.to_thread.run_sync(self._outbox.set_published, item.hash, tuple(commitments))
        log.info("published on the DA layer", content="0x" + item.hash.hex(), bundles=len(commitments))
        return tuple(commitments)

    async def _announce(self, item: OutboxItem, contribution: int, commitments: tuple[bytes, ...]) -> None:
        async with RpcClient(self._rpc_url) as rpc:
            for commitment in commitments:
                async with self._sending:
                    if contribution:
                        await self._wallet.send(rpc, datanet_registry(), "announce", contribution, commitment)
                    else:
                        await self._wallet.send(rpc, datanet_registry(), "announceContent", item.hash, commitment)
        # After a crash before this line it is announced once more, which does no harm.
        await trio.to_thread.run_sync(self._outbox.set_announced, item.hash, contribution)
        log.info("announced", content="0x" + item.hash.hex(), contribution=contribution)
