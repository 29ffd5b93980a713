import socket
import threading

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from openledger.kernels.framing import (
    BlockingFrameChannel,
    ChannelClosed,
    FrameChannel,
    FrameError,
    FrameParser,
    encode_frame,
)


class Ping(msgspec.Struct, tag=True, frozen=True):
    number: int
    data: bytes = b""


class Pong(msgspec.Struct, tag=True, frozen=True):
    number: int


@given(st.lists(st.binary(max_size=50), max_size=6), st.integers(1, 7))
def test_frames_come_out_whole_however_they_are_cut(payloads: list[bytes], step: int) -> None:
    sent = [Ping(i, data) for i, data in enumerate(payloads)]
    stream = b"".join(encode_frame(m) for m in sent)
    parser: FrameParser[Ping] = FrameParser(Ping)
    got = []
    for at in range(0, len(stream), step):
        parser.feed(stream[at : at + step])
        while (message := parser.take()) is not None:
            got.append(message)
    assert got == sent


def test_a_frame_above_the_limit_is_refused_from_its_length_alone() -> None:
    parser: FrameParser[Ping] = FrameParser(Ping, limit=100)
    parser.feed((101).to_bytes(4, "big"))
    with pytest.raises(FrameError, match="101 bytes"):
        parser.take()
    with pytest.raises(FrameError, match="above the limit"):
        encode_frame(Ping(1, bytes(200)), limit=100)


@pytest.mark.parametrize("body", [b"", b"\xc1", encode_frame(Pong(1))[4:], msgspec.msgpack.encode({"type": "X"})])
def test_what_is_not_a_message_of_the_channel_is_an_error(body: bytes) -> None:
    parser: FrameParser[Ping] = FrameParser(Ping)
    parser.feed(len(body).to_bytes(4, "big") + body)
    with pytest.raises(FrameError, match="not a message"):
        parser.take()


async def test_both_sides_talk_and_notice_the_end() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    parent: FrameChannel[Pong] = FrameChannel(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), Pong)
    child: BlockingFrameChannel[Ping] = BlockingFrameChannel(theirs, Ping)

    def serve() -> None:
        assert child.receive(timeout_s=0) is None
        try:
            while True:
                message = child.receive()
                assert message is not None
                child.send(Pong(message.number + len(message.data)))
        except ChannelClosed:
            child.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with trio.fail_after(120):
        for number in range(3):
            await parent.send(Ping(number, bytes(300_000)))
            assert await parent.receive() == Pong(number + 300_000)
        with trio.move_on_after(0.01):
            await parent.receive()
        await parent.send(Ping(7))
        assert await parent.receive() == Pong(7)
        await parent.aclose()
        await trio.to_thread.run_sync(thread.join)
    with pytest.raises(ChannelClosed):
        await parent.send(Ping(1))
