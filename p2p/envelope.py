"""The envelope a block travels in on the gossip topic, version 4:

    snappy( signature 65 ‖ parentBeaconBlockRoot 32 ‖ SSZ payload )

The sequencer signs keccak256( 32 zero bytes ‖ chain id u256 ‖ keccak256(root ‖ payload) ) with secp256k1 (r ‖ s ‖ v,
v 0 or 1). Source: OP-Stack specification, "rollup node p2p", gossip topics; op-node p2p/gossip.go.
"""

import hashlib
from dataclasses import dataclass

import cramjam
from coincurve import PrivateKey, PublicKey

from openledger.evm_ext.payload import ExecutionPayload
from openledger.genesis.hashing import keccak256
from openledger.p2p.ssz import FIXED_BYTES, decode_payload, encode_payload

MAX_MESSAGE_BYTES = 10 * 1024 * 1024
SIGNATURE_BYTES = 65
_ROOT_BYTES = 32
_MIN_MESSAGE_BYTES = SIGNATURE_BYTES + _ROOT_BYTES + FIXED_BYTES
_INVALID_SNAPPY, _VALID_SNAPPY = b"\x00\x00\x00\x00", b"\x01\x00\x00\x00"


class InvalidEnvelope(ValueError):
    """The message is not an envelope: its compression or size is wrong."""


class InvalidBlockSignature(ValueError):
    """No public key can be recovered from the signature."""


@dataclass(frozen=True)
class Envelope:
    """A signature and what it signs: `body` is the parent beacon block root and the SSZ payload."""

    signature: bytes
    body: bytes

    def payload(self) -> ExecutionPayload:
        """The payload. Raises InvalidPayloadEncoding."""
        return decode_payload(self.body[_ROOT_BYTES:], self.body[:_ROOT_BYTES])

    def signer(self, chain_id: int) -> bytes:
        """The address that signed. Raises InvalidBlockSignature."""
        try:
            key = PublicKey.from_signature_and_message(self.signature, signing_hash(chain_id, self.body), hasher=None)
        except Exception as error:  # coincurve raises bare Exception
            raise InvalidBlockSignature(f"no public key can be recovered: {error}") from error
        return address_of(key)


def payload_body(payload: ExecutionPayload) -> bytes:
    """What is signed and what request/response answers carry: root ‖ SSZ payload. Raises ValueError."""
    return payload.parent_beacon_block_root + encode_payload(payload)


def payload_from_body(body: bytes) -> ExecutionPayload:
    """The inverse of `payload_body`. Raises InvalidPayloadEncoding."""
    return decode_payload(body[_ROOT_BYTES:], body[:_ROOT_BYTES])


def signing_hash(chain_id: int, body: bytes) -> bytes:
    """The digest the sequencer signs."""
    return keccak256(bytes(32) + chain_id.to_bytes(32, "big") + keccak256(body))


def sign_body(private_key: bytes, chain_id: int, body: bytes) -> Envelope:
    """The envelope of a body, signed."""
    signature: bytes = PrivateKey(private_key).sign_recoverable(signing_hash(chain_id, body), hasher=None)
    return Envelope(signature, body)


def encode_envelope(envelope: Envelope) -> bytes:
    """The gossip message. Raises InvalidEnvelope when it would be longer than peers take."""
    message = envelope.signature + envelope.body
    if len(message) > MAX_MESSAGE_BYTES:
        raise InvalidEnvelope(f"message of {len(message)} bytes; peers take {MAX_MESSAGE_BYTES}")
    return bytes(cramjam.snappy.compress_raw(message))


def decode_envelope(message: bytes) -> Envelope:
    """The envelope in a gossip message; its claimed length is checked before memory is spent. Raises InvalidEnvelope."""
    length = claimed_length(message)
    if not _MIN_MESSAGE_BYTES <= length <= MAX_MESSAGE_BYTES:
        raise InvalidEnvelope(
            f"message claims {length} bytes; from {_MIN_MESSAGE_BYTES} to {MAX_MESSAGE_BYTES} are taken"
        )
    data = decompress_block(message)
    return Envelope(data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:])


def claimed_length(message: bytes) -> int:
    """The decompressed length a snappy block claims. Raises InvalidEnvelope."""
    length = 0
    for index, byte in enumerate(message[:5]):
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return length
    raise InvalidEnvelope("not a snappy block: its length does not end")


def decompress_block(message: bytes) -> bytes:
    """A snappy block's content. Raises InvalidEnvelope. Check `claimed_length` first."""
    try:
        return bytes(cramjam.snappy.decompress_raw(message))
    except cramjam.DecompressionError as error:
        raise InvalidEnvelope(f"not a snappy block: {error}") from error


def message_id(topic: str, message: bytes) -> bytes:
    """What gossip names a message by: 20 bytes of SHA-256(domain ‖ topic length u64 LE ‖ topic ‖ content).

    `content` is decompressed where that is possible, so one block has one name however it was compressed. The
    specification's text leaves out the topic; op-node hashes it too, and that is what is spoken on the wire.
    """
    try:
        if claimed_length(message) > MAX_MESSAGE_BYTES:
            raise InvalidEnvelope("too long")
        domain, content = _VALID_SNAPPY, decompress_block(message)
    except InvalidEnvelope:
        domain, content = _INVALID_SNAPPY, message
    name = topic.encode()
    digest = hashlib.sha256(domain + len(name).to_bytes(8, "little") + name)
    digest.update(content)
    return digest.digest()[:20]


def address_of(key: PublicKey) -> bytes:
    """The Ethereum address of a public key."""
    return keccak256(key.format(compressed=False)[1:])[12:]
