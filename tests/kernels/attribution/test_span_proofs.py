"""Version-1 span proofs: honest accounts are shown whole, no lie is, and every false index is convicted."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from openledger.evm_ext.proofs.merkle import InvalidProof
from openledger.evm_ext.proofs.openings import Openings
from openledger.evm_ext.proofs.policy import AttributionPolicy
from openledger.evm_ext.proofs.span_statements import (
    Absence,
    Account,
    BadText,
    HiddenHolder,
    HiddenMatch,
    Missing,
    SpanProof,
    StatedSpan,
    Unsorted,
    WrongOwner,
)
from openledger.evm_ext.proofs.spans import Segment, corpus_root
from openledger.kernels.attribution.corpus import Corpus
from openledger.kernels.attribution.errors import BadRequest
from openledger.kernels.attribution.evidence import Span
from openledger.kernels.attribution.prover import (
    convict,
    prove_account,
    prove_hidden_holder,
    prove_hidden_match,
)
from openledger.kernels.attribution.spans import SegmentIndex, maximal_spans
from openledger.kernels.attribution.suffix_array import rank_tree, suffix_array, text_tree

from .test_spans import brute_spans, corpora, corpus_of, places

TOKENIZER = b"\x07" * 32
outputs = st.lists(st.integers(0, 2), min_size=1, max_size=30)


@dataclass
class Held:
    """An index in memory, with an array that may be false."""

    corpus: Corpus
    array: Any
    depth: int = 256

    def __post_init__(self) -> None:
        self.tokens, self.owners = self.corpus.tokens, self.corpus.owners
        self.manifest = SimpleNamespace(tokens=len(self.tokens), depth=self.depth)
        self.segment = SegmentIndex(self.tokens, self.array, self.owners, self.corpus.counts(), self.depth)
        self.text_tree, self.rank_tree = text_tree(self.tokens, self.owners), rank_tree(self.array, self.owners)
        roots = self.text_tree.root, self.rank_tree.root
        self.segment_header = Segment(len(self.tokens), self.depth, self.corpus.vocab, TOKENIZER, *roots)
        self.manifest.corpus_root = corpus_root([self.segment_header.root]).hex()


def held(contributions: list[list[list[int]]], depth: int = 256, first: int = 10) -> Any:
    if not any(map(any, contributions)):
        assume(False)  # a corpus holds a token
    corpus = corpus_of(contributions, first)
    return Held(corpus, suffix_array(corpus.tokens, depth), depth)


def policy(shortest: int) -> AttributionPolicy:
    return AttributionPolicy(shortest_span=shortest)


def accounted(index: Any, output: list[int], shortest: int) -> SpanProof:
    return prove_account(index, output, maximal_spans([index.segment], output, shortest), policy(shortest))


def shown(proof: SpanProof) -> tuple[dict[tuple[int, int], tuple[int, tuple[int, ...]]], bool]:
    """What a verifier learns. Raises InvalidProof."""
    proof.openings.verify()
    account = proof.statement
    assert isinstance(account, Account)
    found = account.found(proof.openings)
    complete = account.is_complete(proof.openings.segment.depth)
    return {(s.start, s.end): (f.count, f.owners) for s, f in zip(account.spans, found)}, complete


@settings(max_examples=120, deadline=None)
@given(corpora, outputs, st.integers(2, 6), st.sampled_from([8, 256]))
def test_an_honest_account_is_whole_and_says_what_brute_force_says(contributions, output, shortest, depth):
    index = held(contributions, depth)
    proof = SpanProof.decode(accounted(index, output, shortest).encode())
    learnt, complete = shown(proof)
    text = index.tokens.tolist()
    assert complete
    assert list(learnt) == brute_spans([text], output, shortest, depth)
    for (start, end), (count, owners) in learnt.items():
        found = places(text, output[start:end])
        assert (count, owners) == (len(found), tuple(sorted({int(index.owners[p // 32]) for p in found})))


@settings(max_examples=60, deadline=None)
@given(corpora, corpora, outputs, st.integers(2, 5))
def test_of_several_indexes_each_accounts_for_the_same_spans(one, two, output, shortest):
    indexes = [held(one), held(two, first=100)]
    spans = maximal_spans([i.segment for i in indexes], output, shortest)
    counts = dict.fromkeys(((s.start, s.end) for s in spans), 0)
    for index in indexes:
        learnt, complete = shown(prove_account(index, output, spans, policy(shortest)))
        assert complete
        for span, (count, _) in learnt.items():
            counts[span] += count
    assert counts == {(s.start, s.end): s.count for s in spans}
    assert all(counts.values())


def lie(account: Account, n: int, rng: random.Random) -> Account:
    """One false statement in an account: a span moved, grown, shrunk, left out or made up; an absence moved."""
    spans, absences = list(account.spans), list(account.absences)
    kind = rng.choice(("ranks", "edges", "hidden", "invented", "absence", "fewer absences"))
    if kind in ("ranks", "edges", "hidden") and spans:
        at = rng.randrange(len(spans))
        old = spans[at]
        step = rng.choice((-2, -1, 1, 2))
        changes = {"ranks": ("lo", "hi"), "edges": ("start", "end")}.get(kind)
        if changes is None:
            del spans[at]
        else:
            name = rng.choice(changes)
            spans[at] = replace(old, **{name: max(0, getattr(old, name) + step)})
    elif kind == "invented":
        start, rank = rng.randrange(len(account.output)), rng.randrange(n)
        spans.append(StatedSpan(start, min(len(account.output), start + account.shortest), rank, rank + 1))
    elif absences:
        at = rng.randrange(len(absences))
        old_absence = absences.pop(at)
        if kind == "absence":
            absences.append(replace(old_absence, rank=max(0, old_absence.rank + rng.choice((-1, 1)))))
    spans.sort(key=lambda span: (span.start, span.end))
    return replace(account, spans=tuple(spans), absences=tuple(absences))


@settings(max_examples=250, deadline=None)
@given(corpora, outputs, st.integers(2, 5), st.randoms(use_true_random=False))
def test_no_lie_about_an_honest_index_is_shown_though_everything_is_opened(contributions, output, shortest, rng):
    index = held(contributions)
    honest = accounted(index, output, shortest)
    truth, _ = shown(honest)
    lied = lie(honest.statement, len(index.tokens), rng)
    everything = replace(
        honest.openings,
        texts={c: (int(o), tuple(index.tokens[32 * c : 32 * c + 32].tolist())) for c, o in enumerate(index.owners)},
        ranks={
            c: tuple((int(p), int(index.owners[p // 32])) for p in index.array[16 * c : 16 * c + 16])
            for c in range(len(index.array) // 16)
        },
        text_siblings=index.text_tree.siblings(range(len(index.owners))),
        rank_siblings=index.rank_tree.siblings(range(len(index.array) // 16)),
    )
    try:
        learnt, complete = shown(SpanProof(lied, everything))
    except InvalidProof:
        return
    for (start, end), (count, _) in learnt.items():
        assert count == len(places(index.tokens.tolist(), output[start:end]))
    if complete and all(count for count, _ in learnt.values()):
        assert learnt == truth


@settings(max_examples=150, deadline=None)
@given(corpora, outputs, st.data())
def test_no_bit_of_a_proof_can_be_changed(contributions, output, data):
    index = held(contributions)
    proof = accounted(index, output, 2)
    assume(proof.openings.texts or proof.openings.ranks)
    encoded = bytearray(proof.encode())
    truth, _ = shown(proof)
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        changed = SpanProof.decode(bytes(encoded))
        learnt, complete = shown(changed)
    except (InvalidProof, AssertionError):
        return
    # What remains is another statement, and a true one: of another output, another least length, or owners left unnamed.
    account = changed.statement
    assert changed.openings == proof.openings
    for (start, end), (count, _) in learnt.items():
        assert count == len(places(index.tokens.tolist(), list(account.output[start:end])))
    if complete and account.output == tuple(output) and account.shortest == 2:
        assert {span: count for span, (count, _) in learnt.items() if count} == {s: c for s, (c, _) in truth.items()}


@settings(max_examples=80, deadline=None)
@given(corpora, outputs, st.integers(2, 5), st.randoms(use_true_random=False))
def test_what_an_account_leaves_out_convicts_it(contributions, output, shortest, rng):
    index = held(contributions)
    spans = [(s.start, s.end) for s in maximal_spans([index.segment], output, shortest)]
    assert prove_hidden_match(index, output, spans, policy(shortest)) is None
    assume(spans)
    hidden = rng.randrange(len(spans))
    proof = prove_hidden_match(index, output, spans[:hidden] + spans[hidden + 1 :], policy(shortest))
    assert proof is not None
    assert not proof.openings.ranks
    assert SpanProof.decode(proof.encode()).holds()
    assert not replace(proof, statement=replace(proof.statement, spans=tuple(spans))).holds()
    assert not replace(proof, statement=replace(proof.statement, shortest=99)).holds()

    start, end = spans[hidden]
    owners = sorted({int(index.owners[p // 32]) for p in places(index.tokens.tolist(), output[start:end])})
    assert prove_hidden_holder(index, output, (start, end), owners) is None
    unnamed = rng.choice(owners)
    proof = prove_hidden_holder(index, output, (start, end), [o for o in owners if o != unnamed])
    assert proof is not None
    assert SpanProof.decode(proof.encode()).holds()
    assert not replace(proof, statement=replace(proof.statement, owners=tuple(owners))).holds()


@settings(max_examples=150, deadline=None)
@given(corpora, st.sampled_from(["swap", "repeat", "out of range"]), st.randoms(use_true_random=False))
def test_a_false_order_is_convicted_and_a_true_one_is_not(contributions, kind, rng):
    honest = held(contributions)
    assert convict(honest) is None
    array = honest.array.copy()
    rank = rng.randrange(1, len(array))
    if kind == "swap":
        array[rank - 1], array[rank] = array[rank], array[rank - 1]
    elif kind == "repeat":
        array[rank] = array[rng.randrange(len(array))]
        assume(not np.array_equal(array, honest.array))
    else:
        array[rank] = len(array) + 5
    owners = np.append(honest.owners, honest.owners[-1:])  # what a liar says of places that are none
    liar = Held(honest.corpus, honest.array)
    liar.array = array
    liar.rank_tree = (
        rank_tree(np.minimum(array, len(owners) * 32 - 1), owners)
        if kind == "out of range"
        else rank_tree(array, honest.owners)
    )
    if kind == "out of range":
        liar.array = np.minimum(array, len(owners) * 32 - 1)
        liar.owners = owners
    liar.segment_header = replace(liar.segment_header, rank_root=liar.rank_tree.root)
    liar.manifest.corpus_root = corpus_root([liar.segment_header.root]).hex()
    proof = convict(liar)
    assert proof is not None
    assert isinstance(proof.statement, Unsorted)
    assert SpanProof.decode(proof.encode()).holds()


def opened(index: Any, texts: list[int], ranks: list[int]) -> Openings:
    from openledger.kernels.attribution.prover import _Needed, _opened

    needed = _Needed(index)
    needed.texts.update(texts)
    needed.ranks.update(ranks)
    return Openings(*_opened(index, needed))


SMALL = [[[0, 1, 2, 0, 1], [2, 2]], [[0, 1, 2, 1]]]


def everything_of(index: Any) -> Openings:
    return opened(index, list(range(len(index.owners))), list(range(len(index.array) // 16)))


def test_an_honest_index_is_convicted_of_nothing():
    index = held(SMALL)
    all_of_it = everything_of(index)
    n = len(index.array)
    statements = [
        *(Unsorted(r) for r in range(n)),
        *(WrongOwner(r) for r in range(n)),
        *(BadText(c) for c in range(n // 32)),
    ]
    statements += [Missing(r, p) for r in range(n + 1) for p in range(n)]
    assert not any(SpanProof(statement, all_of_it).holds() for statement in statements)


def test_a_wrong_owner_a_gap_and_bad_text_are_convicted():
    index = held(SMALL)
    wrong = held(SMALL)
    wrong.rank_tree = rank_tree(index.array, index.owners[::-1].copy())
    wrong.owners = index.owners[::-1].copy()
    wrong.segment_header = replace(index.segment_header, rank_root=wrong.rank_tree.root)
    wrong.manifest.corpus_root = corpus_root([wrong.segment_header.root]).hex()
    from openledger.kernels.attribution.prover import _rank_chunk

    all_ranks = {c: _rank_chunk(wrong, c) for c in range(len(index.array) // 16)}
    openings = replace(
        everything_of(index), corpus_root=bytes.fromhex(wrong.manifest.corpus_root), segment=wrong.segment_header,
        segment_roots=(wrong.segment_header.root,), ranks=all_ranks,
    )  # fmt: skip
    assert SpanProof(WrongOwner(0), openings).holds()

    gap = index.array.copy()
    lost, gap[3] = int(gap[3]), gap[2]
    liar = held(SMALL)
    liar.array, liar.rank_tree = gap, rank_tree(gap, index.owners)
    liar.segment_header = replace(index.segment_header, rank_root=liar.rank_tree.root)
    liar.manifest.corpus_root = corpus_root([liar.segment_header.root]).hex()
    assert SpanProof(Missing(4, lost), everything_of(liar)).holds()
    assert not SpanProof(Missing(5, lost), everything_of(liar)).holds()

    for changed in ([0, 9], [31, 1], [63, 2]):
        corpus = corpus_of(SMALL)
        corpus.tokens[changed[0]] = changed[1]
        bad = object.__new__(Held)
        bad.corpus, bad.depth, bad.array = corpus, 256, index.array
        bad.tokens, bad.owners = corpus.tokens, corpus.owners
        bad.text_tree, bad.rank_tree = text_tree(bad.tokens, bad.owners), index.rank_tree
        bad.segment_header = replace(index.segment_header, text_root=bad.text_tree.root)
        bad.manifest = SimpleNamespace(
            tokens=len(bad.tokens), depth=256, corpus_root=corpus_root([bad.segment_header.root]).hex()
        )
        proof = convict(bad)
        assert proof is not None
        assert isinstance(proof.statement, BadText)
        assert proof.holds()


def test_a_match_that_is_not_stated_cannot_be_proven_absent():
    index = held(SMALL)
    with pytest.raises(BadRequest, match="none of the spans contains"):
        prove_account(index, [0, 1, 2], [], policy(2))
    with pytest.raises(BadRequest, match="tokens of the vocabulary"):
        prove_account(index, [99], [], policy(2))


def test_spans_of_the_order_s_depth_may_lie_in_longer_matches():
    index = held([[[0, 1] * 20]], depth=8)
    output = [0, 1] * 10
    learnt, complete = shown(accounted(index, output, 3))
    assert complete
    assert {end - start for start, end in learnt} == {8}


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 255), st.binary(max_size=600))
def test_other_bytes_are_no_proof(kind, data):
    for version in (b"\x01", b"\x02", b""):
        try:
            proof = SpanProof.decode(version + bytes([kind % 8]) + data)
        except InvalidProof:
            continue
        assert not proof.holds()


def test_a_span_may_not_contain_another_and_absences_must_be_there():
    account = Account(2, (0, 1, 2, 0), (StatedSpan(0, 3, 1, 2),), (Absence(2, 4, 3),))
    assert account.is_complete(256)
    assert not replace(account, absences=()).is_complete(256)
    assert not replace(account, absences=(Absence(1, 4, 3),)).is_complete(256)
    assert not replace(account, spans=(*account.spans, StatedSpan(0, 2, 1, 2))).is_complete(256)
    assert not replace(account, spans=(*account.spans, StatedSpan(1, 3, 1, 2))).is_complete(256)
    assert not replace(account, spans=(StatedSpan(0, 1, 1, 2),)).is_complete(256)


def test_a_span_is_found_though_another_statement_says_less():
    index = held(SMALL)
    output = (0, 1, 2, 0, 1)
    spans = [Span(0, 5, ())]
    proof = prove_account(index, output, spans, policy(2))
    assert shown(proof) == ({(0, 5): (1, (10,))}, True)
    assert isinstance(HiddenMatch(2, output, (), 0, 0, 2), HiddenMatch)
    assert HiddenHolder(output, 0, 2, (), 0).work.comparisons == 1
