"""What a batcher transaction carries (OP-Stack derivation.md, "Batcher transaction format"; alt-da.md).

0x00 | frames            the frames themselves
0x01 | commitment        the frames lie behind a DA commitment; what the DA layer returns starts with 0x00 again
"""

from collections.abc import Sequence

from openledger.rollup.codec.frames import Frame, InvalidFrame, decode_frames, encode_frames

FRAMES_VERSION = 0x00
COMMITMENT_VERSION = 0x01

KECCAK_COMMITMENT = 0x00
GENERIC_COMMITMENT = 0x01


class InvalidBatcherData(ValueError):
    """The calldata or DA payload is not one that derivation reads; it is ignored."""


def encode_frames_data(frames: Sequence[Frame]) -> bytes:
    """Version byte 0x00 and the frames."""
    return bytes([FRAMES_VERSION]) + encode_frames(frames)


def decode_frames_data(data: bytes) -> tuple[Frame, ...]:
    """The frames of version-0 data; `InvalidBatcherData` for any other version, no frames, or one bad frame."""
    if not data:
        raise InvalidBatcherData("empty batcher data")
    if data[0] != FRAMES_VERSION:
        raise InvalidBatcherData(f"unknown batcher data version 0x{data[0]:02x}")
    try:
        return decode_frames(data[1:])
    except InvalidFrame as error:
        raise InvalidBatcherData(str(error)) from error


def encode_commitment_data(commitment: bytes) -> bytes:
    """Version byte 0x01 and the commitment, which starts with its type byte."""
    return bytes([COMMITMENT_VERSION]) + commitment


def decode_commitment_data(data: bytes) -> bytes | None:
    """The commitment of version-1 data (type byte first); None if the data is of another version.

    Raises `InvalidBatcherData` for an unknown commitment type, a keccak commitment that is not 32 bytes,
    or a generic one that names no DA layer.
    """
    if data[:1] != bytes([COMMITMENT_VERSION]):
        return None
    commitment = data[1:]
    if not commitment:
        raise InvalidBatcherData("DA commitment is empty")
    if commitment[0] == KECCAK_COMMITMENT:
        if len(commitment) != 33:
            raise InvalidBatcherData(f"keccak commitment has {len(commitment) - 1} bytes, not 32")
    elif commitment[0] == GENERIC_COMMITMENT:
        if len(commitment) < 2:
            raise InvalidBatcherData("generic commitment names no DA layer")
    else:
        raise InvalidBatcherData(f"unknown commitment type 0x{commitment[0]:02x}")
    return commitment
