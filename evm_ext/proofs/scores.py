"""The commitment to retrieval vectors, and version-0 proofs of membership with dot products.

Every chunk of a document that retrieval can find has one int8 vector. Integers are big-endian:

    vector leaf  keccak(0x08 | contribution u32 | offset u32 | length u32 | D x int8)
    retrieval    keccak(0x09 | count u32 | dimension u16 | scale u32 | embedderHash | tree root)

`offset` and `length` are bytes of the contribution's document; `scale` is the binary32 (as bits) by
which the embedder's output was divided before rounding; leaves are in index order, which is the
order that breaks ties; the tree is merkle.DomainTree.
"""

import struct

from openledger.evm_ext.proofs.domain import RETRIEVAL, VECTOR_LEAF
from openledger.genesis.hashing import keccak256

MAX_DIMENSION = 4096


def vector_leaf(contribution: int, offset: int, length: int, vector: bytes) -> bytes:
    """The leaf of one chunk's vector; `vector` is D signed bytes."""
    return keccak256(VECTOR_LEAF + struct.pack(">III", contribution, offset, length) + vector)


def retrieval_root(count: int, dimension: int, scale_bits: int, embedder_hash: bytes, tree_root: bytes) -> bytes:
    """The root of `count` vectors of `dimension` int8 values made by the embedder with this hash."""
    return keccak256(RETRIEVAL + struct.pack(">IHI", count, dimension, scale_bits) + embedder_hash + tree_root)
