"""Difficulty, uncles and rewards, against py-evm's, and the way over the merge."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
from eth.vm.forks.byzantium.headers import compute_difficulty
from eth.vm.forks.frontier.headers import compute_frontier_difficulty
from eth.vm.forks.homestead.headers import compute_homestead_difficulty
from eth.vm.forks.london.headers import compute_london_difficulty

from openledger.evm_ext import Block
from openledger.evm_ext.block import EMPTY_UNCLES_HASH, Header, HeaderForm, encode_uncles
from openledger.evm_ext.errors import HeaderFieldMismatch, InvalidUncle
from openledger.evm_ext.proof_of_work import difficulty_after
from openledger.evm_ext.vm.rules import Rules
from openledger.genesis.genesis import Genesis
from openledger.genesis.hardforks import Hardfork, HardforkSchedule
from openledger.genesis.hashing import keccak256

PY_EVM = {
    Hardfork.FRONTIER: compute_frontier_difficulty,
    Hardfork.HOMESTEAD: compute_homestead_difficulty,
    Hardfork.BYZANTIUM: compute_difficulty(3_000_000),
    Hardfork.PETERSBURG: compute_difficulty(5_000_000),
    Hardfork.BERLIN: compute_difficulty(9_000_000),
    Hardfork.LONDON: compute_london_difficulty,
    Hardfork.ARROW_GLACIER: compute_difficulty(10_700_000),
    Hardfork.GRAY_GLACIER: compute_difficulty(11_400_000),
}


@pytest.mark.parametrize("fork", PY_EVM, ids=lambda fork: fork.name)
def test_difficulty_is_py_evms_also_far_into_the_bomb(fork):
    chance = random.Random(fork.value)
    rules = Rules.from_genesis(Genesis("ethereum", 1, 0, 5_000, hardforks=HardforkSchedule.always(fork))).at(1, 1)
    for _ in range(300):
        parent = SimpleNamespace(
            difficulty=chance.choice((131_072, 10**9, 10**15)) + chance.randrange(10**6),
            timestamp=1_000,
            number=(
                number := chance.choice((1, 199_999, 3_200_000, 9_800_000, 12_000_000)) + chance.randrange(300_000)
            ),
            block_number=number,
            uncles_hash=chance.choice((EMPTY_UNCLES_HASH, b"\x01" * 32)),
        )
        timestamp = 1_000 + chance.choice((1, 8, 9, 10, 12, 13, 20, 900, 5_000))
        assert difficulty_after(rules, parent, timestamp) == PY_EVM[fork](parent, timestamp)


@pytest.fixture
def family(tools, open_chain, request):
    """A chain of five blocks at Byzantium, and siblings of each of them that could be uncles."""
    genesis = replace(
        tools.ethereum_genesis(), hardforks=HardforkSchedule.always(Hardfork.BYZANTIUM), difficulty=1_000_000
    )
    chain = open_chain(genesis)
    siblings: list[Header] = []
    for _ in range(9):
        parent = chain.head()
        attributes = tools.attributes(parent, suggested_fee_recipient=b"\x55" * 20)
        siblings.append(chain.build(parent.hash, attributes).header)
        tools.extend(chain)
    return SimpleNamespace(chain=chain, siblings=siblings, genesis=genesis)


def with_uncles(tools, chain, *uncles: Header) -> Block:
    """A block on the head that names these uncles, with the right rewards in its state, whatever they are."""
    from openledger.evm_ext.building import _results
    from openledger.evm_ext.processing import BlockProcessor

    template = chain.build(chain.head().hash, tools.attributes(chain.head(), timestamp=chain.head().timestamp + 3))
    parent = chain.parent_state(chain.head().hash)
    processor = BlockProcessor(chain.rules, parent.reader, template.header, parent.ancestor_hash)
    processor.start()
    header = replace(
        template.header, **_results(processor.finish((), uncles)), uncles_hash=keccak256(encode_uncles(uncles))
    )
    return Block(header, (), (), uncles)


def test_uncles_and_their_rewards_are_py_evms(family, tools, forks_tools):
    chain, siblings = family.chain, family.siblings
    stock = forks_tools.StockFork(family.genesis, (0, forks_tools.STOCK_VMS[Hardfork.BYZANTIUM]))
    for number in range(1, 10):
        stock.import_block(chain.block_by_number(number))
    block = with_uncles(tools, chain, siblings[7], siblings[5])
    chain.import_block(block)
    stock.import_block(block)
    assert stock.head_hash == block.hash
    # blocks 8 and 6 as uncles of block 10: (8 - 2) / 8 and (8 - 4) / 8 of three ether
    assert chain.state(block.hash).balance(b"\x55" * 20) == 3 * 10**18 * (6 + 4) // 8
    chain.set_heads(unsafe=block.hash)
    following = tools.extend(chain)
    stock.import_block(following)  # its difficulty counts that the parent has uncles
    assert chain.block_by_hash(block.hash).uncles == (siblings[7], siblings[5])


def test_uncles_that_nobody_may_name_are_refused(family, tools):
    chain, siblings = family.chain, family.siblings
    for uncles, reason in (
        ((siblings[7], siblings[7]), "named before"),
        ((siblings[7], siblings[6], siblings[5]), "at most 2"),
        ((siblings[1],), "no close relative"),
        ((chain.header_by_number(8),), "ancestor"),
        ((replace(siblings[7], difficulty=5),), "difficulty"),
        ((replace(siblings[7], gas_limit=4_000),), "gas_limit"),
        ((replace(siblings[7], form=HeaderForm.LONDON),), "base_fee_per_gas"),
        ((replace(siblings[7], parent_hash=b"\x01" * 32),), "no close relative"),
    ):
        with pytest.raises(InvalidUncle, match=reason):
            chain.import_block(with_uncles(tools, chain, *uncles))
    sibling_of_head = siblings[8]
    brother = with_uncles(tools, chain, replace(sibling_of_head, parent_hash=chain.head().hash, number=10))
    with pytest.raises(InvalidUncle, match="no close relative"):
        chain.import_block(brother)
    named = with_uncles(tools, chain, siblings[7])
    chain.import_block(named)
    chain.set_heads(unsafe=named.hash)
    with pytest.raises(InvalidUncle, match="named before"):
        chain.import_block(with_uncles(tools, chain, siblings[7]))
    with pytest.raises(HeaderFieldMismatch, match="uncles_hash"):
        chain.import_block(replace(with_uncles(tools, chain, siblings[6]), uncles=()))


def test_without_a_merge_in_the_schedule_no_block_is_one_of_stake(tools, open_chain):
    genesis = replace(
        tools.ethereum_genesis(), hardforks=HardforkSchedule.always(Hardfork.LONDON), difficulty=1_000_000
    )
    chain, builder = open_chain(genesis), open_chain(genesis, "builder")
    block = tools.extend(builder)
    with pytest.raises(HeaderFieldMismatch, match="no merge is scheduled"):
        chain.import_block(replace(block, header=replace(block.header, difficulty=0)))


def test_the_merge_comes_with_the_terminal_total_difficulty_not_before_and_not_after(tools, open_chain):
    schedule = replace(HardforkSchedule.always(Hardfork.GRAY_GLACIER), terminal_total_difficulty=3_000_000)
    genesis = replace(tools.ethereum_genesis(), hardforks=schedule, difficulty=1_000_000)
    chain = open_chain(genesis)
    forms = []
    for _ in range(5):
        block = tools.extend(chain)
        forms.append(block.header.difficulty == 0)
    assert forms == [False, False, True, True, True]
    assert chain.total_difficulty(chain.header_by_number(2).hash) >= 3_000_000
    early = chain.build(chain.header_by_number(1).hash, tools.attributes(chain.header_by_number(1)))
    with pytest.raises(HeaderFieldMismatch, match="not reached"):
        chain.import_block(replace(early, header=replace(early.header, difficulty=0, prev_randao=bytes(32))))
    last = chain.header_by_number(2)
    after = chain.rules.at(3, last.timestamp + 2)
    late = replace(
        chain.header_by_number(3), difficulty=difficulty_after(after, last, last.timestamp + 2), prev_randao=bytes(32)
    )
    with pytest.raises(HeaderFieldMismatch, match="is reached"):
        chain.import_block(Block(late, ()))
    stake = chain.header_by_number(3)
    again = replace(
        chain.header_by_number(4),
        difficulty=difficulty_after(after, stake, stake.timestamp + 2),
    )
    with pytest.raises(HeaderFieldMismatch, match="0 after a block of proof of stake"):
        chain.import_block(Block(again, ()))
