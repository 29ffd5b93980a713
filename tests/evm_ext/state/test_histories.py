"""Random histories of blocks, reorganisations, rolling back and pruning, against a plain dict and an archive."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from openledger.evm_ext import Chain
from openledger.evm_ext.errors import StatePruned
from openledger.evm_ext.state.policy import StateHistory
from openledger.evm_ext.trie import MissingTrieNode

PRUNED = StateHistory("pruned", keep_blocks=16, keep_changes=28)


def some_block(chance: random.Random):
    """What a block stores and pays: often nothing new, often a deletion."""
    writes = [
        (chance.randrange(2), chance.randrange(1, 7), chance.choice((0, 0, 1, 2))) for _ in range(chance.randrange(4))
    ]
    return writes, [chance.randrange(21) for _ in range(chance.randrange(3))]


class Histories(RuleBasedStateMachine):
    """A pruned chain and an archive that get the same blocks and heads."""

    states = None

    @initialize()
    def start(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.genesis = self.states.genesis()
        self.pruned = Chain.open(Path(self.folder.name) / "pruned", self.genesis, history=PRUNED)
        self.archive = Chain.open(Path(self.folder.name) / "archive", self.genesis)
        start = self.pruned.head()
        self.models = {
            start.hash: self.states.Model({(w, s): v for w in self.states.WRITERS for s, v in ((1, 7), (2, 8))}, {})
        }
        self.salt = 0

    def teardown(self) -> None:
        self.pruned.close()
        self.archive.close()
        self.folder.cleanup()

    def add(self, parent, writes, payments):
        self.salt += 1
        block = self.states.writes_block(self.pruned, parent, writes, payments, self.salt)
        self.archive.import_block(block)
        model = self.models[parent.hash].copy()
        for writer, slot, value in writes:
            model.words[self.states.WRITERS[writer], slot] = value
        for number in payments:
            address = self.states.recipient(number)
            model.balances[address] = model.balances.get(address, 0) + 1
        self.models[block.hash] = model
        return block.header

    def set_heads(self, **heads: bytes) -> None:
        self.pruned.set_heads(**heads)
        self.archive.set_heads(**heads)

    @rule(number=st.sampled_from((1, 8, 24)), chance=st.randoms(use_true_random=False), at_once=st.booleans())
    def extend(self, number, chance, at_once) -> None:
        head = self.pruned.head()
        for _ in range(number):
            head = self.add(head, *some_block(chance))
            if not at_once:
                self.set_heads(unsafe=head.hash)
        self.check_state(self.pruned, head)
        self.set_heads(unsafe=head.hash)

    @rule(depth=st.integers(1, 6), number=st.integers(1, 7), chance=st.randoms(use_true_random=False))
    def reorganise(self, depth, number, chance) -> None:
        lowest = self.pruned.head("finalized").number
        at = self.pruned.header_by_number(max(lowest, self.pruned.head().number - depth))
        safe = self.pruned.head("safe")
        for _ in range(number):
            at = self.add(at, *some_block(chance))
        self.check_state(self.pruned, at)
        self.set_heads(unsafe=at.hash, safe=min(safe, self.pruned.head("finalized"), key=lambda h: h.number).hash)

    @rule(distance=st.integers(0, 4))
    def finalize(self, distance) -> None:
        number = max(self.pruned.head("finalized").number, self.pruned.head().number - distance)
        final = self.pruned.header_by_number(number)
        self.set_heads(safe=final.hash, finalized=final.hash)
        for _ in range(6):  # pruning goes on with every move
            self.set_heads(unsafe=self.add(self.pruned.head(), [], []).hash)

    @rule(distance=st.sampled_from((0, 1, 5, 24, 28, 32, 36)))
    def roll_back(self, distance) -> None:
        target = self.archive.header_by_number(max(0, self.archive.head().number - distance))
        try:
            self.pruned.rollback(target.hash)
        except StatePruned:
            assert target.number < self.pruned._states.first_readable
            return
        self.archive.rollback(target.hash)

    @rule()
    def reopen(self) -> None:
        self.pruned.close()
        self.pruned = Chain.open(Path(self.folder.name) / "pruned", self.genesis, history=PRUNED)

    @precondition(lambda self: self.pruned.head().number > 0)
    @rule(distance=st.integers(0, 40))
    def look_back(self, distance) -> None:
        header = self.archive.header_by_number(max(0, self.archive.head().number - distance))
        self.check_state(self.archive, header)
        try:
            self.check_state(self.pruned, header)
        except StatePruned:
            final = self.pruned.head("finalized").number
            assert header.number < final - PRUNED.keep_changes or header.number < self.pruned._states.first_readable
        try:
            found = self.states.trie_tables(self.pruned, header.state_root)
            assert found == self.states.trie_tables(self.archive, header.state_root)
        except MissingTrieNode:
            assert header.number < self.pruned._states.first_whole
        else:
            proof = self.pruned.state(header.hash).account_proof(self.states.WRITERS[0], (1, 2, 3))
            assert proof == self.archive.state(header.hash).account_proof(self.states.WRITERS[0], (1, 2, 3))

    def check_state(self, chain: Chain, header) -> None:
        state, model = chain.state(header.hash), self.models[header.hash]
        for (writer, slot), value in model.words.items():
            assert state.storage(writer, slot) == value
        for number in range(21):
            address = self.states.recipient(number)
            assert state.balance(address) == model.balances.get(address, 0)

    @invariant()
    def heads_agree_and_flat_tables_are_the_trie(self) -> None:
        head = self.pruned.head()
        for label in ("unsafe", "safe", "finalized"):
            assert self.pruned.head(label) == self.archive.head(label)
        for chain in (self.pruned, self.archive):
            self.check_state(chain, head)
            assert self.states.flat_tables(chain) == self.states.trie_tables(chain, head.state_root)


@pytest.mark.parametrize("examples", [5, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.long])])
def test_random_histories_read_as_a_plain_dict_does(states, examples):
    class Machine(Histories):
        pass

    Machine.states = states
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
