"""What the chain names by a hash and a node should therefore have: documents, metadata, manifests, adapters.

Kept up with the unsafe head: after a reorg what is gone is forgotten and what came instead is read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable

import trio

from openledger.evm_ext.chain import Chain
from openledger.node.datanets.chain_watch import POLL_S, NewHead, new_heads
from openledger.node.registry import ContributionRecord, Datanet, Registry, Release

RegistryAt = Callable[[bytes | None], Registry]
"""Our contracts' state after a block; None is the unsafe head."""


class Registered:
    """Datanets, contributions and releases by id, as of `head_number`.

    Only what never changes while its block stands is meant to be used here (hashes, sizes, ids, who); a status, a
    price or an owner is asked of the registry when it is needed.
    """

    def __init__(self, chain: Chain, registry: RegistryAt, poll_s: float = POLL_S) -> None:
        self.datanets: dict[int, Datanet] = {}
        self.contributions: dict[int, ContributionRecord] = {}
        self.releases: dict[int, Release] = {}
        self.head_number = -1
        self._chain = chain
        self._registry = registry
        self._poll_s = poll_s
        self._updates = 0
        self._changed = trio.Event()

    def probe(self) -> str | None:
        """None once the chain was read up to a head."""
        return None if self.head_number >= 0 else "the registries are being read"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow the unsafe head until cancelled."""
        task_status.started()
        async for new in new_heads(self._chain, self._poll_s):
            await trio.to_thread.run_sync(self.update, new)
            self._updates += 1
            self._changed.set()
            self._changed = trio.Event()

    async def changes(self) -> AsyncGenerator[None, None]:
        """Yields now (if there is anything to see) and after every update; updates in between may be passed over."""
        seen = 0
        while True:
            if self._updates != seen:
                seen = self._updates
                yield
            else:
                await self._changed.wait()

    def update(self, new: NewHead) -> None:
        """Read what is new at a head. Blocks for reads; call it in a thread."""
        registry = self._registry(new.head.hash)
        contributions = {i: c for i, c in self.contributions.items() if c.reveal_block <= new.kept}
        releases = {i: r for i, r in self.releases.items() if r.block_number <= new.kept}
        # A Datanet does not say when it was created, so after a reorg all are read again.
        datanets = dict(self.datanets) if new.kept == self.head_number else {}
        for identifier in range(1, registry.datanet_count() + 1):
            if identifier not in datanets:
                datanets[identifier] = registry.datanet(identifier)
        for identifier in range(1, registry.contribution_count() + 1):
            if identifier not in contributions:
                contributions[identifier] = registry.contribution(identifier)
        for identifier in range(1, registry.release_count() + 1):
            if identifier not in releases:
                releases[identifier] = registry.release(identifier)
        self.datanets, self.contributions, self.releases = datanets, contributions, releases
        self.head_number = new.head.number
