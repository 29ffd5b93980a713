"""SPANS and SCORES on a real EVM: they answer about committed data, refuse malformed input, and pay nobody."""

import random
from dataclasses import replace

import pytest
from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.forks.prague.state import PragueState
from eth.vm.message import Message

from openledger.evm_ext.precompiles import PRECOMPILES
from openledger.evm_ext.proofs.merkle import DomainTree
from openledger.evm_ext.proofs.openings import Openings, SpanMembership
from openledger.evm_ext.proofs.receipt import tokens_hash
from openledger.evm_ext.proofs.scores import ScoreMembership, VectorOpening, dot, retrieval_root, vector_leaf
from openledger.evm_ext.proofs.span_statements import (
    Absence,
    Account,
    HiddenHolder,
    HiddenMatch,
    SpanProof,
    StatedSpan,
    Unsorted,
)
from openledger.evm_ext.proofs.spans import SENTINEL, Segment, corpus_root, rank_leaf, text_leaf
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import SCORES, SPANS

BLANK_ROOT = bytes.fromhex("56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421")


class Computation(PragueComputation):
    _precompiles = {**PragueComputation.get_precompiles(), **PRECOMPILES}  # noqa: RUF012


class State(PragueState):
    computation_class = Computation


def call(address: bytes, data: bytes, gas: int = 10_000_000, is_static: bool = True):
    context = ExecutionContext(bytes(20), 0, 1, 0, bytes(32), gas, (), 1, 0, 0)
    state = State(AtomicDB(), context, BLANK_ROOT)
    message = Message(gas, address, b"\x01" * 20, 0, data, b"", is_static=is_static)
    return Computation.apply_message(state, message, state.transaction_context_class(0, b"\x01" * 20))


def words(output: bytes) -> list[int]:
    return [int.from_bytes(output[i : i + 32], "big") for i in range(0, len(output), 32)]


@pytest.fixture(scope="module")
def span_proof() -> SpanMembership:
    rng = random.Random(1)
    texts = [(i, tuple(rng.randrange(9) for _ in range(32))) for i in range(6)]
    ranks = [tuple((rng.randrange(192), rng.randrange(6)) for _ in range(16)) for _ in range(12)]
    text_tree = DomainTree(text_leaf(*chunk) for chunk in texts)
    rank_tree = DomainTree(map(rank_leaf, ranks))
    segment = Segment(192, 256, 9, b"\x07" * 32, text_tree.root, rank_tree.root)
    root = corpus_root([segment.root])
    return SpanMembership(
        root,
        (segment.root,),
        0,
        segment,
        {1: texts[1], 4: texts[4]},
        {7: ranks[7]},
        text_tree.siblings([1, 4]),
        rank_tree.siblings([7]),
    )


@pytest.fixture(scope="module")
def account() -> SpanProof:
    """Of an output that shares three tokens with contribution 4: they stand twice, once more with contribution 6."""
    tokens = [1, 2, 3, 4, SENTINEL, 1, 2, 3, SENTINEL] + [SENTINEL] * 23 + [5, 1, 2, 3] + [SENTINEL] * 28
    owners = [4, 6]
    order = sorted(range(64), key=lambda p: (tokens[p : tokens.index(SENTINEL, p) + 1], p))
    entries = [(p, owners[p // 32]) for p in order]
    ranks = {c: tuple(entries[16 * c : 16 * c + 16]) for c in range(4)}
    texts = {c: (owners[c], tuple(tokens[32 * c : 32 * c + 32])) for c in range(2)}
    trees = DomainTree(text_leaf(*t) for t in texts.values()), DomainTree(map(rank_leaf, ranks.values()))
    segment = Segment(64, 256, 9, b"\x07" * 32, trees[0].root, trees[1].root)
    found = [r for r, p in enumerate(order) if tokens[p : p + 3] == [1, 2, 3]]
    absences = [Absence(3, 4, next(r for r, p in enumerate(order) if tokens[p] > 8))]
    statement = Account(2, (1, 2, 3, 8), (StatedSpan(0, 3, found[0], found[-1] + 1),), tuple(absences))
    return SpanProof(
        statement, Openings(corpus_root([segment.root]), (segment.root,), 0, segment, texts, ranks, (), ())
    )


def test_an_account_is_told_with_its_owners(account):
    output = call(SPANS, account.encode()).output
    owners = keccak256((4).to_bytes(4, "big") + (6).to_bytes(4, "big"))
    about = [account.openings.corpus_root, tokens_hash([1, 2, 3, 8])]
    assert words(output)[0] == 1
    assert [output[32:64], output[64:96]] == about
    assert words(output)[3:6] == [1, 3, 2]
    assert output[192:] == owners

    incomplete = replace(account, statement=replace(account.statement, absences=()))
    assert words(call(SPANS, incomplete.encode()).output)[:4] == [1, *(int.from_bytes(b, "big") for b in about), 0]
    unnamed = replace(
        account, statement=replace(account.statement, spans=(replace(account.statement.spans[0], named=False),))
    )
    assert words(call(SPANS, unnamed.encode()).output)[3:] == [1, 3, 0, int.from_bytes(keccak256(b""), "big")]
    span = account.statement.spans[0]
    for false in (
        replace(span, lo=span.lo + 1),
        replace(span, hi=span.hi - 1),
        replace(span, end=4),
        replace(span, hi=64),
    ):
        lied = replace(account, statement=replace(account.statement, spans=(false,)))
        assert words(call(SPANS, lied.encode()).output) == [0, *(int.from_bytes(b, "big") for b in about)]


def test_a_conviction_is_told_in_three_words(account):
    output = (1, 2, 3, 8)
    for statement, holds in (
        (HiddenMatch(2, output, (), 0, 0, 3), 1),
        (HiddenMatch(2, output, ((0, 3),), 0, 0, 3), 0),
        (HiddenHolder(output, 0, 3, (6,), 5), 1),
        (HiddenHolder(output, 0, 3, (4,), 5), 0),
        (Unsorted(9), 0),
    ):
        told = call(SPANS, replace(account, statement=statement).encode()).output
        assert words(told)[0] == holds
        assert told[32:64] == account.openings.corpus_root
        assert told[64:] == (bytes(32) if isinstance(statement, Unsorted) else tokens_hash(output))


def test_what_a_statement_may_cost_is_paid_before_it_is_checked(account):
    data = account.encode()
    used = call(SPANS, data).get_gas_used()
    assert call(SPANS, data, gas=used).is_success
    assert call(SPANS, data, gas=used - 1).is_error
    wide = replace(account, statement=replace(account.statement, spans=(StatedSpan(0, 3, 0, 2**32 - 1),)))
    assert call(SPANS, wide.encode()).is_error, "four billion ranks are not read for nothing"
    for cut in range(0, len(data), 7):
        assert call(SPANS, data[:cut]).is_error


@pytest.fixture(scope="module")
def score_proof() -> ScoreMembership:
    rng = random.Random(2)
    openings = [VectorOpening(i, 10 * i, 10, rng.randbytes(16)) for i in range(5)]
    tree = DomainTree(vector_leaf(o.contribution, o.offset, o.length, o.vector) for o in openings)
    header = (5, 16, 7, b"\x08" * 32, tree.root)
    chosen = {i: openings[i] for i in (0, 3)}
    return ScoreMembership(retrieval_root(*header), *header, rng.randbytes(16), chosen, tree.siblings(chosen))


def test_spans_counts_what_is_under_the_root(span_proof):
    assert words(call(SPANS, span_proof.encode()).output) == [1, 2, 1]


def test_spans_says_no_to_another_root(span_proof):
    data = span_proof.encode()
    for at in (5, 40, 600):
        computation = call(SPANS, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert computation.is_success
        assert words(computation.output) == [0, 0, 0]


def test_scores_are_the_committed_vectors_dot_products(score_proof):
    expected = [dot(score_proof.query, score_proof.vectors[i].vector) for i in (0, 3)]
    assert any(score < 0 for score in expected) or any(score > 0 for score in expected)
    answer = words(call(SCORES, score_proof.encode()).output)
    assert answer == [1, 2, 0, expected[0] % 2**256, 3, expected[1] % 2**256]


def test_scores_says_no_to_another_root(score_proof):
    data = score_proof.encode()
    for at in (5, 60, len(data) - 1):
        assert words(call(SCORES, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]).output) == [0, 0]


@pytest.mark.parametrize("address", [SPANS, SCORES], ids=["SPANS", "SCORES"])
def test_malformed_input_fails_the_call_and_takes_its_gas(address, span_proof, score_proof):
    good = (span_proof if address == SPANS else score_proof).encode()
    for data in (b"", b"\x01" + good[1:], good[:-1], good + b"\0", good[:50], b"\0" * 200, b"\0" * 5_000):
        computation = call(address, data)
        assert computation.is_error
        assert computation.output == b""
        assert computation.get_gas_remaining() == 0


@pytest.mark.parametrize("address", [SPANS, SCORES], ids=["SPANS", "SCORES"])
def test_no_bytes_raise_out_of_the_vm(address, span_proof, score_proof):
    rng = random.Random(3)
    good = bytearray((span_proof if address == SPANS else score_proof).encode())
    for _ in range(150):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        computation = call(address, bytes(data[: rng.randrange(len(data) + 1)] if rng.random() < 0.3 else data))
        assert computation.is_error or len(computation.output) % 32 == 0


@pytest.mark.parametrize("address", [SPANS, SCORES], ids=["SPANS", "SCORES"])
def test_gas_is_taken_before_the_work(address, span_proof, score_proof):
    data = (span_proof if address == SPANS else score_proof).encode()
    used = call(address, data).get_gas_used()
    assert call(address, data, gas=used).is_success
    assert call(address, data, gas=used - 1).is_error
