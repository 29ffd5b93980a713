"""EigenDA certificates: values, their RLP form, and the commitments that frame them.

A commitment as an op-generic client sees it (the batcher puts one more 0x01 before it in L1 calldata):

    01  commitment type: generic (00 is keccak256, then 32 bytes)
    00  DA layer: EigenDA
    vv  certificate version, off by one: 01 is V2, 02 is V3, 03 is V4
    …   RLP of the certificate

In standard mode the commitment is the part from `vv` on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rlp

from openledger.genesis.hashing import keccak256
from openledger.rollup.da.curve import G1Point, G2Point
from openledger.rollup.da.srs import BlobCommitment

GENERIC_COMMITMENT = 0x01
KECCAK_COMMITMENT = 0x00
EIGENDA_LAYER = 0x00
MAX_CERTIFICATE_BYTES = 32 * 1024
"""A real certificate with 48 non-signers has 4,276 bytes."""


class InvalidCommitment(ValueError):
    """The commitment's framing is unknown: type, DA layer or certificate version."""


class CertificateParsingFailed(ValueError):
    """The certificate's RLP does not have the structure of its version."""


@dataclass(frozen=True)
class BatchHeader:
    """The batch a blob was dispersed in; its operators attest the hash of this."""

    batch_root: bytes
    reference_block_number: int


@dataclass(frozen=True)
class BlobHeader:
    """What a blob is: its parameters' version, quorums, commitment and who pays."""

    version: int
    quorum_numbers: bytes
    commitment: BlobCommitment
    payment_header_hash: bytes


@dataclass(frozen=True)
class BlobCertificate:
    """A blob header with the dispersal signature (65 bytes over the blob key) and the relays that hold it."""

    header: BlobHeader
    signature: bytes
    relay_keys: tuple[int, ...]


@dataclass(frozen=True)
class BlobInclusionInfo:
    """Proves that a blob certificate is leaf `blob_index` under the batch root."""

    certificate: BlobCertificate
    blob_index: int
    inclusion_proof: bytes


@dataclass(frozen=True)
class Attestation:
    """NonSignerStakesAndSignature: the aggregate BLS signature and who did not sign."""

    non_signer_quorum_bitmap_indices: tuple[int, ...]
    non_signer_public_keys: tuple[G1Point, ...]
    quorum_public_keys: tuple[G1Point, ...]
    signers_public_key_g2: G2Point
    signature: G1Point
    quorum_key_indices: tuple[int, ...]
    total_stake_indices: tuple[int, ...]
    non_signer_stake_indices: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Certificate:
    """A DA certificate of version 2, 3 or 4; `derivation_version` exists since version 4."""

    version: int
    batch_header: BatchHeader
    inclusion: BlobInclusionInfo
    attestation: Attestation
    signed_quorum_numbers: bytes
    derivation_version: int = 0

    @property
    def commitment(self) -> BlobCommitment:
        """The blob's commitment."""
        return self.inclusion.certificate.header.commitment


def serialize_certificate(certificate: Certificate) -> bytes:
    """The certificate's RLP, without any framing."""
    blob = certificate.inclusion.certificate
    commitment = blob.header.commitment
    header = [
        blob.header.version,
        blob.header.quorum_numbers,
        [
            _g1_fields(commitment.commitment),
            _g2_fields(commitment.length_commitment),
            _g2_fields(commitment.length_proof),
            commitment.length,
        ],
        blob.header.payment_header_hash,
    ]
    inclusion = [
        [header, blob.signature, blob.relay_keys],
        certificate.inclusion.blob_index,
        certificate.inclusion.inclusion_proof,
    ]
    batch = [certificate.batch_header.batch_root, certificate.batch_header.reference_block_number]
    attestation = certificate.attestation
    signed = [
        attestation.non_signer_quorum_bitmap_indices,
        [_g1_fields(key) for key in attestation.non_signer_public_keys],
        [_g1_fields(key) for key in attestation.quorum_public_keys],
        _g2_fields(attestation.signers_public_key_g2),
        _g1_fields(attestation.signature),
        attestation.quorum_key_indices,
        attestation.total_stake_indices,
        attestation.non_signer_stake_indices,
    ]
    first, second = (inclusion, batch) if certificate.version == 2 else (batch, inclusion)
    fields: list[Any] = [first, second, signed, certificate.signed_quorum_numbers]
    if certificate.version == 4:
        fields.append(certificate.derivation_version)
    encoded: bytes = rlp.encode(fields)
    return encoded


def parse_certificate(version: int, data: bytes) -> Certificate:
    """The certificate of that version (2, 3 or 4), every field's form checked, so that re-encoding gives `data`.

    Points are not checked to be on the curve. Raises CertificateParsingFailed.
    """
    if len(data) > MAX_CERTIFICATE_BYTES:
        raise CertificateParsingFailed(f"certificate of {len(data)} bytes; the limit is {MAX_CERTIFICATE_BYTES}")
    try:
        decoded = rlp.decode(data, strict=True)
    except (rlp.exceptions.DecodingError, RecursionError) as error:
        raise CertificateParsingFailed(f"certificate is not RLP: {error}") from error
    parts = _list(decoded, 5 if version == 4 else 4, f"certificate V{version}")
    batch, inclusion = (parts[1], parts[0]) if version == 2 else (parts[0], parts[1])
    return Certificate(
        version,
        _parse_batch_header(batch),
        _parse_inclusion(inclusion),
        _parse_attestation(parts[2]),
        _bytes(parts[3], "signedQuorumNumbers"),
        _uint(parts[4], 16, "offchainDerivationVersion") if version == 4 else 0,
    )


def encode_standard_commitment(certificate: Certificate) -> bytes:
    """Version byte and RLP."""
    return bytes([certificate.version - 1]) + serialize_certificate(certificate)


def encode_generic_commitment(certificate: Certificate) -> bytes:
    """The op-generic commitment, from the commitment type on."""
    return bytes([GENERIC_COMMITMENT, EIGENDA_LAYER]) + encode_standard_commitment(certificate)


def split_standard_commitment(commitment: bytes) -> tuple[int, bytes]:
    """Certificate version and serialised certificate. Raises InvalidCommitment."""
    if not commitment:
        raise InvalidCommitment("the commitment is empty")
    if commitment[0] not in (1, 2, 3):
        raise InvalidCommitment(f"unknown certificate version byte 0x{commitment[0]:02x}; 01, 02 and 03 are known")
    return commitment[0] + 1, commitment[1:]


def split_generic_commitment(commitment: bytes) -> tuple[int, bytes]:
    """Certificate version and serialised certificate. Raises InvalidCommitment."""
    if len(commitment) < 3 or commitment[0] != GENERIC_COMMITMENT:
        raise InvalidCommitment("not a generic commitment: it must begin with 01, the DA layer and the version")
    if commitment[1] != EIGENDA_LAYER:
        raise InvalidCommitment(f"unknown DA layer 0x{commitment[1]:02x}; 00 is EigenDA")
    return split_standard_commitment(commitment[2:])


def certificate_key(serialized: bytes) -> bytes:
    """What stores keep a blob under: keccak256 of the serialised certificate."""
    return keccak256(serialized)


def _g1_fields(point: G1Point) -> list[int]:
    return [point.x, point.y]


def _g2_fields(point: G2Point) -> list[list[int]]:
    # Imaginary part first, the order of Ethereum's precompiles.
    return [[point.x1, point.x0], [point.y1, point.y0]]


def _parse_batch_header(item: Any) -> BatchHeader:
    root, number = _list(item, 2, "batchHeader")
    return BatchHeader(_bytes(root, "batchRoot", 32), _uint(number, 32, "referenceBlockNumber"))


def _parse_inclusion(item: Any) -> BlobInclusionInfo:
    certificate, index, proof = _list(item, 3, "blobInclusionInfo")
    header, signature, relays = _list(certificate, 3, "blobCertificate")
    version, quorums, commitment, payment = _list(header, 4, "blobHeader")
    point, length_commitment, length_proof, length = _list(commitment, 4, "blobCommitment")
    proof_bytes = _bytes(proof, "inclusionProof")
    if len(proof_bytes) % 32:
        raise CertificateParsingFailed(f"inclusionProof of {len(proof_bytes)} bytes is not whole hashes")
    return BlobInclusionInfo(
        BlobCertificate(
            BlobHeader(
                _uint(version, 16, "version"),
                _bytes(quorums, "quorumNumbers"),
                BlobCommitment(
                    _g1(point, "commitment"),
                    _g2(length_commitment, "lengthCommitment"),
                    _g2(length_proof, "lengthProof"),
                    _uint(length, 32, "length"),
                ),
                _bytes(payment, "paymentHeaderHash", 32),
            ),
            _bytes(signature, "signature"),
            _uints(relays, "relayKeys"),
        ),
        _uint(index, 32, "blobIndex"),
        proof_bytes,
    )


def _parse_attestation(item: Any) -> Attestation:
    bitmaps, non_signers, quorums, key, signature, key_indices, stakes, non_signer_stakes = _list(
        item, 8, "nonSignerStakesAndSignature"
    )
    return Attestation(
        _uints(bitmaps, "nonSignerQuorumBitmapIndices"),
        tuple(_g1(point, "nonSignerPubkeys") for point in _list(non_signers, None, "nonSignerPubkeys")),
        tuple(_g1(point, "quorumApks") for point in _list(quorums, None, "quorumApks")),
        _g2(key, "apkG2"),
        _g1(signature, "sigma"),
        _uints(key_indices, "quorumApkIndices"),
        _uints(stakes, "totalStakeIndices"),
        tuple(
            _uints(indices, "nonSignerStakeIndices")
            for indices in _list(non_signer_stakes, None, "nonSignerStakeIndices")
        ),
    )


def _list(item: Any, length: int | None, name: str) -> Sequence[Any]:
    if not isinstance(item, list | tuple):
        raise CertificateParsingFailed(f"{name} is not a list")
    if length is not None and len(item) != length:
        raise CertificateParsingFailed(f"{name} has {len(item)} fields instead of {length}")
    return item


def _bytes(item: Any, name: str, length: int | None = None) -> bytes:
    if not isinstance(item, bytes):
        raise CertificateParsingFailed(f"{name} is not a string of bytes")
    if length is not None and len(item) != length:
        raise CertificateParsingFailed(f"{name} has {len(item)} bytes instead of {length}")
    return item


def _uint(item: Any, bits: int, name: str) -> int:
    data = _bytes(item, name)
    if data[:1] == b"\0" or len(data) * 8 > bits:
        raise CertificateParsingFailed(f"{name} is not a canonical integer of at most {bits} bits")
    return int.from_bytes(data, "big")


def _uints(item: Any, name: str) -> tuple[int, ...]:
    return tuple(_uint(value, 32, name) for value in _list(item, None, name))


def _g1(item: Any, name: str) -> G1Point:
    x, y = _list(item, 2, name)
    return G1Point(_uint(x, 256, name), _uint(y, 256, name))


def _g2(item: Any, name: str) -> G2Point:
    x, y = _list(item, 2, name)
    x1, x0 = _list(x, 2, name)
    y1, y0 = _list(y, 2, name)
    return G2Point(_uint(x0, 256, name), _uint(x1, 256, name), _uint(y0, 256, name), _uint(y1, 256, name))
