"""InferenceLedger.settle with CREDIT behind it: who is paid how much, when, and what is refused."""

import random
from dataclasses import replace

import pytest

from openledger.evm_ext.precompiles import storage
from openledger.evm_ext.proofs.settlement import Record, Settlement, decode_settlement, encode_settlement
from openledger.genesis import predeploys
from openledger.genesis.artifact import artifact
from openledger.genesis.hashing import keccak256
from openledger.genesis.parameters import MICRO_OPEN_WEI
from openledger.genesis.presets import DEVNET

LEDGER, REWARDS = "InferenceLedger", "RewardsDistributor"
EPOCH = DEVNET.economy.epoch_blocks
SPLIT = DEVNET.economy.split.parts
PLATFORM_BPS = DEVNET.economy.platform_bps


def test_every_payee_gets_what_an_independent_split_says(world, story):
    a, b, c = story.ids
    first = [
        Record(10_001, ((a, 3_333), (b, 3_333), (c, 3_334))),
        Record(7, ((a, 5_000), (c, 5_000))),
        Record(0, ((a, 10_000),)),
        Record(99_999),
    ]
    second = [Record(123, ((b, 10_000),)), Record(1)]
    settled = story.world.settle(story.provider, [story.group(0, first), story.group(1, second)])
    assert story.credited() == story.expected(first + second)
    fees = sum(record.fee for record in first + second)
    assert sum(story.credited().values()) == fees
    assert world.balance(predeploys.REWARDS_DISTRIBUTOR) == fees * MICRO_OPEN_WEI
    assert world.balance(predeploys.INFERENCE_LEDGER) == (2_000_000 - fees) * MICRO_OPEN_WEI
    batch = world.view(LEDGER, "getBatch", settled.value)
    assert batch[:3] == (story.provider.address, world.block // EPOCH, world.block)
    event = next(event for event in settled.events if event.name == "Settled")
    assert event.arguments["fees"] == fees
    assert event.arguments["records"] == 6
    assert event.arguments["payloadHash"] == batch[4]


def test_credits_ripen_after_three_epochs_and_anyone_may_claim_for_anyone(world, story):
    alice = story.contributors[0]
    world.mine(EPOCH - world.block % EPOCH)  # first block of an epoch
    record = Record(10_000, ((story.ids[0], 10_000),))
    story.world.settle(story.provider, [story.group(0, [record])])
    earned = story.expected([record])[alice.address]
    for passed in range(3):
        epoch, claimable, pending = world.view(REWARDS, "account", alice.address)
        assert epoch == world.block // EPOCH
        assert claimable == 0
        assert list(pending) == [earned if i == 2 - passed else 0 for i in range(3)]
        with pytest.raises(Exception, match="NothingToClaim"):
            world.send(story.payer, REWARDS, "claim", alice.address)
        world.mine(EPOCH)
    before = world.balance(alice.address)
    claimed = world.send(story.payer, REWARDS, "claim", alice.address)
    assert claimed.value == earned * MICRO_OPEN_WEI
    assert world.balance(alice.address) == before + claimed.value
    with pytest.raises(Exception, match="NothingToClaim"):
        world.send(alice, REWARDS, "claim", alice.address)


def test_credits_of_several_epochs_ripen_each_in_its_turn(world, story):
    alice, a = story.contributors[0], story.ids[0]
    world.mine(EPOCH - world.block % EPOCH)
    amounts = []
    for fee in (1_000, 2_000, 3_000, 4_000, 5_000):
        record = Record(fee, ((a, 10_000),))
        story.world.settle(story.provider, [story.group(0, [record])])
        amounts.append(story.expected([record])[alice.address])
        _, claimable, pending = world.view(REWARDS, "account", alice.address)
        assert claimable == sum(amounts[:-3])
        assert list(pending) == [0, 0, 0, *amounts][-3:]
        world.mine(EPOCH)


def test_a_retired_contributions_part_goes_to_its_datanets_treasury(world, story):
    a, _, c = story.ids
    world.send(story.owner, "DatanetRegistry", "retire", a, "withdrawn")
    story.retired.add(a)
    records = [Record(5_000, ((a, 2_000), (c, 8_000)))]
    story.world.settle(story.provider, [story.group(0, records)])
    assert story.credited() == story.expected(records)
    assert world.credits(story.treasuries[0].address) > 0
    assert world.credits(story.contributors[0].address) == 0


def test_the_stakers_part_reaches_the_stakers(world, story):
    story.world.settle(story.provider, [story.group(0, [Record(10_000)])])
    world.mine(3 * EPOCH)
    claimed = world.send(story.payer, REWARDS, "claim", predeploys.STAKE_MANAGER).value
    assert claimed == 1_900 * MICRO_OPEN_WEI
    assert world.view("StakeManager", "stakeOf", story.provider.address)[3] == claimed


def test_the_batch_binds_the_payload_and_the_receipts(world, story):
    group = story.group(0, [Record(5)])
    payload = encode_settlement(Settlement(keccak256(b"root"), (group,)))
    batch = world.send(story.provider, LEDGER, "settle", payload).value
    assert world.view(LEDGER, "getBatch", batch)[3:] == (keccak256(b"root"), keccak256(payload))


def refused(world, name, provider, groups):
    before = world.state.state_root
    with pytest.raises(Exception, match=f"^{name}") as caught:
        world.settle(provider, groups)
    assert world.state.state_root == before
    return caught.value.arguments


def test_only_a_staked_provider_and_only_the_channels_receiver_settles(world, story):
    group = story.group(0, [Record(5)])
    thief = world.party()
    refused(world, "NotStaked", thief, [group])
    world.stake(thief)
    refused(world, "NotReceiver", thief, [group])
    refused(world, "NotReceiver", story.provider, [replace(group, channel_id=bytes(32))])


def test_vouchers_bound_what_can_be_claimed(world, story):
    assert refused(world, "VoucherTooSmall", story.provider, [story.group(0, [Record(11)], maximum=10)]) == (
        story.channels[0],
        11,
        10,
    )
    refused(world, "DepositTooSmall", story.provider, [story.group(0, [Record(1_000_001)])])
    group = story.group(0, [Record(5)])
    world.settle(story.provider, [group])
    refused(world, "VoucherTooSmall", story.provider, [group])  # a replay
    twice = story.group(1, [Record(5)])
    refused(world, "VoucherTooSmall", story.provider, [twice, twice])


def test_vouchers_must_be_the_authorizers_for_this_channel(world, story):
    group = story.group(0, [Record(5)])
    foreign = world.group(story.channels[0], story.release, story.payer, [Record(5)])
    refused(world, "InvalidVoucher", story.provider, [foreign])
    refused(world, "InvalidVoucher", story.provider, [replace(group, channel_id=story.channels[1])])
    refused(world, "InvalidVoucher", story.provider, [replace(group, max_claimable=group.max_claimable + 1)])
    refused(world, "InvalidVoucher", story.provider, [replace(group, signature=bytes(65))])


def test_what_nobody_can_be_paid_for_is_refused(world, story):
    a = story.ids[0]
    pending = world.contribute(story.nets[0], story.contributors[0], b"not approved")
    refused(world, "CreditFailed", story.provider, [story.group(0, [Record(5, ((pending, 10_000),))])])
    refused(world, "CreditFailed", story.provider, [story.group(0, [Record(5, ((a, 1), (999, 9_999)))])])
    group = story.group(0, [Record(5)])
    refused(world, "CreditFailed", story.provider, [replace(group, release=99)])
    world.send(story.owner, "DatanetRegistry", "reject", pending, "no")
    refused(world, "CreditFailed", story.provider, [story.group(0, [Record(5, ((pending, 10_000),))])])


def test_a_deprecated_release_still_settles_what_was_answered_before(world, story):
    world.send(story.owner, "ModelRegistry", "deprecate", story.release)
    story.world.settle(story.provider, [story.group(0, [Record(5)])])
    assert story.credited() == story.expected([Record(5)])


@pytest.mark.parametrize(
    ("mutate", "error"),
    [
        (lambda p: b"", "MalformedSettlement"),
        (lambda p: p[:20], "MalformedSettlement"),
        (lambda p: b"\x02" + p[1:], "MalformedSettlement"),
        (lambda p: p[:-1], "MalformedSettlement"),
        (lambda p: p + b"\0", "MalformedSettlement"),
        (lambda p: p[:33] + b"\0\0", "MalformedSettlement"),
        (lambda p: p[:33] + b"\0\2" + p[35:], "MalformedSettlement"),
        (lambda p: p[:144] + b"\0\2" + p[146:], "MalformedSettlement"),
        (lambda p: p[:144] + b"\xff\xff" + p[146:], "MalformedSettlement"),
        (lambda p: p[:-1] + b"\1", "CreditFailed"),  # weights no longer sum to 10,000
    ],
)
def test_malformed_settlements_change_nothing(world, story, mutate, error):
    group = story.group(0, [Record(5, ((story.ids[0], 10_000),))])
    payload = encode_settlement(Settlement(bytes(32), (group,)))
    before = world.state.state_root
    with pytest.raises(Exception, match=f"^{error}"):
        world.send(story.provider, LEDGER, "settle", mutate(payload))
    assert world.state.state_root == before
    world.send(story.provider, LEDGER, "settle", payload)


def test_a_release_that_pays_no_contributors_needs_no_datanet(world, make_story):
    story = make_story(world)
    story.split = (10_000, 0, 0, 0, 0)
    story.release = world.release(story.owner, story.trainer, [], story.split, "base")
    records = [Record(1_003), Record(9, ((story.ids[0], 10_000),))]
    story.world.settle(story.provider, [story.group(0, records)])
    assert story.credited() == story.expected(records)


def test_the_layout_of_every_word_that_credit_reads_is_solidities(world, story):
    """CREDIT's readers against the contracts' own getters, on state that Solidity wrote."""
    slots = {
        ("RewardsDistributor", "_accounts"): storage.ACCOUNTS_SLOT,
        ("RewardsDistributor", "platform"): storage.PLATFORM_SLOT,
        ("RewardsDistributor", "stakers"): storage.STAKERS_SLOT,
        ("ModelRegistry", "_releases"): storage.RELEASES_SLOT,
        ("DatanetRegistry", "_contributions"): storage.CONTRIBUTIONS_SLOT,
        ("DatanetRegistry", "_datanets"): storage.DATANETS_SLOT,
    }
    for (contract, label), slot in slots.items():
        assert artifact(contract).slot(label) == slot

    class Free:
        """A computation whose gas costs nothing."""

        state = world.state

        def consume_gas(self, amount, reason):
            assert amount > 0

    state = storage.MeteredState(Free())
    assert state.platform() == (DEVNET.owner, PLATFORM_BPS, predeploys.STAKE_MANAGER)
    for identity, contributor in zip(story.ids, story.contributors, strict=True):
        record = state.contribution(identity)
        shown = world.view("DatanetRegistry", "getContribution", identity)
        assert (record.contributor, record.datanet, record.status) == (shown[0], shown[1], shown[3])
        assert record.contributor == contributor.address
    assert [state.treasury(net) for net in story.nets] == [t.address for t in story.treasuries]
    release = state.release(story.release)
    assert release == storage.ReleaseRecord(story.owner.address, story.trainer.address, SPLIT, 2)
    assert state.release_datanets(story.release, 2) == [(story.nets[0], 3_000), (story.nets[1], 1_000)]
    assert state.release(99) is None


LEDGERS_REFUSALS = {
    "MalformedSettlement",
    "CreditFailed",
    "NotReceiver",
    "InvalidVoucher",
    "VoucherTooSmall",
    "DepositTooSmall",
}


def refusal(world, provider, payload):
    """The error's name, None when it settled."""
    try:
        world.send(provider, LEDGER, "settle", payload)
    except Exception as error:
        return error.name
    return None


@pytest.mark.parametrize("seed", range(2))
def test_no_mutated_settlement_pays_other_than_what_it_debits(world, story, seed):
    """What the ledger and CREDIT parse apart must be the same: a payload either fails or balances."""
    rng = random.Random(seed)
    a, b, _ = story.ids
    outcomes = set()
    for _ in range(50):
        groups = [
            story.group(0, [Record(5, ((a, 4_000), (b, 6_000))), Record(9)], maximum=900_000),
            story.group(1, [Record(7, ((b, 10_000),))], maximum=900_000),
        ]
        payload = bytearray(encode_settlement(Settlement(bytes(32), tuple(groups))))
        for _ in range(rng.randrange(1, 3)):
            # The fees' low bytes now and then, so that some of the changed settlements stay good.
            at = rng.choice((149, 150, 167, 168)) if rng.random() < 0.5 else rng.randrange(len(payload))
            payload[at] = rng.randrange(256)
        if rng.random() < 0.2:
            payload = payload[: rng.randrange(len(payload))]
        before = world.state.state_root
        debited, credited = world.view(LEDGER, "totalDebited"), sum(story.credited().values())
        outcome = refusal(world, story.provider, bytes(payload))
        outcomes.add(outcome)
        if outcome is not None:
            assert outcome in LEDGERS_REFUSALS
            assert world.state.state_root == before
            continue
        fees = decode_settlement(bytes(payload)).fees
        assert world.view(LEDGER, "totalDebited") - debited == fees
        assert sum(story.credited().values()) - credited == fees
    assert {None, "MalformedSettlement", "CreditFailed"} <= outcomes
