"""What a pruned chain keeps and refuses, and the sweep that finds what died."""

from __future__ import annotations

import shutil

import pytest

from openledger.evm_ext import Chain
from openledger.evm_ext.errors import InconsistentHeads, StatePruned, UnknownBlock
from openledger.evm_ext.integrity import check
from openledger.evm_ext.state import pruning
from openledger.evm_ext.state.policy import StateHistory
from openledger.evm_ext.store import Store
from openledger.evm_ext.sweep import sweep

PRUNED = StateHistory("pruned", keep_blocks=16, keep_changes=24)
LENGTH = 44


def grow(states, chain: Chain, number: int, *, final_distance: int = 2) -> list:
    """Blocks that overwrite, delete and create; the finalized head follows."""
    made = []
    for _ in range(number):
        height = chain.head().number
        block = states.writes_block(
            chain, chain.head(), [(0, 1, height + 1), (0, 2 + height % 5, height % 3), (1, 9, height)], [height % 21], 1
        )
        chain.set_heads(unsafe=block.hash)
        final = chain.header_by_number(max(0, block.number - final_distance))
        chain.set_heads(safe=final.hash, finalized=final.hash)
        made.append(block)
    return made


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A folder for `pair`, which fills it once."""
    return tmp_path_factory.mktemp("grown")


@pytest.fixture
def pair(states, grown, tmp_path):
    """A pruned chain and an archive of the same blocks."""
    if not any(grown.iterdir()):
        pruned = Chain.open(grown / "pruned", states.genesis(), history=PRUNED)
        archive = Chain.open(grown / "archive", states.genesis())
        for block in grow(states, pruned, LENGTH):
            archive.import_block(block)
            archive.set_heads(unsafe=block.hash)
        archive.set_heads(safe=pruned.head("safe").hash, finalized=pruned.head("finalized").hash)
        pruned.close()
        archive.close()
    for name in ("pruned", "archive"):
        shutil.copytree(grown / name, tmp_path / name)
    pruned = Chain.open(tmp_path / "pruned", states.genesis(), history=PRUNED)
    archive = Chain.open(tmp_path / "archive", states.genesis())
    yield pruned, archive
    pruned.close()
    archive.close()


def nodes_of(chain: Chain) -> int:
    return sum(1 for _ in chain._store.database.keys(b"n", b"o"))


def test_a_pruned_chain_keeps_just_the_states_it_says(states, pair):
    pruned, archive = pair
    finalized = pruned.head("finalized").number
    for number in range(LENGTH + 1):
        header = archive.header_by_number(number)
        if number >= finalized - PRUNED.keep_blocks:
            assert states.trie_tables(pruned, header.state_root) == states.trie_tables(archive, header.state_root)
        if number >= finalized - PRUNED.keep_changes:
            for slot in range(1, 10):
                writer = states.WRITERS[slot // 9]
                assert pruned.state(header.hash).storage(writer, slot) == archive.state(header.hash).storage(
                    writer, slot
                )
        else:
            with pytest.raises(StatePruned, match=f"missing trie node .* block {number} .* archive node"):
                pruned.state(header.hash)
    assert nodes_of(pruned) < nodes_of(archive) * 0.6
    wanted = set()
    for number in range(pruned._states.first_whole, LENGTH + 1):
        trie = pruned.state(archive.header_by_number(number).hash).reader.account_trie()
        wanted |= set(trie.node_keys())
    account_nodes = {key[1:] for key in pruned._store.database.keys(b"n", b"o") if len(key) == 33}
    assert account_nodes == wanted  # without dead branches nothing is left over


def test_what_needs_a_pruned_trie_says_so(pair, tools):
    pruned, archive = pair
    old = pruned.header_by_number(pruned._states.first_whole - 2)
    view = pruned.state(old.hash)
    assert view.balance(b"\xee" * 20) == archive.state(old.hash).balance(b"\xee" * 20)
    with pytest.raises(StatePruned):
        view.account_proof(b"\xee" * 20)
    with pytest.raises(StatePruned):  # a sibling of a block whose parent's tries are gone
        pruned.build(old.hash, tools.attributes(old, suggested_fee_recipient=b"\x03" * 20))


def test_rolling_back_into_pruned_blocks_makes_their_tries_again(states, pair):
    pruned, archive = pair
    target = pruned.header_by_number(pruned._states.first_whole - 5)
    above = [archive.block_by_number(number) for number in range(target.number + 1, LENGTH + 1)]
    pruned.rollback(target.hash)
    assert [pruned.head(label) for label in ("unsafe", "safe", "finalized")] == [target] * 3
    assert states.trie_tables(pruned, target.state_root) == states.trie_tables(archive, target.state_root)
    assert not pruned.has_block(above[0].hash)
    for block in above:
        pruned.import_block(block)
        pruned.set_heads(unsafe=block.hash)
    assert pruned.head() == archive.head()
    assert list(check(pruned._store, deep=True)) == []


def test_rolling_back_is_refused_where_nothing_leads(pair, tools):
    pruned, archive = pair
    with pytest.raises(StatePruned):
        pruned.rollback(pruned.header_by_number(3).hash)
    with pytest.raises(UnknownBlock):
        pruned.rollback(b"\x01" * 32)
    side = archive.build(
        archive.header_by_number(41).hash,
        tools.attributes(archive.header_by_number(41), suggested_fee_recipient=b"\3" * 20),
    )
    with pytest.raises(InconsistentHeads, match="not an ancestor"):
        archive.rollback(side.hash)


def test_an_archive_rolls_back_to_its_beginning(states, pair):
    _, archive = pair
    blocks = [archive.block_by_number(number) for number in range(1, LENGTH + 1)]
    archive.rollback(archive.genesis_hash)
    assert states.flat_tables(archive) == states.trie_tables(archive, archive.head().state_root)
    archive.set_heads(unsafe=blocks[-1].hash)
    assert list(check(archive._store, deep=True)) == []


def test_the_sweep_leaves_nothing_but_kept_states(states, pair, tmp_path):
    for chain in pair:  # branches that die
        parent = chain.header_by_number(LENGTH - 1)
        for salt in range(3):
            states.writes_block(chain, parent, [(0, 50 + salt, 1)], [], 77 + salt)
        grow(states, chain, 20)
        chain.close()
    results = []
    for name in ("pruned", "archive"):
        store = Store(tmp_path / name)
        results.append(sweep(store, PRUNED))
        assert list(check(store, deep=True)) == []
        kept = set(store.database.keys(b"n", b"o"))
        assert sweep(store, PRUNED).nodes == 0
        results.append(kept)
        store.close()
    assert results[1] == results[3]
    assert results[2].nodes > results[0].nodes > 0
    assert results[2].first_whole == LENGTH + 18 - PRUNED.keep_blocks
    again = Chain.open(tmp_path / "archive", states.genesis(), history=PRUNED)
    grow(states, again, 5)
    assert list(check(again._store, deep=True)) == []
    again.close()


def test_an_archive_that_becomes_pruned_catches_up_in_steps(states, pair, tmp_path):
    _, archive = pair
    archive.close()
    chain = Chain.open(tmp_path / "archive", states.genesis(), history=PRUNED)
    assert chain._states.first_whole == 0
    grow(states, chain, 9)
    assert chain._states.first_whole == chain.head("finalized").number - PRUNED.keep_blocks
    assert list(check(chain._store, deep=True)) == []
    chain.close()


def test_a_chain_too_far_behind_is_left_to_the_sweep(states, pair, tmp_path, monkeypatch):
    _, archive = pair
    archive.close()
    monkeypatch.setattr(pruning, "MAX_REMEMBERED_NODES", 50)
    chain = Chain.open(tmp_path / "archive", states.genesis(), history=PRUNED)
    grow(states, chain, 2)
    assert chain._states.first_whole == 0
    assert list(check(chain._store, deep=True)) == []
    chain.close()


def test_too_little_cannot_be_kept():
    with pytest.raises(ValueError, match="at least 16"):
        StateHistory("pruned", keep_blocks=2)
    with pytest.raises(ValueError, match="less than"):
        StateHistory("pruned", keep_blocks=200, keep_changes=100)
