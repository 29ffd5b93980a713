"""Nodes that die, come back and find L1 changed end where an undisturbed node ends."""

from dataclasses import replace

import pytest

from openledger.evm_ext.block import payload_from_block
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.errors import InvalidBlock
from openledger.evm_ext.payload import PayloadAttributes
from openledger.genesis.dev_accounts import USERS
from openledger.rollup.derivation.errors import CriticalDerivationError
from openledger.rollup.engine import NotARollupBlock
from openledger.rollup.sequencer import Sequencer
from openledger.rollup.unsafe_queue import UnsafeQueue

RECEIVER = b"\x77" * 20


def fork_l1(l1: Chain, depth: int, extra: int) -> None:
    """Replace the newest `depth` L1 blocks by `depth + extra` empty ones."""
    head = l1.head()
    parent = l1.header_by_number(head.number - depth)
    l1.set_heads(unsafe=None, safe=None, finalized=None)
    for _ in range(depth + extra):
        attributes = PayloadAttributes(parent.timestamp + 4, b"\xee" * 32, b"\xee" * 20, b"\xee" * 32)
        parent = l1.build(parent.hash, attributes).header
    l1.set_heads(unsafe=parent.hash)


async def test_a_validator_that_restarts_goes_on_from_its_finalized_head(network) -> None:
    validator = network.open_node("validator")
    for _ in range(3):
        await network.advance(12)
        await network.post()
        await validator.driver.derive_to_tip()
    finalized, safe = validator.chain.head("finalized"), validator.chain.head("safe")
    assert 0 < finalized.number < safe.number
    validator.close()
    validator = network.open_node("validator")
    await network.advance(12)
    await network.post()
    assert (await validator.driver.derive_to_tip()).hash == network.node.chain.head().hash
    assert validator.driver.status.reorgs == 0
    assert validator.chain.head("safe").hash == network.node.chain.head().hash
    validator.close()


async def test_a_sequencer_and_batcher_that_restart_lose_no_block(network) -> None:
    network.send_l2(USERS[0], RECEIVER, value=1)
    await network.advance(12)
    await network.post()
    await network.advance(12)
    # Killed before the second half was posted: all that is left is the folder.
    head = network.node.chain.head()
    network.node.close()
    network.node = network.open_node("sequencer")
    network.sequencer = type(network.sequencer)(
        network.node.engine, network.node.pool, network.l1_view, clock=network.clock
    )
    network.batcher = network.make_batcher()
    assert network.node.chain.head().hash == head.hash
    await network.node.driver.derive_to_tip()
    assert network.node.chain.head().hash == head.hash
    await network.advance(12)
    await network.post()
    validator = network.open_node("validator")
    assert (await validator.driver.derive_to_tip()).hash == network.node.chain.head().hash
    assert validator.chain.header_by_number(head.number).hash == head.hash
    validator.close()


@pytest.mark.parametrize("config_change", [{"max_sequencer_drift": 40}])
async def test_after_downtime_the_sequencer_catches_up_back_to_back_within_the_rules(network, config_change) -> None:
    await network.advance(8)
    # Nobody ran for a while, L1 neither: longer than the sequencer may drift.
    network.clock.time += 200
    await network.l1.produce_block(network.clock.time)
    network.send_l2(USERS[0], RECEIVER, value=5)
    while await network.sequencer.produce_block(network.clock.time) is not None:
        pass
    head = network.node.chain.head()
    assert head.timestamp + 2 > network.clock.time
    await network.advance(4)
    await network.post()
    validator = network.open_node("validator")
    assert (await validator.driver.derive_to_tip()).hash == network.node.chain.head().hash
    assert validator.chain.state(validator.chain.head().hash).balance(RECEIVER) == 5
    validator.close()


async def test_an_l1_reorg_takes_back_l2_blocks_whose_origin_it_dropped(network) -> None:
    await network.advance(20)
    await network.post()
    await network.node.driver.derive_to_tip()
    network.send_l2(USERS[0], RECEIVER, value=5)
    await network.advance(8)
    origin = network.node.engine.ref(network.node.chain.head()).l1_origin
    fork_l1(network.l1.chain, depth=2, extra=2)
    network.clock.time = network.l1.chain.head().timestamp
    assert network.l1.chain.header_by_number(origin.number).hash != origin.hash
    await network.node.driver.derive_to_tip()
    await network.node.driver.derive_to_tip()
    assert network.node.driver.status.resets >= 1
    assert network.node.driver.status.reorgs >= 1
    new_origin = network.node.engine.ref(network.node.chain.head()).l1_origin
    assert network.l1.chain.header_by_number(new_origin.number).hash == new_origin.hash
    await network.advance(12)
    await network.post()
    validator = network.open_node("validator")
    assert (await validator.driver.derive_to_tip()).hash == network.node.chain.head().hash
    # The user's transfer went back to the pool and into the new chain.
    assert validator.chain.state(validator.chain.head().hash).balance(RECEIVER) == 5
    validator.close()


async def test_a_posted_channel_that_l1_dropped_is_posted_again(network) -> None:
    await network.advance(12)
    await network.post()
    await network.node.driver.derive_to_tip()
    posted = network.node.chain.head()
    assert network.node.chain.head("safe").hash == posted.hash
    # Drop the L1 blocks that included the channel, but none that is an origin.
    inclusion = network.l1.chain.head().number - network.node.engine.ref(posted).l1_origin.number
    fork_l1(network.l1.chain, depth=inclusion, extra=1)
    fresh = network.open_node("fresh")
    assert (await fresh.driver.derive_to_tip()).number < posted.number
    await network.advance(8)
    await network.node.driver.derive_to_tip()
    batcher = network.make_batcher()
    network.node.chain.set_heads(safe=network.node.chain.header_by_number(0).hash)
    await network.post(batcher=batcher)
    assert (await fresh.driver.derive_to_tip()).hash == network.node.chain.head().hash
    fresh.close()


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_span_that_l1_made_invalid_is_posted_again_from_its_start(network, restarted) -> None:
    await network.advance(40)
    await network.post()
    await network.node.driver.derive_to_tip()
    posted = network.node.chain.head()
    assert network.node.chain.head("safe").hash == posted.hash
    # L1 drops the origin of the span's last block: no block of the span can be derived any more.
    depth = network.l1.chain.head().number - network.node.engine.ref(posted).l1_origin.number + 1
    fork_l1(network.l1.chain, depth=depth, extra=2)
    network.clock.time = network.l1.chain.head().timestamp
    if restarted:
        network.node.close()
        network.node = network.open_node("sequencer")
        network.sequencer = Sequencer(network.node.engine, network.node.pool, network.l1_view, clock=network.clock)
    for _ in range(2):
        await network.node.driver.derive_to_tip()
    assert network.node.chain.head().number < posted.number
    assert network.node.chain.head("safe").number < network.node.chain.head().number
    await network.advance(12)
    await network.post(batcher=network.make_batcher())
    validator = network.open_node("validator")
    assert (await validator.driver.derive_to_tip()).hash == network.node.chain.head().hash
    validator.close()


async def test_finalized_l2_without_its_l1_is_a_matter_for_a_person(network) -> None:
    await network.advance(12)
    await network.post()
    await network.advance(24)
    await network.node.driver.derive_to_tip()
    finalized = network.node.chain.head("finalized")
    assert finalized.number > 0
    l1 = network.l1.chain
    parent = l1.header_by_number(0)
    for _ in range(l1.head().number + 2):
        attributes = PayloadAttributes(parent.timestamp + 4, b"\xee" * 32, b"\xee" * 20, b"\xee" * 32)
        parent = l1.build(parent.hash, attributes).header
    l1.set_heads(unsafe=parent.hash, safe=l1.genesis_hash, finalized=l1.genesis_hash)
    with pytest.raises(CriticalDerivationError, match="origin of the finalized L2 block"):
        await network.node.driver.derive_to_tip()


class TestUnsafeBlocksFromPeers:
    async def test_they_extend_the_head_wait_for_parents_and_gaps_are_asked_for(self, network) -> None:
        await network.advance(20)
        chain = network.node.chain
        payloads = {
            number: payload_from_block(chain.block_by_number(number)) for number in range(1, chain.head().number + 1)
        }
        validator = network.open_node("validator")
        await validator.driver.insert_unsafe(payloads[1])
        assert validator.chain.head().number == 1
        asked = []

        async def fetch(first: int, last: int) -> None:
            asked.append((first, last))
            for number in range(first, last + 1):
                await validator.driver.insert_unsafe(payloads[number])

        await validator.driver.insert_unsafe(payloads[5])
        assert validator.chain.head().number == 1
        assert validator.driver.status.queued_unsafe_l2 == network.node.engine.ref_by_number(5)
        validator.driver.request_range = fetch
        await validator.driver.insert_unsafe(payloads[6])
        assert asked == [(2, 4)]
        assert validator.chain.head().number == 6
        assert validator.chain.head("safe").number == 0
        # What gossip brought early, derivation later recognises.
        await network.post()
        await validator.driver.derive_to_tip()
        assert validator.driver.status.reorgs == 0
        assert validator.chain.head("safe").hash == chain.head().hash
        validator.close()

    async def test_a_forged_block_is_refused_and_changes_nothing(self, network) -> None:
        await network.advance(8)
        payload = payload_from_block(network.node.chain.block_by_number(1))
        validator = network.open_node("validator")
        for forged in (
            replace(payload, state_root=b"\x01" * 32),
            replace(payload, transactions=(payload.transactions[0], payload.transactions[0])),
            replace(payload, transactions=(*payload.transactions, b"\x02garbage")),
        ):
            with pytest.raises(InvalidBlock):
                await validator.driver.insert_unsafe(forged)
        for headless in ((), payload.transactions[1:], (b"\x02no deposit",)):
            with pytest.raises(NotARollupBlock):
                await validator.driver.insert_unsafe(replace(payload, transactions=headless))
        assert validator.chain.head().number == 0
        await validator.driver.insert_unsafe(payload)
        assert validator.chain.head().number == 1
        validator.close()

    async def test_the_waiting_room_is_bounded_and_keeps_the_lowest(self, network) -> None:
        await network.advance(4)
        payload = payload_from_block(network.node.chain.block_by_number(1))
        queue = UnsafeQueue(max_payloads=3)
        for number in (9, 3, 7, 5):
            queue.add(replace(payload, block_number=number, parent_hash=bytes([number]) * 32))
        assert len(queue) == 3
        lowest = queue.lowest()
        assert lowest is not None
        assert lowest.block_number == 3
        assert queue.take_child(b"\x09" * 32) is None
        queue.drop_up_to(5)
        assert len(queue) == 1
        small = UnsafeQueue(max_bytes=100)
        small.add(payload)
        assert len(small) == 0


@pytest.mark.parametrize("config_change", [{"seq_window_size": 6}])
async def test_without_a_batcher_the_chain_goes_on_by_itself_and_deposits_still_get_in(network, config_change) -> None:
    network.deposit_open(USERS[0], RECEIVER, 11)
    await network.advance(60, sequence=False)
    validator = network.open_node("validator")
    derived = await validator.driver.derive_to_tip()
    assert derived.number > 10
    assert validator.chain.state(derived.hash).balance(RECEIVER) == 11
    other = network.open_node("other")
    assert (await other.driver.derive_to_tip()).hash == derived.hash
    for node in (validator, other):
        node.close()


@pytest.mark.parametrize("config_change", [{"seq_window_size": 6}])
async def test_a_sequencer_whose_batches_came_too_late_follows_the_forced_chain(network, config_change) -> None:
    network.send_l2(USERS[1], RECEIVER, value=9)
    await network.advance(60)
    assert network.node.chain.state(network.node.chain.head().hash).balance(RECEIVER) == 9
    await network.node.driver.derive_to_tip()
    assert network.node.driver.status.reorgs >= 1
    assert network.node.chain.state(network.node.chain.head("safe").hash).balance(RECEIVER) == 0
    await network.post()
    await network.advance(4)
    await network.post()
    validator = network.open_node("validator")
    await validator.driver.derive_to_tip()
    await network.node.driver.derive_to_tip()
    assert validator.chain.head("safe").hash == network.node.chain.head("safe").hash
    validator.close()
