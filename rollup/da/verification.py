"""What anyone can check of a certificate without asking the L1: it is about this blob, and these keys signed it.

Whose keys those are (the operators' stakes in the quorums) only the L1 knows; `checkDACert` there completes it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from coincurve import PublicKey

from openledger.genesis.hashing import keccak256
from openledger.rollup.da import curve
from openledger.rollup.da.certificate import Certificate
from openledger.rollup.da.curve import G1_INFINITY, InvalidPoint
from openledger.rollup.da.hashes import batch_header_hash, batch_root, blob_key
from openledger.rollup.da.operators import sum_g1, verify_signature
from openledger.rollup.da.srs import BlobCommitment, Srs, SrsError

RECENCY_WINDOW_BLOCKS = 14_400
"""L1 blocks after the reference block within which a V4 certificate must be posted (derivation version 0)."""

REQUIRED_QUORUMS = (0, 1)
CONFIRMATION_THRESHOLD_PERCENT = 55
ADVERSARY_THRESHOLD_PERCENT = 33


@dataclass(frozen=True)
class BlobVersionParameters:
    """How blobs of one version are spread over the operators (EigenDA, VersionedBlobParams)."""

    max_operators: int
    chunks: int
    coding_rate: int


BLOB_VERSIONS = {0: BlobVersionParameters(max_operators=3_537, chunks=8_192, coding_rate=8)}

Verdict = Literal["good", "false", "unchecked"]


@dataclass(frozen=True)
class Check:
    """One thing checked. "unchecked" says that it cannot be decided from the certificate alone, and why."""

    name: str
    verdict: Verdict
    detail: str


class InvalidCertificate(ValueError):
    """The certificate contradicts itself; derivation drops its commitment."""


class CertificateNotRecent(ValueError):
    """The certificate was posted too long after its reference block; derivation drops its commitment."""


class CommitmentMismatch(ValueError):
    """The blob is not the one the certificate commits to."""


def verify_certificate(certificate: Certificate, srs: Srs) -> None:
    """Raises InvalidCertificate, with the detail of the first of `certificate_checks` that is false."""
    for check in certificate_checks(certificate, srs):
        if check.verdict == "false":
            raise InvalidCertificate(check.detail)


def certificate_checks(certificate: Certificate, srs: Srs) -> Iterator[Check]:
    """Every check that needs no L1, cheapest first; each is made when it is asked for. Raises nothing."""
    for name, make in _CHECKS.items():
        try:
            yield Check(name, *make(certificate, srs))
        except (InvalidCertificate, InvalidPoint, SrsError) as error:
            yield Check(name, "false", str(error))


def _inclusion(certificate: Certificate, srs: Srs) -> tuple[Verdict, str]:
    inclusion = certificate.inclusion
    root = batch_root(inclusion.certificate, inclusion.blob_index, inclusion.inclusion_proof)
    if root != certificate.batch_header.batch_root:
        raise InvalidCertificate("the blob certificate is not in the batch: its inclusion proof leads elsewhere")
    return "good", f"leaf {inclusion.blob_index} under batch root 0x{root.hex()}"


def _quorums(certificate: Certificate, srs: Srs) -> tuple[Verdict, str]:
    blob, signed = certificate.inclusion.certificate.header.quorum_numbers, certificate.signed_quorum_numbers
    keys = len(certificate.attestation.quorum_public_keys)
    if keys != len(signed):
        raise InvalidCertificate(f"{len(signed)} quorums signed, but {keys} quorum keys are given")
    if missing := set(blob) - set(signed):
        raise InvalidCertificate(f"quorums {sorted(missing)} of the blob did not sign")
    if missing := set(REQUIRED_QUORUMS) - set(blob):
        raise InvalidCertificate(f"the blob is not in the required quorums {sorted(missing)}")
    return "good", f"blob in quorums {list(blob)}, signed by {list(signed)}"


def _security(certificate: Certificate, srs: Srs) -> tuple[Verdict, str]:
    version = certificate.inclusion.certificate.header.version
    parameters = BLOB_VERSIONS.get(version)
    if parameters is None:
        return "unchecked", f"the parameters of blob version {version} stand on L1"
    margin = CONFIRMATION_THRESHOLD_PERCENT - ADVERSARY_THRESHOLD_PERCENT
    reach = parameters.coding_rate * (parameters.chunks - parameters.max_operators) * margin
    if reach < 100 * parameters.chunks:
        raise InvalidCertificate(f"blob version {version} cannot be reconstructed from the honest operators' chunks")
    return "good", (
        f"blob version {version}: {CONFIRMATION_THRESHOLD_PERCENT} % confirm, {ADVERSARY_THRESHOLD_PERCENT} % may be "
        "adversaries, and the rest still reconstructs the blob"
    )


def _dispersal(certificate: Certificate, srs: Srs) -> tuple[Verdict, str]:
    blob = certificate.inclusion.certificate
    key = blob_key(blob.header)
    try:
        public_key = PublicKey.from_signature_and_message(_recoverable(blob.signature), key, hasher=None)
    except ValueError:
        return "unchecked", "nobody's signature of the blob key can be recovered (the contracts do not ask for it)"
    return "good", f"0x{keccak256(public_key.format(compressed=False)[1:])[12:].hex()} signed blob key 0x{key.hex()}"


def _recoverable(signature: bytes) -> bytes:
    if len(signature) != 65:
        raise ValueError("not 65 bytes")
    return signature[:64] + bytes((signature[64] - 27 if signature[64] >= 27 else signature[64],))


def _length_proof(certificate: Certificate, srs: Srs) -> tuple[Verdict, str]:
    _verify_length_proof(certificate.commitment, srs)
    return "good", f"the blob has at most {certificate.commitment.length} elements"


def _commitments(certificate: Certificate, srs: Srs) -> tuple[Verdict, str]:
    _verify_equivalence(certificate.commitment)
    return "good", "commitment and length commitment are of one blob"


def _quorum_keys(certificate: Certificate, srs: Srs) -> tuple[Verdict, str]:
    """The signers' key in G2 must be the quorums' keys in G1, summed over the quorums, less who did not sign."""
    attestation = certificate.attestation
    absent = len(attestation.non_signer_public_keys)
    if absent:
        return "unchecked", f"in which quorums the {absent} non-signers are stands on L1"
    signers = sum_g1(attestation.quorum_public_keys)
    key = curve.g2_from_integers(attestation.signers_public_key_g2)
    if not curve.pairings_cancel((signers, curve.g2_generator()), (curve.g1_generator(), key)):
        raise InvalidCertificate("the signers' key is not the sum of the quorums' keys")
    return "good", "the signers' key is the sum of the quorums' keys"


def _signature(certificate: Certificate, srs: Srs) -> tuple[Verdict, str]:
    attestation = certificate.attestation
    if attestation.signature == G1_INFINITY:
        raise InvalidCertificate("the aggregate signature is the point at infinity")
    digest = batch_header_hash(certificate.batch_header)
    if not verify_signature(digest, attestation.signature, attestation.signers_public_key_g2):
        raise InvalidCertificate("the aggregate signature is not by the certificate's aggregate key")
    return "good", f"the signers' key signed batch header hash 0x{digest.hex()}"


_CHECKS: dict[str, Callable[[Certificate, Srs], tuple[Verdict, str]]] = {
    "inclusion": _inclusion,
    "quorums": _quorums,
    "security": _security,
    "dispersal": _dispersal,
    "length proof": _length_proof,
    "commitments": _commitments,
    "signature": _signature,
    "quorum keys": _quorum_keys,
}


def verify_length(commitment: BlobCommitment, srs: Srs) -> None:
    """e([τ^(2^28-N)]₁, LC) = e(G₁, LP) and e(C, G₂) = e(G₁, LC). Raises InvalidCertificate, InvalidPoint, SrsError."""
    _verify_length_proof(commitment, srs)
    _verify_equivalence(commitment)


def _verify_length_proof(commitment: BlobCommitment, srs: Srs) -> None:
    shifted: Any = srs.shifted_g1(commitment.length)
    length_commitment = curve.g2_from_integers(commitment.length_commitment)
    length_proof = curve.g2_from_integers(commitment.length_proof)
    if not curve.pairings_cancel((shifted, length_commitment), (curve.g1_generator(), length_proof)):
        raise InvalidCertificate(f"the length proof does not bound the blob to {commitment.length} elements")


def _verify_equivalence(commitment: BlobCommitment) -> None:
    point = curve.g1_from_integers(commitment.commitment)
    length_commitment = curve.g2_from_integers(commitment.length_commitment)
    if not curve.pairings_cancel((point, curve.g2_generator()), (curve.g1_generator(), length_commitment)):
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
