"""The one Merkle module: two trees, both over Keccak-256.

* `StandardTree` is OpenZeppelin's StandardMerkleTree: leaves hashed twice over their ABI encoding,
  pairs sorted, no padding. Solidity checks it with `MerkleProof`.
* `DomainTree` prefixes every inner node with `0x01`, keeps left and right apart, and is padded with
  zero leaves to a power of two. The attribution commitments and Datanet versions use it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from eth_abi.abi import encode as abi_encode

from openledger.evm_ext.proofs.domain import NODE
from openledger.genesis.hashing import keccak256

ZERO_LEAF = bytes(32)


class InvalidProof(ValueError):
    """A proof that proves nothing; the message says which check it failed."""


# --- OpenZeppelin's StandardMerkleTree ------------------------------------------------------------


def standard_leaf(types: Sequence[str], values: Sequence[object]) -> bytes:
    """keccak(keccak(abi.encode(values))), the leaf of OpenZeppelin's StandardMerkleTree."""
    return keccak256(keccak256(abi_encode(list(types), list(values))))


def receipt_leaf(index: int, receipt_hash: bytes) -> bytes:
    """The settlement tree's leaf: `(uint256 index, bytes32 receiptHash)`."""
    return standard_leaf(("uint256", "bytes32"), (index, receipt_hash))


def _sorted_pair(a: bytes, b: bytes) -> bytes:
    return keccak256(a + b if a < b else b + a)


@dataclass(frozen=True)
class Multiproof:
    """What OpenZeppelin's `multiProofVerify` takes: leaves in its order, siblings, flags."""

    leaves: tuple[bytes, ...]
    proof: tuple[bytes, ...]
    flags: tuple[bool, ...]


class StandardTree:
    """OpenZeppelin's StandardMerkleTree over leaf hashes, in the same array layout.

    `nodes[0]` is the root and the leaves fill the array's end in reverse sorted order. `leaves` keeps
    the caller's order; proofs are asked for by index into it.
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        if not leaves:
            raise ValueError("a Merkle tree needs at least one leaf")
        self.leaves = tuple(leaves)
        size = 2 * len(leaves) - 1
        nodes: list[bytes] = [b""] * size
        self._at = [0] * len(leaves)
        for place, index in enumerate(sorted(range(len(leaves)), key=lambda i: leaves[i])):
            self._at[index] = size - 1 - place
            nodes[size - 1 - place] = leaves[index]
        for at in range(size - len(leaves) - 1, -1, -1):
            nodes[at] = _sorted_pair(nodes[2 * at + 1], nodes[2 * at + 2])
        self.nodes = tuple(nodes)

    @classmethod
    def of_receipts(cls, receipt_hashes: Sequence[bytes]) -> "StandardTree":
        """The tree behind a settlement's `receiptsRoot`: receipt i is leaf i."""
        return cls([receipt_leaf(i, h) for i, h in enumerate(receipt_hashes)])

    @property
    def root(self) -> bytes:
        return self.nodes[0]

    def proof(self, index: int) -> tuple[bytes, ...]:
        """The siblings from leaf `index` up, for `verify_standard` and Solidity's `MerkleProof.verify`."""
        at = self._at[index]
        siblings = []
        while at:
            siblings.append(self.nodes[at + 1 if at & 1 else at - 1])
            at = (at - 1) // 2
        return tuple(siblings)

    def multiproof(self, indices: Iterable[int]) -> Multiproof:
        """One proof for several distinct leaves, in OpenZeppelin's order (`getMultiProof`)."""
        places = sorted({self._at[i] for i in indices}, reverse=True)
        if not places:
            raise ValueError("a multiproof needs at least one leaf")
        queue = list(places)
        proof: list[bytes] = []
        flags: list[bool] = []
        head = 0
        while head < len(queue) and queue[head] > 0:
            at = queue[head]
            head += 1
            sibling = at + 1 if at & 1 else at - 1
            if head < len(queue) and queue[head] == sibling:
                flags.append(True)
                head += 1
            else:
                flags.append(False)
                proof.append(self.nodes[sibling])
            queue.append((at - 1) // 2)
        return Multiproof(tuple(self.nodes[at] for at in places), tuple(proof), tuple(flags))


def verify_standard(leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `leaf` is under `root` (OpenZeppelin's `MerkleProof.verify`)."""
    for sibling in proof:
        leaf = _sorted_pair(leaf, sibling)
    return leaf == root


def verify_standard_multiproof(multiproof: Multiproof, root: bytes) -> bool:
    """Whether all leaves are under `root` (OpenZeppelin's `MerkleProof.multiProofVerify`).

    Raises InvalidProof when the numbers of leaves, siblings and flags do not fit together.
    """
    leaves, proof, flags = multiproof.leaves, multiproof.proof, multiproof.flags
    if len(leaves) + len(proof) != len(flags) + 1:
        raise InvalidProof(
            f"{len(leaves)} leaves and {len(proof)} siblings do not fit {len(flags)} flags: need flags + 1"
        )
    if not flags:
        return (leaves or proof)[0] == root
    queue = list(leaves)
    head = used = 0
    for both_known in flags:
        if head >= len(queue) or (both_known and head + 1 >= len(queue)):
            raise InvalidProof("the flags ask for more hashes than the proof holds")
        first = queue[head]
        head += 1
        if both_known:
            second = queue[head]
            head += 1
        else:
            if used == len(proof):
                raise InvalidProof("the flags ask for more siblings than the proof holds")
            second = proof[used]
            used += 1
        queue.append(_sorted_pair(first, second))
    if used != len(proof):
        raise InvalidProof("the proof holds siblings that nothing uses")
    return queue[-1] == root


# --- the domain-separated tree --------------------------------------------------------------------


def node(left: bytes, right: bytes) -> bytes:
    """keccak(0x01 | left | right): an inner node of the domain-separated tree."""
    return keccak256(NODE + left + right)


def height_of(leaves: int) -> int:
    """The height of a domain-separated tree of so many leaves: the least h with 2**h >= leaves."""
    return max(leaves - 1, 0).bit_length()


class DomainTree:
    """All levels of a domain-separated tree, for who must open leaves; 64 bytes of memory a leaf.

    Levels are held as joined hashes without their padding: what lies right of the last real node is
    a tree of zero leaves, whose hash depends on the level alone.
    """

    def __init__(self, leaves: Iterable[bytes]) -> None:
        level = b"".join(leaves)
        if not level or len(level) % 32:
            raise ValueError("a Merkle tree needs at least one leaf, each of 32 bytes")
        self.size = len(level) // 32
        self.height = height_of(self.size)
        self._levels = [level]
        self._zeros = [ZERO_LEAF]
        for _ in range(self.height):
            zero = self._zeros[-1]
            if len(level) % 64:
                level += zero
            level = b"".join(keccak256(NODE + level[i : i + 64]) for i in range(0, len(level), 64))
            self._levels.append(level)
            self._zeros.append(node(zero, zero))

    @property
    def root(self) -> bytes:
        return self._levels[-1]

    @property
    def zero(self) -> bytes:
        """The root of a tree of this height with nothing in it but zero leaves."""
        return self._zeros[-1]

    def hash_at(self, level: int, index: int) -> bytes:
        """The node `index` of `level` (0 = leaves), padding included."""
        at = self._levels[level][32 * index : 32 * index + 32]
        return at or self._zeros[level]

    def siblings(self, indices: Iterable[int]) -> tuple[bytes, ...]:
        """The multiproof of the leaves at `indices`, each hash once, in the verifier's order."""
        return tuple(self.hash_at(*place) for place in siblings_needed(indices, self.height))


def siblings_needed(indices: Iterable[int], height: int) -> Iterator[tuple[int, int]]:
    """(level, index) of the hashes that a verifier holding the leaves at `indices` lacks, in its order."""
    known = sorted(set(indices))
    for level in range(height):
        above = []
        at = 0
        while at < len(known):
            index = known[at]
            if not index & 1 and at + 1 < len(known) and known[at + 1] == index + 1:
                at += 1
            else:
                yield level, index ^ 1
            at += 1
            above.append(index >> 1)
        known = above


def domain_root_of(leaves: Mapping[int, bytes], siblings: Sequence[bytes], height: int) -> bytes:
    """The root that these leaves (by index) and siblings add up to.

    Raises InvalidProof when an index does not fit the height, or siblings are missing or left over.
    """
    if not leaves or min(leaves) < 0 or max(leaves) >> height:
        raise InvalidProof(f"no leaves, or a leaf index outside a tree of height {height}")
    level = sorted(leaves.items())
    used = 0
    for _ in range(height):
        above = []
        at = 0
        while at < len(level):
            index, digest = level[at]
            if not index & 1 and at + 1 < len(level) and level[at + 1][0] == index + 1:
                at += 1
                parent = node(digest, level[at][1])
            else:
                if used == len(siblings):
                    raise InvalidProof("too few siblings")
                parent = node(siblings[used], digest) if index & 1 else node(digest, siblings[used])
                used += 1
            at += 1
            above.append((index >> 1, parent))
        level = above
    if used != len(siblings):
        raise InvalidProof(f"{len(siblings) - used} siblings that nothing uses")
    return level[0][1]
