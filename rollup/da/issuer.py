"""Issues certificates as a whole EigenDA network of one disperser and its operators would.

Each blob is a batch of its own. Random parts are those EigenDA's memstore draws at random; all that can be
checked without the L1 (rollup/da/verification.py, the dispersal signature) really holds.
"""

import secrets
from dataclasses import dataclass

from coincurve import PrivateKey

from openledger.genesis.hashing import keccak256
from openledger.rollup.da.certificate import (
    BatchHeader,
    BlobCertificate,
    BlobHeader,
    BlobInclusionInfo,
    Certificate,
)
from openledger.rollup.da.hashes import batch_header_hash, batch_root, blob_key
from openledger.rollup.da.operator_network import OperatorNetwork
from openledger.rollup.da.srs import BlobCommitment

QUORUMS = b"\x00\x01"
_RELAYS = 32
_INCLUSION_PROOF_HASHES = 4
_FIRST_REFERENCE_BLOCK = 4_294_967_200
"""So high, as in memstore, that a reader's recency check never fails; plus up to 31 it stays below 2^32."""


@dataclass(frozen=True)
class CertificateIssuer:
    """The disperser's key (32 bytes) and the operators."""

    disperser_key: bytes
    network: OperatorNetwork

    def issue(self, commitment: BlobCommitment, version: int = 4) -> Certificate:
        """A fresh certificate of that version (3 or 4) for a blob; two calls never give the same.

        Raises TooFewOperators."""
        signers = self.network.confirm()
        header = BlobHeader(0, QUORUMS, commitment, keccak256(secrets.token_bytes(32)))
        relays = (secrets.randbelow(_RELAYS), secrets.randbelow(_RELAYS))
        blob = BlobCertificate(header, self._sign(blob_key(header)), relays)
        index = secrets.randbelow(1 << _INCLUSION_PROOF_HASHES)
        proof = secrets.token_bytes(32 * _INCLUSION_PROOF_HASHES)
        batch = BatchHeader(batch_root(blob, index, proof), _FIRST_REFERENCE_BLOCK + secrets.randbelow(32))
        attestation = self.network.attest(batch_header_hash(batch), signers)
        return Certificate(version, batch, BlobInclusionInfo(blob, index, proof), attestation, QUORUMS)

    def _sign(self, digest: bytes) -> bytes:
        signature: bytes = PrivateKey(self.disperser_key).sign_recoverable(digest, hasher=None)
        return signature
