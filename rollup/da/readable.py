"""A certificate found in any of its framings, and as JSON for people. Field names are EigenDA's."""

from dataclasses import dataclass
from typing import Any

from openledger.rollup.da.abi_certificate import decode_abi_certificate
from openledger.rollup.da.certificate import (
    EIGENDA_LAYER,
    GENERIC_COMMITMENT,
    Certificate,
    CertificateParsingFailed,
    InvalidCommitment,
    parse_certificate,
    split_generic_commitment,
    split_standard_commitment,
)
from openledger.rollup.da.curve import G1Point, G2Point
from openledger.rollup.da.hashes import batch_header_hash, blob_certificate_hash, blob_key

_TX_DATA_VERSION = 0x01
_ABI_HEAD = (32).to_bytes(32, "big")


@dataclass(frozen=True)
class FoundCertificate:
    """A certificate and the framing it stood in: "batcher transaction", "op-generic", "standard" or "abi"."""

    framing: str
    certificate: Certificate


def find_certificate(data: bytes) -> FoundCertificate:
    """The certificate in a batcher transaction's calldata, an op-generic or standard commitment, or the ABI form.

    Raises CertificateParsingFailed, naming what was tried.
    """
    if data.startswith(_ABI_HEAD):
        return FoundCertificate("abi", _find_abi(data))
    generic = bytes((GENERIC_COMMITMENT, EIGENDA_LAYER))
    framing, commitment = "standard", data
    if data.startswith(bytes((_TX_DATA_VERSION,)) + generic):
        framing, commitment = "batcher transaction", data[1:]
    elif data.startswith(generic):
        framing = "op-generic"
    try:
        split = split_standard_commitment if framing == "standard" else split_generic_commitment
        return FoundCertificate(framing, parse_certificate(*split(commitment)))
    except InvalidCommitment as error:
        raise CertificateParsingFailed(f"no certificate in any known framing: {error}") from error


def _find_abi(data: bytes) -> Certificate:
    reasons: list[str] = []
    for version in (4, 3, 2):
        try:
            return decode_abi_certificate(version, data)
        except CertificateParsingFailed as error:
            reasons.append(str(error))
    raise CertificateParsingFailed("; ".join(reasons))


def certificate_json(certificate: Certificate) -> dict[str, Any]:
    """All fields, and the hashes that follow from them."""
    blob = certificate.inclusion.certificate
    commitment = blob.header.commitment
    attestation = certificate.attestation
    shown: dict[str, Any] = {
        "version": certificate.version,
        "batchHeader": {
            "batchRoot": _hex(certificate.batch_header.batch_root),
            "referenceBlockNumber": certificate.batch_header.reference_block_number,
        },
        "blobInclusionInfo": {
            "blobCertificate": {
                "blobHeader": {
                    "version": blob.header.version,
                    "quorumNumbers": list(blob.header.quorum_numbers),
                    "commitment": {
                        "commitment": _g1(commitment.commitment),
                        "lengthCommitment": _g2(commitment.length_commitment),
                        "lengthProof": _g2(commitment.length_proof),
                        "length": commitment.length,
                    },
                    "paymentHeaderHash": _hex(blob.header.payment_header_hash),
                },
                "signature": _hex(blob.signature),
                "relayKeys": list(blob.relay_keys),
            },
            "blobIndex": certificate.inclusion.blob_index,
            "inclusionProof": _hex(certificate.inclusion.inclusion_proof),
        },
        "nonSignerStakesAndSignature": {
            "nonSignerQuorumBitmapIndices": list(attestation.non_signer_quorum_bitmap_indices),
            "nonSignerPubkeys": [_g1(key) for key in attestation.non_signer_public_keys],
            "quorumApks": [_g1(key) for key in attestation.quorum_public_keys],
            "apkG2": _g2(attestation.signers_public_key_g2),
            "sigma": _g1(attestation.signature),
            "quorumApkIndices": list(attestation.quorum_key_indices),
            "totalStakeIndices": list(attestation.total_stake_indices),
            "nonSignerStakeIndices": [list(indices) for indices in attestation.non_signer_stake_indices],
        },
        "signedQuorumNumbers": list(certificate.signed_quorum_numbers),
    }
    if certificate.version == 4:
        shown["offchainDerivationVersion"] = certificate.derivation_version
    return shown | {
        "blobKey": _hex(blob_key(blob.header)),
        "blobCertificateHash": _hex(blob_certificate_hash(blob)),
        "batchHeaderHash": _hex(batch_header_hash(certificate.batch_header)),
        "blobBytes": 32 * commitment.length,
    }


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def _g1(point: G1Point) -> dict[str, str]:
    return {"X": str(point.x), "Y": str(point.y)}


def _g2(point: G2Point) -> dict[str, list[str]]:
    return {"X": [str(point.x1), str(point.x0)], "Y": [str(point.y1), str(point.y0)]}
