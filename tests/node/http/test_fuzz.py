"""Mutated HTTP and random WebSocket frames over real sockets: the server answers or closes, and lives."""

import random

import structlog.testing
import trio

from openledger.node.http import HttpLimits, Request, Response, WebSocket

SEEDS = (
    b"GET /a?b=c HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://x\r\nAccess-Control-Request-Method: POST\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi",
    b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
)
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def mutated(seed: bytes, chance: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(chance.randint(0, 4)):
        place = chance.randrange(len(data))
        action = chance.randrange(4)
        if action == 0:
            data[place] = chance.randrange(256)
        elif action == 1:
            del data[place : place + chance.randint(1, 8)]
        elif action == 2:
            data[place:place] = chance.randbytes(chance.randint(1, 8))
        else:
            data[place:place] = data[place : place + 20]
        if not data:
            return b"\r\n"
    return bytes(data)


async def handler(request: Request) -> Response:
    return Response.json([request.method, request.path, len(request.body), dict(request.query)])


async def echo(socket: WebSocket) -> None:
    while True:
        await socket.send(await socket.receive())


async def test_nothing_that_is_sent_breaks_the_server(serve, connect):
    server = await serve(handler, websocket=echo, limits=HttpLimits(header_timeout_s=0.05, body_timeout_s=0.05))
    chance = random.Random(7)
    with structlog.testing.capture_logs() as logs:
        for round_number in range(150):
            stream = await trio.open_tcp_stream(server.host, server.port)
            if round_number % 3 == 0:
                data = UPGRADE + chance.randbytes(chance.randint(1, 300))
            else:
                data = b"".join(mutated(chance.choice(SEEDS), chance) for _ in range(chance.randint(1, 3)))
            try:
                await stream.send_all(data)
                if chance.random() < 0.5:
                    await stream.send_eof()
                with trio.move_on_after(0.01):
                    await stream.receive_some(65536)
            except trio.BrokenResourceError:
                pass
            await trio.aclose_forcefully(stream)
        client = await connect(server)
        await client.send(SEEDS[0])
        assert (await client.read_answer())[0] == 200
    assert [entry for entry in logs if entry["log_level"] in ("error", "critical")] == []
