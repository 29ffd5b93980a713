"""The economy on our own client: signed transactions in real blocks, and a second node that imports them."""

from openledger.evm_ext.proofs.settlement import Record
from openledger.genesis import predeploys
from openledger.genesis.parameters import MICRO_OPEN_WEI
from openledger.genesis.presets import DEVNET

EPOCH = DEVNET.economy.epoch_blocks


def test_from_documents_to_a_claimed_reward(chain_world, make_story, open_chain, tools):
    world = chain_world
    story = make_story(world)
    a, b, c = story.ids
    first = [Record(10_001, ((a, 3_333), (b, 3_333), (c, 3_334))), Record(99_999), Record(0, ((a, 10_000),))]
    second = [Record(123, ((b, 10_000),))]
    world.settle(story.provider, [story.group(0, first), story.group(1, second)])
    expected = story.expected(first + second)
    assert story.credited() == expected
    fees = sum(record.fee for record in first + second)
    assert world.balance(predeploys.REWARDS_DISTRIBUTOR) == fees * MICRO_OPEN_WEI

    world.mine(3 * EPOCH)
    alice = story.contributors[0].address
    before = world.balance(alice)
    claimed = world.send(story.payer, "RewardsDistributor", "claim", alice)
    assert claimed.value == expected[alice] * MICRO_OPEN_WEI
    assert world.balance(alice) == before + claimed.value
    assert world.balance(predeploys.REWARDS_DISTRIBUTOR) == fees * MICRO_OPEN_WEI - claimed.value

    other = open_chain(tools.op_genesis(), "second")
    for block in world.blocks:
        other.import_block(block)
    other.set_heads(unsafe=world.blocks[-1].hash)
    assert other.head().state_root == world.chain.head().state_root


def test_empty_account_rules_do_not_erase_the_distributors_slots(chain_world, make_story):
    """EIP-161 deletes touched accounts without nonce, balance and code: CREDIT's own address is such a one."""
    world = chain_world
    story = make_story(world)
    world.settle(story.provider, [story.group(0, [Record(10_000)])])
    state = world.chain.state(world.chain.head().hash)
    assert state.nonce(predeploys.CREDIT) == state.balance(predeploys.CREDIT) == 0
    world.mine(2)
    assert sum(story.credited().values()) == 10_000
