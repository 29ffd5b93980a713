import hashlib
import os

import cramjam
import pytest
from eth_keys import keys
from hypothesis import given
from hypothesis import strategies as st

from openledger.evm_ext.payload import ExecutionPayload
from openledger.genesis.hashing import keccak256
from openledger.p2p.envelope import (
    MAX_MESSAGE_BYTES,
    Envelope,
    InvalidBlockSignature,
    InvalidEnvelope,
    decode_envelope,
    encode_envelope,
    message_id,
    payload_body,
    payload_from_body,
    sign_body,
    signing_hash,
)
from openledger.p2p.snappy_frames import InvalidSnappyFrames, compress_frames, decompress_frames

KEY = b"\x07" * 32
CHAIN = 161_299
TOPIC = f"/optimism/{CHAIN}/3/blocks"
PAYLOAD = ExecutionPayload(
    *(bytes(32), bytes(20), bytes(32), bytes(32), bytes(256), bytes(32)),
    *(7, 60_000_000, 21_000, 1_741_842_007, b"\0" * 9, 10**9, bytes(32), (b"\x02abc", b"")),
    parent_beacon_block_root=b"\x05" * 32,
)
# The version 4 vector of op-alloy's rpc-types-engine (test_roundtrip_encode_envelope_v4).
OP_ALLOY_V4 = bytes.fromhex(
    "9105f043cee25401b6853202950d1d8a082f31a80c4fef5782c049a731f5d104b1b9b9aa7618605b420438ae98b44c8aaaebd482854473"
    "c2ae57c079286bb634bece5210000000006a03000412346a1d00fe0100fe0100fe0100fe0100fe0100fe01004201000c5766d267219504"
    "30020106f6010001440104b60100049876"
)


def test_envelope_of_op_alloy_is_read_and_written() -> None:
    envelope = decode_envelope(OP_ALLOY_V4)
    payload = envelope.payload()
    assert payload.timestamp == 1_741_842_007
    assert payload.withdrawals_root == bytes(30) + b"\x98\x76"
    assert payload.parent_beacon_block_root == bytes(30) + b"\x12\x34"
    assert payload_body(payload) == envelope.body
    assert encode_envelope(envelope) == OP_ALLOY_V4


def test_signer_is_recovered_as_eth_keys_recovers_it() -> None:
    envelope = sign_body(KEY, CHAIN, payload_body(PAYLOAD))
    digest = keccak256(bytes(32) + CHAIN.to_bytes(32, "big") + keccak256(envelope.body))
    assert signing_hash(CHAIN, envelope.body) == digest
    recovered = keys.Signature(envelope.signature).recover_public_key_from_msg_hash(digest)
    assert recovered == keys.PrivateKey(KEY).public_key
    assert envelope.signer(CHAIN) == recovered.to_canonical_address()
    assert envelope.signer(CHAIN + 1) != recovered.to_canonical_address()


def test_envelope_comes_back_from_its_message() -> None:
    envelope = sign_body(KEY, CHAIN, payload_body(PAYLOAD))
    read = decode_envelope(encode_envelope(envelope))
    assert read == envelope
    assert read.payload() == PAYLOAD == payload_from_body(envelope.body)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff" * 10,
        OP_ALLOY_V4[:-1],
        OP_ALLOY_V4 + b"\0",
        bytes(cramjam.snappy.compress_raw(bytes(656))),
        bytes(cramjam.snappy.compress_raw(bytes(MAX_MESSAGE_BYTES + 1))),
        b"\xff\xff\xff\xff\x0f" + OP_ALLOY_V4[2:],
    ],
)
def test_message_that_is_no_envelope_is_refused(message: bytes) -> None:
    with pytest.raises(InvalidEnvelope):
        decode_envelope(message)


@pytest.mark.parametrize("signature", [bytes(65), b"\xff" * 65, bytes(64) + b"\x04"])
def test_signature_nobody_made_is_refused(signature: bytes) -> None:
    with pytest.raises(InvalidBlockSignature):
        Envelope(signature, payload_body(PAYLOAD)).signer(CHAIN)


def test_envelope_longer_than_peers_take_is_not_made() -> None:
    with pytest.raises(InvalidEnvelope, match="peers take"):
        encode_envelope(Envelope(bytes(65), os.urandom(MAX_MESSAGE_BYTES)))


def test_message_id_names_the_content_not_its_compression() -> None:
    content = bytes(65) + payload_body(PAYLOAD)
    compressed = bytes(cramjam.snappy.compress_raw(content))
    stored = b"".join(
        (
            _varint(len(content)),
            *(bytes([59 << 2]) + content[i : i + 60] for i in range(0, len(content) // 60 * 60, 60)),
            bytes([(len(content) % 60 - 1) << 2]) + content[len(content) // 60 * 60 :],
        )
    )
    assert stored != compressed
    assert message_id(TOPIC, stored) == message_id(TOPIC, compressed)
    expected = hashlib.sha256(b"\1\0\0\0" + len(TOPIC).to_bytes(8, "little") + TOPIC.encode() + content).digest()
    assert message_id(TOPIC, compressed) == expected[:20]
    bad = hashlib.sha256(b"\0\0\0\0" + len(TOPIC).to_bytes(8, "little") + TOPIC.encode() + b"\xff" * 9).digest()
    assert message_id(TOPIC, b"\xff" * 9) == bad[:20]


def _varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


@given(st.binary(max_size=300_000))
def test_frames_give_back_what_was_put_in(data: bytes) -> None:
    assert decompress_frames(compress_frames(data), 300_000) == data


def test_frames_that_claim_too_much_are_refused_before_they_are_decompressed() -> None:
    with pytest.raises(InvalidSnappyFrames, match="claim"):
        decompress_frames(compress_frames(bytes(1001)), 1000)
    # One chunk that claims 4 GiB: decompressing it first would ask for the memory.
    chunk = bytes(4) + b"\xff\xff\xff\xff\x0f" + b"\0" * 8
    bomb = b"\xff\x06\x00\x00sNaPpY\x00" + len(chunk).to_bytes(3, "little") + chunk
    with pytest.raises(InvalidSnappyFrames, match="claim"):
        decompress_frames(bomb, 1000)


@pytest.mark.parametrize(
    "frames",
    [b"\x00\xff\xff\xff", b"\x02\x00\x00\x00", compress_frames(b"x" * 100)[:-1], b"\x00\x06\x00\x00\0\0\0\0\xff\xff"],
)
def test_malformed_frames_are_refused(frames: bytes) -> None:
    with pytest.raises(InvalidSnappyFrames):
        decompress_frames(frames, 1000)
