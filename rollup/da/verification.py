"""What anyone can check of a certificate without asking the L1: it is about this blob, and somebody signed it.

Whose keys those are (the operators' stakes in the quorums) only the L1 knows; `checkDACert` there completes it.
"""

from openledger.rollup.da import curve
from openledger.rollup.da.certificate import Certificate
from openledger.rollup.da.curve import G1_INFINITY, InvalidPoint
from openledger.rollup.da.hashes import batch_header_hash, batch_root
from openledger.rollup.da.operators import verify_signature
from openledger.rollup.da.srs import BlobCommitment, Srs, SrsError

RECENCY_WINDOW_BLOCKS = 14_400
"""L1 blocks after the reference block within which a V4 certificate must be posted (derivation version 0)."""


class InvalidCertificate(ValueError):
    """The certificate contradicts itself; derivation drops its commitment."""


class CertificateNotRecent(ValueError):
    """The certificate was posted too long after its reference block; derivation drops its commitment."""


class CommitmentMismatch(ValueError):
    """The blob is not the one the certificate commits to."""


def verify_certificate(certificate: Certificate, srs: Srs) -> None:
    """Checks length proof, equivalence of both commitments, batch inclusion and the aggregate signature.

    Raises InvalidCertificate, naming the check that failed.
    """
    inclusion = certificate.inclusion
    root = batch_root(inclusion.certificate, inclusion.blob_index, inclusion.inclusion_proof)
    if root != certificate.batch_header.batch_root:
        raise InvalidCertificate("the blob certificate is not in the batch: its inclusion proof leads elsewhere")
    attestation = certificate.attestation
    digest = batch_header_hash(certificate.batch_header)
    try:
        verify_length(certificate.commitment, srs)
        if attestation.signature == G1_INFINITY:
            raise InvalidCertificate("the aggregate signature is the point at infinity")
        if not verify_signature(digest, attestation.signature, attestation.signers_public_key_g2):
            raise InvalidCertificate("the aggregate signature is not by the certificate's aggregate key")
    except (InvalidPoint, SrsError) as error:
        raise InvalidCertificate(str(error)) from error


def verify_length(commitment: BlobCommitment, srs: Srs) -> None:
    """e([τ^(2^28-N)]₁, LC) = e(G₁, LP) and e(C, G₂) = e(G₁, LC). Raises InvalidCertificate, InvalidPoint, SrsError."""
    length_commitment = curve.g2_from_integers(commitment.length_commitment)
    length_proof = curve.g2_from_integers(commitment.length_proof)
    generator = curve.g1_generator()
    if not curve.pairings_cancel((srs.shifted_g1(commitment.length), length_commitment), (generator, length_proof)):
        raise InvalidCertificate(f"the length proof does not bound the blob to {commitment.length} elements")
    point = curve.g1_from_integers(commitment.commitment)
    if not curve.pairings_cancel((point, curve.g2_generator()), (generator, length_commitment)):
        raise InvalidCertificate("commitment and length commitment are of different blobs")


def verify_recency(certificate: Certificate, l1_inclusion_block: int) -> None:
    """The recency rule of V4 certificates; 0 skips it. Raises CertificateNotRecent."""
    if certificate.version < 4 or l1_inclusion_block == 0:
        return
    reference = certificate.batch_header.reference_block_number
    if l1_inclusion_block > reference + RECENCY_WINDOW_BLOCKS:
        raise CertificateNotRecent(
            f"posted in L1 block {l1_inclusion_block}, more than {RECENCY_WINDOW_BLOCKS} blocks after its "
            f"reference block {reference}"
        )


def verify_blob(coefficients: list[int], certificate: Certificate, srs: Srs) -> None:
    """That the blob is the one committed to. Raises CommitmentMismatch."""
    commitment = certificate.commitment
    if len(coefficients) != commitment.length:
        raise CommitmentMismatch(f"the blob has {len(coefficients)} elements, its certificate says {commitment.length}")
    if srs.commit(coefficients) != commitment.commitment:
        raise CommitmentMismatch("the blob's commitment differs from its certificate's")
