import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.rollup.codec.blobs import BLOB_BYTES, MAX_BLOB_DATA, InvalidBlob, decode_blob, encode_blob

LENGTHS = st.one_of(st.integers(0, 300), st.integers(MAX_BLOB_DATA - 300, MAX_BLOB_DATA))


@settings(max_examples=60)
@given(LENGTHS, st.integers())
def test_a_blob_gives_back_its_data(length: int, seed: int) -> None:
    data = random.Random(seed).randbytes(length)
    blob = encode_blob(data)
    assert len(blob) == BLOB_BYTES
    assert not any(byte & 0xC0 for byte in blob[::32])
    assert decode_blob(blob) == data


def test_the_layout_is_the_specifications() -> None:
    # 127 bytes of stream in four elements; x, y and z are bytes 31, 63 and 95 of it.
    stream = bytearray(range(127))
    stream[:4] = b"\x00" + (123).to_bytes(3, "big")
    stream[31], stream[63], stream[95] = 0b11_010101, 0b1010_0110, 0b01_110011
    blob = encode_blob(bytes(stream[4:]))
    assert blob[0] == 0b010101
    assert blob[1:32] == stream[:31]
    assert blob[32] == 0b11_0110
    assert blob[33:64] == stream[32:63]
    assert blob[64] == 0b110011
    assert blob[65:96] == stream[64:95]
    assert blob[96] == 0b01_1010
    assert blob[97:128] == stream[96:127]
    assert not any(blob[128:])


@pytest.mark.parametrize(
    ("position", "value", "reason"),
    [
        (1, 1, "version"),
        (2, 0xFF, "fit"),
        (32, 0x40, "highest bits"),
        (96, 0x80, "highest bits"),
        (32 * 4095, 0x40, "highest bits"),
        (9, 1, "goes on"),
        (127, 1, "goes on"),
        (200, 1, "goes on"),
        (BLOB_BYTES - 1, 1, "goes on"),
    ],
)
def test_whatever_is_not_exactly_that_layout_is_refused(position: int, value: int, reason: str) -> None:
    blob = bytearray(encode_blob(b"abcd"))
    blob[position] = value
    with pytest.raises(InvalidBlob, match=reason):
        decode_blob(bytes(blob))


def test_the_high_bits_of_the_first_element_are_not_looked_at() -> None:
    blob = bytearray(encode_blob(b"abcd"))
    blob[0] |= 0x40
    assert decode_blob(bytes(blob)) == b"abcd"


def test_sizes_are_checked() -> None:
    with pytest.raises(InvalidBlob, match="130045"):
        encode_blob(bytes(MAX_BLOB_DATA + 1))
    for size in (0, 32, BLOB_BYTES - 1, BLOB_BYTES + 1):
        with pytest.raises(InvalidBlob, match="131072"):
            decode_blob(bytes(size))
