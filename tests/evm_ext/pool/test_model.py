"""The pool against a model that scans lists, over random histories of sending, mining, reorganising and restarting."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from openledger.evm_ext import (
    Chain,
    PayloadAttributes,
    PoolLimits,
    Transaction,
    TransactionPool,
    errors,
    sign_transaction,
)
from openledger.evm_ext.signatures import address_of
from openledger.genesis.genesis import Genesis, GenesisAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.presets import l1_genesis, preset

CHAIN_ID = 1337
KEYS = [keccak256(b"pool model %d" % number) for number in range(4)]
SENDERS = [address_of(key) for key in KEYS]
TO = b"\xbb" * 20
GAS = 21_000
FEE = 10**9
BALANCE = 40 * GAS * FEE
LIMITS = PoolLimits(account_slots=2, global_slots=6, account_queue=2, global_queue=3)


@dataclass(eq=False)
class Entry:
    """A transaction as the model sees it."""

    transaction: Transaction
    sender: bytes
    nonce: int
    price: tuple[int, int, int]
    cost: int
    arrival: int


class Model:
    """The pool's rules, written down as scans over one list."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.nonces = dict.fromkeys(SENDERS, 0)
        self.balances = dict.fromkeys(SENDERS, BALANCE)
        self.beats: dict[bytes, int] = {}
        self.ticks = 0

    def of(self, sender: bytes) -> list[Entry]:
        return sorted((item for item in self.entries if item.sender == sender), key=lambda item: item.nonce)

    def pending_of(self, sender: bytes) -> list[Entry]:
        own = self.of(sender)
        return [item for place, item in enumerate(own) if item.nonce == self.nonces[sender] + place]

    def queued_of(self, sender: bytes) -> list[Entry]:
        pending = self.pending_of(sender)
        return [item for item in self.of(sender) if item not in pending]

    def pending(self) -> list[Entry]:
        return [item for sender in SENDERS for item in self.pending_of(sender)]

    def queued(self) -> list[Entry]:
        return [item for sender in SENDERS for item in self.queued_of(sender)]

    def cheapest_first(self) -> list[Entry]:
        return sorted(self.entries, key=lambda item: (item.price, -item.nonce, -item.arrival))

    def add(self, new: Entry) -> type[Exception] | None:
        """What refuses the transaction, or None; then it is in."""
        before = list(self.entries)
        refusal = self._add(new)
        if refusal is not None:
            self.entries = before
        return refusal

    def _add(self, new: Entry) -> type[Exception] | None:
        own = self.of(new.sender)
        if any(item.transaction == new.transaction for item in own):
            return errors.AlreadyKnown
        if new.nonce < self.nonces[new.sender]:
            return errors.NonceTooLow
        old = next((item for item in own if item.nonce == new.nonce), None)
        if old is not None and any(
            mine <= its or mine * 100 < its * 110 for mine, its in zip(new.price[1:], old.price[1:])
        ):
            return errors.ReplacementUnderpriced
        others = sum(item.cost for item in self.pending_of(new.sender) if item is not old)
        if new.cost + others > self.balances[new.sender]:
            return errors.InsufficientFunds
        gapped = new.nonce > self.nonces[new.sender] + len(self.pending_of(new.sender))
        queued = self.queued_of(new.sender)
        if gapped and old is None and len(queued) >= LIMITS.account_queue and new.nonce > queued[-1].nonce:
            return errors.AccountLimitExceeded
        if old is None and len(self.entries) >= LIMITS.slots:
            refusal = self._make_room(new, gapped)
            if refusal is not None:
                return refusal
        self.entries = [item for item in self.entries if item is not old] + [new]
        self.ticks += 1
        self.beats[new.sender] = self.ticks
        self.cap_queue(new.sender)
        self.level()
        return None if new in self.entries else errors.PoolFull

    def _make_room(self, new: Entry, gapped: bool) -> type[Exception] | None:
        droppable = [item for item in self.cheapest_first() if item.sender != new.sender or item.nonce > new.nonce]
        if not droppable:
            return errors.PoolFull
        worst = droppable[0]
        if worst.price >= new.price:
            return errors.Underpriced
        if gapped and worst in self.pending():
            return errors.FutureReplacesPending
        self.entries.remove(worst)
        self.cap_queue(worst.sender)
        return None

    def cap_queue(self, sender: bytes) -> None:
        for item in self.queued_of(sender)[LIMITS.account_queue :]:
            self.entries.remove(item)

    def level(self) -> None:
        while len(self.entries) > LIMITS.slots:
            worst = self.cheapest_first()[0]
            self.entries.remove(worst)
            self.cap_queue(worst.sender)
        while len(self.pending()) > LIMITS.global_slots:
            crowds = [(len(self.pending_of(sender)), self.beats.get(sender, 0), sender) for sender in SENDERS]
            size, _, sender = max(crowds)
            if size <= LIMITS.account_slots:
                break
            self.entries.remove(self.pending_of(sender)[-1])
        while len(self.queued()) > LIMITS.global_queue:
            silent = min((self.beats[item.sender], item.sender) for item in self.queued())[1]
            self.entries.remove(self.queued_of(silent)[-1])

    def head(self, chain: Chain) -> None:
        """The chain has a new head."""
        state = chain.state(chain.head().hash)
        for sender in SENDERS:
            self.nonces[sender], self.balances[sender] = state.nonce(sender), state.balance(sender)
        self.entries = [
            item
            for item in self.entries
            if item.nonce >= self.nonces[item.sender] and item.cost <= self.balances[item.sender]
        ]
        for sender in SENDERS:
            self.cap_queue(sender)


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        l1 = l1_genesis(preset("devnet"), 1_700_000_000)
        genesis = Genesis(
            rules="ethereum",
            chain_id=CHAIN_ID,
            timestamp=1_700_000_000,
            gas_limit=30_000_000,
            base_fee_per_gas=7,
            alloc={
                **{address: account for address, account in l1.alloc.items() if account.nonce == 1 and account.code},
                **{sender: GenesisAccount(balance=BALANCE) for sender in SENDERS},
            },
        )
        self.chain = Chain.open(self.folder / "chain", genesis)
        self.model = Model()
        self.arrivals = 0
        self.clock = 0.0
        self.pool = self.open()

    def open(self) -> TransactionPool:
        return TransactionPool(self.chain, LIMITS, self.folder / "journal", self.tick)

    def tick(self) -> float:
        self.clock += 0.0001
        return self.clock

    def teardown(self) -> None:
        self.pool.close()
        self.chain.close()
        shutil.rmtree(self.folder)

    def entry(self, key: int, nonce: int, fee: int, tip: int, value: int) -> Entry:
        transaction = sign_transaction(
            KEYS[key],
            chain_id=CHAIN_ID,
            nonce=nonce,
            gas=GAS,
            to=TO,
            value=value,
            max_fee_per_gas=fee,
            max_priority_fee_per_gas=tip,
        )
        self.arrivals += 1
        cost = GAS * fee + value
        return Entry(transaction, SENDERS[key], nonce, (min(tip, fee - 7), fee, tip), cost, self.arrivals)

    @initialize()
    def start(self) -> None:
        assert len(self.pool) == 0

    @rule(
        key=st.integers(0, len(KEYS) - 1),
        ahead=st.sampled_from((-1, 0, 0, 0, 1, 1, 2, 3, 4, 6)),
        tip=st.integers(1, 12),
        parts=st.sampled_from((0, 0, 0, 1, 5, 20)),
    )
    def send(self, key: int, ahead: int, tip: int, parts: int) -> None:
        nonce = max(0, self.model.nonces[SENDERS[key]] + ahead)
        new = self.entry(key, nonce, FEE + tip * 10**8, tip * 10**8, parts * GAS * FEE)
        # The base fee falls from 7 to 0 or so: every tip here is far above it, so tips alone decide.
        refusal = self.model.add(new)
        try:
            self.pool.add(new.transaction.raw)
            actual = None
        except errors.InvalidTransaction as error:
            actual = type(error)
        assert actual is refusal

    @precondition(lambda self: self.model.pending())
    @rule(number=st.integers(1, 5))
    def mine(self, number: int) -> None:
        # What was affordable alone when it came may not be so after what was sent before it: candidates may fail.
        chosen = [item for item, _ in zip(self.pool.pending(), range(number))]
        self.block(self.chain.head().hash, [], candidates=chosen)

    @rule(key=st.integers(0, len(KEYS) - 1), parts=st.integers(0, 30))
    def mine_something_else(self, key: int, parts: int) -> None:
        """The next nonce is used by a transaction that the pool has never seen."""
        value = parts * GAS * FEE
        entry = self.entry(key, self.model.nonces[SENDERS[key]], 2 * FEE, 3, value)
        if entry.cost <= self.model.balances[SENDERS[key]]:
            self.block(self.chain.head().hash, [entry.transaction])

    @precondition(lambda self: self.chain.head().number > 0)
    @rule()
    def drop_the_newest_block(self) -> None:
        """Its sibling is empty: what it held goes back, as if sent again in its order."""
        head = self.chain.head()
        returned = list(self.chain.block_by_hash(head.hash).transactions)
        self.block(head.parent_hash, [], extra_time=1, returned=returned)

    @rule()
    def restart(self) -> None:
        self.pool.close()
        self.pool = self.open()
        # A restart forgets who was silent for how long: all have sent anew, in the order of the journal.
        for sender, account in self.pool._contents.accounts.items():
            self.model.ticks += 1
            self.model.beats[sender] = self.model.ticks
            for nonce in sorted(account.by_nonce):
                self.arrivals += 1
                next(item for item in self.model.of(sender) if item.nonce == nonce).arrival = self.arrivals

    def block(
        self,
        parent: bytes,
        transactions: list[Transaction],
        *,
        candidates: Sequence[Transaction] = (),
        extra_time: int = 0,
        returned: Sequence[Transaction] = (),
    ) -> None:
        header = self.chain.header_by_hash(parent)
        raw = tuple(item.raw for item in transactions)
        attributes = PayloadAttributes(header.timestamp + 2 + extra_time, bytes(32), TO, bytes(32), transactions=raw)
        block = self.chain.build(parent, attributes, candidates)
        self.chain.set_heads(unsafe=block.hash)
        self.model.head(self.chain)
        for item in returned:
            self.model.add(
                self.entry(
                    SENDERS.index(item.sender),
                    item.nonce,
                    item.max_fee_per_gas,
                    item.max_priority_fee_per_gas,
                    item.value,
                )
            )
        self.model.level()

    @invariant()
    def both_hold_the_same(self) -> None:
        pending, queued = self.pool.content()
        for content, expected in ((pending, self.model.pending()), (queued, self.model.queued())):
            held = {(sender, nonce): item.hash for sender, own in content.items() for nonce, item in own.items()}
            assert held == {(item.sender, item.nonce): item.transaction.hash for item in expected}
        status = self.pool.status()
        assert (status.pending, status.queued) == (len(self.model.pending()), len(self.model.queued()))
        assert len(self.pool) == len(self.model.entries) <= LIMITS.slots
        for sender in SENDERS:
            assert self.pool.pending_nonce(sender) == self.model.nonces[sender] + len(self.model.pending_of(sender))

    @invariant()
    def candidates_come_in_an_order_that_blocks_can_have(self) -> None:
        following = dict(self.model.nonces)
        for item in self.pool.pending():
            assert item.nonce == following[item.sender]
            following[item.sender] += 1


TestPoolAgainstModel = PoolMachine.TestCase
TestPoolAgainstModel.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
