"""SCORES at 0x…A702: checks openings of committed vectors and recomputes their dot products.

Version 0 (proofs/scores.py). Output in 32-byte words: 1, the number of vectors, then for each, by ascending
index, its index and its dot product with the query (two's complement); or 0, 0 when the vectors are not under
the root they name. Malformed input fails the call. It informs; nobody is paid by it.
"""

from typing import Any

from eth.exceptions import VMError

from openledger.evm_ext.proofs.merkle import InvalidProof
from openledger.evm_ext.proofs.scores import ScoreMembership

BASE_GAS = 500
VECTOR_GAS = 650
BYTE_GAS = 5
HASH_GAS = 95


class ScoreProofRefused(VMError):  # type: ignore[misc]  # py-evm is untyped
    """Input that is no score proof; the call fails and its gas is gone."""


def scores(computation: Any) -> Any:
    """The precompile, on a py-evm computation. Raises ScoreProofRefused or OutOfGas."""
    data = bytes(computation.msg.data)
    computation.consume_gas(BASE_GAS + len(data) * BYTE_GAS, "SCORES")
    try:
        proof = ScoreMembership.decode(data)
    except InvalidProof as problem:
        raise ScoreProofRefused(str(problem)) from None
    # Nodes hashed: one for each sibling, whose bytes are paid above, and fewer than one for each vector.
    computation.consume_gas(len(proof.vectors) * (VECTOR_GAS + HASH_GAS), "SCORES: vectors")
    try:
        found = proof.verify()
    except InvalidProof:
        computation.output = bytes(64)
        return computation
    words = [1, len(found)]
    for index, score in found.items():
        words += [index, score % (1 << 256)]
    computation.output = b"".join(word.to_bytes(32, "big") for word in words)
    return computation
