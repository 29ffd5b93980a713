"""Contributions to a Datanet: the commitment, the signed reveal, and the tree behind a version's root.

    commitment    keccak(abi.encode(uint256 chainId, uint32 datanet, address contributor, bytes32 documentHash, bytes32 salt))
    leaf          keccak(0x06 | contribution id u32 | contributor 20 | documentHash 32)
    version root  keccak(0x07 | datanet u32 | version u32 | count u32 | root of the tree of height 32)

The tree is merkle's domain-separated one at the fixed height 32, leaves in the order of approval,
so that the registry can grow it by one leaf at the cost of one path.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from eth_abi.abi import encode as abi_encode

from openledger.evm_ext.proofs.domain import CONTRIBUTION_LEAF, DATANET_VERSION
from openledger.evm_ext.proofs.eip712 import Domain, TypedMessage
from openledger.evm_ext.proofs.merkle import ZERO_LEAF, DomainTree, domain_root_of, node
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import DATANET_REGISTRY

TREE_HEIGHT = 32


class ContributionStatus(IntEnum):
    """Where a contribution stands; only an approved one is paid."""

    NONE = 0
    PENDING = 1
    APPROVED = 2
    REJECTED = 3
    RETIRED = 4
    """Was approved once: its part goes to its Datanet's treasury."""


@dataclass(frozen=True)
class Contribution(TypedMessage):
    """A contributor's claim to a document, signed; `deadline` is a Unix time in seconds.

    `document_hash` and `metadata_hash` are content hashes (content.py), `size` the document's bytes.
    """

    STRUCT: ClassVar[str] = "Contribution"
    TYPES: ClassVar[Mapping[str, str]] = {
        "datanet": "uint32",
        "contributor": "address",
        "document_hash": "bytes32",
        "metadata_hash": "bytes32",
        "size": "uint32",
        "salt": "bytes32",
        "deadline": "uint64",
    }

    datanet: int
    contributor: bytes
    document_hash: bytes
    metadata_hash: bytes
    size: int
    salt: bytes
    deadline: int

    def commitment(self, chain_id: int) -> bytes:
        """What is committed before the reveal; binds the author, hides the document behind the salt."""
        return keccak256(
            abi_encode(
                ["uint256", "uint32", "address", "bytes32", "bytes32"],
                [chain_id, self.datanet, self.contributor, self.document_hash, self.salt],
            )
        )


def registry_domain(chain_id: int) -> Domain:
    """The domain of contributions."""
    return Domain(chain_id, DATANET_REGISTRY)


def contribution_leaf(contribution: int, contributor: bytes, document_hash: bytes) -> bytes:
    """The leaf of an approved contribution."""
    return keccak256(CONTRIBUTION_LEAF + struct.pack(">I", contribution) + contributor + document_hash)


def version_root(datanet: int, version: int, leaves: Sequence[bytes]) -> bytes:
    """The root of a Datanet version over its contributions' leaves in order of approval."""
    tree = DomainTree(leaves)
    root, zero = tree.root, tree.zero
    for _ in range(tree.height, TREE_HEIGHT):
        root, zero = node(root, zero), node(zero, zero)
    return _wrap(datanet, version, tree.size, root)


def membership_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The 32 siblings of leaf `index`."""
    tree = DomainTree(leaves)
    siblings = list(tree.siblings([index]))
    zero = tree.zero
    for _ in range(tree.height, TREE_HEIGHT):
        siblings.append(zero)
        zero = node(zero, zero)
    return tuple(siblings)


def verify_membership(
    root: bytes, datanet: int, version: int, count: int, index: int, leaf: bytes, siblings: Sequence[bytes]
) -> bool:
    """Whether `leaf` is contribution `index` of the version; raises InvalidProof for a proof of wrong length."""
    if not 0 <= index < count or leaf == ZERO_LEAF:
        return False
    return _wrap(datanet, version, count, domain_root_of({index: leaf}, siblings, TREE_HEIGHT)) == root


def _wrap(datanet: int, version: int, count: int, tree_root: bytes) -> bytes:
    return keccak256(DATANET_VERSION + struct.pack(">III", datanet, version, count) + tree_root)
