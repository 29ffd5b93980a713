"""Length-prefixed msgpack frames between a trio parent and its blocking child process.

A frame is a big-endian u32 length and that many bytes of msgpack: one message, a `msgspec.Struct` with a tag.
Both sides name the union of messages they accept; anything else is a `FrameError`, and so is a frame above
the limit, refused before memory is spent on it.
"""

import select
import socket
import struct
import threading
from typing import Any, Final, Generic, TypeVar, cast

import msgspec
import trio

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
_LENGTH = struct.Struct(">I")
_READ_BYTES = 1 << 18

In = TypeVar("In")


class FrameError(Exception):
    """The other side sent a frame that is too large or is not a message of this edge."""


class ChannelClosed(Exception):
    """The other side is gone: its process ended, or the channel was closed."""


def encode_frame(message: msgspec.Struct, limit: int = MAX_FRAME_BYTES) -> bytes:
    """One message as a frame. Raises `FrameError` if it is longer than `limit` bytes."""
    body = msgspec.msgpack.encode(message)
    if len(body) > limit:
        raise FrameError(f"message of {len(body)} bytes is above the limit of {limit}")
    return _LENGTH.pack(len(body)) + body


class FrameParser(Generic[In]):
    """Bytes in, messages out, no I/O. `accepts`: the type, or union of types, of this edge's messages."""

    def __init__(self, accepts: Any, limit: int = MAX_FRAME_BYTES) -> None:
        self._decoder = msgspec.msgpack.Decoder(accepts)
        self._limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take(self) -> In | None:
        """The next whole message, or None until more bytes are fed. Raises `FrameError`."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > self._limit:
            raise FrameError(f"frame of {length} bytes is above the limit of {self._limit}")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        try:
            return cast(In, self._decoder.decode(body))
        except msgspec.DecodeError as error:
            raise FrameError(f"not a message of this channel: {error}") from error


class FrameChannel(Generic[In]):
    """The trio side of a socket pair.

    `receive` may be cancelled and called again. A cancelled `send` may have written half a frame, so it
    closes the channel; send from a task of its own where that matters.
    """

    def __init__(self, stream: trio.abc.Stream, accepts: Any, limit: int = MAX_FRAME_BYTES) -> None:
        self._stream = stream
        self._parser: FrameParser[In] = FrameParser(accepts, limit)
        self._limit = limit
        self._send_lock = trio.Lock()

    async def send(self, message: msgspec.Struct) -> None:
        """Raises `ChannelClosed`, `FrameError`."""
        frame = encode_frame(message, self._limit)
        async with self._send_lock:
            try:
                await self._stream.send_all(frame)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ChannelClosed("the other process is gone") from error
            except trio.Cancelled:
                await trio.aclose_forcefully(self._stream)
                raise

    async def receive(self) -> In:
        """The next message. Raises `ChannelClosed`, `FrameError`."""
        while True:
            message = self._parser.take()
            if message is not None:
                await trio.lowlevel.checkpoint()
                return message
            try:
                data = await self._stream.receive_some(_READ_BYTES)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ChannelClosed("the other process is gone") from error
            if not data:
                raise ChannelClosed("the other process closed the channel")
            self._parser.feed(bytes(data))

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self._stream)


class BlockingFrameChannel(Generic[In]):
    """The child's side: blocking, any thread may send, one thread receives."""

    def __init__(self, sock: socket.socket, accepts: Any, limit: int = MAX_FRAME_BYTES) -> None:
        self._socket = sock
        self._socket.setblocking(True)
        # Waiting by poll, not by a socket timeout, which would also hit a thread that sends.
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._parser: FrameParser[In] = FrameParser(accepts, limit)
        self._limit = limit
        self._send_lock = threading.Lock()

    @classmethod
    def from_fd(cls, fd: int, accepts: Any, limit: int = MAX_FRAME_BYTES) -> "BlockingFrameChannel[In]":
        """Take over the file descriptor that the parent passed to this process."""
        return cls(socket.socket(fileno=fd), accepts, limit)

    def send(self, message: msgspec.Struct) -> None:
        """Raises `ChannelClosed`, `FrameError`."""
        frame = encode_frame(message, self._limit)
        with self._send_lock:
            try:
                self._socket.sendall(frame)
            except OSError as error:
                raise ChannelClosed("the parent process is gone") from error

    def receive(self, timeout_s: float | None = None) -> In | None:
        """The next message; None if `timeout_s` passed first (0: only what is already there).

        Raises `ChannelClosed`, `FrameError`.
        """
        while True:
            message = self._parser.take()
            if message is not None:
                return message
            if timeout_s is not None and not self._poll.poll(timeout_s * 1000):
                return None
            try:
                data = self._socket.recv(_READ_BYTES)
            except OSError as error:
                raise ChannelClosed("the parent process is gone") from error
            if not data:
                raise ChannelClosed("the parent process closed the channel")
            self._parser.feed(data)

    def close(self) -> None:
        self._socket.close()
