import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.rollup.da import encoding
from openledger.rollup.da.curve import GROUP_ORDER
from openledger.rollup.da.encoding import BlobDecodingFailed, PayloadTooLarge

# EigenDA's constants: the primitive 2^28-th root of unity its table of roots is made from.
PRIMITIVE_ROOT = 19103219067921713944291392827692070036145651957329286315305642004821462161904


def blob_bytes(payload: bytes) -> bytes:
    return encoding.elements_to_bytes(encoding.blob_from_encoded_payload(encoding.encode_payload(payload)))


def test_layout_of_a_short_payload_is_header_then_31_byte_steps() -> None:
    payload = bytes(range(1, 41))
    encoded = encoding.encode_payload(payload)
    header = b"\x00\x00" + (40).to_bytes(4, "big") + bytes(26)
    assert encoded == header + b"\0" + payload[:31] + b"\0" + payload[31:].ljust(31, b"\0") + bytes(32)


@pytest.mark.parametrize(
    ("blob_size", "payload_size"),
    [(32, 0), (64, 31), (128 << 10, 126_945), (1 << 20, 1_015_777), (16 << 20, 16_252_897)],
)
def test_largest_payload_of_a_blob_size(blob_size: int, payload_size: int) -> None:
    assert encoding.max_payload_length(blob_size) == payload_size
    assert encoding.encoded_length(payload_size) == blob_size
    assert encoding.encoded_length(payload_size + 1) == 2 * blob_size


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=2000))
def test_decode_inverts_encode(payload: bytes) -> None:
    assert encoding.decode_payload(encoding.encode_payload(payload)) == payload


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=2000))
def test_payload_comes_back_from_its_blob(payload: bytes) -> None:
    blob = blob_bytes(payload)
    encoded = encoding.encoded_payload_from_blob(blob, len(blob) // 32)
    assert encoding.decode_payload(encoded) == payload
    trimmed = blob.rstrip(b"\0")
    trimmed = blob[: -(-len(trimmed) // 32) * 32]
    assert encoding.encoded_payload_from_blob(trimmed, len(blob) // 32) == encoded


def test_blob_is_the_polynomial_with_these_values_on_the_roots_of_unity() -> None:
    encoded = encoding.encode_payload(os.urandom(200))
    coefficients = encoding.blob_from_encoded_payload(encoded)
    count = len(coefficients)
    root = pow(PRIMITIVE_ROOT, (1 << 28) // count, GROUP_ORDER)
    for index in range(count):
        point = pow(root, index, GROUP_ORDER)
        value = sum(c * pow(point, power, GROUP_ORDER) for power, c in enumerate(coefficients)) % GROUP_ORDER
        assert value.to_bytes(32, "big") == encoded[32 * index : 32 * index + 32]


def spoil(encoded: bytes, index: int, value: int) -> bytes:
    changed = bytearray(encoded)
    changed[index] = value
    return bytes(changed)


GOOD = encoding.encode_payload(b"x" * 40)


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "power of two"),
        (GOOD[:-1], "power of two"),
        (GOOD[:96], "power of two"),
        (spoil(GOOD, 0, 1), "zero byte"),
        (spoil(GOOD, 1, 1), "version 1"),
        (spoil(GOOD, 31, 1), "6..31"),
        (spoil(GOOD, 64, 1), "zero byte"),
        (spoil(GOOD, 4, 1), "claims"),
        (spoil(GOOD, 5, 39), "padding"),
        (spoil(GOOD, 127, 1), "padding"),
    ],
)
def test_malformed_encoded_payload_is_refused(encoded: bytes, reason: str) -> None:
    with pytest.raises(BlobDecodingFailed, match=reason):
        encoding.decode_payload(encoded)


@pytest.mark.parametrize(
    ("blob", "length"),
    [(bytes(64), 3), (bytes(64), 1), (bytes(64), 0), (b"\xff" * 32, 1), (b"", 1 << 20)],
)
def test_malformed_blob_is_refused(blob: bytes, length: int) -> None:
    with pytest.raises(BlobDecodingFailed):
        encoding.encoded_payload_from_blob(blob, length)


def test_payload_over_the_limit_is_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="31 payload bytes"):
        encoding.encode_payload(bytes(32), max_blob_bytes=64)
