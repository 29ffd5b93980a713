import random
from dataclasses import replace

import pytest

from openledger.evm_ext.proofs.merkle import DomainTree, InvalidProof
from openledger.evm_ext.proofs.openings import SpanMembership
from openledger.evm_ext.proofs.spans import (
    SENTINEL,
    Segment,
    corpus_root,
    information_root,
    rank_leaf,
    rank_leaves,
    text_leaf,
    text_leaves,
)
from openledger.genesis.hashing import keccak256


def make_segment(seed: int, chunks: int = 5):
    rng = random.Random(seed)
    owners = sorted(rng.randrange(1, 9) for _ in range(chunks))
    tokens = [rng.randrange(50) for _ in range(32 * chunks)]
    for chunk in range(chunks):
        tokens[32 * chunk + 31] = SENTINEL
    order = sorted(range(len(tokens)), key=lambda p: (tokens[p : p + 256], p))
    texts = [(owners[i], tuple(tokens[32 * i : 32 * i + 32])) for i in range(chunks)]
    ranks = [
        tuple((position, owners[position // 32]) for position in order[i : i + 16]) for i in range(0, len(order), 16)
    ]
    text_tree = DomainTree(text_leaf(*chunk) for chunk in texts)
    rank_tree = DomainTree(map(rank_leaf, ranks))
    segment = Segment(len(tokens), 256, 50, keccak256(b"tokenizer"), text_tree.root, rank_tree.root)
    return segment, texts, ranks, text_tree, rank_tree


def make_proof(text_indices, rank_indices):
    segment, texts, ranks, text_tree, rank_tree = make_segment(1)
    roots = (make_segment(2)[0].root, segment.root)
    return SpanMembership(
        corpus_root(roots),
        roots,
        1,
        segment,
        {i: texts[i] for i in text_indices},
        {i: ranks[i] for i in rank_indices},
        text_tree.siblings(text_indices) if text_indices else (),
        rank_tree.siblings(rank_indices) if rank_indices else (),
    )


@pytest.mark.parametrize(("texts", "ranks"), [((0, 3), (9,)), ((4,), ()), ((), (0, 1, 2)), ((0, 1, 2, 3, 4), ())])
def test_membership_proofs_round_trip_and_verify(texts, ranks):
    proof = make_proof(texts, ranks)
    assert SpanMembership.decode(proof.encode()) == proof
    proof.verify()


def test_no_byte_of_a_proof_can_be_changed():
    encoded = make_proof((0, 3), (9,)).encode()
    rng = random.Random(3)
    for _ in range(300):
        at = rng.randrange(len(encoded))
        changed = encoded[:at] + bytes([encoded[at] ^ rng.randrange(1, 256)]) + encoded[at + 1 :]
        with pytest.raises(InvalidProof):
            SpanMembership.decode(changed).verify()


def test_every_cut_and_extra_byte_is_refused():
    encoded = make_proof((0,), (9,)).encode()
    for size in range(len(encoded)):
        with pytest.raises(InvalidProof):
            SpanMembership.decode(encoded[:size])
    with pytest.raises(InvalidProof, match="length"):
        SpanMembership.decode(encoded + b"\0")


def test_lies_about_what_is_opened_are_refused():
    proof = make_proof((0, 3), (9,))
    other = make_proof((0, 2), (9,))
    for lie in (
        replace(proof, texts=other.texts),
        replace(proof, which=0),
        replace(proof, corpus_root=bytes(32)),
        replace(proof, text_siblings=proof.text_siblings[:-1]),
        replace(proof, texts={}),
        replace(proof, ranks={8: proof.ranks[9]}),
    ):
        with pytest.raises(InvalidProof):
            lie.verify()


def test_leaves_are_the_packed_bytes_of_the_format():
    tokens = list(range(32))
    packed = (7).to_bytes(4, "big") + b"".join(t.to_bytes(4, "big") for t in tokens)
    assert text_leaf(7, tokens) == keccak256(b"\x02" + packed)
    assert list(text_leaves(packed * 2)) == [text_leaf(7, tokens)] * 2
    entries = [(i, 100 + i) for i in range(16)]
    packed = b"".join(v.to_bytes(4, "big") for e in entries for v in e)
    assert rank_leaf(entries) == keccak256(b"\x03" + packed)
    assert list(rank_leaves(packed)) == [rank_leaf(entries)]
    assert corpus_root([b"\x01" * 32]) == keccak256(b"\x05\x01" + b"\x01" * 32)
    with pytest.raises(ValueError, match="segments"):
        corpus_root([])


def test_the_information_table_is_committed_with_its_length():
    leaf = keccak256(b"\x0b" + b"".join(v.to_bytes(4, "big") for v in (5, 6)) + bytes(120))
    assert information_root([5, 6]) == keccak256(b"\x0c" + (2).to_bytes(4, "big") + leaf)
    assert information_root([5, 6, 0]) != information_root([5, 6])
