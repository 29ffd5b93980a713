import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.evm_ext.proofs.spans import SENTINEL, corpus_root, rank_leaf, text_leaf
from openledger.kernels.attribution.corpus import (
    ContributionTokens,
    Corpus,
    information_of,
    information_table,
    lay_out,
)
from openledger.kernels.attribution.suffix_array import commit, rank_tree, suffix_array, text_tree

VOCAB = 5
documents = st.lists(st.lists(st.integers(0, 2), max_size=60), min_size=1, max_size=3)
corpora = st.lists(documents, min_size=1, max_size=4)


def corpus_of(contributions: list[list[list[int]]]) -> Corpus:
    return lay_out((ContributionTokens(10 + 3 * i, d) for i, d in enumerate(contributions)), VOCAB)


def brute_order(tokens: list[int], depth: int) -> list[int]:
    """The order by its definition: first `depth` tokens, stopping after a sentinel, then position."""

    def key(position: int) -> tuple[list[int], int]:
        seen = tokens[position : position + depth]
        if SENTINEL in seen:
            seen = seen[: seen.index(SENTINEL) + 1]
        return seen, position

    return sorted(range(len(tokens)), key=key)


@settings(max_examples=150, deadline=None)
@given(corpora, st.sampled_from([2, 8, 32, 256]))
def test_the_suffix_array_is_the_order_by_definition(contributions: list[list[list[int]]], depth: int) -> None:
    if not any(any(d) for d in contributions):
        return
    tokens = corpus_of(contributions).tokens
    assert suffix_array(tokens, depth).tolist() == brute_order(tokens.tolist(), depth)


def test_ties_beyond_the_depth_are_broken_by_position() -> None:
    tokens = corpus_of([[[1] * 700], [[1] * 300, [1, 2] * 300]]).tokens
    assert suffix_array(tokens).tolist() == brute_order(tokens.tolist(), 256)


def test_a_text_without_a_last_sentinel_or_an_odd_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="sentinel"):
        suffix_array(np.array([1, 2, 3], np.uint32))
    with pytest.raises(ValueError, match="power of two"):
        suffix_array(np.array([SENTINEL], np.uint32), 100)


def test_contributions_are_laid_out_in_whole_chunks_of_one_owner() -> None:
    corpus = lay_out([ContributionTokens(4, [[1, 2], [3]]), ContributionTokens(9, [list(range(31))])], vocab=40)
    assert corpus.tokens[:6].tolist() == [1, 2, SENTINEL, 3, SENTINEL, SENTINEL]
    assert corpus.tokens[32:].tolist() == [*range(31), SENTINEL]
    assert corpus.owners.tolist() == [4, 9]
    assert corpus.counts()[:4].tolist() == [1, 2, 2, 2]
    # 32 tokens and their sentinel need a second chunk.
    assert lay_out([ContributionTokens(1, [[0] * 32])], 1).owners.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("contributions", "message"),
    [
        ([ContributionTokens(2, [[1]]), ContributionTokens(2, [[1]])], "ascending"),
        ([ContributionTokens(2**32, [[1]])], "ascending"),
        ([ContributionTokens(2, [[VOCAB]])], "outside"),
        ([ContributionTokens(2, [[-1]])], "outside"),
        ([ContributionTokens(2, [[]])], "no token"),
        ([], "no token"),
    ],
)
def test_what_makes_no_corpus_is_refused(contributions: list[ContributionTokens], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lay_out(contributions, VOCAB)


def test_the_commitment_opens_every_chunk() -> None:
    corpus = corpus_of([[[0, 1, 2] * 30], [[2, 1] * 20, [1]]])
    array = suffix_array(corpus.tokens)
    texts, ranks = text_tree(corpus.tokens, corpus.owners), rank_tree(array, corpus.owners)
    assert texts.hash_at(0, 1) == text_leaf(int(corpus.owners[1]), corpus.tokens[32:64].tolist())
    pairs = [(int(p), int(corpus.owners[p // 32])) for p in array[16:32]]
    assert ranks.hash_at(0, 1) == rank_leaf(pairs)
    segment = commit(corpus, array, b"t" * 32)
    assert (segment.text_root, segment.rank_root) == (texts.root, ranks.root)
    other = commit(corpus_of([[[0, 1, 2] * 30], [[2, 1] * 20, [0]]]), array, b"t" * 32)
    assert corpus_root([segment.root]) != corpus_root([other.root])


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_information_is_the_logarithm_to_a_65536th_bit(count: int, extra: int) -> None:
    total = count + extra - 1
    value = information_of(count, total)
    # value <= 65536 * log2(total / count) < value + 2, in whole numbers: raise both sides to 2**(1/65536)
    from mpmath import log, mp, mpf

    mp.prec = 200
    exact = log(mpf(total) / count, 2) * 65536
    assert value <= exact < value + 2


def test_information_vectors() -> None:
    """These bind: other implementations must find the same integers."""
    vectors = [(1, 1, 0), (1, 2, 65536), (1, 3, 103872), (3, 4, 27199), (7, 1000, 469134), (1, 10**9, 1959352)]
    assert [information_of(c, n) for c, n, _ in vectors] == [v for _, _, v in vectors]
    table = information_table(np.array([0, 1, 3, 0, 4]))
    assert table.tolist() == [0, 3 * 65536, information_of(3, 8), 0, 65536]
    with pytest.raises(ValueError, match="count 0"):
        information_of(0, 5)
