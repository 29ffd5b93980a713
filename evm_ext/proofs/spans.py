"""The commitment to a corpus and its suffix array, and version-0 proofs of membership in it.

A corpus is a list of segments; a segment is `n` tokens (a multiple of 32, the last one a sentinel)
with its suffix array. Integers are big-endian:

    text leaf  keccak(0x02 | owner u32 | 32 x token u32)
    rank leaf  keccak(0x03 | 16 x (position u32 | owner u32))
    node       keccak(0x01 | left | right), zero-leaf padding (see merkle.DomainTree)
    segment    keccak(0x04 | n u32 | depth u16 | vocab u32 | tokenizerHash | textRoot | rankRoot)
    corpus     keccak(0x05 | number of segments u8 | segment roots)

`owner` is the contribution id. Text leaf i holds tokens 32*i ... 32*i+31; rank leaf i holds the
suffix array's entries 16*i ... 16*i+15, each with the owner of its position.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from openledger.evm_ext.proofs.domain import (
    CORPUS,
    INFORMATION,
    INFORMATION_LEAF,
    RANK_LEAF,
    SEGMENT,
    TEXT_LEAF,
)
from openledger.evm_ext.proofs.merkle import DomainTree, InvalidProof, domain_root_of, height_of
from openledger.genesis.hashing import keccak256

SENTINEL = 0xFFFFFFFF
CHUNK_TOKENS = 32
CHUNK_RANKS = 16
MAX_SEGMENTS = 255

_TEXT = struct.Struct(">33I")
_RANKS = struct.Struct(">32I")
_SEGMENT = struct.Struct(">IHI")


def text_leaf(owner: int, tokens: Sequence[int]) -> bytes:
    """The leaf of one text chunk: its owner's contribution id and exactly 32 tokens."""
    return keccak256(TEXT_LEAF + _TEXT.pack(owner, *tokens))


def rank_leaf(entries: Sequence[tuple[int, int]]) -> bytes:
    """The leaf of exactly 16 consecutive suffix-array entries `(position, owner)`."""
    return keccak256(RANK_LEAF + _RANKS.pack(*(value for entry in entries for value in entry)))


def text_leaves(packed: bytes) -> Iterable[bytes]:
    """Leaves of many chunks at once, from `owner u32 | 32 x token u32` (132 bytes) each, joined.

    With numpy: an (n, 33) array as `astype(">u4").tobytes()`.
    """
    return (keccak256(TEXT_LEAF + packed[i : i + 132]) for i in range(0, len(packed), 132))


def rank_leaves(packed: bytes) -> Iterable[bytes]:
    """Leaves of many rank chunks at once, from `16 x (position u32 | owner u32)` (128 bytes) each, joined."""
    return (keccak256(RANK_LEAF + packed[i : i + 128]) for i in range(0, len(packed), 128))


def segment_root(n: int, depth: int, vocab: int, tokenizer_hash: bytes, text_root: bytes, rank_root: bytes) -> bytes:
    """The root of one segment of `n` tokens whose suffixes are ordered by their first `depth` tokens."""
    return keccak256(SEGMENT + _SEGMENT.pack(n, depth, vocab) + tokenizer_hash + text_root + rank_root)


def corpus_root(segment_roots: Sequence[bytes]) -> bytes:
    """The root of a corpus of 1 to 255 segments, in order."""
    if not 0 < len(segment_roots) <= MAX_SEGMENTS:
        raise ValueError(f"a corpus has 1 to {MAX_SEGMENTS} segments, not {len(segment_roots)}")
    return keccak256(CORPUS + bytes([len(segment_roots)]) + b"".join(segment_roots))


def information_root(information: Sequence[int]) -> bytes:
    """The root of the information table: one u32 fixed-point value a token id, 32 a leaf, zero-filled.

    leaf keccak(0x0b | 32 x u32), root keccak(0x0c | number of values u32 | tree root).
    """
    if not information:
        raise ValueError("an information table needs at least one value")
    packed = struct.pack(f">{len(information)}I", *information)
    packed += bytes(-len(packed) % 128)
    tree = DomainTree(keccak256(INFORMATION_LEAF + packed[i : i + 128]) for i in range(0, len(packed), 128))
    return keccak256(INFORMATION + struct.pack(">I", len(information)) + tree.root)


@dataclass(frozen=True)
class Segment:
    """A segment's header: what its root commits to."""

    n: int
    depth: int
    vocab: int
    tokenizer_hash: bytes
    text_root: bytes
    rank_root: bytes

    @property
    def root(self) -> bytes:
        return segment_root(self.n, self.depth, self.vocab, self.tokenizer_hash, self.text_root, self.rank_root)

    def encode(self) -> bytes:
        """The header in 106 bytes, in the order in which the root hashes it."""
        return _SEGMENT.pack(self.n, self.depth, self.vocab) + self.tokenizer_hash + self.text_root + self.rank_root

    @classmethod
    def decode(cls, data: bytes) -> "Segment":
        n, depth, vocab = _SEGMENT.unpack_from(data)
        return cls(n, depth, vocab, data[10:42], data[42:74], data[74:106])


TextChunk = tuple[int, tuple[int, ...]]
"""(owner, 32 tokens)"""
RankChunk = tuple[tuple[int, int], ...]
"""16 x (position, owner)"""

VERSION = 0
MAX_OPENED = 4_096
"""Chunks and siblings that one proof may hold of each kind."""


@dataclass(frozen=True)
class SpanMembership:
    """Version-0 proof: chunks of one segment's text and suffix array are under a corpus root.

    It shows what stands where and who owns it; that a span is maximal or complete is a later version's.

        u8 version = 0 | corpusRoot 32 | u8 segments | u8 which | segments x root 32 | segment header 106
        | u16 texts | u16 ranks | u16 text siblings | u16 rank siblings
        | texts x (index u32 | owner u32 | 32 x token u32) | ranks x (index u32 | 16 x (position u32 | owner u32))
        | text siblings x 32 | rank siblings x 32

    Chunk indices ascend. Siblings are in merkle.siblings_needed's order, each used once.
    """

    corpus_root: bytes
    segment_roots: tuple[bytes, ...]
    which: int
    segment: Segment
    texts: Mapping[int, TextChunk]
    ranks: Mapping[int, RankChunk]
    text_siblings: tuple[bytes, ...]
    rank_siblings: tuple[bytes, ...]

    def encode(self) -> bytes:
        head = struct.pack(">B32sBB", VERSION, self.corpus_root, len(self.segment_roots), self.which)
        counts = (len(self.texts), len(self.ranks), len(self.text_siblings), len(self.rank_siblings))
        return b"".join(
            (
                head,
                *self.segment_roots,
                self.segment.encode(),
                _COUNTS.pack(*counts),
                *(_TEXT_OPENING.pack(i, owner, *tokens) for i, (owner, tokens) in sorted(self.texts.items())),
                *(
                    _RANK_OPENING.pack(i, *(value for entry in entries for value in entry))
                    for i, entries in sorted(self.ranks.items())
                ),
                *self.text_siblings,
                *self.rank_siblings,
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> "SpanMembership":
        """The proof in these bytes, all of them; raises InvalidProof for any malformed one."""
        if data[:1] != bytes([VERSION]):
            raise InvalidProof(f"span proof version {data[:1].hex() or 'missing'}: only {VERSION} is known")
        if len(data) < 35:
            raise InvalidProof("a span proof that ends early")
        _, root, segments, which = struct.unpack_from(">B32sBB", data)
        body = 35 + 32 * segments
        at = body + 106 + _COUNTS.size
        if which >= segments or len(data) < at:
            raise InvalidProof("no such segment, or a span proof that ends early")
        segment = Segment.decode(data[body : body + 106])
        texts, ranks, text_siblings, rank_siblings = _COUNTS.unpack_from(data, body + 106)
        if max(texts, ranks, text_siblings, rank_siblings) > MAX_OPENED:
            raise InvalidProof(f"more than {MAX_OPENED} chunks or siblings of one kind")
        if len(data) != at + texts * 136 + ranks * 132 + 32 * (text_siblings + rank_siblings):
            raise InvalidProof("the length does not follow from the counts")
        if not texts + ranks or not segment.n or segment.n % CHUNK_TOKENS:
            raise InvalidProof("nothing opened, or a segment that is not whole chunks of 32 tokens")
        text_chunks: dict[int, TextChunk] = {}
        last = -1
        for _ in range(texts):
            index, owner, *tokens = _TEXT_OPENING.unpack_from(data, at)
            last = _next_index(index, last, segment.n // CHUNK_TOKENS)
            text_chunks[index] = owner, tuple(tokens)
            at += 136
        rank_chunks: dict[int, RankChunk] = {}
        last = -1
        for _ in range(ranks):
            index, *values = _RANK_OPENING.unpack_from(data, at)
            last = _next_index(index, last, segment.n // CHUNK_RANKS)
            rank_chunks[index] = tuple(zip(values[::2], values[1::2], strict=True))
            at += 132
        hashes = [data[i : i + 32] for i in range(at, len(data), 32)]
        return cls(
            root,
            tuple(data[35 + 32 * i : 67 + 32 * i] for i in range(segments)),
            which,
            segment,
            text_chunks,
            rank_chunks,
            tuple(hashes[:text_siblings]),
            tuple(hashes[text_siblings:]),
        )

    def verify(self) -> None:
        """Raises InvalidProof unless every opened chunk is under the corpus root."""
        if corpus_root(self.segment_roots) != self.corpus_root:
            raise InvalidProof("the segments do not make this corpus root")
        if self.segment.root != self.segment_roots[self.which]:
            raise InvalidProof(f"the header is not that of segment {self.which}")
        text = {i: text_leaf(owner, tokens) for i, (owner, tokens) in self.texts.items()}
        rank = {i: rank_leaf(entries) for i, entries in self.ranks.items()}
        _check_openings(text, self.text_siblings, self.segment.n // CHUNK_TOKENS, self.segment.text_root)
        _check_openings(rank, self.rank_siblings, self.segment.n // CHUNK_RANKS, self.segment.rank_root)


_COUNTS = struct.Struct(">HHHH")
_TEXT_OPENING = struct.Struct(">34I")
_RANK_OPENING = struct.Struct(">33I")


def _next_index(index: int, last: int, leaves: int) -> int:
    if not last < index < leaves:
        raise InvalidProof(f"chunk {index} is out of order or outside the segment's {leaves}")
    return index


def _check_openings(leaves: Mapping[int, bytes], siblings: Sequence[bytes], size: int, root: bytes) -> None:
    if not leaves:
        if siblings:
            raise InvalidProof("siblings of nothing")
        return
    if domain_root_of(leaves, siblings, height_of(size)) != root:
        raise InvalidProof("the opened chunks are not under the segment's root")
