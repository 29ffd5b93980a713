"""Retrieval: documents cut into chunks, chunks as committed int8 vectors, exhaustive integer search.

A chunk is a byte range of its contribution's text. What is embedded is the document's title, a line feed and the
chunk, so that a chunk that says "he" still stands near a question that names the person.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from openledger.evm_ext.proofs.merkle import DomainTree
from openledger.evm_ext.proofs.scores import retrieval_root, vector_leaf
from openledger.kernels.attribution.encoder import DIMENSION, QUANTUM
from openledger.kernels.documents import Document

CHUNK_CHARACTERS: Final = 800
SCALE_BITS: Final = int(struct.unpack(">I", struct.pack(">f", QUANTUM))[0])
MAX_K: Final = 64
_MANY_ROWS: Final = 4096

Vectors = NDArray[np.int8]


@dataclass(frozen=True)
class Chunk:
    """Bytes [offset, offset + length) of the document's text (UTF-8)."""

    offset: int
    length: int
    text: str


def cut(document: Document) -> tuple[Chunk, ...]:
    """The chunks of a document's text, in order.

    Blocks are joined while they fit 800 characters; a heading begins a new chunk. A longer block, together with the
    headings before it, is cut after the last end of a sentence (`.`, `!` or `?` and a space) within 800 characters,
    else at the last space, else at 800.
    """
    chunks: list[Chunk] = []
    pending: list[str] = []
    pending_at = at = 0
    only_headings = True

    def flush() -> None:
        if pending:
            text = "\n\n".join(pending)
            chunks.append(Chunk(pending_at, len(text.encode()), text))
            pending.clear()

    for block, heading in zip(document.blocks, document.is_heading, strict=True):
        if not only_headings and (heading or len("\n\n".join((*pending, block))) > CHUNK_CHARACTERS):
            flush()
        if not pending:
            pending_at, only_headings = at, True
        pending.append(block)
        only_headings = only_headings and heading
        at += len(block.encode()) + 2
        text = "\n\n".join(pending)
        if len(text) > CHUNK_CHARACTERS:
            chunks.extend(_cut_block(text, pending_at))
            pending.clear()
            only_headings = True
    flush()
    return tuple(chunks)


def _cut_block(block: str, at: int) -> Iterator[Chunk]:
    while block:
        end = len(block)
        if end > CHUNK_CHARACTERS:
            window = block[:CHUNK_CHARACTERS]
            sentence = max(window.rfind(mark) for mark in (". ", "! ", "? "))
            end = sentence + 2 if sentence >= 0 else window.rfind(" ") + 1 or CHUNK_CHARACTERS
        piece = block[:end]
        text = piece.rstrip()
        if text:
            yield Chunk(at, len(text.encode()), text)
        at += len(piece.encode())
        block = block[end:]


def passage(title: str, text: str) -> str:
    """What is embedded for a chunk."""
    return f"{title}\n{text}"


def vector_tree(contributions: Sequence[int], chunks: Sequence[tuple[int, int]], vectors: Vectors) -> DomainTree:
    """The tree over the vector leaves: contribution, (offset, length) and vector of every chunk, in order."""
    return DomainTree(
        vector_leaf(contribution, offset, length, vector.tobytes())
        for contribution, (offset, length), vector in zip(contributions, chunks, vectors, strict=True)
    )


def commit_vectors(tree: DomainTree, embedder_hash: bytes) -> bytes:
    """The root that commits to the chunks of one index."""
    return retrieval_root(tree.size, DIMENSION, SCALE_BITS, embedder_hash, tree.root)


def dot_products(vectors: Vectors, query: bytes) -> NDArray[np.int64]:
    """The integer dot product of every row with the query.

    Few rows by a binary32 matrix product, which is exact here in any order of summation: 384 · 128 · 128 < 2**24. Many by
    a compiled loop, which reads each number once.
    """
    q = np.frombuffer(query, np.int8)
    if len(vectors) < _MANY_ROWS:
        return (vectors.astype(np.float32) @ q.astype(np.float32)).astype(np.int64)
    from openledger.kernels.attribution.compiled import dots

    scores = np.empty(len(vectors), np.int64)
    dots(vectors, q, scores)
    return scores


def best_rows(scores: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """The k rows with the highest scores, best first; ties go to the earlier row."""
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[-k]
        rows = np.flatnonzero(scores >= least)
    else:
        rows = np.arange(len(scores))
    return rows[np.argsort(-scores[rows], kind="stable")[:k]]


def search(indexes: Sequence[Vectors], query: bytes, k: int, minimum_score: int) -> list[tuple[int, int, int]]:
    """(index, chunk, score) of the k best rows of all indexes together, best first, none below `minimum_score`.

    Exhaustive; ties go to the earlier index, then to the earlier row. Raises ValueError for a k outside 1...64, a
    negative minimum or a query that is not 384 bytes.
    """
    if not 1 <= k <= MAX_K:
        raise ValueError(f"k is {k}, it must be between 1 and {MAX_K}")
    if not 0 <= minimum_score < 2**31:
        raise ValueError(f"the minimum score is {minimum_score}, it must be between 0 and 2**31 - 1")
    if len(query) != DIMENSION:
        raise ValueError(f"a query vector has {DIMENSION} bytes, not {len(query)}")
    found: list[tuple[int, int, int]] = []
    for index, vectors in enumerate(indexes):
        scores = dot_products(vectors, query)
        found += [(index, int(row), int(scores[row])) for row in best_rows(scores, k) if scores[row] >= minimum_score]
    return sorted(found, key=lambda f: (-f[2], f[0], f[1]))[:k]
