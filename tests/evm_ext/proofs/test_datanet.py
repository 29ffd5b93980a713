from dataclasses import replace

import pytest

from openledger.evm_ext.proofs.datanet import (
    Contribution,
    contribution_leaf,
    membership_proof,
    verify_membership,
    version_root,
)
from openledger.evm_ext.proofs.merkle import InvalidProof
from openledger.genesis.hashing import keccak256

LEAVES = [contribution_leaf(i, bytes([i]) * 20, keccak256(bytes([i]))) for i in range(1, 6)]


def naive_root(leaves: list[bytes]) -> bytes:
    level, zero = list(leaves), bytes(32)
    for _ in range(32):
        if len(level) % 2:
            level.append(zero)
        level = [keccak256(b"\x01" + level[i] + level[i + 1]) for i in range(0, len(level), 2)]
        zero = keccak256(b"\x01" + zero + zero)
    return level[0]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_version_root_is_the_tree_of_height_32_wrapped(count):
    expected = keccak256(b"\x07" + b"".join(v.to_bytes(4, "big") for v in (9, 2, count)) + naive_root(LEAVES[:count]))
    assert version_root(9, 2, LEAVES[:count]) == expected


def test_membership_is_proven_for_the_leaf_at_its_place_only():
    root = version_root(9, 2, LEAVES)
    for index, leaf in enumerate(LEAVES):
        siblings = membership_proof(LEAVES, index)
        assert len(siblings) == 32
        assert verify_membership(root, 9, 2, 5, index, leaf, siblings)
        assert not verify_membership(root, 9, 2, 5, (index + 1) % 5, leaf, siblings)
        assert not verify_membership(root, 9, 3, 5, index, leaf, siblings)
        assert not verify_membership(root, 9, 2, 4, index, leaf, siblings)
    with pytest.raises(InvalidProof):
        verify_membership(root, 9, 2, 5, 0, LEAVES[0], membership_proof(LEAVES, 0)[:-1])
    padding = membership_proof([*LEAVES, bytes(32)], 5)
    assert not verify_membership(root, 9, 2, 6, 5, bytes(32), padding)


def test_a_commitment_binds_chain_datanet_author_document_and_salt():
    one = Contribution(1, b"\x01" * 20, bytes(32), bytes(32), 1, bytes(32), 1)
    others = [
        replace(one, datanet=2),
        replace(one, contributor=b"\x02" * 20),
        replace(one, document_hash=b"\x01" * 32),
        replace(one, salt=b"\x01" * 32),
    ]
    assert len({one.commitment(1), one.commitment(2), *(o.commitment(1) for o in others)}) == 6
    assert replace(one, deadline=2, size=9).commitment(1) == one.commitment(1)
