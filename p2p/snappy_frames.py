"""The snappy framing format, decoded only after the sum of the lengths its chunks claim was checked.

Source: google/snappy, framing_format.txt. Go's `snappy.NewBufferedWriter`, which op-node answers with, writes it.
"""

import cramjam

from openledger.p2p.envelope import InvalidEnvelope, claimed_length

_COMPRESSED, _UNCOMPRESSED, _FIRST_SKIPPABLE, _STREAM_IDENTIFIER = 0x00, 0x01, 0x80, 0xFF
_CHECKSUM_BYTES = 4


class InvalidSnappyFrames(ValueError):
    """The bytes are not snappy frames, or hold more than is taken."""


def compress_frames(data: bytes) -> bytes:
    """`data` in snappy frames."""
    return bytes(cramjam.snappy.compress(data))


def decompress_frames(frames: bytes, limit: int) -> bytes:
    """The content of the frames, at most `limit` bytes. Raises InvalidSnappyFrames."""
    claimed = _claimed_length(frames)
    if claimed > limit:
        raise InvalidSnappyFrames(f"the frames claim {claimed} bytes; the limit is {limit}")
    try:
        return bytes(cramjam.snappy.decompress(frames))
    except cramjam.DecompressionError as error:
        raise InvalidSnappyFrames(f"not snappy frames: {error}") from error


def _claimed_length(frames: bytes) -> int:
    total = position = 0
    while position < len(frames):
        kind = frames[position]
        length = int.from_bytes(frames[position + 1 : position + 4], "little")
        begin, position = position + 4, position + 4 + length
        if position > len(frames):
            raise InvalidSnappyFrames("a chunk is longer than the data")
        if kind == _COMPRESSED:
            try:
                total += claimed_length(frames[begin + _CHECKSUM_BYTES : begin + _CHECKSUM_BYTES + 5])
            except InvalidEnvelope as error:
                raise InvalidSnappyFrames(str(error)) from error
        elif kind == _UNCOMPRESSED:
            total += length - _CHECKSUM_BYTES
        elif _UNCOMPRESSED < kind < _FIRST_SKIPPABLE:
            raise InvalidSnappyFrames(f"unknown chunk type 0x{kind:02x}")
    return total
