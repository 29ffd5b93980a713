"""StakeManager: who may settle, when a stake comes back, and the stakers' part of fees."""

import pytest

from openledger.genesis import predeploys
from openledger.genesis.artifact import artifact
from openledger.genesis.parameters import OPEN_WEI
from openledger.genesis.presets import DEVNET

STAKES = "StakeManager"
MINIMUM = DEVNET.economy.min_provider_stake_wei


def test_a_provider_is_staked_from_the_minimum_on(world):
    provider = world.party()
    world.send(provider, STAKES, "stake", value=MINIMUM - 1)
    assert not world.view(STAKES, "isStaked", provider.address)
    world.send(provider, STAKES, "stake", value=1)
    assert world.view(STAKES, "isStaked", provider.address)
    with pytest.raises(Exception, match="NothingStaked"):
        world.send(provider, STAKES, "stake")
    world.send(provider, STAKES, "requestUnstake", 1)
    assert not world.view(STAKES, "isStaked", provider.address)


def test_a_stake_comes_back_after_unbonding_only(world):
    provider = world.party()
    before = world.balance(provider.address)
    world.send(provider, STAKES, "stake", value=MINIMUM)
    with pytest.raises(Exception, match="StakeTooSmall"):
        world.send(provider, STAKES, "requestUnstake", MINIMUM + 1)
    with pytest.raises(Exception, match="NothingToWithdraw"):
        world.send(provider, STAKES, "withdraw")
    world.send(provider, STAKES, "requestUnstake", MINIMUM)
    wait = DEVNET.economy.unbonding_epochs * DEVNET.economy.epoch_blocks
    world.mine(wait - 1)
    with pytest.raises(Exception, match="StillUnbonding"):
        world.send(provider, STAKES, "withdraw")
    world.mine()
    world.send(provider, STAKES, "withdraw")
    assert world.balance(provider.address) == before
    assert world.balance(predeploys.STAKE_MANAGER) == 0


def test_nobody_slashes_until_there_is_a_court(world):
    provider, anyone = world.party(), world.party()
    world.send(provider, STAKES, "stake", value=MINIMUM)
    for caller in (anyone, provider, DEVNET.owner):
        with pytest.raises(Exception, match="NotCourt"):
            world.send(caller, STAKES, "slash", provider.address, 1, anyone.address, bytes(32))
    assert world.view(STAKES, "court") == bytes(20)


def test_a_court_takes_unbonding_stake_too_and_at_most_what_is_there(world):
    court, provider, harmed = world.party(), world.party(0), world.party(0)
    world.state.set_balance(provider.address, MINIMUM)
    layout = next(v for v in artifact(STAKES).storage_layout if v.label == "court")
    word = world.state.get_storage(predeploys.STAKE_MANAGER, layout.slot)
    word |= int.from_bytes(court.address, "big") << 8 * layout.offset
    world.state.set_storage(predeploys.STAKE_MANAGER, layout.slot, word)
    world.send(provider, STAKES, "stake", value=MINIMUM)
    world.send(provider, STAKES, "requestUnstake", MINIMUM // 2)
    taken = world.send(court, STAKES, "slash", provider.address, MINIMUM * 3 // 4, harmed.address, b"\1" * 32)
    assert taken.value == MINIMUM * 3 // 4 == world.balance(harmed.address)
    assert world.view(STAKES, "stakeOf", provider.address)[:2] == (MINIMUM // 4, 0)
    assert world.view(STAKES, "totalActive") == MINIMUM // 4
    assert (
        world.send(court, STAKES, "slash", provider.address, MINIMUM, harmed.address, bytes(32)).value == MINIMUM // 4
    )


def reward(world, amount):
    world.state.set_balance(predeploys.REWARDS_DISTRIBUTOR, amount)
    result = world.raw(predeploys.REWARDS_DISTRIBUTOR, predeploys.STAKE_MANAGER, value=amount)
    assert result.is_success


def test_stakers_share_fees_by_stake_and_time(world):
    one, two = world.party(), world.party()
    reward(world, 10 * OPEN_WEI)  # nobody staked: the first stakers' next reward carries it
    world.send(one, STAKES, "stake", value=1_000 * OPEN_WEI)
    reward(world, 20 * OPEN_WEI)
    world.send(two, STAKES, "stake", value=3_000 * OPEN_WEI)
    reward(world, 40 * OPEN_WEI)
    assert world.view(STAKES, "stakeOf", one.address)[3] == 40 * OPEN_WEI
    assert world.view(STAKES, "stakeOf", two.address)[3] == 30 * OPEN_WEI
    before = world.balance(one.address)
    world.send(two, STAKES, "claimReward", one.address)
    assert world.balance(one.address) == before + 40 * OPEN_WEI
    with pytest.raises(Exception, match="NothingToWithdraw"):
        world.send(two, STAKES, "claimReward", one.address)
    world.send(two, STAKES, "requestUnstake", 3_000 * OPEN_WEI)
    reward(world, 7)
    assert world.view(STAKES, "stakeOf", two.address)[3] == 30 * OPEN_WEI
    assert world.balance(predeploys.STAKE_MANAGER) >= 4_000 * OPEN_WEI + 30 * OPEN_WEI + 7 - 1


def test_only_the_distributor_pays_rewards(world):
    anyone = world.party()
    assert world.raw(anyone.address, predeploys.STAKE_MANAGER, value=1).is_error
