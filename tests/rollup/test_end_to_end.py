"""Blocks go from the pool over DA and L1 to other nodes that trust nobody, and come out the same."""

import pytest
import trio

from openledger.evm_ext.calls import CallRequest
from openledger.evm_ext.transactions import DEPOSIT
from openledger.genesis.dev_accounts import OWNER, USERS, DevAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import L1_OPEN_TOKEN, L1_PORTAL, L1_SYSTEM_CONFIG
from openledger.rollup import Sequencer
from openledger.rollup.l1.source import L1Unavailable

RECEIVER = b"\x77" * 20


def hashes(chain, upto):
    return [chain.header_by_number(number).hash for number in range(upto + 1)]


async def test_a_second_node_derives_identical_blocks_with_transactions_and_deposits(network, user: DevAccount) -> None:
    network.deposit_open(user, RECEIVER, 5 * 10**18)
    await network.advance(8)
    sent = network.send_l2(USERS[1], RECEIVER, value=3)
    await network.advance(8)
    await network.post()
    head = network.node.chain.head()
    assert head.number >= 8
    assert network.node.chain.transaction_location(sent) is not None

    validator = network.open_node("validator")
    derived = await validator.driver.derive_to_tip()
    assert derived.number == head.number
    assert hashes(validator.chain, head.number) == hashes(network.node.chain, head.number)
    assert validator.chain.head("safe").hash == validator.chain.head("unsafe").hash == head.hash
    # The deposit minted on L2 what was locked on L1, and the transfer arrived.
    assert validator.chain.state(head.hash).balance(RECEIVER) == 5 * 10**18 + 3
    for number in range(1, head.number + 1):
        block = validator.chain.block_by_number(number)
        assert block.transactions[0].type == DEPOSIT
        assert validator.chain.receipts(block.hash)[0].status == 1

    # On the sequencer's own node the same blocks are recognised, not built again.
    await network.node.driver.derive_to_tip()
    assert network.node.chain.head("safe").hash == head.hash
    assert network.node.driver.status.reorgs == 0
    await network.advance(24, sequence=False)
    await network.node.driver.derive_to_tip()
    assert network.node.chain.head("finalized").hash == head.hash
    assert network.node.driver.status.to_json()["finalized_l2"]["hash"] == "0x" + head.hash.hex()
    validator.close()


async def test_open_locked_on_l1_is_open_minted_on_l2(network, user: DevAccount) -> None:
    def locked() -> int:
        chain = network.l1.chain
        token_balance = keccak256(b"balanceOf(address)")[:4] + L1_PORTAL.rjust(32, b"\0")
        result = chain.call(CallRequest(to=L1_OPEN_TOKEN, data=token_balance), chain.head().hash)
        return int.from_bytes(result.output, "big")

    before = locked()
    l2 = network.node.chain
    assert l2.state(l2.head().hash).balance(RECEIVER) == 0
    network.deposit_open(user, RECEIVER, 7 * 10**18)
    await network.advance(12)
    assert locked() - before == 7 * 10**18
    assert l2.state(l2.head().hash).balance(RECEIVER) == 7 * 10**18


async def test_system_config_changes_reach_l2_blocks_and_are_derived(network) -> None:
    set_gas_limit = keccak256(b"setGasLimit(uint64)")[:4] + (61_000_000).to_bytes(32, "big")
    network.send_l1(OWNER, L1_SYSTEM_CONFIG, data=set_gas_limit)
    set_params = keccak256(b"setEIP1559Params(uint32,uint32)")[:4] + (50).to_bytes(32, "big") + (4).to_bytes(32, "big")
    network.send_l1(OWNER, L1_SYSTEM_CONFIG, data=set_params)
    await network.advance(12)
    head = network.node.chain.head()
    assert head.gas_limit == 61_000_000
    assert head.extra_data.hex() == "000000003200000004"
    await network.post()
    validator = network.open_node("validator")
    await validator.driver.derive_to_tip()
    assert validator.chain.head("safe").hash == head.hash
    validator.close()


async def test_a_block_is_closed_when_its_time_is_over_and_the_rest_waits(network) -> None:
    slow = Sequencer(network.node.engine, network.node.pool, network.l1_view, clock=network.clock, build_time_s=0)
    network.send_l2(USERS[0], RECEIVER, value=1)
    network.clock.time += 2
    closed = await slow.produce_block(network.clock.time)
    assert closed is not None
    assert len(closed.transactions) == 1
    network.clock.time += 2
    payload = await network.sequencer.produce_block(network.clock.time)
    assert payload is not None
    assert len(payload.transactions) == 2
    assert await network.sequencer.produce_block(network.clock.time) is None


async def test_a_sequencer_that_has_to_catch_up_says_so(network) -> None:
    assert network.sequencer.status() is None
    await network.advance(60, sequence=False)
    assert "pause" in (network.sequencer.status() or "")
    await network.tick()
    assert network.sequencer.status() is None


class Hanging:
    """L1 as long as nothing after `known` is asked for; then it hangs, or fails."""

    def __init__(self, view, known: int, *, hang: bool) -> None:
        self.view, self.known, self.hang = view, known, hang

    def __getattr__(self, name: str):
        return getattr(self.view, name)

    async def header_by_number(self, number: int):
        if number <= self.known:
            return await self.view.header_by_number(number)
        if self.hang:
            await trio.sleep_forever()
        raise L1Unavailable("unplugged")

    async def receipts(self, header):
        if header.number >= self.known:
            raise L1Unavailable("no receipts")
        return await self.view.receipts(header)


@pytest.mark.parametrize("hang", [True, False])
@pytest.mark.parametrize("known", [0, 1])
async def test_blocks_go_on_while_l1_hangs_fails_or_tells_only_half(network, hang, known, monkeypatch) -> None:
    monkeypatch.setattr("openledger.rollup.sequencer.L1_PATIENCE_S", 0.01)
    await network.advance(8, sequence=False)
    view = Hanging(network.l1_view, known, hang=hang)
    sequencer = Sequencer(network.node.engine, network.node.pool, view, clock=network.clock)
    for number in range(1, 5):
        payload = await sequencer.produce_block(network.clock.time)
        assert payload is not None
        assert payload.block_number == number
    assert network.node.engine.ref(network.node.chain.head()).l1_origin.number == 0
    # L1 is back: the origin follows again, and the chain is a valid one.
    await network.advance(8)
    assert network.node.engine.ref(network.node.chain.head()).l1_origin.number > 1
    await network.post()
    validator = network.open_node("validator")
    assert (await validator.driver.derive_to_tip()).hash == network.node.chain.head().hash
    validator.close()


@pytest.mark.parametrize("config_change", [{"max_sequencer_drift": 6}])
async def test_past_the_drift_a_sequencer_without_l1_waits(network, config_change) -> None:
    await network.advance(2)
    view = Hanging(network.l1_view, 0, hang=False)
    network.clock.time += 100
    sequencer = Sequencer(network.node.engine, network.node.pool, view, clock=network.clock)
    await sequencer.produce_block(network.clock.time)
    await sequencer.produce_block(network.clock.time)
    with pytest.raises(L1Unavailable):
        await sequencer.produce_block(network.clock.time)
    assert network.node.chain.head().timestamp == network.config.l2_genesis_time + 6


async def test_the_origin_keeps_its_distance_from_l1s_head_when_told_to(network) -> None:
    careful = Sequencer(
        network.node.engine, network.node.pool, network.l1_view, clock=network.clock, l1_confirmations=3
    )
    await network.advance(40, sequence=False)
    while await careful.produce_block(network.clock.time) is not None:
        pass
    origin = network.node.engine.ref(network.node.chain.head()).l1_origin
    assert origin.number == network.l1.chain.head().number - 3
