"""Catching up: from an empty folder, after an interruption, after lost gossip, to a signed head only."""

from typing import Any

import trio

from openledger.evm_ext.block import payload_from_block
from openledger.p2p import ChainBackend, P2PService


def connected(*services: P2PService) -> bool:
    return all(any(peer.gossiping for peer in service.peers()) for service in services)


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


async def test_service_can_be_started_again_and_tells_what_it_signed_meanwhile(network: Any, tools: Any) -> None:
    first, second = network.chain("first", 3), network.chain("second")
    service = P2PService(network.config("first", first, sequencer=True), ChainBackend(first))
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(service.run)
            with trio.fail_after(120):
                peers = await service.addresses()
            nursery.cancel_scope.cancel()
    assert service.peers() == []
    await service.publish(payload_from_block(first.block_by_number(3)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service.run)
        peers = await service.addresses()
        async with tools.run_service(network.config("second", second, *peers), ChainBackend(second)):
            await tools.until(lambda: second.head().number == 3)
        nursery.cancel_scope.cancel()


async def test_trouble_of_the_node_does_not_end_the_service(network: Any, tools: Any) -> None:
    first, second = network.chain("first", 97), network.chain("second", 97)

    class Failing(ChainBackend):
        failures = 0

        async def import_payload(self, payload: Any) -> None:
            if self.failures < 3:
                self.failures += 1
                raise RuntimeError("disk full")
            await super().import_payload(payload)

    backend = Failing(second)
    async with tools.run_service(network.config("first", first, sequencer=True), ChainBackend(first)) as sequencer:
        config = network.config("second", second, *await sequencer.addresses())
        async with tools.run_service(config, backend) as follower:
            await tools.until(lambda: connected(sequencer, follower))
            await sequencer.publish(payload_from_block(tools.grow(first, 1)[0]))
            await tools.until(lambda: second.head().number == 98)
            assert backend.failures == 3
            assert follower.peers()[0].penalty == 0
