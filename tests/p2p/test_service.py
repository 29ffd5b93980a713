"""Two whole nodes: gossip, range sync from an empty folder, requests, content, restarts."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import trio

from openledger.evm_ext.block import payload_from_block
from openledger.genesis.hashing import keccak256
from openledger.p2p import (
    CannotListen,
    ChainBackend,
    InvalidIdentity,
    InvalidPeerAddress,
    NotSequencer,
    P2PConfig,
    P2PService,
)


def connected(*services: P2PService) -> bool:
    return all(any(peer.gossiping for peer in service.peers()) for service in services)


async def test_published_blocks_reach_the_other_node(network: Any, tools: Any) -> None:
    first, second = network.chain("first"), network.chain("second")
    async with tools.run_service(network.config("first", first, sequencer=True), ChainBackend(first)) as sequencer:
        peers = await sequencer.addresses()
        async with tools.run_service(network.config("second", second, *peers), ChainBackend(second)) as follower:
            await tools.until(lambda: connected(sequencer, follower))
            tools.grow(first, 99)  # their timestamps are too old for gossip, so only the last is published
            for block in tools.grow(first, 3):
                await sequencer.publish(payload_from_block(block))
            await tools.until(lambda: second.head().number == 102)
            assert second.head().hash == first.head().hash
            (peer,) = follower.peers()
            assert peer.penalty == 0


async def test_empty_node_syncs_to_the_signed_head_although_nothing_is_gossiped_any_more(
    network: Any, tools: Any
) -> None:
    first, second = network.chain("first", 600), network.chain("second")
    async with tools.run_service(network.config("first", first, sequencer=True), ChainBackend(first)) as sequencer:
        # Signed, but with nobody there to hear it.
        await sequencer.publish(payload_from_block(first.block_by_number(600)))
        peers = await sequencer.addresses()
        async with tools.run_service(network.config("second", second, *peers), ChainBackend(second)):
            await tools.until(lambda: second.head().number == 600, 30)
    assert second.head().hash == first.head().hash


async def test_unsigned_head_is_not_synced_to_when_the_sequencer_is_known(network: Any, tools: Any) -> None:
    first, second, third = network.chain("first", 5), network.chain("second"), network.chain("third")
    async with tools.run_service(network.config("first", first), ChainBackend(first)) as service:
        peers = await service.addresses()
        trusting = network.config("third", third, *peers, sequencer_address=None)
        async with (
            tools.run_service(network.config("second", second, *peers), ChainBackend(second)) as careful,
            tools.run_service(trusting, ChainBackend(third)),
        ):
            await tools.until(lambda: third.head().number == 5)
            await tools.until(lambda: any(peer.head_number == 5 for peer in careful.peers()))
            await trio.sleep(0.5)
            assert second.head().number == 0


async def test_sync_goes_on_where_it_was_interrupted(network: Any, tools: Any) -> None:
    first, second = network.chain("first", 300), network.chain("second")
    imported: list[int] = []

    class Interrupted(ChainBackend):
        async def import_payload(self, payload: Any) -> None:
            await super().import_payload(payload)
            imported.append(payload.block_number)
            if payload.block_number == 150:
                scope.cancel()

    async with tools.run_service(network.config("first", first), ChainBackend(first)) as service:
        config = network.config("second", second, *await service.addresses(), sequencer_address=None)
        with trio.CancelScope() as scope:
            async with tools.run_service(config, Interrupted(second)):
                await trio.sleep(15)
        assert second.head().number == 150
        async with tools.run_service(config, Interrupted(second)):
            await tools.until(lambda: second.head().number == 300)
    assert imported == list(range(1, 301))


async def test_block_that_gossip_lost_is_fetched(network: Any, tools: Any) -> None:
    first, second = network.chain("first", 97), network.chain("second", 97)
    async with tools.run_service(network.config("first", first, sequencer=True), ChainBackend(first)) as sequencer:
        peers = await sequencer.addresses()
        config = network.config("second", second, *peers, status_interval_s=60.0)
        async with tools.run_service(config, ChainBackend(second)) as follower:
            await tools.until(lambda: connected(sequencer, follower))
            lost, kept = tools.grow(first, 2)
            await sequencer.publish(payload_from_block(kept))
            await tools.until(lambda: second.head().number == 99)
            assert second.header_by_number(98).hash == lost.hash


async def test_payloads_and_content_are_served(network: Any, tools: Any) -> None:
    first, second = network.chain("first", 3), network.chain("second")
    big = os.urandom(1 << 20)
    store = {keccak256(big): big, b"\x01" * 32: b"named"}
    backend = ChainBackend(first, content=store.get)
    async with tools.run_service(network.config("first", first), backend) as service:
        peers = await service.addresses()
        async with tools.run_service(network.config("second", second, *peers), ChainBackend(second)) as asking:
            await tools.until(lambda: bool(asking.peers()))
            assert await asking.request_payload(2) == payload_from_block(first.block_by_number(2))
            assert await asking.request_payload(4) is None
            assert await asking.fetch_content(keccak256(big)) == big
            assert await asking.fetch_content(bytes(32)) is None
            assert await asking.fetch_content(b"\x01" * 32, check=lambda data: data == b"named") == b"named"
            assert asking.peers()[0].penalty == 0


async def test_peer_that_serves_other_bytes_is_banned(network: Any, tools: Any) -> None:
    first, second = network.chain("first"), network.chain("second")
    backend = ChainBackend(first, content=lambda digest: b"something else")
    async with tools.run_service(network.config("first", first), backend) as liar:
        peers = await liar.addresses()
        async with tools.run_service(network.config("second", second, *peers), ChainBackend(second)) as asking:
            await tools.until(lambda: bool(asking.peers()))
            assert await asking.fetch_content(bytes(32)) is None
            await tools.until(lambda: not asking.peers())
            await trio.sleep(1)
            assert not asking.peers()


async def test_peer_of_another_chain_is_left(network: Any, tools: Any) -> None:
    first, second = network.chain("first"), network.chain("second")
    config = network.config("second", second)
    async with tools.run_service(network.config("first", first), ChainBackend(first)) as service:
        foreign = P2PConfig(
            config.chain_id,
            b"\x09" * 32,
            config.folder,
            listen_port=0,
            static_peers=tuple(await service.addresses()),
            status_interval_s=0.2,
        )
        async with tools.run_service(foreign, ChainBackend(second)) as other:
            await tools.until(lambda: bool(other.peers()))
            await tools.until(lambda: not other.peers())


async def test_only_the_sequencer_publishes(network: Any, tools: Any) -> None:
    chain = network.chain("first", 1)
    async with tools.run_service(network.config("first", chain), ChainBackend(chain)) as service:
        with pytest.raises(NotSequencer):
            await service.publish(payload_from_block(chain.block_by_number(1)))


async def test_identity_stays_and_is_private(network: Any, tools: Any) -> None:
    chain = network.chain("first")
    config = network.config("first", chain)
    ids = []
    for _ in range(2):
        async with tools.run_service(config, ChainBackend(chain)) as service:
            ids.append((await service.addresses())[0].rsplit("/", 1)[1])
    assert ids[0] == ids[1]
    path = config.folder / "p2p-identity.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("nonsense")
    with pytest.RaisesGroup(InvalidIdentity, allow_unwrapped=True, flatten_subgroups=True):
        await P2PService(config, ChainBackend(chain)).run()


async def test_port_in_use_is_named(network: Any, tools: Any) -> None:
    chain = network.chain("first")
    async with tools.run_service(network.config("first", chain), ChainBackend(chain)) as service:
        port = int((await service.addresses())[0].split("/")[4])
        taken = network.config("second", chain, listen_port=port)
        with pytest.RaisesGroup(CannotListen, allow_unwrapped=True, flatten_subgroups=True):
            await P2PService(taken, ChainBackend(chain)).run()


@pytest.mark.parametrize("address", ["", "127.0.0.1:9222", "/ip4/127.0.0.1/tcp/9222", "/ip4/127.0.0.1/tcp/1/p2p/x"])
def test_static_peer_that_is_no_address_is_named(network: Any, address: str, tmp_path: Path) -> None:
    config = P2PConfig(1, bytes(32), tmp_path, static_peers=(address,))
    with pytest.raises(InvalidPeerAddress, match="peer id"):
        P2PService(config, None)  # type: ignore[arg-type]


async def test_lost_peer_is_dialled_again(network: Any, tools: Any) -> None:
    first, second = network.chain("first"), network.chain("second")
    async with tools.run_service(network.config("first", first), ChainBackend(first)) as service:
        peers = await service.addresses()
    port = int(peers[0].split("/")[4])
    async with tools.run_service(network.config("second", second, *peers), ChainBackend(second)) as waiting:
        assert not waiting.peers()
        again = network.config("first", first, listen_port=port)
        async with tools.run_service(again, ChainBackend(first)):
            await tools.until(lambda: bool(waiting.peers()))
