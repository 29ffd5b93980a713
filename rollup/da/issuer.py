"""Issues certificates as a whole EigenDA network of one disperser and one operator would.

Each blob is a batch of its own. Random parts are those EigenDA's memstore draws at random; all that can be
checked without the L1 (rollup/da/verification.py, the dispersal signature) really holds.
"""

import secrets
from dataclasses import dataclass

from coincurve import PrivateKey

from openledger.genesis.hashing import keccak256
from openledger.rollup.da import curve
from openledger.rollup.da.certificate import (
    Attestation,
    BatchHeader,
    BlobCertificate,
    BlobHeader,
    BlobInclusionInfo,
    Certificate,
)
from openledger.rollup.da.hashes import batch_header_hash, batch_root, blob_key
from openledger.rollup.da.operators import OperatorKey, sum_g1, sum_g2
from openledger.rollup.da.srs import BlobCommitment

_QUORUMS = b"\x00\x01"
_RELAYS = 32
_INCLUSION_PROOF_HASHES = 4
_FIRST_REFERENCE_BLOCK = 4_294_967_200
"""So high, as in memstore, that a reader's recency check never fails; plus up to 31 it stays below 2^32."""


@dataclass(frozen=True)
class CertificateIssuer:
    """The two keys of the one-member network."""

    disperser_key: bytes
    operator: OperatorKey

    def issue(self, commitment: BlobCommitment, version: int = 4) -> Certificate:
        """A fresh certificate of that version (3 or 4) for a blob; two calls never give the same."""
        header = BlobHeader(0, _QUORUMS, commitment, keccak256(secrets.token_bytes(32)))
        relays = (secrets.randbelow(_RELAYS), secrets.randbelow(_RELAYS))
        blob = BlobCertificate(header, self._sign(blob_key(header)), relays)
        index = secrets.randbelow(1 << _INCLUSION_PROOF_HASHES)
        proof = secrets.token_bytes(32 * _INCLUSION_PROOF_HASHES)
        batch = BatchHeader(batch_root(blob, index, proof), _FIRST_REFERENCE_BLOCK + secrets.randbelow(32))
        # As on chain, whoever is in two quorums counts twice: keys and signatures are summed over the quorums.
        public_key = self.operator.public_g1
        signature = self.operator.sign(batch_header_hash(batch))
        attestation = Attestation(
            non_signer_quorum_bitmap_indices=(),
            non_signer_public_keys=(),
            quorum_public_keys=(public_key,) * len(_QUORUMS),
            signers_public_key_g2=curve.g2_to_integers(sum_g2((self.operator.public_g2,) * len(_QUORUMS))),
            signature=curve.g1_to_integers(sum_g1((signature,) * len(_QUORUMS))),
            quorum_key_indices=(0,) * len(_QUORUMS),
            total_stake_indices=(0,) * len(_QUORUMS),
            non_signer_stake_indices=((),) * len(_QUORUMS),
        )
        return Certificate(version, batch, BlobInclusionInfo(blob, index, proof), attestation, _QUORUMS)

    def _sign(self, digest: bytes) -> bytes:
        signature: bytes = PrivateKey(self.disperser_key).sign_recoverable(digest, hasher=None)
        return signature
