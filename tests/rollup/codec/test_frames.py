import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.rollup.codec.batcher_transaction import (
    InvalidBatcherData,
    decode_commitment_data,
    decode_frames_data,
    encode_commitment_data,
    encode_frames_data,
)
from openledger.rollup.codec.frames import (
    MAX_FRAME_DATA,
    Frame,
    InvalidFrame,
    decode_frames,
    encode_frame,
    encode_frames,
)

FRAMES = st.builds(
    Frame,
    channel_id=st.binary(min_size=16, max_size=16),
    frame_number=st.integers(0, 0xFFFF),
    data=st.binary(max_size=200),
    is_last=st.booleans(),
)


def test_a_frame_is_laid_out_as_the_specification_writes_it() -> None:
    frame = Frame(bytes(range(16)), 0x0102, b"\xaa\xbb\xcc", True)
    assert encode_frame(frame).hex() == "000102030405060708090a0b0c0d0e0f" + "0102" + "00000003" + "aabbcc" + "01"


@given(st.lists(FRAMES, min_size=1, max_size=5))
def test_frames_decode_to_what_was_encoded(frames: list[Frame]) -> None:
    assert decode_frames(encode_frames(frames)) == tuple(frames)
    assert decode_frames_data(encode_frames_data(frames)) == tuple(frames)


@given(st.lists(FRAMES, min_size=1, max_size=3), st.data())
def test_any_truncation_rejects_all_frames(frames: list[Frame], draw: st.DataObject) -> None:
    encoded = encode_frames(frames)
    boundaries = {len(encode_frames(frames[:count])) for count in range(len(frames) + 1)}
    cut = draw.draw(st.integers(0, len(encoded) - 1))
    if cut in boundaries - {0}:
        assert decode_frames(encoded[:cut]) == tuple(frames[: sorted(boundaries).index(cut)])
    else:
        with pytest.raises(InvalidFrame):
            decode_frames(encoded[:cut])


@given(st.binary(max_size=120))
def test_arbitrary_bytes_either_decode_exactly_or_are_refused(data: bytes) -> None:
    try:
        frames = decode_frames(data)
    except InvalidFrame:
        return
    assert encode_frames(frames) == data


def test_is_last_must_be_zero_or_one() -> None:
    encoded = bytearray(encode_frame(Frame(bytes(16), 0, b"x", True)))
    encoded[-1] = 2
    with pytest.raises(InvalidFrame, match="is_last"):
        decode_frames(bytes(encoded))


def test_a_frame_over_a_million_bytes_is_refused_before_it_is_read() -> None:
    header = bytes(16) + b"\0\0" + (MAX_FRAME_DATA + 1).to_bytes(4, "big")
    with pytest.raises(InvalidFrame, match="at most 1000000"):
        decode_frames(header + bytes(100))
    with pytest.raises(InvalidFrame, match="at most 1000000"):
        Frame(bytes(16), 0, bytes(MAX_FRAME_DATA + 1), True)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x02" + encode_frame(Frame(bytes(16), 0, b"x", True))])
def test_batcher_data_without_version_zero_frames_is_named_invalid(data: bytes) -> None:
    with pytest.raises(InvalidBatcherData):
        decode_frames_data(data)


def test_a_commitment_travels_behind_version_one() -> None:
    generic = b"\x01\x00\x03certificate"
    assert decode_commitment_data(encode_commitment_data(generic)) == generic
    assert decode_commitment_data(encode_commitment_data(b"\x00" + bytes(32))) == b"\x00" + bytes(32)
    assert decode_commitment_data(b"\x00frames") is None
    assert decode_commitment_data(b"") is None


@pytest.mark.parametrize("commitment", [b"", b"\x00" + bytes(31), b"\x00" + bytes(33), b"\x01", b"\x02abc"])
def test_a_malformed_commitment_is_refused(commitment: bytes) -> None:
    with pytest.raises(InvalidBatcherData):
        decode_commitment_data(encode_commitment_data(commitment))
