"""Certificates in Solidity's ABI, as `checkDACert(bytes)` on L1 takes them (EigenDA, IEigenDACertTypeBindings).

abi.encode(certificate): one dynamic tuple, fields in the order of the RLP form of the same version
"""

from collections.abc import Sequence
from typing import Any

from eth_abi import encode
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from openledger.rollup.da.certificate import (
    MAX_CERTIFICATE_BYTES,
    Attestation,
    BatchHeader,
    BlobCertificate,
    BlobHeader,
    BlobInclusionInfo,
    Certificate,
    CertificateParsingFailed,
)
from openledger.rollup.da.curve import G1Point, G2Point
from openledger.rollup.da.srs import BlobCommitment

_G1 = "(uint256,uint256)"
_G2 = "(uint256[2],uint256[2])"
_BATCH_HEADER = "(bytes32,uint32)"
_COMMITMENT = f"({_G1},{_G2},{_G2},uint32)"
_INCLUSION = f"(((uint16,bytes,{_COMMITMENT},bytes32),bytes,uint32[]),uint32,bytes)"
_ATTESTATION = f"(uint32[],{_G1}[],{_G1}[],{_G2},{_G1},uint32[],uint32[],uint32[][])"
_TYPES = {
    2: f"({_INCLUSION},{_BATCH_HEADER},{_ATTESTATION},bytes)",
    3: f"({_BATCH_HEADER},{_INCLUSION},{_ATTESTATION},bytes)",
    4: f"({_BATCH_HEADER},{_INCLUSION},{_ATTESTATION},bytes,uint16)",
}
# The ABI writes what RLP writes in a word or less in whole words.
_MAX_BYTES = 8 * MAX_CERTIFICATE_BYTES


def encode_abi_certificate(certificate: Certificate) -> bytes:
    """The ABI form; the inverse of `decode_abi_certificate`."""
    header = certificate.inclusion.certificate.header
    points = header.commitment
    commitment = (
        _g1(points.commitment),
        _g2(points.length_commitment),
        _g2(points.length_proof),
        points.length,
    )
    blob = certificate.inclusion.certificate
    inclusion = (
        (
            (header.version, header.quorum_numbers, commitment, header.payment_header_hash),
            blob.signature,
            blob.relay_keys,
        ),
        certificate.inclusion.blob_index,
        certificate.inclusion.inclusion_proof,
    )
    batch = (certificate.batch_header.batch_root, certificate.batch_header.reference_block_number)
    attestation = certificate.attestation
    signed = (
        attestation.non_signer_quorum_bitmap_indices,
        [_g1(key) for key in attestation.non_signer_public_keys],
        [_g1(key) for key in attestation.quorum_public_keys],
        _g2(attestation.signers_public_key_g2),
        _g1(attestation.signature),
        attestation.quorum_key_indices,
        attestation.total_stake_indices,
        attestation.non_signer_stake_indices,
    )
    first: Sequence[Any] = (inclusion, batch) if certificate.version == 2 else (batch, inclusion)
    last = (certificate.derivation_version,) if certificate.version == 4 else ()
    value = (*first, signed, certificate.signed_quorum_numbers, *last)
    encoded: bytes = encode([_TYPES[certificate.version]], [value])
    return encoded


def decode_abi_certificate(version: int, data: bytes) -> Certificate:
    """The certificate of that version (2, 3 or 4). Only the encoder's own form is taken: no gaps, no shared tails.

    Raises CertificateParsingFailed.
    """
    if len(data) > _MAX_BYTES:
        raise CertificateParsingFailed(f"certificate of {len(data)} bytes; the limit is {_MAX_BYTES}")
    try:
        ((first, second, signed, quorums, *last),) = decode([_TYPES[version]], data)
    except (DecodingError, OverflowError, ValueError) as error:
        raise CertificateParsingFailed(f"not the ABI form of a certificate V{version}: {error}") from error
    batch, inclusion = (second, first) if version == 2 else (first, second)
    ((header, signature, relays), index, proof) = inclusion
    blob_version, blob_quorums, (point, length_commitment, length_proof, length), payment = header
    bitmaps, absent, keys, signers, aggregate, key_indices, stakes, absent_stakes = signed
    certificate = Certificate(
        version,
        BatchHeader(*batch),
        BlobInclusionInfo(
            BlobCertificate(
                BlobHeader(
                    blob_version,
                    blob_quorums,
                    BlobCommitment(G1Point(*point), _g2_point(length_commitment), _g2_point(length_proof), length),
                    payment,
                ),
                signature,
                relays,
            ),
            index,
            proof,
        ),
        Attestation(
            bitmaps,
            tuple(G1Point(*key) for key in absent),
            tuple(G1Point(*key) for key in keys),
            _g2_point(signers),
            G1Point(*aggregate),
            key_indices,
            stakes,
            absent_stakes,
        ),
        quorums,
        *last,
    )
    if encode_abi_certificate(certificate) != data:
        raise CertificateParsingFailed(f"not the ABI form of a certificate V{version}: encoding it gives other bytes")
    if len(proof) % 32:
        raise CertificateParsingFailed(f"inclusionProof of {len(proof)} bytes is not whole hashes")
    return certificate


def _g1(point: G1Point) -> tuple[int, int]:
    return point.x, point.y


def _g2(point: G2Point) -> tuple[tuple[int, int], tuple[int, int]]:
    # Imaginary part first, the order of Ethereum's precompiles.
    return (point.x1, point.x0), (point.y1, point.y0)


def _g2_point(fields: tuple[tuple[int, int], tuple[int, int]]) -> G2Point:
    (x1, x0), (y1, y0) = fields
    return G2Point(x0, x1, y0, y1)
