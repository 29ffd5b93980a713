"""Fetching what the chain names and this node lacks: every node keeps public documents, manifests and adapters.

Peers are asked first, then the DA layer by the announced commitments. Everything is checked by its hash before it is
kept, and lengths are known from the chain or a manifest before memory is spent.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import structlog
import trio

from openledger.evm_ext.proofs.content import InvalidContent, decode_folder
from openledger.node.content import ContentMissing, ContentStore, Fetch
from openledger.node.datanets.announcements import Announcements
from openledger.node.datanets.bundles import fetch_from_da
from openledger.node.datanets.documents import MAX_METADATA_BYTES
from openledger.node.datanets.registered import Registered
from openledger.rollup.da.direct import DALayer

log = structlog.get_logger(__name__)

MAX_DESCRIPTION_BYTES = 64 << 10
MAX_RECORD_BYTES = 1 << 20
MAX_ADAPTER_BYTES = 512 << 20
RETRY_S = 2.0
LONGEST_RETRY_S = 120.0
FETCHES_AT_ONCE = 4
ZERO = bytes(32)

Kind = Literal["document", "metadata", "description", "manifest", "training record", "adapter"]


@dataclass(frozen=True)
class Wanted:
    """Content that the chain names. `hints` are other hashes under which it may have been announced."""

    hash: bytes
    kind: Kind
    limit_bytes: int
    of: str
    hints: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class FollowProgress:
    """How much of what the chain names is here; `missing` is bounded."""

    wanted: int
    held: int
    missing: tuple[Wanted, ...]


async def _nobody(_: bytes) -> bytes | None:
    return None


class ContentFollower:
    """The service that fetches; see the module's text. `fetch` asks peers for one object."""

    def __init__(
        self,
        *,
        content: ContentStore,
        registered: Registered,
        announcements: Announcements,
        da: DALayer | None,
        fetch: Fetch = _nobody,
        retry_s: float = RETRY_S,
    ) -> None:
        self._content = content
        self._registered = registered
        self._announcements = announcements
        self._da = da
        self._fetch = fetch
        self._retry_s = retry_s
        self._held: set[bytes] = set()
        self._missing: dict[bytes, Wanted] = {}
        self._refused: dict[bytes, str] = {}
        self._tries: dict[bytes, tuple[float, float]] = {}
        """Per hash: when it is tried again, and the pause after that."""

    def progress(self) -> FollowProgress:
        """Where the following stands."""
        missing = tuple(self._missing.values())
        return FollowProgress(len(self._held) + len(missing), len(self._held), missing[:100])

    def refused(self, content_hash: bytes) -> str | None:
        """Why content will never be kept (it is longer than registered, …), or None."""
        return self._refused.get(content_hash)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Fetch until cancelled."""
        task_status.started()
        async for _ in self._registered.changes():
            await self.fetch_once()

    async def fetch_once(self) -> None:
        """Try once to get everything that is named and missing, and due to be tried."""
        missing = await trio.to_thread.run_sync(lambda: list(self._look()))
        self._missing = {wanted.hash: wanted for wanted in missing}
        now = time.monotonic()
        due = [w for w in missing if w.hash not in self._refused and self._tries.get(w.hash, (0.0, 0.0))[0] <= now]
        if due and self._da is not None:
            await trio.to_thread.run_sync(self._announcements.update)
        at_once = trio.CapacityLimiter(FETCHES_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for wanted in due:
                nursery.start_soon(self._try, wanted, at_once)

    async def _try(self, wanted: Wanted, at_once: trio.CapacityLimiter) -> None:
        async with at_once:
            obtained = await self._obtain(wanted)
        if obtained:
            self._held.add(wanted.hash)
            self._missing.pop(wanted.hash, None)
            self._tries.pop(wanted.hash, None)
            log.info("fetched", kind=wanted.kind, of=wanted.of, content="0x" + wanted.hash.hex())
        else:
            pause = min(2 * self._tries.get(wanted.hash, (0.0, self._retry_s / 2))[1], LONGEST_RETRY_S)
            self._tries[wanted.hash] = (time.monotonic() + pause, pause)

    def wanted(self) -> Iterator[Wanted]:
        """Everything that the chain names and every node keeps, each hash once."""
        registered = self._registered
        seen: set[bytes] = {ZERO}

        def once(wanted: Wanted) -> Iterator[Wanted]:
            if wanted.hash not in seen:
                seen.add(wanted.hash)
                yield wanted

        for datanet in registered.datanets.values():
            yield from once(
                Wanted(datanet.metadata_hash, "description", MAX_DESCRIPTION_BYTES, f"Datanet {datanet.id}")
            )
        for c in registered.contributions.values():
            datanet_of = registered.datanets.get(c.datanet)
            if datanet_of is None or not datanet_of.is_public:
                continue
            of = f"contribution {c.id}"
            yield from once(Wanted(c.document_hash, "document", c.size, of))
            yield from once(Wanted(c.metadata_hash, "metadata", MAX_METADATA_BYTES, of, (c.document_hash,)))
        for release in registered.releases.values():
            of = f"release {release.id}"
            hints = (release.manifest_hash,)
            yield from once(Wanted(release.manifest_hash, "manifest", MAX_RECORD_BYTES, of))
            yield from once(Wanted(release.training_record, "training record", MAX_RECORD_BYTES, of, hints))
            yield from once(Wanted(release.adapter_hash, "adapter", MAX_ADAPTER_BYTES, of, hints))

    def _look(self) -> Iterator[Wanted]:
        for wanted in self.wanted():
            if wanted.hash in self._held:
                continue
            if self._is_here(wanted):
                self._held.add(wanted.hash)
            else:
                yield wanted

    def _is_here(self, wanted: Wanted) -> bool:
        """Whether all of it is on the disk. Each part is read and hashed, once per run of the node."""
        if wanted.kind != "adapter":
            return self._complete(wanted.hash)
        listing = self._content.get_object(wanted.hash)
        if listing is None:
            return False
        try:
            return all(self._complete(member) for member in decode_folder(listing, wanted.hash).values())
        except InvalidContent:
            return False

    def _complete(self, content_hash: bytes) -> bool:
        try:
            manifest = self._content.manifest(content_hash)
        except InvalidContent:
            return False
        return manifest is not None and all(self._content.get_object(d) is not None for d in manifest.chunks)

    async def _obtain(self, wanted: Wanted) -> bool:
        """Get all of it, from peers, then from the DA layer; False where it cannot be had now."""
        if await self._obtain_by(wanted, self._fetch):
            return True
        if self._da is None or wanted.hash in self._refused:
            return False
        commitments: list[bytes] = []
        for name in (wanted.hash, *wanted.hints):
            commitments += await trio.to_thread.run_sync(self._announcements.of, name)
        return bool(commitments) and await self._obtain_by(wanted, fetch_from_da(self._da, commitments))

    async def _obtain_by(self, wanted: Wanted, fetch: Fetch) -> bool:
        try:
            if wanted.kind == "adapter":
                await self._content.obtain_folder(wanted.hash, fetch, wanted.limit_bytes)
            else:
                data = await self._content.obtain(wanted.hash, fetch, wanted.limit_bytes)
                if wanted.kind == "document" and len(data) != wanted.limit_bytes:
                    raise InvalidContent(f"the document has {len(data)} bytes, registered are {wanted.limit_bytes}")
        except ContentMissing:
            return False
        except InvalidContent as error:
            # What arrived has the right hash, so whoever registered it registered nonsense.
            self._refused[wanted.hash] = str(error)
            log.warning("refused", kind=wanted.kind, of=wanted.of, content="0x" + wanted.hash.hex(), error=str(error))
            return False
        return True
