"""KZG commitments of EIP-4844 blobs, computed by c-kzg-4844 over the mainnet ceremony's setup.

Nobody's proof is needed to check a blob: its commitment is computed again and must hash to the versioned hash that L1
carries. Every function takes tens of milliseconds to seconds: call it in a worker thread.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import Any

import ckzg

VERSIONED_HASH_VERSION = b"\x01"
_SETUP_SHA256 = "d39b9f2d047cc9dca2de58f264b6a09448ccd34db967881a6713eacacf0f26b7"


class TrustedSetupInvalid(Exception):
    """The trusted setup that came with py-evm is not the ceremony's."""


@dataclass(frozen=True)
class BlobSidecar:
    """A blob with what goes beside it in the pool: commitment 48 bytes, and the proofs of one form.

    `cell_proofs` (EIP-7594, 128 of 48 bytes) since Osaka, `proof` (EIP-4844, 48 bytes) before; the other is empty.
    """

    blob: bytes
    commitment: bytes
    proof: bytes = b""
    cell_proofs: tuple[bytes, ...] = ()

    @property
    def versioned_hash(self) -> bytes:
        return versioned_hash(self.commitment)


def versioned_hash(commitment: bytes) -> bytes:
    """What a transaction names a blob by (EIP-4844)."""
    return VERSIONED_HASH_VERSION + hashlib.sha256(commitment).digest()[1:]


def blob_versioned_hash(blob: bytes) -> bytes:
    """The versioned hash of a blob of 131,072 bytes; raises ValueError for one that is not 4,096 field elements."""
    try:
        return versioned_hash(ckzg.blob_to_kzg_commitment(blob, _setup()))
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"not a blob: {error}") from error


def make_sidecar(blob: bytes, *, cells: bool) -> BlobSidecar:
    """Commitment and proofs of a blob: cell proofs for an L1 since Osaka, else one proof of the whole."""
    commitment = ckzg.blob_to_kzg_commitment(blob, _setup())
    if cells:
        _, proofs = ckzg.compute_cells_and_kzg_proofs(blob, _setup())
        return BlobSidecar(blob, commitment, cell_proofs=tuple(bytes(proof) for proof in proofs))
    return BlobSidecar(blob, commitment, ckzg.compute_blob_kzg_proof(blob, commitment, _setup()))


@cache
def _setup() -> Any:
    with as_file(files("eth._utils").joinpath("kzg_trusted_setup.txt")) as path:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != _SETUP_SHA256:
            raise TrustedSetupInvalid(f"{path} has SHA-256 {digest}, not the KZG ceremony's {_SETUP_SHA256}")
        return ckzg.load_trusted_setup(str(path), 0)
