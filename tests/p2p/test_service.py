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


async def test_block_passes_through_a_node_in_between(network: Any, tools: Any) -> None:
    first, middle, last = network.chain("first", 97), network.chain("middle", 97), network.chain("last", 97)
    async with tools.run_service(network.config("first", first, sequencer=True), ChainBackend(first)) as sequencer:
        relaying = network.config("middle", middle, *await sequencer.addresses())
        async with tools.run_service(relaying, ChainBackend(middle)) as relay:
            config = network.config("last", last, *await relay.addresses(), status_interval_s=60.0)
            async with tools.run_service(config, ChainBackend(last)) as follower:
                await tools.until(lambda: connected(sequencer, follower) and len(relay.peers()) == 2)
                for block in tools.grow(first, 3):
                    await sequencer.publish(payload_from_block(block))
                await tools.until(lambda: last.head().number == 100)
                assert [peer.peer_id for peer in follower.peers()] == [(await relay.addresses())[0].rsplit("/", 1)[1]]
