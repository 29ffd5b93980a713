import random
import struct
from dataclasses import replace

import numpy as np
import pytest

from openledger.evm_ext.proofs.merkle import DomainTree, InvalidProof
from openledger.evm_ext.proofs.scores import ScoreMembership, VectorOpening, retrieval_root, vector_leaf

DIMENSION = 24


def make_proof(chosen=(0, 4), count=7):
    rng = np.random.default_rng(1)
    vectors = rng.integers(-127, 128, (count, DIMENSION), dtype=np.int8)
    query = rng.integers(-127, 128, DIMENSION, dtype=np.int8)
    openings = [VectorOpening(i + 1, 100 * i, 90, vectors[i].tobytes()) for i in range(count)]
    tree = DomainTree(vector_leaf(o.contribution, o.offset, o.length, o.vector) for o in openings)
    scale = struct.unpack(">I", struct.pack(">f", 1 / 127))[0]
    header = (count, DIMENSION, scale, b"\x07" * 32, tree.root)
    proof = ScoreMembership(
        retrieval_root(*header),
        *header,
        query.tobytes(),
        {i: openings[i] for i in chosen},
        tree.siblings(chosen),
    )
    return proof, {i: int(vectors[i].astype(int) @ query.astype(int)) for i in chosen}


def test_proofs_round_trip_and_yield_numpys_dot_products():
    proof, expected = make_proof()
    assert ScoreMembership.decode(proof.encode()) == proof
    assert proof.verify() == expected


def test_no_byte_but_the_query_can_be_changed():
    proof, expected = make_proof()
    encoded = proof.encode()
    query = range(107, 107 + DIMENSION)
    rng = random.Random(5)
    for _ in range(300):
        at = rng.randrange(len(encoded))
        changed = encoded[:at] + bytes([encoded[at] ^ rng.randrange(1, 256)]) + encoded[at + 1 :]
        if at in query:
            assert ScoreMembership.decode(changed).verify() != expected
        else:
            with pytest.raises(InvalidProof):
                ScoreMembership.decode(changed).verify()


def test_every_cut_and_extra_byte_is_refused():
    encoded = make_proof()[0].encode()
    for size in range(len(encoded)):
        with pytest.raises(InvalidProof):
            ScoreMembership.decode(encoded[:size])
    with pytest.raises(InvalidProof, match="length"):
        ScoreMembership.decode(encoded + b"\0")


def test_limits_are_checked_before_anything_is_read():
    proof, _ = make_proof()
    for lie, why in (
        (replace(proof, dimension=5_000), "dimension"),
        (replace(proof, count=0), "0 vectors"),
        (replace(proof, vectors={}), "opened"),
        (replace(proof, vectors={9: proof.vectors[0]}), "outside"),
    ):
        with pytest.raises(InvalidProof, match=why):
            ScoreMembership.decode(lie.encode())
