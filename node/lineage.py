"""Where a release, a Datanet or an answer comes from, and what came of it: a graph read from the contracts.

Nodes are named `datanet/1`, `datanet/1/version/2`, `contribution/4`, `release/3`, `receipt/0x…` and `account/0x…`. An edge says
what its beginning has to do with its end; those along which fees flow carry `parts_bps`, of what remains of a fee after the
platform's part (a contribution's part of one answer, in 1/10,000 of the contributors', is the receipt's vector).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from openledger.node.records import AnswerBody, InvalidRecord
from openledger.node.registry import NotRegistered, Registry, Release

MAX_RELEASES: Final = 10_000
"""Releases that are looked through for those made of a Datanet."""
_PARTS: Final = ("owner", "trainer", "stakers", "provider", "contributors")


class LineageUnknown(Exception):
    """There is no such thing on this chain, or not on this node; the message says which."""


class Lineage:
    """Nodes and edges, each once, in the order in which they were found."""

    def __init__(self, registry: Registry, named: Callable[[bytes], bytes | None]) -> None:
        """`named` gives what this node holds under a hash: the bodies of receipts."""
        self._registry = registry
        self._named = named
        self._nodes: dict[str, dict[str, Any]] = {}
        self._edges: dict[tuple[str, str, str], dict[str, Any]] = {}

    def to_json(self) -> dict[str, Any]:
        return {"nodes": list(self._nodes.values()), "edges": list(self._edges.values())}

    def of_datanet(self, identifier: int) -> None:
        """Its owner, versions, contributions, and the releases made of it. Raises LineageUnknown."""
        try:
            datanet = self._registry.datanet(identifier)
        except NotRegistered as error:
            raise LineageUnknown(str(error)) from error
        this = self._datanet(identifier)
        for number in range(1, datanet.versions + 1):
            self._version(identifier, number)
        for record in self._registry.contributions(identifier):
            self._edge(self._contribution(record.id), this, "contributed to")
        for number in range(1, min(self._registry.release_count(), MAX_RELEASES) + 1):
            release = self._registry.release(number)
            if any(used == identifier for used, _, _ in release.datanets):
                self._release(release)

    def of_contribution(self, identifier: int) -> None:
        """Its contributor and its Datanet. Raises LineageUnknown."""
        try:
            record = self._registry.contribution(identifier)
        except NotRegistered as error:
            raise LineageUnknown(str(error)) from error
        self._edge(self._contribution(identifier), self._datanet(record.datanet), "contributed to")

    def of_release(self, identifier: int) -> None:
        """Its owner and trainer, the Datanets it was made of, and how its fees are split. Raises LineageUnknown."""
        try:
            self._release(self._registry.release(identifier))
        except NotRegistered as error:
            raise LineageUnknown(str(error)) from error

    def of_receipt(self, digest: bytes) -> None:
        """Its release and the contributions that it pays. Raises LineageUnknown."""
        encoded = self._named(digest)
        if encoded is None:
            raise LineageUnknown(f"this node does not have receipt 0x{digest.hex()}")
        try:
            body = AnswerBody.decode(encoded)
        except InvalidRecord as error:
            raise LineageUnknown(f"0x{digest.hex()} is no receipt: {error}") from error
        this = self._node(f"receipt/0x{digest.hex()}", "answer", fee_micro_open=body.signed_receipt().fee)
        self.of_release(body.request.release)
        self._edge(this, f"release/{body.request.release}", "answered by")
        for contribution, weight in body.vector:
            self._edge(self._contribution(contribution), this, "shows in", weight=weight)
            record = self._registry.contribution(contribution)
            self._edge(f"contribution/{contribution}", self._datanet(record.datanet), "contributed to")

    def _release(self, release: Release) -> None:
        this = self._node(
            f"release/{release.id}",
            "release",
            name=release.name,
            active=release.active,
            adapter="0x" + release.adapter_hash.hex(),
            training_record="0x" + release.training_record.hex(),
            parts_bps=dict(zip(_PARTS, release.split.parts, strict=True)),
        )
        owner, trainer = self._account(release.owner), self._account(release.trainer)
        self._edge(owner, this, "owns", parts_bps=release.split.owner_bps)
        self._edge(trainer, this, "trained", parts_bps=release.split.trainer_bps)
        for datanet, version, tokens in release.datanets:
            self._edge(this, self._version(datanet, version), "made of", tokens=tokens)

    def _datanet(self, identifier: int) -> str:
        datanet = self._registry.datanet(identifier)
        this = self._node(f"datanet/{identifier}", "datanet", name=datanet.name, public=datanet.is_public)
        self._edge(self._account(datanet.owner), this, "owns")
        return this

    def _version(self, datanet: int, number: int) -> str:
        version = self._registry.version(datanet, number)
        this = self._node(
            f"datanet/{datanet}/version/{number}",
            "version",
            root="0x" + version.root.hex(),
            contributions=version.count,
        )
        self._edge(this, self._datanet(datanet), "version of")
        return this

    def _contribution(self, identifier: int) -> str:
        record = self._registry.contribution(identifier)
        this = self._node(
            f"contribution/{identifier}",
            "contribution",
            document="0x" + record.document_hash.hex(),
            status=record.status.name.lower(),
        )
        self._edge(self._account(record.contributor), this, "contributed")
        return this

    def _account(self, address: bytes) -> str:
        return self._node(f"account/0x{address.hex()}", "account")

    def _node(self, this: str, kind: str, /, **about: Any) -> str:
        self._nodes.setdefault(this, {"id": this, "kind": kind, **about})
        return this

    def _edge(self, first: str, last: str, what: str, /, **about: Any) -> None:
        self._edges.setdefault((first, last, what), {"from": first, "to": last, "what": what, **about})


def leaderboard(registry: Registry, datanet: int | None, limit: int) -> list[dict[str, Any]]:
    """The contributors of a Datanet, or of all, by what they can claim and will be able to, then by what was admitted.

    What was claimed already is no longer on the contracts' books: it is in their events.
    """
    approved: dict[bytes, int] = {}
    size: dict[bytes, int] = {}
    for record in registry.contributions(datanet):
        counts = record.status.name == "APPROVED"
        approved[record.contributor] = approved.get(record.contributor, 0) + counts
        size[record.contributor] = size.get(record.contributor, 0) + counts * record.size
    rows = []
    for contributor, count in approved.items():
        earned = registry.earnings(contributor)
        rows.append(
            {
                "contributor": "0x" + contributor.hex(),
                "approved": count,
                "bytes": size[contributor],
                "unclaimed_micro_open": earned.claimable + sum(earned.pending),
            }
        )
    rows.sort(
        key=lambda row: (-int(str(row["unclaimed_micro_open"])), -int(str(row["approved"])), str(row["contributor"]))
    )
    return rows[:limit]
