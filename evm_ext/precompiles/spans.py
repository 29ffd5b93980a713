"""SPANS at 0x…A701: checks a proof about a committed corpus.

Version 0 (proofs/openings.py) shows membership of text and rank chunks. Output: three 32-byte words: 1 and the
numbers of text and rank chunks opened, or all zero when the chunks are not under the root they name.

Version 1 (proofs/span_statements.py) shows a statement. Output, in 32-byte words:

    holds | corpus root | hash of the output tokens as in receipts (0 where the statement has none)
    and, of an account that was shown:  complete | for each span: occurrences | owners | hash of the owners

An account holds if its spans and absences were shown; whether it leaves nothing out is the fourth word. Malformed input
fails the call. It informs; nobody is paid by it.
"""

from collections.abc import Sequence
from typing import Any

from eth.exceptions import VMError

from openledger.evm_ext.proofs.merkle import InvalidProof
from openledger.evm_ext.proofs.openings import VERSION as MEMBERSHIP
from openledger.evm_ext.proofs.openings import Openings, SpanMembership
from openledger.evm_ext.proofs.span_statements import Account, FoundSpan, SpanProof, Work

BASE_GAS = 500
LEAF_GAS = 650
HASH_GAS = 95
COMPARISON_GAS = 400
TOKEN_GAS = 4
RANK_GAS = 30
OUTPUT_GAS = 60
_HASH_BYTES = 32


class SpanProofRefused(VMError):  # type: ignore[misc]  # py-evm is untyped
    """Input that is no span proof; the call fails and its gas is gone."""


def spans(computation: Any) -> Any:
    """The precompile, on a py-evm computation. Raises SpanProofRefused or OutOfGas."""
    data = bytes(computation.msg.data)
    computation.consume_gas(BASE_GAS + len(data) // _HASH_BYTES * HASH_GAS, "SPANS")
    try:
        if data[:1] == bytes([MEMBERSHIP]):
            words = _membership(computation, SpanMembership.decode(data))
        else:
            words = _statement(computation, SpanProof.decode(data))
    except InvalidProof as problem:
        raise SpanProofRefused(str(problem)) from None
    computation.output = b"".join(word.to_bytes(32, "big") if isinstance(word, int) else word for word in words)
    return computation


def _membership(computation: Any, proof: SpanMembership) -> Sequence[int | bytes]:
    _pay_for_leaves(computation, proof)
    try:
        proof.verify()
    except InvalidProof:
        return 0, 0, 0
    return 1, len(proof.texts), len(proof.ranks)


def _statement(computation: Any, proof: SpanProof) -> Sequence[int | bytes]:
    statement, openings = proof.statement, proof.openings
    _pay_for_leaves(computation, openings)
    computation.consume_gas(work_gas(statement.work), "SPANS: statement")
    about = (openings.corpus_root, proof.tokens_hash)
    if not isinstance(statement, Account):
        return int(proof.holds()), *about
    try:
        openings.verify()
        found: tuple[FoundSpan, ...] = statement.found(openings)
    except InvalidProof:
        return 0, *about
    complete = int(statement.is_complete(openings.segment.depth))
    return 1, *about, complete, *(word for span in found for word in (span.count, len(span.owners), span.owners_hash))


def work_gas(work: Work) -> int:
    """What a statement costs beside its leaves and bytes: the most that checking it can take."""
    return (
        COMPARISON_GAS * work.comparisons + TOKEN_GAS * work.tokens + RANK_GAS * work.ranks + OUTPUT_GAS * work.output
    )


def _pay_for_leaves(computation: Any, openings: Openings) -> None:
    # Nodes hashed: one for each sibling, whose bytes are paid by length, and fewer than one for each leaf.
    computation.consume_gas((len(openings.texts) + len(openings.ranks)) * (LEAF_GAS + HASH_GAS), "SPANS: leaves")
