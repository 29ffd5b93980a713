"""Blob transactions as they travel to the pool: the transaction with its blobs beside it (EIP-4844, EIP-7594).

03 | rlp([fields, blobs, commitments, proofs])          before Osaka
03 | rlp([fields, 1, blobs, commitments, cell proofs])  since Osaka
"""

from collections.abc import Sequence

from openledger.evm_ext.encoding import encode_bytes, encode_sequence, encode_uint
from openledger.evm_ext.transactions import BLOB
from openledger.rollup.l1.kzg import BlobSidecar

CELLS_WRAPPER_VERSION = 1


def network_form(raw: bytes, sidecars: Sequence[BlobSidecar]) -> bytes:
    """The signed blob transaction `raw` with its sidecars, which all have proofs of one form."""
    if raw[:1] != bytes((BLOB,)) or not sidecars:
        raise ValueError("only a blob transaction with blobs has a network form")
    cells = any(sidecar.cell_proofs for sidecar in sidecars)
    proofs = [proof for sidecar in sidecars for proof in (sidecar.cell_proofs if cells else (sidecar.proof,))]
    return raw[:1] + encode_sequence(
        (
            raw[1:],
            *((encode_uint(CELLS_WRAPPER_VERSION),) if cells else ()),
            encode_sequence(encode_bytes(sidecar.blob) for sidecar in sidecars),
            encode_sequence(encode_bytes(sidecar.commitment) for sidecar in sidecars),
            encode_sequence(encode_bytes(proof) for proof in proofs),
        )
    )
