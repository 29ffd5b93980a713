import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.evm_ext.proofs.merkle import (
    DomainTree,
    InvalidProof,
    Multiproof,
    StandardTree,
    domain_root_of,
    height_of,
    receipt_leaf,
    verify_standard,
    verify_standard_multiproof,
)
from openledger.genesis.hashing import keccak256

VECTORS = json.loads((Path(__file__).parent / "vectors" / "standard_merkle_tree.json").read_bytes())["trees"]


def unhex(text: str) -> bytes:
    return bytes.fromhex(text[2:])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['n']} leaves")
def test_standard_tree_is_openzeppelins_array_and_proofs(vector):
    tree = StandardTree.of_receipts([(7 * i + 1).to_bytes(32, "big") for i in range(vector["n"])])
    assert list(tree.nodes) == [unhex(node) for node in vector["tree"]]
    assert tree.root == unhex(vector["root"])
    for i, proof in enumerate(vector["proofs"]):
        assert tree.proof(i) == tuple(map(unhex, proof))
    multi = tree.multiproof(vector["multi_indices"])
    assert multi.leaves == tuple(map(unhex, vector["multi"]["leaves"]))
    assert multi.proof == tuple(map(unhex, vector["multi"]["proof"]))
    assert list(multi.flags) == vector["multi"]["flags"]
    assert verify_standard_multiproof(multi, tree.root)


@given(st.integers(1, 40), st.data())
def test_standard_proofs_hold_for_their_leaf_alone(n, data):
    tree = StandardTree.of_receipts([keccak256(bytes([i])) for i in range(n)])
    i = data.draw(st.integers(0, n - 1))
    assert verify_standard(receipt_leaf(i, keccak256(bytes([i]))), tree.proof(i), tree.root)
    assert not verify_standard(receipt_leaf(i + 1, keccak256(bytes([i]))), tree.proof(i), tree.root)
    chosen = data.draw(st.sets(st.integers(0, n - 1), min_size=1))
    multi = tree.multiproof(chosen)
    assert verify_standard_multiproof(multi, tree.root)
    assert set(multi.leaves) == {tree.leaves[i] for i in chosen}
    lie = Multiproof((keccak256(b"lie"), *multi.leaves[1:]), multi.proof, multi.flags)
    assert not verify_standard_multiproof(lie, tree.root)


def test_a_multiproof_whose_numbers_do_not_fit_is_refused():
    tree = StandardTree([keccak256(bytes([i])) for i in range(5)])
    multi = tree.multiproof([1, 3])
    with pytest.raises(InvalidProof, match="flags"):
        verify_standard_multiproof(Multiproof(multi.leaves, multi.proof[:-1], multi.flags), tree.root)
    with pytest.raises(InvalidProof, match="siblings"):
        verify_standard_multiproof(Multiproof(multi.leaves, multi.proof, (False,) * len(multi.flags)), tree.root)


def padded_root(leaves: list[bytes]) -> bytes:
    level = leaves + [bytes(32)] * (2 ** height_of(len(leaves)) - len(leaves))
    while len(level) > 1:
        level = [keccak256(b"\x01" + level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


@given(st.integers(1, 70), st.data())
def test_domain_tree_equals_the_padded_tree_and_opens(n, data):
    leaves = [keccak256(bytes([i])) for i in range(n)]
    tree = DomainTree(leaves)
    assert tree.root == padded_root(leaves)
    chosen = data.draw(st.sets(st.integers(0, n - 1), min_size=1))
    opened = {i: leaves[i] for i in chosen}
    siblings = tree.siblings(chosen)
    assert domain_root_of(opened, siblings, tree.height) == tree.root
    with pytest.raises(InvalidProof, match="nothing uses"):
        domain_root_of(opened, (*siblings, bytes(32)), tree.height)
    if siblings:
        with pytest.raises(InvalidProof, match="too few"):
            domain_root_of(opened, siblings[:-1], tree.height)
    with pytest.raises(InvalidProof, match="index"):
        domain_root_of({1 << tree.height: leaves[0]}, siblings, tree.height)


def test_a_tree_needs_leaves():
    with pytest.raises(ValueError, match="at least one leaf"):
        StandardTree([])
    with pytest.raises(ValueError, match="at least one leaf"):
        DomainTree([])
