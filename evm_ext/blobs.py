"""Blobs: what travels beside a transaction of type 3 and is proven against the hashes it carries.

Network form: 0x03 || rlp([transaction's fields, blobs, commitments, proofs]), and with proofs of cells
0x03 || rlp([transaction's fields, 1, blobs, commitments, proofs]). Blocks hold the transaction alone. Sources: EIP-4844,
EIP-7594.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any, Final

import ckzg

from openledger.evm_ext import encoding, errors
from openledger.evm_ext.transactions import BLOB, Transaction, decode_transaction

BLOB_BYTES: Final = 131_072
COMMITMENT_BYTES: Final = 48
PROOF_BYTES: Final = 48
CELLS_PER_BLOB: Final = 128
MAX_NETWORK_BYTES: Final = 1 << 20
"""Longest network form that is taken, as in geth."""

_HASH_VERSION: Final = b"\x01"
_CELLS_VERSION: Final = 1
_FIELDS_OF_TRANSACTION: Final = 14


@dataclass(frozen=True)
class BlobSidecar:
    """The blobs of one transaction, with a commitment each, and either a proof each or, with `has_cells`, a proof for
    each of their cells, 128 to a blob."""

    blobs: tuple[bytes, ...]
    commitments: tuple[bytes, ...]
    proofs: tuple[bytes, ...]
    has_cells: bool = False

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return sum(len(item) for items in (self.blobs, self.commitments, self.proofs) for item in items)

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """What the transaction carries for each blob."""
        return tuple(versioned_hash(item) for item in self.commitments)

    def proofs_of(self, index: int) -> tuple[bytes, ...]:
        """The proof, or the proofs of the cells, of one blob."""
        count = CELLS_PER_BLOB if self.has_cells else 1
        return self.proofs[index * count : (index + 1) * count]

    def check(self, transaction: Transaction) -> None:
        """Raises `InvalidBlobTransaction` unless these are the transaction's blobs, and proven."""
        expected = len(transaction.blob_versioned_hashes)
        for items, count, what in (
            (self.blobs, expected, "blobs"),
            (self.commitments, expected, "blob commitments"),
            (self.proofs, expected * (CELLS_PER_BLOB if self.has_cells else 1), "blob proofs"),
        ):
            if len(items) != count:
                raise errors.InvalidBlobTransaction(f"invalid number of {len(items)} {what}, expected {count}")
        for index, (actual, wanted) in enumerate(zip(self.hashes, transaction.blob_versioned_hashes, strict=True)):
            if actual != wanted:
                raise errors.InvalidBlobTransaction(
                    f"blob {index}: computed hash 0x{actual.hex()} mismatches transaction one 0x{wanted.hex()}"
                )
        try:
            proven = self._proven_by_cells() if self.has_cells else self._proven()
        except (ValueError, RuntimeError) as error:
            raise errors.InvalidBlobTransaction(f"invalid blob: {error}") from error
        if not proven:
            raise errors.InvalidBlobTransaction("invalid blob proof: the proofs do not hold for the blobs")

    def with_cells(self) -> BlobSidecar:
        """The same blobs with proofs of their cells; about half a second of work per blob."""
        if self.has_cells:
            return self
        proofs = [proof for blob in self.blobs for proof in ckzg.compute_cells_and_kzg_proofs(blob, _setup())[1]]
        return replace(self, proofs=tuple(proofs), has_cells=True)

    def _proven(self) -> bool:
        proven: bool = ckzg.verify_blob_kzg_proof_batch(
            b"".join(self.blobs), b"".join(self.commitments), b"".join(self.proofs), _setup()
        )
        return proven

    def _proven_by_cells(self) -> bool:
        cells = [cell for blob in self.blobs for cell in ckzg.compute_cells(blob, _setup())]
        commitments = [item for item in self.commitments for _ in range(CELLS_PER_BLOB)]
        indices = list(range(CELLS_PER_BLOB)) * len(self.blobs)
        proven: bool = ckzg.verify_cell_kzg_proof_batch(commitments, indices, cells, list(self.proofs), _setup())
        return proven


def versioned_hash(commitment: bytes) -> bytes:
    """The hash of a commitment, as transactions carry it."""
    return _HASH_VERSION + hashlib.sha256(commitment).digest()[1:]


def sidecar_of(blobs: tuple[bytes, ...], *, has_cells: bool = False) -> BlobSidecar:
    """Blobs with their commitments and proofs."""
    commitments = tuple(ckzg.blob_to_kzg_commitment(blob, _setup()) for blob in blobs)
    proofs = tuple(
        ckzg.compute_blob_kzg_proof(blob, commitment, _setup())
        for blob, commitment in zip(blobs, commitments, strict=True)
    )
    sidecar = BlobSidecar(blobs, commitments, proofs)
    return sidecar.with_cells() if has_cells else sidecar


def encode_network(transaction: Transaction, sidecar: BlobSidecar) -> bytes:
    """The network form."""
    parts = [transaction.raw[1:]]
    if sidecar.has_cells:
        parts.append(encoding.encode_uint(_CELLS_VERSION))
    for items in (sidecar.blobs, sidecar.commitments, sidecar.proofs):
        parts.append(encoding.encode_sequence(encoding.encode_bytes(item) for item in items))
    return bytes((BLOB,)) + encoding.encode_sequence(parts)


def decode_network(raw: bytes) -> tuple[Transaction, BlobSidecar | None]:
    """A transaction as it travels: with its blobs, if it is of type 3 and they are there. Nothing is proven yet.

    Raises as `decode_transaction` does, and `UndecodableTransaction` for a network form that is none."""
    if raw[:1] != bytes((BLOB,)):
        return decode_transaction(raw), None
    if len(raw) > MAX_NETWORK_BYTES:
        raise errors.UndecodableTransaction(
            f"the transaction has {len(raw)} bytes with its blobs, more than {MAX_NETWORK_BYTES}: send fewer blobs"
        )
    try:
        parts = encoding.split_list(raw[1:])
        if len(parts) == _FIELDS_OF_TRANSACTION:
            return decode_transaction(raw), None
        has_cells = len(parts) == 5
        if len(parts) not in (4, 5):
            raise encoding.InvalidRLP(f"the form with blobs has 4 or 5 parts, got {len(parts)}")
        if has_cells and encoding.to_uint(encoding.decode(parts[1])) != _CELLS_VERSION:
            raise encoding.InvalidRLP(f"the version of the blobs' form is {_CELLS_VERSION}, got 0x{parts[1].hex()}")
        blobs, commitments, proofs = (
            tuple(encoding.to_bytes(item, length) for item in encoding.decode_list(part))
            for part, length in zip(parts[-3:], (BLOB_BYTES, COMMITMENT_BYTES, PROOF_BYTES), strict=True)
        )
    except encoding.InvalidRLP as error:
        raise errors.UndecodableTransaction(f"malformed transaction: {error}") from None
    transaction = decode_transaction(bytes((BLOB,)) + parts[0])
    return transaction, BlobSidecar(blobs, commitments, proofs, has_cells)


@cache
def _setup() -> Any:
    """What the KZG ceremony of the mainnet gave, read when the first blob comes."""
    path = resources.files("eth_account.typed_transactions.blob_transactions") / "kzg_trusted_setup.txt"
    with resources.as_file(path) as file:
        return ckzg.load_trusted_setup(str(file), 0)
