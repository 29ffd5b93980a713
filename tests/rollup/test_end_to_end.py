"""Blocks go from the pool over DA and L1 to other nodes that trust nobody, and come out the same."""

from openledger.evm_ext.calls import CallRequest
from openledger.evm_ext.transactions import DEPOSIT
from openledger.genesis.dev_accounts import OWNER, USERS, DevAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import L1_OPEN_TOKEN, L1_PORTAL, L1_SYSTEM_CONFIG
from openledger.rollup import Sequencer

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
