"""The commitment to retrieval vectors, and version-0 proofs of membership with dot products.

Every chunk of a document that retrieval can find has one int8 vector. Integers are big-endian:

    vector leaf  keccak(0x08 | contribution u32 | offset u32 | length u32 | D x int8)
    retrieval    keccak(0x09 | count u32 | dimension u16 | scale u32 | embedderHash | tree root)

`offset` and `length` are bytes of the contribution's document; `scale` is the binary32 (as bits) by
which the embedder's output was divided before rounding; leaves are in index order, which is the
order that breaks ties; the tree is merkle.DomainTree.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from openledger.evm_ext.proofs.domain import RETRIEVAL, VECTOR_LEAF
from openledger.evm_ext.proofs.merkle import InvalidProof, domain_root_of, height_of
from openledger.genesis.hashing import keccak256

VERSION = 0
MAX_DIMENSION = 4_096
MAX_OPENED = 1_024

_HEAD = struct.Struct(">B32sIHI32s32s")
_LEAF = struct.Struct(">III")
_OPENING = struct.Struct(">IIII")


def vector_leaf(contribution: int, offset: int, length: int, vector: bytes) -> bytes:
    """The leaf of one chunk's vector; `vector` is D signed bytes."""
    return keccak256(VECTOR_LEAF + _LEAF.pack(contribution, offset, length) + vector)


def retrieval_root(count: int, dimension: int, scale_bits: int, embedder_hash: bytes, tree_root: bytes) -> bytes:
    """The root of `count` vectors of `dimension` int8 values made by the embedder with this hash."""
    return keccak256(RETRIEVAL + struct.pack(">IHI", count, dimension, scale_bits) + embedder_hash + tree_root)


def dot(a: bytes, b: bytes) -> int:
    """The integer dot product of two int8 vectors given as bytes."""
    form = f"{len(a)}b"
    return sum(x * y for x, y in zip(struct.unpack(form, a), struct.unpack(form, b), strict=True))


@dataclass(frozen=True)
class VectorOpening:
    """A committed chunk: whose it is, which bytes of the document, its int8 vector."""

    contribution: int
    offset: int
    length: int
    vector: bytes


@dataclass(frozen=True)
class ScoreMembership:
    """Version-0 proof: these vectors are under a retrieval root; with the query, it yields their scores.

        u8 version = 0 | retrievalRoot 32 | count u32 | dimension u16 | scale u32 | embedderHash 32 | tree root 32
        | query D x int8 | u16 vectors | u16 siblings
        | vectors x (index u32 | contribution u32 | offset u32 | length u32 | D x int8) | siblings x 32

    Indices ascend. Siblings are in merkle.siblings_needed's order, each used once.
    """

    retrieval_root: bytes
    count: int
    dimension: int
    scale_bits: int
    embedder_hash: bytes
    tree_root: bytes
    query: bytes
    vectors: Mapping[int, VectorOpening]
    siblings: tuple[bytes, ...]

    def encode(self) -> bytes:
        return b"".join(
            (
                _HEAD.pack(
                    VERSION,
                    self.retrieval_root,
                    self.count,
                    self.dimension,
                    self.scale_bits,
                    self.embedder_hash,
                    self.tree_root,
                ),
                self.query,
                struct.pack(">HH", len(self.vectors), len(self.siblings)),
                *(
                    _OPENING.pack(index, opened.contribution, opened.offset, opened.length) + opened.vector
                    for index, opened in sorted(self.vectors.items())
                ),
                *self.siblings,
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> "ScoreMembership":
        """The proof in these bytes, all of them; raises InvalidProof for any malformed one."""
        if data[:1] != bytes([VERSION]):
            raise InvalidProof(f"score proof version {data[:1].hex() or 'missing'}: only {VERSION} is known")
        if len(data) < _HEAD.size:
            raise InvalidProof("a score proof that ends early")
        _, root, count, dimension, scale_bits, embedder_hash, tree_root = _HEAD.unpack_from(data)
        if not 0 < dimension <= MAX_DIMENSION or not count:
            raise InvalidProof(f"{count} vectors of dimension {dimension}: at most {MAX_DIMENSION}, none empty")
        at = _HEAD.size + dimension + 4
        if len(data) < at:
            raise InvalidProof("a score proof that ends early")
        opened, siblings = struct.unpack_from(">HH", data, at - 4)
        if not 0 < opened <= MAX_OPENED or siblings > 32 * MAX_OPENED:
            raise InvalidProof(f"{opened} vectors opened: 1 to {MAX_OPENED}")
        if len(data) != at + opened * (16 + dimension) + 32 * siblings:
            raise InvalidProof("the length does not follow from the counts")
        vectors: dict[int, VectorOpening] = {}
        last = -1
        for _ in range(opened):
            index, contribution, offset, length = _OPENING.unpack_from(data, at)
            if not last < index < count:
                raise InvalidProof(f"vector {index} is out of order or outside the {count} committed")
            vectors[index] = VectorOpening(contribution, offset, length, data[at + 16 : at + 16 + dimension])
            last = index
            at += 16 + dimension
        hashes = tuple(data[i : i + 32] for i in range(at, len(data), 32))
        query = data[_HEAD.size : _HEAD.size + dimension]
        return cls(root, count, dimension, scale_bits, embedder_hash, tree_root, query, vectors, hashes)

    def verify(self) -> dict[int, int]:
        """The score of every opened vector by index; raises InvalidProof unless all are under the root."""
        header = (self.count, self.dimension, self.scale_bits, self.embedder_hash, self.tree_root)
        if retrieval_root(*header) != self.retrieval_root:
            raise InvalidProof("the header is not that of this retrieval root")
        leaves = {
            index: vector_leaf(opened.contribution, opened.offset, opened.length, opened.vector)
            for index, opened in self.vectors.items()
        }
        if domain_root_of(leaves, self.siblings, height_of(self.count)) != self.tree_root:
            raise InvalidProof("the opened vectors are not under the retrieval root")
        return {index: dot(self.query, opened.vector) for index, opened in self.vectors.items()}
