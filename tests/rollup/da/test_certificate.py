"""Certificates against a real one from EigenDA's Sepolia network, go-ethereum-style RLP and EigenDA's own vectors."""

from dataclasses import replace
from pathlib import Path

import pytest
import rlp
from eth_keys import keys
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.rollup.da import certificate as codec
from openledger.rollup.da.certificate import (
    BatchHeader,
    Certificate,
    CertificateParsingFailed,
    InvalidCommitment,
    parse_certificate,
    serialize_certificate,
)
from openledger.rollup.da.curve import G1_INFINITY, G1Point
from openledger.rollup.da.hashes import batch_header_hash, blob_key, payment_header_hash
from openledger.rollup.da.issuer import CertificateIssuer
from openledger.rollup.da.operator_network import NetworkParameters, OperatorNetwork
from openledger.rollup.da.operators import OperatorKey, hash_to_g1, verify_signature
from openledger.rollup.da.srs import DevelopmentSrs, FileSrs
from openledger.rollup.da.verification import (
    CertificateNotRecent,
    CommitmentMismatch,
    InvalidCertificate,
    verify_blob,
    verify_certificate,
    verify_recency,
)

SEPOLIA = bytes.fromhex((Path(__file__).parent / "vectors/sepolia-certificate-v3.hex").read_text())
MAINNET_SRS = FileSrs(Path("/nonexistent"))  # its published points are enough to verify
SRS = DevelopmentSrs()
ISSUER = CertificateIssuer(b"\x11" * 32, OperatorNetwork(0x1234567, NetworkParameters(), 2))
COEFFICIENTS = [5, 6, 7, 8]
ISSUED = ISSUER.issue(SRS.commit_with_length(COEFFICIENTS))


def sepolia() -> Certificate:
    return parse_certificate(*codec.split_standard_commitment(SEPOLIA))


def test_real_certificate_survives_the_codec() -> None:
    certificate = sepolia()
    assert certificate.version == 3
    assert certificate.batch_header.reference_block_number == 4146428
    assert certificate.commitment.length == 2
    assert codec.encode_standard_commitment(certificate) == SEPOLIA


def test_real_certificate_passes_every_check() -> None:
    verify_certificate(sepolia(), MAINNET_SRS)


def test_real_certificate_is_not_of_the_development_srs() -> None:
    with pytest.raises(InvalidCertificate, match="length proof"):
        verify_certificate(sepolia(), SRS)


@pytest.mark.parametrize("version", [3, 4])
def test_issued_certificate_passes_every_check_and_round_trips(version: int) -> None:
    certificate = ISSUER.issue(SRS.commit_with_length(COEFFICIENTS), version)
    verify_certificate(certificate, SRS)
    verify_blob(COEFFICIENTS, certificate, SRS)
    assert parse_certificate(version, serialize_certificate(certificate)) == certificate
    blob = certificate.inclusion.certificate
    signer = keys.Signature(blob.signature).recover_public_key_from_msg_hash(blob_key(blob.header))
    assert signer == keys.PrivateKey(b"\x11" * 32).public_key


def test_v2_swaps_the_first_two_fields() -> None:
    v3 = replace(ISSUED, version=3)
    v2 = replace(ISSUED, version=2)
    three, two = rlp.decode(serialize_certificate(v3)), rlp.decode(serialize_certificate(v2))
    assert (two[1], two[0], *two[2:]) == tuple(three)
    assert parse_certificate(2, serialize_certificate(v2)) == v2


def test_same_blob_twice_gives_different_certificates() -> None:
    commitment = SRS.commit_with_length(COEFFICIENTS)
    assert serialize_certificate(ISSUER.issue(commitment)) != serialize_certificate(ISSUER.issue(commitment))


def test_hashes_equal_eigendas_vectors() -> None:
    # core/v2/serialization_test.go, "verified in solidity"; an earlier and the present account id.
    assert payment_header_hash("0x123", 5, 100).hex() == (
        "f5894a8e9281b5687c0c7757d3d45fb76152bf659e6e61b1062f4c6bcb69c449"
    )
    hashed = payment_header_hash("0x0000000000000000000000000000000000000123", 5, 100).hex()
    assert hashed.startswith("234c3d10")
    assert hashed.endswith("77c9")
    assert batch_header_hash(BatchHeader(b"1".ljust(32, b"\0"), 1)).hex() == (
        "891d0936da4627f445ef193aad63afb173409af9e775e292e4e35aff790a45e2"
    )


def spoiled() -> list[tuple[Certificate, str]]:
    inclusion, attestation = ISSUED.inclusion, ISSUED.attestation
    blob = inclusion.certificate
    other_key = OperatorKey(99)
    return [
        (replace(ISSUED, inclusion=replace(inclusion, blob_index=inclusion.blob_index ^ 1)), "not in the batch"),
        (
            replace(ISSUED, inclusion=replace(inclusion, certificate=replace(blob, signature=bytes(65)))),
            "not in the batch",
        ),
        (
            replace(ISSUED, attestation=replace(attestation, signers_public_key_g2=other_key.public_g2)),
            "aggregate signature",
        ),
        (replace(ISSUED, attestation=replace(attestation, signature=G1Point(1, 2))), "aggregate signature"),
        (replace(ISSUED, attestation=replace(attestation, signature=G1_INFINITY)), "infinity"),
        (replace(ISSUED, attestation=replace(attestation, signature=G1Point(3, 3))), "not on the curve"),
    ]


@pytest.mark.parametrize(("certificate", "reason"), spoiled())
def test_certificate_that_contradicts_itself_is_refused(certificate: Certificate, reason: str) -> None:
    with pytest.raises(InvalidCertificate, match=reason):
        verify_certificate(certificate, SRS)


def test_other_blob_is_refused() -> None:
    with pytest.raises(CommitmentMismatch, match="differs"):
        verify_blob([5, 6, 7, 9], ISSUED, SRS)
    with pytest.raises(CommitmentMismatch, match="elements"):
        verify_blob([5, 6, 7, 8, 0, 0, 0, 0], ISSUED, SRS)


def test_recency_is_checked_for_v4_only_and_never_trips_for_ours() -> None:
    old = replace(ISSUED, batch_header=BatchHeader(bytes(32), 100))
    verify_recency(old, 100 + 14_400)
    verify_recency(old, 0)
    with pytest.raises(CertificateNotRecent):
        verify_recency(old, 100 + 14_401)
    verify_recency(replace(old, version=3), 1 << 32)
    verify_recency(ISSUED, (1 << 32) - 1)


def test_aggregate_of_two_operators_verifies() -> None:
    first, second, digest = OperatorKey(5), OperatorKey(7), bytes(range(32))
    both = OperatorKey(12)  # keys and signatures add up
    assert verify_signature(digest, both.sign(digest), both.public_g2)
    assert not verify_signature(digest, first.sign(digest), second.public_g2)
    point = hash_to_g1(digest)
    assert (
        point.y**2 - point.x**3 - 3
    ) % 21888242871839275222246405745257275088696311157297823662689037894645226208583 == 0


VALID = serialize_certificate(ISSUED)
DECODED = rlp.decode(VALID)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        VALID[:-1],
        VALID + b"\0",
        rlp.encode(DECODED[:4]),
        rlp.encode([*DECODED, b""]),
        rlp.encode([DECODED[0], DECODED[1], DECODED[2], DECODED[3], b"\x01\x00\x00"]),
        rlp.encode([[DECODED[0][0], b"\x00\x01"], *DECODED[1:]]),
        rlp.encode([[DECODED[0][0][:31], DECODED[0][1]], *DECODED[1:]]),
        rlp.encode([DECODED[0], [*DECODED[1][:2], bytes(31)], *DECODED[2:]]),
        rlp.encode([DECODED[0], DECODED[1], [[b""], *DECODED[2][1:]], *DECODED[3:]])[:-2],
        b"\xf9\x7f\xff" + b"\xc1" * 0x7FFE + b"\xc0",
        bytes(codec.MAX_CERTIFICATE_BYTES + 1),
    ],
)
def test_malformed_certificate_is_refused(data: bytes) -> None:
    with pytest.raises(CertificateParsingFailed):
        parse_certificate(4, data)


def test_certificate_of_another_version_is_refused() -> None:
    with pytest.raises(CertificateParsingFailed, match="5 fields instead of 4"):
        parse_certificate(3, VALID)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(VALID) - 1), st.integers(0, 255))
def test_any_changed_byte_is_refused_or_gives_another_certificate_with_the_same_bytes(index: int, value: int) -> None:
    data = bytearray(VALID)
    data[index] = value
    try:
        parsed = parse_certificate(4, bytes(data))
    except CertificateParsingFailed:
        return
    assert serialize_certificate(parsed) == bytes(data)


@pytest.mark.parametrize(
    "commitment", [b"", b"\x01", b"\x01\x00", b"\x00" + bytes(32), b"\x01\x0a\x03x", b"\x01\x00\x00x", b"\x01\x00\x04x"]
)
def test_unknown_framing_is_refused(commitment: bytes) -> None:
    with pytest.raises(InvalidCommitment):
        codec.split_generic_commitment(commitment)


def test_generic_commitment_is_type_layer_version_rlp() -> None:
    commitment = codec.encode_generic_commitment(ISSUED)
    assert commitment[:3] == b"\x01\x00\x03"
    assert codec.split_generic_commitment(commitment) == (4, VALID)
