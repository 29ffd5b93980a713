"""A corpus: the tokens of a Datanet version's contributions, in id order.

Every document ends with the sentinel and every contribution is filled up with sentinels to a multiple of 32, so no
match crosses two documents and every chunk of 32 tokens has one owner, the contribution id.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from openledger.evm_ext.proofs.spans import CHUNK_TOKENS, SENTINEL

DEPTH: Final = 256
MAX_TOKENS: Final = 2**31 - CHUNK_TOKENS
INFORMATION_ONE: Final = 1 << 16

Tokens = NDArray[np.uint32]


@dataclass(frozen=True)
class ContributionTokens:
    """One contribution's documents, each a sequence of token ids."""

    contribution: int
    documents: Sequence[Sequence[int] | Tokens]


@dataclass(frozen=True)
class Corpus:
    """`tokens` (n, a multiple of 32, the last one a sentinel) and `owners` (one contribution id a chunk of 32)."""

    tokens: Tokens
    owners: Tokens
    vocab: int

    def counts(self) -> NDArray[np.int64]:
        """How often each token id occurs, sentinels left out: `vocab` values."""
        return np.bincount(self.tokens[self.tokens != SENTINEL], minlength=self.vocab).astype(np.int64)


def lay_out(contributions: Iterable[ContributionTokens], vocab: int) -> Corpus:
    """The corpus of these contributions.

    Raises ValueError: ids not strictly ascending, a token outside the vocabulary, no token at all, or more than
    `MAX_TOKENS`.
    """
    if not 0 < vocab < 2**31:
        raise ValueError(f"vocabulary size {vocab} is not between 1 and 2**31 - 1")
    parts: list[Tokens] = []
    owners: list[Tokens] = []
    end = np.array([SENTINEL], np.uint32)
    last = -1
    n = words = 0
    for item in contributions:
        if not last < item.contribution < 2**32:
            raise ValueError(f"contribution {item.contribution} after {last}: ids must be ascending u32")
        last = item.contribution
        size = 0
        for document in item.documents:
            tokens = np.asarray(document, np.int64)
            if len(tokens) and (int(tokens.min()) < 0 or int(tokens.max()) >= vocab):
                raise ValueError(f"contribution {item.contribution} has a token outside 0...{vocab - 1}")
            parts += [tokens.astype(np.uint32), end]
            size += len(tokens) + 1
            words += len(tokens)
        parts.append(np.full(-size % CHUNK_TOKENS, SENTINEL, np.uint32))
        chunks = -(-size // CHUNK_TOKENS)
        owners.append(np.full(chunks, item.contribution, np.uint32))
        n += chunks * CHUNK_TOKENS
        if n > MAX_TOKENS:
            raise ValueError(f"more than {MAX_TOKENS} tokens do not fit one segment")
    if not words:
        raise ValueError("the contributions hold no token: a corpus cannot be empty")
    return Corpus(np.concatenate(parts), np.concatenate(owners), vocab)


def information_of(count: int, total: int) -> int:
    """-log2(count / total) in 1/65536 bit, rounded down, by integers alone.

    The whole part k is the largest with count * 2**k <= total. The mantissa, a 31-bit fixed-point number in [1, 2),
    is squared 16 times, each time giving one bit of the fraction (and truncated to 31 bits again). The truncation
    makes the result at most 1/65536 bit less than the logarithm; it is part of the definition.
    """
    if not 0 < count <= total:
        raise ValueError(f"count {count} is not between 1 and the total {total}")
    whole = (total // count).bit_length() - 1
    mantissa = (total << 31) // (count << whole)
    value = whole
    for _ in range(16):
        mantissa = mantissa * mantissa >> 31
        bit = mantissa >> 32
        mantissa >>= bit
        value = value << 1 | bit
    return value


def information_table(counts: NDArray[np.int64]) -> Tokens:
    """`information_of` every token id, 0 for those that do not occur. Values fit u32 (at most 2**21)."""
    total = int(counts.sum())
    distinct, inverse = np.unique(counts, return_inverse=True)
    values = [information_of(int(c), total) if c else 0 for c in distinct]
    return np.array(values, np.uint32)[inverse]
