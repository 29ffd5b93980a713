"""Version-0 proofs for the precompiles `SPANS` and `SCORES`: openings under an index's committed roots."""

from collections.abc import Sequence

from openledger.evm_ext.proofs.scores import MAX_OPENED as MAX_VECTORS
from openledger.evm_ext.proofs.scores import ScoreMembership, VectorOpening
from openledger.evm_ext.proofs.spans import CHUNK_RANKS, CHUNK_TOKENS, SpanMembership
from openledger.kernels.attribution.encoder import DIMENSION
from openledger.kernels.attribution.errors import BadRequest
from openledger.kernels.attribution.index import Index
from openledger.kernels.attribution.retrieval import SCALE_BITS

MAX_HOLDER_CHUNKS = 256
"""Rank chunks opened to show who holds a span; a commoner span is shown by its edges and as many of its first."""


def prove_spans(index: Index, output_tokens: Sequence[int], start: int, end: int) -> SpanMembership:
    """What shows where output_tokens[start:end] stands: the ranks that hold it, the ranks beside them, and the text
    at the first, the last and both neighbours.

    If it stands nowhere, the two neighbours of its place in the order. Raises `BadRequest`.
    """
    if not 0 <= start < end <= len(output_tokens) or end - start > index.manifest.depth:
        raise BadRequest(f"[{start}, {end}) is not a span of 1 to {index.manifest.depth} tokens of the output")
    lo, hi = index.segment.interval(output_tokens, start, end)
    n = index.manifest.tokens
    edges = {r for r in (lo - 1, lo, hi - 1, hi) if 0 <= r < n}
    rank_chunks = {r // CHUNK_RANKS for r in edges}
    if hi > lo:
        inside = range(lo // CHUNK_RANKS, (hi - 1) // CHUNK_RANKS + 1)
        rank_chunks.update(inside[:MAX_HOLDER_CHUNKS])
    text_chunks: set[int] = set()
    for rank in edges:
        position = int(index.array[rank])
        last = min(position + end - start, n) - 1
        text_chunks.update(range(position // CHUNK_TOKENS, last // CHUNK_TOKENS + 1))
    header = index.segment_header
    return SpanMembership(
        corpus_root=bytes.fromhex(index.manifest.corpus_root),
        segment_roots=(header.root,),
        which=0,
        segment=header,
        texts={c: (int(index.owners[c]), _text_chunk(index, c)) for c in sorted(text_chunks)},
        ranks={c: _rank_chunk(index, c) for c in sorted(rank_chunks)},
        text_siblings=index.text_tree.siblings(text_chunks),
        rank_siblings=index.rank_tree.siblings(rank_chunks),
    )


def prove_scores(index: Index, query_vector: bytes, chunks: Sequence[int]) -> ScoreMembership:
    """The vectors of these chunks under the index's retrieval root. Raises `BadRequest`."""
    entries = index.manifest.chunks
    if len(query_vector) != DIMENSION:
        raise BadRequest(f"a query vector has {DIMENSION} bytes, not {len(query_vector)}")
    if not 0 < len(set(chunks)) <= MAX_VECTORS or not all(0 <= c < len(entries) for c in chunks):
        raise BadRequest(f"name 1 to {MAX_VECTORS} chunks below {len(entries)}")
    tree = index.vector_tree
    return ScoreMembership(
        retrieval_root=bytes.fromhex(index.manifest.retrieval_root),
        count=tree.size,
        dimension=DIMENSION,
        scale_bits=SCALE_BITS,
        embedder_hash=bytes.fromhex(index.manifest.embedder_hash),
        tree_root=tree.root,
        query=query_vector,
        vectors={
            c: VectorOpening(entries[c].contribution, entries[c].offset, entries[c].length, index.vectors[c].tobytes())
            for c in sorted(set(chunks))
        },
        siblings=tree.siblings(chunks),
    )


def _text_chunk(index: Index, chunk: int) -> tuple[int, ...]:
    return tuple(index.tokens[chunk * CHUNK_TOKENS : (chunk + 1) * CHUNK_TOKENS].tolist())


def _rank_chunk(index: Index, chunk: int) -> tuple[tuple[int, int], ...]:
    positions = index.array[chunk * CHUNK_RANKS : (chunk + 1) * CHUNK_RANKS]
    owners = index.owners[positions // CHUNK_TOKENS]
    return tuple(zip(positions.tolist(), owners.tolist(), strict=True))
