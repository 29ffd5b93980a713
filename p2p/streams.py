"""Reading and writing libp2p streams with a time limit and a byte limit on every step.

A peer that stops reading or writing costs its own stream and nothing else: py-libp2p itself waits without end.
"""

from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.network.stream.exceptions import StreamEOF

READ_TIMEOUT_S = 10.0
WRITE_TIMEOUT_S = 10.0
_PIECE_BYTES = 64 * 1024


class PeerUnresponsive(Exception):
    """The peer did not send or take the next bytes in time, or closed the stream too early."""


class AnswerTooLong(Exception):
    """The peer sends more than it may."""


async def read_exactly(stream: Any, count: int, timeout_s: float | None = None) -> bytes:
    """The next `count` bytes; the time limit is for each piece. Raises PeerUnresponsive."""
    received = bytearray()
    while len(received) < count:
        piece = await _read(stream, min(count - len(received), _PIECE_BYTES), timeout_s)
        if not piece:
            raise PeerUnresponsive(f"the stream ended after {len(received)} of {count} bytes")
        received += piece
    return bytes(received)


async def read_to_end(stream: Any, limit: int, timeout_s: float | None = None) -> bytes:
    """All bytes until the peer closes its side. Raises PeerUnresponsive, AnswerTooLong."""
    received = bytearray()
    while piece := await _read(stream, _PIECE_BYTES, timeout_s):
        received += piece
        if len(received) > limit:
            raise AnswerTooLong(f"more than {limit} bytes")
    return bytes(received)


async def write_all(stream: Any, data: bytes, timeout_s: float | None = None) -> None:
    """Writes everything; the time limit is for each piece. Raises PeerUnresponsive."""
    for start in range(0, len(data), _PIECE_BYTES):
        try:
            with trio.fail_after(WRITE_TIMEOUT_S if timeout_s is None else timeout_s):
                await stream.write(data[start : start + _PIECE_BYTES])
        except (trio.TooSlowError, BaseLibp2pError) as error:
            raise PeerUnresponsive(f"cannot write: {type(error).__name__} {error}") from error


async def write_frame(stream: Any, data: bytes) -> None:
    """A u32 big-endian length and the data. Raises PeerUnresponsive."""
    await write_all(stream, len(data).to_bytes(4, "big") + data)


async def read_frame(stream: Any, limit: int) -> bytes:
    """The data of a frame; a longer one is refused before it is read. Raises PeerUnresponsive, AnswerTooLong."""
    length = int.from_bytes(await read_exactly(stream, 4), "big")
    if length > limit:
        raise AnswerTooLong(f"a frame of {length} bytes; the limit is {limit}")
    return await read_exactly(stream, length)


async def _read(stream: Any, count: int, timeout_s: float | None) -> bytes:
    try:
        with trio.fail_after(READ_TIMEOUT_S if timeout_s is None else timeout_s):
            piece: bytes = await stream.read(count)
            return piece
    except StreamEOF:
        return b""
    except (trio.TooSlowError, BaseLibp2pError) as error:
        raise PeerUnresponsive(f"cannot read: {type(error).__name__} {error}") from error
