"""Frames: the pieces in which a channel crosses L1 or the DA layer (OP-Stack derivation.md, "Frame format").

channel_id 16 | frame_number u16 | data_length u32 | data | is_last u8        all big-endian, 23 bytes around the data
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

CHANNEL_ID_SIZE = 16
FRAME_OVERHEAD = 23
MAX_FRAME_DATA = 1_000_000
MAX_FRAME_NUMBER = 0xFFFF

_HEADER = struct.Struct(">16sHI")


class InvalidFrame(ValueError):
    """The bytes are not frames; all frames of the transaction that carried them are rejected."""


@dataclass(frozen=True)
class Frame:
    """One piece of a channel: `data` is at most 1,000,000 bytes, `frame_number` counts from 0."""

    channel_id: bytes
    frame_number: int
    data: bytes
    is_last: bool

    def __post_init__(self) -> None:
        if len(self.channel_id) != CHANNEL_ID_SIZE:
            raise InvalidFrame(f"channel id has {len(self.channel_id)} bytes, not {CHANNEL_ID_SIZE}")
        if not 0 <= self.frame_number <= MAX_FRAME_NUMBER:
            raise InvalidFrame(f"frame number {self.frame_number} does not fit 16 bits")
        if len(self.data) > MAX_FRAME_DATA:
            raise InvalidFrame(f"frame data has {len(self.data)} bytes, at most {MAX_FRAME_DATA} are allowed")


def encode_frame(frame: Frame) -> bytes:
    """The frame's bytes."""
    header = _HEADER.pack(frame.channel_id, frame.frame_number, len(frame.data))
    return header + frame.data + (b"\x01" if frame.is_last else b"\x00")


def encode_frames(frames: Sequence[Frame]) -> bytes:
    """Frames one after the other; the inverse of `decode_frames`."""
    return b"".join(map(encode_frame, frames))


def decode_frames(data: bytes) -> tuple[Frame, ...]:
    """All frames of `data`, at least one; raises `InvalidFrame` if any byte of it is not part of a good frame."""
    if not data:
        raise InvalidFrame("no frame in the data")
    frames: list[Frame] = []
    offset = 0
    while offset < len(data):
        if len(data) - offset < FRAME_OVERHEAD:
            raise InvalidFrame(f"frame at offset {offset} is cut off: {len(data) - offset} bytes left")
        channel_id, number, length = _HEADER.unpack_from(data, offset)
        if length > MAX_FRAME_DATA:
            raise InvalidFrame(f"frame at offset {offset} claims {length} bytes, at most {MAX_FRAME_DATA} are allowed")
        start = offset + _HEADER.size
        end = start + length
        if end >= len(data):
            raise InvalidFrame(f"frame at offset {offset} claims {length} bytes, {len(data) - start - 1} are left")
        if data[end] > 1:
            raise InvalidFrame(f"is_last of the frame at offset {offset} is {data[end]}, not 0 or 1")
        frames.append(Frame(channel_id, number, data[start:end], data[end] == 1))
        offset = end + 1
    return tuple(frames)
