"""Channels: a compressed run of batches (OP-Stack derivation.md, "Channel format").

    channel = compress(rlp_string(version | batch content) ...)

zlib (RFC 1950) is recognised by the low nibble of its first byte, 8 or 15; brotli by a first byte 0x01 that precedes
its stream. What decompresses to more than `MAX_RLP_BYTES_PER_CHANNEL` is clipped there, and memory is never spent past
that. A stream that breaks off or turns bad counts as far as it was good: its whole batches are still read.
"""

import zlib
from collections.abc import Iterable, Iterator
from enum import Enum

import brotli

from openledger.evm_ext.encoding import encode
from openledger.rollup.codec.strict_rlp import read_item, to_bytes

MAX_RLP_BYTES_PER_CHANNEL = 100_000_000  # Fjord
FRAME_SIZE_ALLOWANCE = 200  # counted per frame towards a channel's size

_BROTLI_VERSION = 0x01
_WINDOW = 1 << 16


class InvalidChannel(ValueError):
    """The channel's bytes are of no known compression; the channel is dropped."""


class Compression(Enum):
    """How a channel is compressed."""

    ZLIB = "zlib"
    BROTLI = "brotli"


def compress_channel(batches: Iterable[bytes], compression: Compression) -> bytes:
    """A channel that holds the given encoded batches (version byte first) in order."""
    content = b"".join(encode(batch) for batch in batches)
    if compression is Compression.BROTLI:
        return bytes([_BROTLI_VERSION]) + bytes(brotli.compress(content, quality=9))
    return zlib.compress(content, 9)


def decompress_channel(channel: bytes, limit: int = MAX_RLP_BYTES_PER_CHANNEL) -> bytes:
    """The channel's content, at most `limit` bytes of it; raises `InvalidChannel` for an unknown compression."""
    if not channel:
        raise InvalidChannel("channel is empty")
    if channel[0] & 0x0F in (8, 15):
        return _inflate(channel, limit)
    if channel[0] == _BROTLI_VERSION:
        return _unbrotli(channel[1:], limit)
    raise InvalidChannel(f"unknown channel compression 0x{channel[0]:02x}")


def read_batches(content: bytes) -> Iterator[bytes]:
    """Encoded batches (version byte first) of a decompressed channel, lazily.

    Raises `InvalidRlp` where the content stops being RLP strings; what follows is not read.
    """
    offset = 0
    while offset < len(content):
        item = read_item(content, offset)
        yield to_bytes(content, item)
        offset = item.end


def _inflate(channel: bytes, limit: int) -> bytes:
    if len(channel) < 2 or (channel[0] << 8 | channel[1]) % 31 or channel[0] >> 4 > 7 or channel[0] & 0x0F != 8:
        raise InvalidChannel("bad zlib header")
    if channel[1] & 0x20:
        raise InvalidChannel("zlib preset dictionary is not allowed")
    # The raw stream: a wrong checksum at the end does not take back what was already read.
    stream = zlib.decompressobj(-15)
    parts: list[bytes] = []
    produced, offset, window = 0, 2, _WINDOW
    while produced < limit and not stream.eof:
        piece = channel[offset : offset + window]
        before = stream.copy() if window > 1 else stream
        try:
            part = stream.decompress(piece, min(_WINDOW, limit - produced))
        except zlib.error:
            if window == 1:
                break
            # zlib hands back nothing of a call that fails: go byte by byte up to where the stream turns bad.
            stream, window = before, 1
            continue
        if not part and not piece:
            break
        offset += len(piece) - len(stream.unconsumed_tail)
        parts.append(part)
        produced += len(part)
    return b"".join(parts)


def _unbrotli(data: bytes, limit: int) -> bytes:
    content, bad_window = _unbrotli_until_error(data, limit, len(data))
    if bad_window is None:
        return content
    # As with zlib: what a failing call had already decoded is lost, so that window is fed byte by byte.
    return _unbrotli_until_error(data, limit, bad_window)[0]


def _unbrotli_until_error(data: bytes, limit: int, bytewise_from: int) -> tuple[bytes, int | None]:
    """What decompresses, at most `limit` bytes, and the offset of the input window in which the stream turns bad."""
    stream = brotli.Decompressor()
    parts: list[bytes] = []
    produced = offset = 0
    while produced < limit and not stream.is_finished():
        start = offset
        piece = b""
        if stream.can_accept_more_data():
            piece = data[offset : offset + (1 if offset >= bytewise_from else _WINDOW)]
        try:
            part = bytes(stream.process(piece, output_buffer_limit=min(_WINDOW, limit - produced)))
        except brotli.error:
            return b"".join(parts), start
        if not part and not piece:
            break
        offset += len(piece)
        parts.append(part)
        produced += len(part)
    return b"".join(parts)[:limit], None
