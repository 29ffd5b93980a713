"""The suffix array of a corpus in the committed order, and the roots that commit to it.

Order of two positions: their first DEPTH tokens, stopping after a sentinel; then the position. It is the order of
plain suffixes when every sentinel is a symbol of its own, greater than all tokens and the greater the later it
stands: two suffixes that agree up to their sentinels then differ there, in favour of the earlier position.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from openledger.evm_ext.proofs.merkle import DomainTree
from openledger.evm_ext.proofs.spans import (
    CHUNK_RANKS,
    CHUNK_TOKENS,
    SENTINEL,
    Segment,
    rank_leaves,
    text_leaves,
)
from openledger.kernels.attribution.corpus import DEPTH, Corpus, Tokens

_BLOCK = 1 << 16


def suffix_array(tokens: Tokens, depth: int = DEPTH) -> Tokens:
    """All positions of `tokens` in the committed order. The last token must be a sentinel; depth a power of two.

    Prefix doubling (Larsson and Sadakane): after the round h, suffixes are sorted by their first h symbols, and
    only those still tied are sorted again by the rank of what follows. About 45 bytes of memory a token.
    """
    if depth < 2 or depth & (depth - 1):
        raise ValueError(f"depth {depth} is not a power of two of at least 2")
    n = len(tokens)
    is_end = tokens == SENTINEL
    if not n or not is_end[-1]:
        raise ValueError("a text ends with a sentinel")
    symbols = tokens.astype(np.uint64)
    largest = int(symbols[~is_end].max(initial=0))
    symbols[is_end] = largest + 1 + np.arange(int(is_end.sum()), dtype=np.uint64)
    key = symbols << np.uint64(32)
    key[:-1] |= symbols[1:]
    del symbols, is_end

    order = np.argsort(key, kind="stable")
    starts = _group_starts(key[order])
    del key
    head = _group_heads(starts).astype(np.uint32)
    array = order.astype(np.uint32)
    del order
    rank = np.empty(n, np.uint32)
    rank[array] = head
    tied = _tied(starts)
    known = 2
    while len(tied) and known < depth:
        position = array[tied]
        # A tied suffix has met no sentinel in its first `known` symbols, so one more follows.
        following = rank[position + np.uint32(known)]
        key = head[tied].astype(np.uint64) << np.uint64(32) | following
        perm = np.argsort(key, kind="stable")
        position, key = position[perm], key[perm]
        array[tied] = position
        starts = _group_starts(key)
        groups = tied[_group_heads(starts)].astype(np.uint32)
        head[tied] = groups
        rank[position] = groups
        tied = tied[_tied(starts)]
        known *= 2
    return array


def _group_starts(key: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Where a new value begins in sorted keys."""
    starts = np.empty(len(key), bool)
    starts[0] = True
    starts[1:] = key[1:] != key[:-1]
    return starts


def _group_heads(starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each place the place where its group begins."""
    return np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))


def _tied(starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Places in groups of more than one."""
    alone = starts.copy()
    alone[:-1] &= starts[1:]
    return np.flatnonzero(~alone)


def owners_of(positions: Tokens, owners: Tokens) -> Tokens:
    """The contribution that holds each position."""
    return owners[positions // CHUNK_TOKENS]


def text_tree(tokens: Tokens, owners: Tokens) -> DomainTree:
    """The tree over the text leaves."""

    def leaves() -> Iterator[bytes]:
        for at in range(0, len(owners), _BLOCK):
            part = owners[at : at + _BLOCK]
            rows = np.empty((len(part), 1 + CHUNK_TOKENS), ">u4")
            rows[:, 0] = part
            rows[:, 1:] = tokens[at * CHUNK_TOKENS : (at + len(part)) * CHUNK_TOKENS].reshape(-1, CHUNK_TOKENS)
            yield from text_leaves(rows.tobytes())

    return DomainTree(leaves())


def rank_tree(array: Tokens, owners: Tokens) -> DomainTree:
    """The tree over the rank leaves."""

    def leaves() -> Iterator[bytes]:
        for at in range(0, len(array), _BLOCK):
            positions = array[at : at + _BLOCK]
            rows = np.empty((len(positions), 2), ">u4")
            rows[:, 0] = positions
            rows[:, 1] = owners_of(positions, owners)
            yield from rank_leaves(rows.tobytes())

    assert _BLOCK % CHUNK_RANKS == 0
    return DomainTree(leaves())


def commit(corpus: Corpus, array: Tokens, tokenizer_hash: bytes, depth: int = DEPTH) -> Segment:
    """The segment header, whose root commits to the corpus and its suffix array."""
    return Segment(
        n=len(corpus.tokens),
        depth=depth,
        vocab=corpus.vocab,
        tokenizer_hash=tokenizer_hash,
        text_root=text_tree(corpus.tokens, corpus.owners).root,
        rank_root=rank_tree(array, corpus.owners).root,
    )
