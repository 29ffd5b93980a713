"""Peers that lie, stall, flood or misuse the protocols: each costs itself its connection and nobody else anything."""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2

from openledger.evm_ext.block import Block, Header, payload_from_block, transactions_root
from openledger.evm_ext.payload import ExecutionPayload
from openledger.evm_ext.transactions import DepositTransaction, decode_transaction
from openledger.p2p import ChainBackend, P2PService, streams
from openledger.p2p.envelope import encode_envelope, payload_body, sign_body
from openledger.p2p.messages import BodiesRequest, ContentRequest, encode
from openledger.p2p.protocols import BODIES, CONTENT, HEADERS, PeerClient, payload_by_number_protocol
from openledger.p2p.streams import PeerUnresponsive, write_frame


class ForgedHeaders(ChainBackend):
    """Breaks the link between two headers."""

    async def headers(self, start: int, count: int) -> Sequence[bytes]:
        headers = list(await super().headers(start, count))
        if len(headers) > 2:
            headers[1] = replace(Header.decode(headers[1]), gas_used=1).encode()
        return headers


class ForgedBodies(ChainBackend):
    """Serves the body of another block."""

    async def bodies(self, hashes: Sequence[bytes], max_bytes: int) -> Sequence[bytes]:
        return [b"\xc3\xc1\x05\xc0\xc0" for _ in hashes]


class ForgedPayloads(ChainBackend):
    """Serves payloads that do not hash to their hash."""

    async def payload_by_number(self, number: int) -> ExecutionPayload | None:
        payload = await super().payload_by_number(number)
        return None if payload is None else replace(payload, state_root=b"\x01" * 32)


class Hanging(ChainBackend):
    """Takes requests and never answers."""

    async def headers(self, start: int, count: int) -> Sequence[bytes]:
        await trio.sleep_forever()
        raise AssertionError


@pytest.mark.parametrize("kind", [ForgedHeaders, ForgedBodies])
async def test_node_syncs_from_the_honest_peer_although_another_forges(
    network: Any, tools: Any, kind: type[ChainBackend]
) -> None:
    first, second = network.chain("first", 30), network.chain("second")
    async with (
        tools.run_service(network.config("liar", first), kind(first)) as liar,
        tools.run_service(network.config("honest", first), ChainBackend(first)) as honest,
    ):
        (lying,), (truthful,) = await liar.addresses(), await honest.addresses()
        config = network.config("second", second, lying, sequencer_address=None)
        async with tools.run_service(config, ChainBackend(second)) as syncing:
            await tools.until(lambda: bool(syncing.peers()))
            await tools.until(lambda: not syncing.peers())  # banned
            assert second.head().number == 0
        config = replace(config, static_peers=(lying, truthful))
        async with tools.run_service(config, ChainBackend(second)):
            await tools.until(lambda: second.head().number == 30)


async def test_forged_payload_is_not_taken(network: Any, tools: Any) -> None:
    first, second = network.chain("first", 3), network.chain("second")
    async with tools.run_service(network.config("first", first), ForgedPayloads(first)) as liar:
        config = network.config("second", second, *await liar.addresses())
        async with tools.run_service(config, ChainBackend(second)) as asking:
            await tools.until(lambda: bool(asking.peers()))
            assert await asking.request_payload(2) is None
            await tools.until(lambda: not asking.peers())


async def test_peer_that_never_answers_does_not_hold_up_the_others(
    network: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "READ_TIMEOUT_S", 0.5)
    first, second = network.chain("first", 20), network.chain("second")
    async with (
        tools.run_service(network.config("hanging", first), Hanging(first)) as hanging,
        tools.run_service(network.config("honest", first), ChainBackend(first)) as honest,
    ):
        peers = (*await hanging.addresses(), *await honest.addresses())
        config = network.config("second", second, *peers, sequencer_address=None)
        async with tools.run_service(config, ChainBackend(second)):
            await tools.until(lambda: second.head().number == 20)


@pytest.mark.parametrize("timeout_s", [3600.0, 0.2])
async def test_reader_that_stops_reading_does_not_stop_the_server(
    network: Any, tools: Any, monkeypatch: pytest.MonkeyPatch, timeout_s: float
) -> None:
    """Neither while its streams hang nor after they were given up."""
    monkeypatch.setattr(streams, "WRITE_TIMEOUT_S", timeout_s)
    first, second = network.chain("first", 2), network.chain("second")
    backend = ChainBackend(first, content=lambda digest: bytes(1 << 20))
    async with tools.run_service(network.config("first", first), backend) as server:
        config = network.config("second", second, *await server.addresses())
        async with tools.run_service(config, ChainBackend(second)) as client:
            await tools.until(lambda: bool(client.peers()))
            (peer,) = client._host.get_connected_peers()
            stalled = [await client._host.new_stream(peer, [CONTENT]) for _ in range(4)]
            for stream in stalled:
                await write_frame(stream, encode(ContentRequest(bytes(32))))
            if timeout_s < 1:
                await trio.sleep(1)
                monkeypatch.setattr(streams, "WRITE_TIMEOUT_S", 60.0)
            with trio.fail_after(120):
                assert await client.request_payload(1) == payload_from_block(first.block_by_number(1))


async def test_malformed_requests_lead_to_a_ban(network: Any, tools: Any) -> None:
    first, second = network.chain("first", 2), network.chain("second")
    async with tools.run_service(network.config("first", first), ChainBackend(first)) as server:
        config = network.config("second", second, *await server.addresses())
        async with tools.run_service(config, ChainBackend(second)) as client:
            await tools.until(lambda: bool(client.peers()))
            (peer,) = client._host.get_connected_peers()
            for request in (b"\xc1", encode(BodiesRequest([b"short"])), b""):
                stream = await client._host.new_stream(peer, [BODIES])
                await write_frame(stream, request)
            await tools.until(lambda: not server.peers())


async def test_frame_that_claims_gigabytes_is_refused_unread(network: Any, tools: Any) -> None:
    first, second = network.chain("first", 2), network.chain("second")
    async with tools.run_service(network.config("first", first), ChainBackend(first)) as server:
        config = network.config("second", second, *await server.addresses())
        async with tools.run_service(config, ChainBackend(second)) as client:
            await tools.until(lambda: bool(client.peers()))
            (peer,) = client._host.get_connected_peers()
            stream = await client._host.new_stream(peer, [HEADERS])
            await stream.write(b"\xff\xff\xff\xff")
            assert (await streams.read_exactly(stream, 1))[0] == 2
            assert await client.request_payload(1) is not None


async def test_answer_longer_than_allowed_is_cut_off(network: Any, tools: Any) -> None:
    chain, other = network.chain("first"), network.chain("second")
    async with tools.run_service(network.config("first", chain), ChainBackend(chain)) as server:

        async def flood(stream: Any) -> None:
            await stream.read(8)
            try:
                while True:
                    await stream.write(bytes(1 << 16))
            except Exception:  # whatever the library makes of the reset
                return

        server._host.set_stream_handler(payload_by_number_protocol(chain.chain_id), flood)
        config = network.config("second", other, *await server.addresses())
        async with tools.run_service(config, ChainBackend(other)) as client:
            await tools.until(lambda: bool(client.peers()))
            with trio.fail_after(120):
                assert await client.request_payload(1) is None
            await tools.until(lambda: not client.peers())


async def _pair(network: Any, tools: Any) -> Any:
    return network.chain("first", 95), network.chain("second", 95)


async def _until_gossiping(tools: Any, *services: P2PService) -> None:
    await tools.until(lambda: all(any(peer.gossiping for peer in service.peers()) for service in services))


async def test_block_signed_by_somebody_else_bans_who_forwards_it(network: Any, tools: Any) -> None:
    first, second = await _pair(network, tools)
    # Believes in another sequencer, and so publishes what the other node must not take.
    fake = network.config("first", first, sequencer_key=b"\x05" * 32)
    async with tools.run_service(fake, ChainBackend(first)) as forger:
        config = network.config("second", second, *await forger.addresses())
        async with tools.run_service(config, ChainBackend(second)) as node:
            await _until_gossiping(tools, forger, node)
            await forger.publish(payload_from_block(tools.grow(first, 1)[0]))
            await tools.until(lambda: not node.peers())
            assert second.head().number == 95


async def test_stamped_message_is_not_taken(network: Any, tools: Any) -> None:
    first, second = await _pair(network, tools)
    async with tools.run_service(network.config("first", first, sequencer=True), ChainBackend(first)) as sender:
        config = network.config("second", second, *await sender.addresses(), status_interval_s=60.0)
        async with tools.run_service(config, ChainBackend(second)) as node:
            await _until_gossiping(tools, sender, node)
            payload = payload_from_block(tools.grow(first, 1)[0])
            key = sender._config.sequencer_key
            assert key is not None
            message = encode_envelope(sign_body(key, first.chain_id, payload_body(payload)))
            stamped = rpc_pb2.Message(data=message, topicIDs=[sender._gossip.topic], seqno=b"\x01" * 8)
            (peer,) = sender._host.get_connected_peers()
            sender._gossip._router.send_rpc(peer, rpc_pb2.RPC(publish=[stamped]))
            await tools.until(lambda: node.peers()[0].penalty > 0)
            assert second.head().number == 95
            await sender.publish(payload)
            await tools.until(lambda: second.head().number == 96)


async def test_messages_on_the_wire_carry_no_author(network: Any, tools: Any) -> None:
    first, second = await _pair(network, tools)
    seen: list[rpc_pb2.Message] = []
    async with tools.run_service(network.config("first", first, sequencer=True), ChainBackend(first)) as sender:
        config = network.config("second", second, *await sender.addresses())
        async with tools.run_service(config, ChainBackend(second)) as node:
            await _until_gossiping(tools, sender, node)
            inner = node._gossip._pubsub.push_msg

            async def tap(forwarder: Any, message: rpc_pb2.Message) -> None:
                seen.append(message)
                await inner(forwarder, message)

            node._gossip._pubsub.push_msg = tap
            await sender.publish(payload_from_block(tools.grow(first, 1)[0]))
            await tools.until(lambda: second.head().number == 96)
    assert {field.name for field, _ in seen[0].ListFields()} == {"data", "topicIDs"}


async def test_block_of_megabytes_passes_through_gossip(network: Any, tools: Any) -> None:
    # The library's queues drop messages above 1 MiB unless told otherwise.
    first, second = network.chain("first"), network.chain("second")
    received: list[ExecutionPayload] = []

    class Collecting(ChainBackend):
        async def import_payload(self, payload: ExecutionPayload) -> None:
            received.append(payload)

    async with tools.run_service(network.config("first", first, sequencer=True), ChainBackend(first)) as sender:
        config = network.config("second", second, *await sender.addresses())
        async with tools.run_service(config, Collecting(second)) as node:
            await _until_gossiping(tools, sender, node)
            big = _payload_with_deposit(first, os.urandom(4 << 20))
            await sender.publish(big)
            await tools.until(lambda: bool(received))
    assert received == [big]


def _payload_with_deposit(chain: Any, data: bytes) -> ExecutionPayload:
    """A payload whose hash is right (what it does is not checked before it is executed)."""
    deposit = DepositTransaction(
        source_hash=bytes(32),
        sender=b"\x01" * 20,
        to=b"\x02" * 20,
        mint=0,
        value=0,
        gas=1_000_000,
        is_system_transaction=False,
        data=data,
    )
    transaction = decode_transaction(deposit.encode())
    header = replace(
        chain.head(),
        number=1,
        parent_hash=chain.head().hash,
        timestamp=int(time.time()),
        transactions_root=transactions_root((transaction,)),
    )
    return payload_from_block(Block(header, (transaction,)))


async def test_client_gives_up_on_a_peer_that_is_not_there(network: Any, tools: Any) -> None:
    chain = network.chain("first")
    async with tools.run_service(network.config("first", chain), ChainBackend(chain)) as service:
        stranger = ID.from_pubkey(create_new_key_pair().public_key)
        with pytest.raises(PeerUnresponsive):
            await PeerClient(service._host, chain.chain_id).content(stranger, bytes(32))


async def test_node_follows_to_another_branch(network: Any, tools: Any) -> None:
    first, second = network.chain("first", 20), network.chain("second", 10)
    tools.grow(second, 4, marker=9)
    fork = second.head().hash
    async with tools.run_service(network.config("first", first), ChainBackend(first)) as service:
        config = network.config("second", second, *await service.addresses(), sequencer_address=None)
        async with tools.run_service(config, ChainBackend(second)):
            await tools.until(lambda: second.head().hash == first.head().hash)
    assert second.has_block(fork)
    assert second.header_by_number(14).hash != fork
