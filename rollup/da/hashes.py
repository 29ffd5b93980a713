"""The hashes EigenDA identifies blobs and batches by (core/v2/serialization.go, EigenDACertVerificationLib)."""

from eth_abi import encode

from openledger.genesis.hashing import keccak256
from openledger.rollup.da.certificate import BatchHeader, BlobCertificate, BlobHeader

_COMMITMENT_TYPE = "((uint256,uint256),(uint256[2],uint256[2]),(uint256[2],uint256[2]),uint32)"


def payment_header_hash(account_id: str, timestamp_ns: int, cumulative_payment: int) -> bytes:
    """`account_id` is the payer's EIP-55 checksummed address as text."""
    return keccak256(encode(["(string,int64,uint256)"], [(account_id, timestamp_ns, cumulative_payment)]))


def blob_key(header: BlobHeader) -> bytes:
    """What names a blob; the dispersal request signs it."""
    commitment = header.commitment
    values = (
        (commitment.commitment.x, commitment.commitment.y),
        *(
            ((point.x1, point.x0), (point.y1, point.y0))
            for point in (commitment.length_commitment, commitment.length_proof)
        ),
        commitment.length,
    )
    quorums = bytes(sorted(header.quorum_numbers))
    inner = keccak256(encode(["uint16", "bytes", _COMMITMENT_TYPE], [header.version, quorums, values]))
    return keccak256(inner + header.payment_header_hash)


def blob_certificate_hash(certificate: BlobCertificate) -> bytes:
    """What the batch tree holds one leaf of."""
    return keccak256(
        encode(
            ["bytes32", "bytes", "uint32[]"],
            [blob_key(certificate.header), certificate.signature, list(certificate.relay_keys)],
        )
    )


def batch_root(certificate: BlobCertificate, index: int, proof: bytes) -> bytes:
    """The root that the inclusion proof (32 bytes per level, leaf upwards) leads to."""
    node = keccak256(blob_certificate_hash(certificate))
    for start in range(0, len(proof), 32):
        sibling = proof[start : start + 32]
        node = keccak256(sibling + node if index & 1 else node + sibling)
        index >>= 1
    return node


def batch_header_hash(header: BatchHeader) -> bytes:
    """What the operators sign."""
    return keccak256(encode(["(bytes32,uint32)"], [(header.batch_root, header.reference_block_number)]))
