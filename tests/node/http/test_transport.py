"""One socket under a reactor: who is woken by what arrives, and when."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from openledger.node.http.reactor import Reactor
from openledger.node.http.transport import Interrupted, Transport

Pair = tuple[Transport, socket.socket, Reactor]


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A transport, its peer, and the reactor that is not running: tests say when it looks."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    reactor = Reactor()
    transport = Transport(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), reactor)
    yield transport, peer, reactor
    transport.close()
    peer.close()
    reactor.close()


async def test_what_arrives_while_the_receiver_is_being_cancelled_is_for_the_next_one(pair: Pair) -> None:
    transport, peer, reactor = pair
    async with trio.open_nursery() as nursery:
        nursery.start_soon(transport.receive)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        peer.send(b"early")
        transport._ready()  # the reactor's turn comes before the cancelled task's
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        assert await transport.receive() == b"early"
        nursery.cancel_scope.cancel()


async def test_a_receiver_is_woken_once(pair: Pair) -> None:
    transport, peer, reactor = pair
    got: list[bytes] = []

    async def receive() -> None:
        got.append(await transport.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.testing.wait_all_tasks_blocked()
        peer.send(b"one")
        transport._ready()
        peer.send(b"two")
        transport._ready()
        transport.interrupt()
    assert got == [b"one"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reactor.run)
        await receive()
        nursery.cancel_scope.cancel()
    assert got == [b"one", b"two"]


async def test_a_waiting_receiver_is_told_of_an_interruption_and_of_the_end(pair: Pair) -> None:
    transport, _, _ = pair

    async def wait_for(error: type[Exception]) -> None:
        with pytest.raises(error):
            await transport.receive()

    for error, act in ((Interrupted, transport.interrupt), (trio.ClosedResourceError, transport.close)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait_for, error)
            await trio.testing.wait_all_tasks_blocked()
            act()
