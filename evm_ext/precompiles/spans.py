"""SPANS at 0x…A701: checks a proof about a committed corpus.

Version 0 (proofs/spans.py) shows membership of text and rank chunks. Output: three 32-byte words: 1 and the
numbers of text and rank chunks opened, or all zero when the chunks are not under the root they name.
Malformed input fails the call. It informs; nobody is paid by it.
"""

from typing import Any

from eth.exceptions import VMError

from openledger.evm_ext.proofs.merkle import InvalidProof
from openledger.evm_ext.proofs.spans import SpanMembership

BASE_GAS = 500
LEAF_GAS = 650
HASH_GAS = 95
_HASH_BYTES = 32


class SpanProofRefused(VMError):  # type: ignore[misc]  # py-evm is untyped
    """Input that is no span proof; the call fails and its gas is gone."""


def spans(computation: Any) -> Any:
    """The precompile, on a py-evm computation. Raises SpanProofRefused or OutOfGas."""
    data = bytes(computation.msg.data)
    computation.consume_gas(BASE_GAS + len(data) // _HASH_BYTES * HASH_GAS, "SPANS")
    try:
        proof = SpanMembership.decode(data)
    except InvalidProof as problem:
        raise SpanProofRefused(str(problem)) from None
    # Nodes hashed: one for each sibling, whose bytes are paid above, and fewer than one for each leaf.
    opened = len(proof.texts) + len(proof.ranks)
    computation.consume_gas(opened * (LEAF_GAS + HASH_GAS), "SPANS: leaves")
    try:
        proof.verify()
    except InvalidProof:
        words = (0, 0, 0)
    else:
        words = (1, len(proof.texts), len(proof.ranks))
    computation.output = b"".join(word.to_bytes(32, "big") for word in words)
    return computation
