"""WebSockets against the independent client of the `websockets` package and against raw frames."""

import base64
import os
import struct

import pytest
import trio
import trio.lowlevel
import trio.testing
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as websocket_connect

from openledger.node.http import AccessPolicy, HttpLimits, WebSocket, WebSocketClosed, serve_http


async def echo_socket(socket: WebSocket) -> None:
    while True:
        message = await socket.receive()
        if message == b"bye":
            return
        await socket.send(message)


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + base64.b64encode(bytes(16)) + b"\r\n\r\n"
)


def frame(payload: bytes, opcode: int = 1, final: bool = True) -> bytes:
    mask = os.urandom(4)
    size = len(payload)
    length = (
        bytes((0x80 | size,))
        if size < 126
        else bytes((0x80 | 126,)) + struct.pack(">H", size)
        if size < 65536
        else bytes((0x80 | 127,)) + struct.pack(">Q", size)
    )
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((opcode | (0x80 if final else 0),)) + length + mask + masked


async def read_frame(client) -> tuple[int, bytes]:
    while len(client.buffer) < 2 or len(client.buffer) < 2 + client.buffer[1]:
        assert await client._more(), "closed"
    size = client.buffer[1]
    opcode, payload = client.buffer[0] & 15, client.buffer[2 : 2 + size]
    client.buffer = client.buffer[2 + size :]
    return opcode, payload


async def upgraded(connect, server):
    client = await connect(server)
    await client.send(UPGRADE)
    assert (await client.read_head())[0] == 101
    return client


async def test_a_foreign_client_exchanges_text_binary_and_large_messages(serve):
    server = await serve(websocket=echo_socket)

    def talk() -> None:
        with websocket_connect(f"ws://{server.host}:{server.port}/", max_size=None) as client:
            for message in ("hello", b"binary", "é" * 100, "x" * 70_000, "y" * 1_000_000):
                client.send(message)
                text = message if isinstance(message, str) else message.decode()
                assert client.recv() == text
            assert client.ping().wait(2)
            client.send("bye")
            with pytest.raises(ConnectionClosed) as closed:
                client.recv()
            assert closed.value.rcvd.code == 1000

    await trio.to_thread.run_sync(talk)


async def test_http_and_websocket_share_the_port(serve, connect):
    server = await serve(websocket=echo_socket)
    socket, plain = await upgraded(connect, server), await connect(server)
    await plain.send(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await plain.read_answer())[0] == 200
    await socket.send(frame(b"one"))
    assert await read_frame(socket) == (1, b"one")


async def test_fragments_and_pings_between_them_are_joined(serve, connect):
    client = await upgraded(connect, await serve(websocket=echo_socket))
    await client.send(frame(b"a", final=False) + frame(b"p", 9) + frame(b"b", 0, False) + frame(b"c", 0))
    assert await read_frame(client) == (10, b"p")
    assert await read_frame(client) == (1, b"abc")


async def test_messages_sent_with_the_handshake_are_not_lost(serve, connect):
    client = await connect(await serve(websocket=echo_socket))
    await client.send(UPGRADE + frame(b"early"))
    await client.read_head()
    assert await read_frame(client) == (1, b"early")


@pytest.mark.parametrize("fragmented", [True, False])
async def test_an_oversized_message_closes_with_1009(serve, connect, fragmented):
    client = await upgraded(connect, await serve(websocket=echo_socket, limits=HttpLimits(websocket_message=1000)))
    if fragmented:
        await client.send(frame(b"x" * 600, final=False) + frame(b"x" * 600, 0, False))
    else:
        await client.send(frame(b"x" * 1200))
    opcode, payload = await read_frame(client)
    assert (opcode, int.from_bytes(payload[:2], "big")) == (8, 1009)
    assert await client.is_closed()


async def test_a_protocol_error_closes_with_1002(serve, connect):
    client = await upgraded(connect, await serve(websocket=echo_socket))
    await client.send(b"\x81\x03abc")  # a client must mask
    opcode, payload = await read_frame(client)
    assert (opcode, int.from_bytes(payload[:2], "big")) == (8, 1002)


async def test_invalid_utf8_closes_with_1007(serve, connect):
    client = await upgraded(connect, await serve(websocket=echo_socket))
    await client.send(frame(b"\xff\xfe"))
    opcode, payload = await read_frame(client)
    assert (opcode, int.from_bytes(payload[:2], "big")) == (8, 1007)


async def test_a_silent_peer_is_pinged_and_then_dropped(serve, connect):
    client = await upgraded(connect, await serve(websocket=echo_socket, limits=HttpLimits(websocket_ping_s=0.1)))
    assert await read_frame(client) == (9, b"")
    await client.send(frame(b"", 10))
    assert await read_frame(client) == (9, b"")
    assert await client.is_closed()


async def test_a_slow_reader_is_dropped_without_holding_the_sender(serve, connect):
    dropped = trio.Event()

    async def flood(socket: WebSocket) -> None:
        try:
            while True:
                socket.send_nowait(b"x" * 100_000)
                await trio.lowlevel.checkpoint()
        except WebSocketClosed:
            dropped.set()
            raise

    await upgraded(connect, await serve(websocket=flood, limits=HttpLimits(websocket_queue=1_000_000)))
    with trio.fail_after(120):
        await dropped.wait()


async def test_a_reader_that_stops_is_dropped_by_the_send_timeout(serve, connect):
    finished = trio.Event()

    async def fill(socket: WebSocket) -> None:
        try:
            while True:
                await socket.send(b"x" * 100_000)
        finally:
            finished.set()

    await upgraded(connect, await serve(websocket=fill, limits=HttpLimits(send_timeout_s=0.2)))
    with trio.fail_after(120):
        await finished.wait()


async def test_a_handler_that_fails_closes_only_its_socket(serve, connect):
    async def fail(socket: WebSocket) -> None:
        await socket.receive()
        raise RuntimeError("a bug")

    server = await serve(websocket=fail)
    client = await upgraded(connect, server)
    await client.send(frame(b"x"))
    assert await client.is_closed()
    await upgraded(connect, server)


async def test_shutdown_says_goodbye_with_1001(connect):
    async def unused(request):
        raise AssertionError

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(
                lambda task_status: serve_http(unused, websocket=echo_socket, task_status=task_status)
            )
            client = await upgraded(connect, server)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                opcode, payload = await read_frame(client)
                assert (opcode, int.from_bytes(payload[:2], "big")) == (8, 1001)
                assert await client.is_closed()


async def test_a_bad_handshake_is_refused(serve, connect):
    server = await serve(websocket=echo_socket)
    client = await connect(server)
    await client.send(UPGRADE.replace(b"Version: 13", b"Version: 8"))
    status, headers = await client.read_head()
    assert (status, headers["sec-websocket-version"]) == (426, "13")
    client = await connect(server)
    await client.send(UPGRADE.replace(b"Sec-WebSocket-Key", b"Sec-WebSocket-Kay"))
    assert (await client.read_head())[0] == 400


async def test_a_page_of_a_foreign_origin_may_not_open_a_socket(serve):
    server = await serve(websocket=echo_socket, policy=AccessPolicy(origins=("https://app.example",)))

    def talk() -> None:
        url = f"ws://{server.host}:{server.port}/"
        with websocket_connect(url, origin="https://app.example") as client:
            client.send("x")
            assert client.recv() == "x"
        with pytest.raises(InvalidStatus) as refused:
            websocket_connect(url, origin="https://evil.example", legacy=True)
        assert refused.value.response.status_code == 403

    await trio.to_thread.run_sync(talk)
