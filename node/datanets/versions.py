"""The documents of a Datanet version in order, checked against the version's root."""

from __future__ import annotations

from dataclasses import dataclass

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.proofs.datanet import contribution_leaf, version_root
from openledger.genesis.counted import counted
from openledger.node.predeploy_contracts import datanet_registry
from openledger.node.registry import ContributionRecord, Registry, Version


class VersionUnreadable(Exception):
    """The approvals found on chain do not make the version's root; the message says what differs."""


@dataclass(frozen=True)
class VersionContents:
    """A version and its contributions in order of approval (a retired one stays: roots cannot be shortened)."""

    version: Version
    contributions: tuple[ContributionRecord, ...]


def version_contents(chain: Chain, registry: Registry, datanet: int, number: int) -> VersionContents:
    """What version `number` of a Datanet holds. Blocks for reads; call it in a thread.

    Raises NotRegistered for an unknown version, VersionUnreadable.
    """
    version = registry.version(datanet, number)
    contract = datanet_registry()
    topics = [[contract.topic("Approved")], [datanet.to_bytes(32, "big")]]
    approved: dict[int, ContributionRecord] = {}
    for located in chain.logs(0, version.block_number, [contract.address], topics):
        event = contract.event(located.log.topics, located.log.data)
        if event is not None and event.arguments["index"] < version.count:
            approved[event.arguments["index"]] = registry.contribution(event.arguments["contribution"])
    if sorted(approved) != list(range(version.count)):
        raise VersionUnreadable(
            f"version {number} of Datanet {datanet} has {counted(version.count, 'contribution')}, "
            f"{counted(len(approved), 'approval is', 'approvals are')} in the blocks stored here"
        )
    in_order = tuple(approved[index] for index in range(version.count))
    root = version_root(datanet, number, [contribution_leaf(c.id, c.contributor, c.document_hash) for c in in_order])
    if root != version.root:
        raise VersionUnreadable(f"version {number} of Datanet {datanet} does not have the root that the chain says")
    return VersionContents(version, in_order)
