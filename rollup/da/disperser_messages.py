"""EigenDA's gRPC messages from and to the values of this package. Points are compressed on the wire.

Answers are what a stranger says: whatever does not have its form raises MalformedAnswer, and no point off the curve
gets through. Import this only with the extra `eigenda` installed.
"""

from typing import Any

from openledger.rollup.da import curve
from openledger.rollup.da.certificate import (
    Attestation,
    BatchHeader,
    BlobCertificate,
    BlobHeader,
    BlobInclusionInfo,
)
from openledger.rollup.da.client import DAError
from openledger.rollup.da.curve import G1Point, G2Point, InvalidPoint
from openledger.rollup.da.grpc import common_pb2, common_v2_pb2
from openledger.rollup.da.payments import PaymentHeader, PaymentState
from openledger.rollup.da.signature_indices import SignatureIndices
from openledger.rollup.da.srs import BlobCommitment

MAX_NON_SIGNERS = 4_096
_MAX_PROOF_BYTES = 32 * 64


class MalformedAnswer(DAError):
    """The server's answer does not have the form it must have."""


def commitment_message(commitment: BlobCommitment) -> Any:
    """common.BlobCommitment."""
    return common_pb2.BlobCommitment(
        commitment=curve.to_compressed(curve.g1_from_integers(commitment.commitment)),
        length_commitment=curve.to_compressed(curve.g2_from_integers(commitment.length_commitment)),
        length_proof=curve.to_compressed(curve.g2_from_integers(commitment.length_proof)),
        length=commitment.length,
    )


def read_commitment(message: Any) -> BlobCommitment:
    """Raises MalformedAnswer."""
    return BlobCommitment(
        _g1(message.commitment, "commitment"),
        _g2(message.length_commitment, "length_commitment"),
        _g2(message.length_proof, "length_proof"),
        message.length,
    )


def blob_header_message(header: BlobHeader, payment: PaymentHeader) -> Any:
    """common.v2.BlobHeader."""
    return common_v2_pb2.BlobHeader(
        version=header.version,
        quorum_numbers=list(header.quorum_numbers),
        commitment=commitment_message(header.commitment),
        payment_header=common_v2_pb2.PaymentHeader(
            account_id=payment.account_id,
            timestamp=payment.timestamp_ns,
            cumulative_payment=uint_bytes(payment.cumulative_payment),
        ),
    )


def read_blob_header(message: Any) -> tuple[BlobHeader, PaymentHeader]:
    """Raises MalformedAnswer."""
    paid = message.payment_header
    if paid.timestamp < 0 or len(paid.cumulative_payment) > 32:
        raise MalformedAnswer("the payment header's time or amount is out of range")
    payment = PaymentHeader(paid.account_id, paid.timestamp, int.from_bytes(paid.cumulative_payment, "big"))
    if message.version > 0xFFFF:
        raise MalformedAnswer(f"blob version {message.version} is above 65535")
    quorums = read_quorums(message.quorum_numbers)
    return BlobHeader(message.version, quorums, read_commitment(message.commitment), payment.hash), payment


def read_inclusion(message: Any) -> BlobInclusionInfo:
    """The blob's certificate and its place in the batch. Raises MalformedAnswer."""
    certificate = message.blob_certificate
    if len(message.inclusion_proof) % 32 or len(message.inclusion_proof) > _MAX_PROOF_BYTES:
        raise MalformedAnswer(f"an inclusion proof of {len(message.inclusion_proof)} bytes")
    header, _ = read_blob_header(certificate.blob_header)
    blob = BlobCertificate(header, certificate.signature, tuple(certificate.relay_keys))
    return BlobInclusionInfo(blob, message.blob_index, message.inclusion_proof)


def read_batch_header(message: Any) -> BatchHeader:
    """Raises MalformedAnswer."""
    if len(message.batch_root) != 32 or message.reference_block_number >> 32:
        raise MalformedAnswer("the batch header's root or reference block number is out of range")
    return BatchHeader(message.batch_root, message.reference_block_number)


def read_non_signers(message: Any) -> tuple[G1Point, ...]:
    """The public keys of those who did not sign, in the answer's order. Raises MalformedAnswer."""
    if len(message.non_signer_pubkeys) > MAX_NON_SIGNERS:
        raise MalformedAnswer(f"{len(message.non_signer_pubkeys)} non-signers; the limit is {MAX_NON_SIGNERS}")
    return tuple(_g1(key, "non_signer_pubkeys") for key in message.non_signer_pubkeys)


def read_attestation(message: Any, indices: SignatureIndices) -> tuple[Attestation, bytes]:
    """The attestation with L1's indices, and the quorums that signed. Raises MalformedAnswer."""
    quorums = read_quorums(message.quorum_numbers)
    if len(message.quorum_apks) != len(quorums) or len(message.quorum_signed_percentages) != len(quorums):
        raise MalformedAnswer("keys or percentages are not given for each quorum")
    attestation = Attestation(
        non_signer_quorum_bitmap_indices=indices.non_signer_quorum_bitmaps,
        non_signer_public_keys=read_non_signers(message),
        quorum_public_keys=tuple(_g1(key, "quorum_apks") for key in message.quorum_apks),
        signers_public_key_g2=_g2(message.apk_g2, "apk_g2"),
        signature=_g1(message.sigma, "sigma"),
        quorum_key_indices=indices.quorum_keys,
        total_stake_indices=indices.total_stakes,
        non_signer_stake_indices=indices.non_signer_stakes,
    )
    return attestation, quorums


def read_payment_state(message: Any) -> PaymentState:
    """GetPaymentStateReply."""
    return PaymentState(
        min_symbols=message.payment_global_params.min_num_symbols,
        price_per_symbol=message.payment_global_params.price_per_symbol,
        cumulative_payment=int.from_bytes(message.cumulative_payment, "big"),
        deposited=int.from_bytes(message.onchain_cumulative_payment, "big"),
        reserved_symbols_per_second=message.reservation.symbols_per_second,
        reservation_start_s=message.reservation.start_timestamp,
        reservation_end_s=message.reservation.end_timestamp,
    )


def uint_bytes(value: int) -> bytes:
    """Minimal big-endian bytes; empty for 0."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def read_quorums(numbers: Any) -> bytes:
    """Quorum numbers as a certificate has them. Raises MalformedAnswer."""
    if len(numbers) > 256 or any(number > 255 for number in numbers) or len(set(numbers)) != len(numbers):
        raise MalformedAnswer("quorum numbers must be distinct and below 256")
    return bytes(numbers)


def _g1(data: bytes, name: str) -> G1Point:
    try:
        return curve.g1_to_integers(curve.g1_from_compressed(data))
    except InvalidPoint as error:
        raise MalformedAnswer(f"{name}: {error}") from error


def _g2(data: bytes, name: str) -> G2Point:
    try:
        return curve.g2_to_integers(curve.g2_from_compressed(data))
    except InvalidPoint as error:
        raise MalformedAnswer(f"{name}: {error}") from error
