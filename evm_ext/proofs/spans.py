"""The commitment to a corpus and its suffix array.

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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from openledger.evm_ext.proofs.domain import (
    CORPUS,
    INFORMATION,
    INFORMATION_LEAF,
    RANK_LEAF,
    SEGMENT,
    TEXT_LEAF,
)
from openledger.evm_ext.proofs.merkle import DomainTree
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
