"""Chunks of a committed corpus, opened: what a verifier who holds only its root can look at.

    corpusRoot 32 | u8 segments | u8 which | segments x root 32 | segment header 106
    | u16 texts | u16 ranks | u16 text siblings | u16 rank siblings
    | texts x (index u32 | owner u32 | 32 x token u32) | ranks x (index u32 | 16 x (position u32 | owner u32))
    | text siblings x 32 | rank siblings x 32

Chunk indices ascend. Siblings are in merkle.siblings_needed's order, each used once. Tokens are big-endian, so texts compare
as their bytes do.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from openledger.evm_ext.proofs.merkle import InvalidProof, domain_root_of, height_of
from openledger.evm_ext.proofs.spans import (
    CHUNK_RANKS,
    CHUNK_TOKENS,
    SENTINEL,
    Segment,
    corpus_root,
    rank_leaf,
    text_leaf,
)

TextChunk = tuple[int, tuple[int, ...]]
"""(owner, 32 tokens)"""
RankChunk = tuple[tuple[int, int], ...]
"""16 x (position, owner)"""

MAX_OPENED = 4_096
"""Chunks and siblings that one proof may hold of each kind."""


@dataclass(frozen=True)
class Openings:
    """Chunks of one segment of a corpus, with the hashes that tie them to its root. Nothing read from them is true before
    `verify`; whatever is not opened raises `InvalidProof` when it is read."""

    corpus_root: bytes
    segment_roots: tuple[bytes, ...]
    which: int
    segment: Segment
    texts: Mapping[int, TextChunk]
    ranks: Mapping[int, RankChunk]
    text_siblings: tuple[bytes, ...]
    rank_siblings: tuple[bytes, ...]

    def encode(self) -> bytes:
        head = struct.pack(">32sBB", self.corpus_root, len(self.segment_roots), self.which)
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
    def decode(cls, data: bytes) -> Self:
        """The openings in these bytes, all of them; raises InvalidProof for any malformed ones."""
        if len(data) < 34:
            raise InvalidProof("a span proof that ends early")
        root, segments, which = struct.unpack_from(">32sBB", data)
        body = 34 + 32 * segments
        at = body + 106 + _COUNTS.size
        if which >= segments or len(data) < at:
            raise InvalidProof("no such segment, or a span proof that ends early")
        segment = Segment.decode(data[body : body + 106])
        texts, ranks, text_siblings, rank_siblings = _COUNTS.unpack_from(data, body + 106)
        if max(texts, ranks, text_siblings, rank_siblings) > MAX_OPENED:
            raise InvalidProof(f"more than {MAX_OPENED} chunks or siblings of one kind")
        if len(data) != at + texts * 136 + ranks * 132 + 32 * (text_siblings + rank_siblings):
            raise InvalidProof("the length does not follow from the counts")
        if not segment.n or segment.n % CHUNK_TOKENS:
            raise InvalidProof("a segment that is not whole chunks of 32 tokens")
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
            tuple(data[34 + 32 * i : 66 + 32 * i] for i in range(segments)),
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

    # reading

    def entry(self, rank: int) -> tuple[int, int]:
        """(position, owner) at a rank."""
        entries = self.ranks.get(rank // CHUNK_RANKS)
        if entries is None or not 0 <= rank < self.segment.n:
            raise InvalidProof(f"rank {rank} is not opened")
        return entries[rank % CHUNK_RANKS]

    def chunk(self, index: int) -> TextChunk:
        """A text chunk: (owner, 32 tokens)."""
        if index not in self.texts:
            raise InvalidProof(f"text chunk {index} is not opened")
        return self.texts[index]

    def compare(self, position: int, pattern: Sequence[int]) -> int:
        """-1, 0 or 1: the text from `position` comes before, begins with, comes after `pattern` (no sentinel in it)."""
        wanted = struct.pack(f">{len(pattern)}I", *pattern)
        text = self._text(position, len(pattern))
        if text == wanted:
            return 0
        if wanted.startswith(text):
            raise InvalidProof(f"the text after position {position + len(text) // 4 - 1} is not opened")
        return -1 if text < wanted else 1

    def is_before(self, a: int, b: int) -> bool:
        """The committed order of two positions: by their first `depth` tokens, no further than a sentinel, then by place."""
        depth = self.segment.depth
        one, other = (_unpacked(self._text(position, depth)) for position in (a, b))
        for x, y in zip(one, other):
            if x != y:
                return x < y
            if x == SENTINEL:
                return a < b
        if min(len(one), len(other)) < depth:
            raise InvalidProof(f"the texts at positions {a} and {b} are not opened as far as they are equal")
        return a < b

    def _text(self, position: int, tokens: int) -> bytes:
        """At most so many tokens from a position on, fewer where the segment or what is opened ends."""
        if not 0 <= position < self.segment.n:
            raise InvalidProof(f"position {position} is outside the segment's {self.segment.n}")
        first, last = position // CHUNK_TOKENS, (position + tokens - 1) // CHUNK_TOKENS
        parts = []
        for index in range(first, last + 1):
            if index not in self.texts:
                break
            parts.append(struct.pack(">32I", *self.texts[index][1]))
        start = 4 * (position % CHUNK_TOKENS)
        return b"".join(parts)[start : start + 4 * tokens]


VERSION = 0


class SpanMembership(Openings):
    """Version-0 proof, `u8 version = 0` and openings: these chunks are under this corpus root."""

    def encode(self) -> bytes:
        return bytes([VERSION]) + super().encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The proof in these bytes, all of them; raises InvalidProof for any malformed one."""
        if data[:1] != bytes([VERSION]):
            raise InvalidProof(f"version {data[:1].hex() or 'missing'} of a span proof is no membership")
        proof = super().decode(data[1:])
        if not proof.texts and not proof.ranks:
            raise InvalidProof("nothing is opened")
        return proof


def _unpacked(text: bytes) -> tuple[int, ...]:
    return struct.unpack(f">{len(text) // 4}I", text)


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
