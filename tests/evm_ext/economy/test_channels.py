"""InferenceLedger's channels: whose money it is, and when it can be taken back."""

import pytest

from openledger.evm_ext.proofs.settlement import Record
from openledger.genesis import predeploys
from openledger.genesis.parameters import MICRO_OPEN_WEI
from openledger.genesis.presets import DEVNET

LEDGER = "InferenceLedger"


@pytest.fixture
def parties(world):
    payer, provider, authorizer = (world.party() for _ in range(3))
    return payer, provider, authorizer


def channel(world, identity):
    names = ("payer", "deposit", "withdrawDelay", "receiver", "totalClaimed", "authorizer", "withdrawableAt")
    return dict(zip(names, world.view(LEDGER, "getChannel", identity), strict=True))


def test_a_channels_id_is_its_terms_and_its_deposit_whole_micro_open(world, parties):
    payer, provider, authorizer = parties
    identity = world.channel(payer, provider, authorizer, 1_000)
    assert channel(world, identity)["deposit"] == 1_000
    assert world.balance(predeploys.INFERENCE_LEDGER) == 1_000 * MICRO_OPEN_WEI
    with pytest.raises(Exception, match="ChannelExists"):
        world.channel(payer, provider, authorizer, 1)
    with pytest.raises(Exception, match="NotWholeMicroOpen"):
        world.send(payer, LEDGER, "topUp", identity, value=MICRO_OPEN_WEI + 1)
    with pytest.raises(Exception, match="UnknownChannel"):
        world.send(payer, LEDGER, "topUp", bytes(32), value=MICRO_OPEN_WEI)
    world.send(authorizer, LEDGER, "topUp", identity, value=5 * MICRO_OPEN_WEI)
    assert channel(world, identity)["deposit"] == 1_005


def test_terms_are_checked(world, parties):
    payer, provider, authorizer = parties
    least = world.view(LEDGER, "minWithdrawDelay")
    with pytest.raises(Exception, match="DelayTooShort"):
        world.send(payer, LEDGER, "open", provider.address, authorizer.address, least - 1, bytes(32))
    with pytest.raises(Exception, match="ZeroAddress"):
        world.send(payer, LEDGER, "open", bytes(20), authorizer.address, least, bytes(32))
    own = world.send(payer, LEDGER, "open", provider.address, bytes(20), least, bytes(32)).value
    assert channel(world, own)["authorizer"] == payer.address


def test_the_delay_outlasts_an_epoch_and_the_dispute_window(world):
    economy = DEVNET.economy
    least = world.view(LEDGER, "minWithdrawDelay")
    assert least > economy.epoch_blocks * (1 + economy.dispute_window_epochs)


def test_the_payer_takes_the_rest_back_after_the_delay_and_may_come_again(world, parties):
    payer, provider, authorizer = parties
    identity = world.channel(payer, provider, authorizer, 1_000)
    with pytest.raises(Exception, match="WithdrawalNotRequested"):
        world.send(payer, LEDGER, "withdraw", identity)
    with pytest.raises(Exception, match="NotPayer"):
        world.send(provider, LEDGER, "requestWithdraw", identity)
    world.send(payer, LEDGER, "requestWithdraw", identity)
    world.mine(world.view(LEDGER, "minWithdrawDelay") - 1)
    with pytest.raises(Exception, match="WithdrawalTooEarly"):
        world.send(payer, LEDGER, "withdraw", identity)
    world.mine()
    with pytest.raises(Exception, match="NotPayer"):
        world.send(provider, LEDGER, "withdraw", identity)
    before = world.balance(payer.address)
    world.send(payer, LEDGER, "withdraw", identity)
    assert world.balance(payer.address) == before + 1_000 * MICRO_OPEN_WEI
    assert channel(world, identity)["deposit"] == 0
    with pytest.raises(Exception, match="WithdrawalNotRequested"):
        world.send(payer, LEDGER, "withdraw", identity)
    world.send(payer, LEDGER, "topUp", identity, value=7 * MICRO_OPEN_WEI)
    assert channel(world, identity)["deposit"] == 7


def test_what_was_claimed_stays_claimed_when_a_channel_is_used_again(world, parties):
    payer, provider, authorizer = parties
    owner, alice = world.party(), world.party()
    net, ids = world.datanet(owner, [alice])
    release = world.release(owner, owner, [net])
    world.stake(provider)
    identity = world.channel(payer, provider, authorizer, 1_000)
    old = world.group(identity, release, authorizer, [Record(600, ((ids[0], 10_000),))])
    world.settle(provider, [old])
    world.send(payer, LEDGER, "requestWithdraw", identity)
    world.mine(world.view(LEDGER, "minWithdrawDelay"))
    world.send(payer, LEDGER, "withdraw", identity)
    assert channel(world, identity)["deposit"] == channel(world, identity)["totalClaimed"] == 600
    world.send(payer, LEDGER, "topUp", identity, value=1_000 * MICRO_OPEN_WEI)
    with pytest.raises(Exception, match="VoucherTooSmall"):
        world.settle(provider, [old])
