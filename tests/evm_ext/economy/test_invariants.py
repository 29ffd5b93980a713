"""No history of the economy creates, loses or strands a micro-OPEN."""

import random
from collections import defaultdict

import pytest

from openledger.evm_ext.precompiles.payee import PayeeAccount
from openledger.evm_ext.precompiles.storage import ACCOUNTS_SLOT, mapping_slot
from openledger.evm_ext.proofs.settlement import Record
from openledger.genesis import predeploys
from openledger.genesis.parameters import MICRO_OPEN_WEI
from openledger.genesis.presets import DEVNET

LEDGER, REWARDS = "InferenceLedger", "RewardsDistributor"
STEPS = 50


class History:
    """A model of the economy beside the contracts: who owns what in channels, what was debited and claimed."""

    def __init__(self, world, seed):
        self.world, self.rng = world, random.Random(seed)
        self.people = [world.party() for _ in range(6)]
        self.providers = self.people[:2]
        for provider in self.providers:
            world.stake(provider)
        owner = self.people[2]
        self.nets, self.ids = [], []
        for tokens in (900, 50):
            net, ids = world.datanet(owner, self.people[2:5], tokens)
            self.nets.append(net)
            self.ids += ids
        splits = (DEVNET.economy.split.parts, (0, 0, 0, 0, 10_000), (3_333, 1, 3_333, 0, 3_333))
        self.releases = [
            world.release(owner, self.people[5], self.nets, split, f"release {i}") for i, split in enumerate(splits)
        ]
        self.owner = owner
        self.channels: dict[bytes, list[int]] = {}
        self.channel_of: dict[bytes, tuple] = {}
        self.debited = self.claimed = 0
        self.credits: defaultdict[bytes, int] = defaultdict(int)

    def payees(self) -> list[bytes]:
        return [party.address for party in self.people] + [DEVNET.owner, predeploys.STAKE_MANAGER]

    def open(self):
        payer, provider = self.rng.choice(self.people), self.rng.choice(self.providers)
        deposit = self.rng.randrange(0, 10**6)
        identity = self.world.channel(payer, provider, payer, deposit, len(self.channels))
        self.channels[identity] = [deposit, 0]
        self.channel_of[identity] = (payer, provider)

    def top_up(self):
        identity = self.rng.choice(list(self.channels))
        amount = self.rng.randrange(10**5)
        self.world.send(self.rng.choice(self.people), LEDGER, "topUp", identity, value=amount * MICRO_OPEN_WEI)
        self.channels[identity][0] += amount

    def withdraw(self):
        identity = self.rng.choice(list(self.channels))
        payer, _ = self.channel_of[identity]
        self.world.send(payer, LEDGER, "requestWithdraw", identity)
        self.world.mine(self.world.view(LEDGER, "minWithdrawDelay"))
        deposit, claimed = self.channels[identity]
        if deposit > claimed:
            self.world.send(payer, LEDGER, "withdraw", identity)
            self.channels[identity][0] = claimed

    def settle(self):
        provider = self.rng.choice(self.providers)
        mine = [identity for identity, (_, receiver) in self.channel_of.items() if receiver == provider]
        if not mine:
            return
        groups, spent = [], {}
        for identity in self.rng.sample(mine, min(len(mine), self.rng.randrange(1, 4))):
            deposit, claimed = self.channels[identity]
            room = deposit - claimed
            records = []
            for _ in range(self.rng.randrange(1, 5)):
                fee = self.rng.randrange(room + 1)
                room -= fee
                records.append(Record(fee, self.vector()))
            payer, _ = self.channel_of[identity]
            groups.append(self.world.group(identity, self.rng.choice(self.releases), payer, records))
            spent[identity] = sum(record.fee for record in records)
        self.world.settle(provider, groups)
        for identity, fees in spent.items():
            self.channels[identity][1] += fees
            self.debited += fees

    def vector(self):
        k = self.rng.randrange(len(self.ids) + 1)
        ids = sorted(self.rng.sample(self.ids, k))
        cuts = sorted(self.rng.sample(range(1, 10_000), max(k - 1, 0)))
        return tuple(zip(ids, [b - a for a, b in zip([0, *cuts], [*cuts, 10_000])])) if k else ()

    def claim(self):
        payee = self.rng.choice(self.payees())
        _, claimable, _ = self.world.view(REWARDS, "account", payee)
        if claimable:
            self.claimed += self.world.send(self.rng.choice(self.people), REWARDS, "claim", payee).value
            assert self.world.view(REWARDS, "account", payee)[1] == 0

    def retire(self):
        identity = self.rng.choice(self.ids)
        if self.world.view("DatanetRegistry", "getContribution", identity)[3] == 2:
            self.world.send(self.owner, "DatanetRegistry", "retire", identity, "")

    def pass_time(self):
        self.world.mine(self.rng.randrange(1, 25))

    def check(self):
        world = self.world
        in_slots = 0
        for payee in self.payees():
            word = world.state.get_storage(
                predeploys.REWARDS_DISTRIBUTOR, mapping_slot(ACCOUNTS_SLOT, int.from_bytes(payee, "big"))
            )
            assert PayeeAccount.decode(word).total == world.credits(payee)
            in_slots += PayeeAccount.decode(word).total
        assert in_slots * MICRO_OPEN_WEI + self.claimed == self.debited * MICRO_OPEN_WEI
        assert world.balance(predeploys.REWARDS_DISTRIBUTOR) == in_slots * MICRO_OPEN_WEI
        assert world.view(REWARDS, "totalClaimed") == self.claimed
        assert world.view(LEDGER, "totalDebited") == self.debited
        held = sum(deposit - claimed for deposit, claimed in self.channels.values())
        assert world.balance(predeploys.INFERENCE_LEDGER) == held * MICRO_OPEN_WEI
        for identity, expected in self.channels.items():
            channel = world.view(LEDGER, "getChannel", identity)
            assert [channel[1], channel[4]] == expected


@pytest.mark.parametrize("seed", range(3))
def test_debited_fees_are_in_slots_or_were_claimed_and_channels_keep_the_rest(world, seed):
    history = History(world, seed)
    history.open()
    steps = ("open", "top_up", "settle", "settle", "settle", "claim", "claim", "withdraw", "retire", "pass_time")
    for _ in range(STEPS):
        getattr(history, history.rng.choice(steps))()
        history.check()
    assert history.debited > 0
    assert history.claimed > 0
