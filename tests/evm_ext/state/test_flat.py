"""Flat tables where they are easily wrong: wiped storage, old folders, readers beside a writer."""

from __future__ import annotations

import threading

import plyvel
import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from openledger.evm_ext import Chain
from openledger.evm_ext.integrity import check
from openledger.evm_ext.state.account import Account, decode_account, encode_account
from openledger.evm_ext.state.changes import StateDiff
from openledger.evm_ext.state.difference import diff_of_tries, state_difference
from openledger.evm_ext.trie import EMPTY_ROOT
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hardforks import Hardfork, HardforkSchedule


def test_a_diff_goes_to_bytes_and_back():
    diff = StateDiff(
        {b"\1" * 32: b"", b"\2" * 32: b"x"}, {b"\3" * 32: {b"\4" * 32: b"\x05"}}, (b"w" * 64,), (b"r" * 32,)
    )
    assert StateDiff.decode(diff.encode()) == diff
    for wrong in (b"", diff.encode()[:-1], diff.encode() + b"\0", b"\xff" * 80):
        with pytest.raises(ValueError):
            StateDiff.decode(wrong)


numbers = st.one_of(st.integers(0, 300), st.integers(0, 2**256 - 1))


@given(numbers, numbers, st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_an_account_is_read_as_the_rlp_library_reads_it(nonce, balance, storage_root, code_hash):
    raw = rlp.encode([nonce, balance, storage_root, code_hash])
    assert encode_account(Account(nonce, balance, storage_root, code_hash)) == raw
    assert decode_account(raw) == Account(nonce, balance, storage_root, code_hash)


@given(st.integers(0, 2**70), numbers, st.integers(0, 200), st.integers(0, 255))
def test_bytes_that_are_taken_for_an_account_are_its_only_encoding(nonce, balance, position, byte):
    raw = bytearray(rlp.encode([nonce, balance, bytes(32), b"\x01" * 32]))
    raw[position % len(raw)] = byte
    try:
        account = decode_account(bytes(raw))
    except ValueError:
        return
    assert encode_account(account) == bytes(raw)


def test_storage_that_is_destroyed_as_a_whole_leaves_the_flat_tables(states, tools, tmp_path):
    """Before Cancun a contract can go with all its storage, and come back without it."""
    doomed = b"\xdd" * 20
    # with calldata: sstore(calldataload(0), 1); without: selfdestruct
    code = bytes.fromhex("36600657 33ff 5b 6001600035 55 00".replace(" ", ""))
    genesis = states.genesis(
        hardforks=HardforkSchedule.always(Hardfork.PARIS),
        alloc={
            **{address: GenesisAccount(balance=10**24) for address in tools.ADDRESSES},
            doomed: GenesisAccount(nonce=1, code=code, storage={n: n for n in range(1, 40)}),
        },
    )
    chain = Chain.open(tmp_path / "chain", genesis)
    before = chain.head()
    assert chain.state(before.hash).storage(doomed, 7) == 7
    destroyed = tools.extend(chain, (tools.signed(0, states.CHAIN_ID, 0, doomed),))
    assert chain.receipts(destroyed.hash)[0].status == 1
    assert not chain.state(destroyed.hash).exists(doomed)
    for header in (destroyed.header, before):
        chain.rollback(header.hash)
        assert states.flat_tables(chain) == states.trie_tables(chain, header.state_root)
    chain.set_heads(unsafe=destroyed.hash)
    assert chain.state(before.hash).storage(doomed, 7) == 7
    assert list(check(chain._store, deep=True)) == []
    chain.close()


def as_format_1(folder) -> None:
    """What the first version of this program would have left: no flat tables, no diffs, nodes without owners."""
    database = plyvel.DB(str(folder))
    with database.write_batch() as batch:
        for key, value in database.iterator():
            if key[:1] in b"asASdk" or key in (b"mbase", b"mhistory"):
                batch.delete(key)
            elif key[:1] == b"n" and len(key) == 65:
                batch.delete(key)
                batch.put(b"n" + key[33:], value)
        batch.put(b"mversion", b"1")
    database.close()


def test_a_folder_of_format_1_is_upgraded_and_goes_on(states, tmp_path):
    chain = Chain.open(tmp_path / "chain", states.genesis())
    salt = iter(range(100))

    def grow(parent, slot, value):
        block = states.writes_block(chain, parent, [(0, slot, value), (1, slot + 1, value)], [value], next(salt))
        chain.set_heads(unsafe=block.hash)
        return block.header

    headers = [chain.head()]
    for height in range(1, 6):
        headers.append(grow(headers[-1], height % 3, height))
    side = states.writes_block(chain, headers[3], [(0, 99, 9)], [], 1000)
    chain.close()
    as_format_1(tmp_path / "chain")

    chain = Chain.open(tmp_path / "chain", states.genesis())
    assert chain.head() == headers[-1]
    assert states.flat_tables(chain) == states.trie_tables(chain, headers[-1].state_root)
    for height, header in enumerate(headers[1:], 1):
        assert chain.state(header.hash).storage(states.WRITERS[0], height % 3) == height
    chain.set_heads(unsafe=side.hash)  # undone and done by the tries, which are all that is known
    assert states.flat_tables(chain) == states.trie_tables(chain, side.header.state_root)
    newest = grow(grow(chain.head(), 1, 12), 2, 13)
    assert chain.state(side.hash).storage(states.WRITERS[0], 99) == 9
    assert list(check(chain._store, deep=True)) == []
    chain.close()
    chain = Chain.open(tmp_path / "chain", states.genesis())
    chain.rollback(headers[1].hash)
    assert states.flat_tables(chain) == states.trie_tables(chain, headers[1].state_root)
    chain.set_heads(unsafe=newest.hash)
    assert list(check(chain._store, deep=True)) == []
    chain.close()


def test_the_difference_of_two_states_is_what_blocks_say_they_changed(states, tmp_path):
    chain = Chain.open(tmp_path / "chain", states.genesis())
    for height in range(8):
        parent = chain.head()
        block = states.writes_block(
            chain, parent, [(0, 1 + height % 3, height % 2), (1, 5, height)], [height % 4, 9], height
        )
        chain.set_heads(unsafe=block.hash)
        diff = chain._store.diff(block.hash)
        found = diff_of_tries(chain._store.node, parent.state_root, block.header.state_root)
        said = dict(diff.flat())
        assert all(said[key] == value for key, value in found.flat())
        old = {
            key: before
            for key, before, _ in state_difference(chain._store.node, parent.state_root, block.header.state_root)
        }
        for key, value in said.items():
            assert key in old or states.trie_tables(chain, parent.state_root).get(key, b"") == value
    assert list(state_difference(chain._store.node, EMPTY_ROOT, EMPTY_ROOT)) == []
    everything = {key: new for key, _, new in state_difference(chain._store.node, EMPTY_ROOT, block.header.state_root)}
    assert everything == states.flat_tables(chain)
    chain.close()


def test_a_reader_sees_its_state_whatever_the_chain_does_meanwhile(states, tmp_path):
    """Readers of the head, of old blocks and of a branch, while blocks come, go and are replaced."""
    chain = Chain.open(tmp_path / "chain", states.genesis())
    writer = states.WRITERS[0]
    expected = {chain.head().hash: 7}
    wrong: list[tuple[bytes, int]] = []
    errors: list[BaseException] = []
    stop = threading.Event()
    kept = [(chain.state(chain.head().hash), 7)]

    def read(seed: int) -> None:
        turn = seed
        try:
            while not stop.is_set():
                turn += 1
                hashes = list(expected)
                block_hash = hashes[-1 - turn % min(len(hashes), 9)]
                value = chain.state(block_hash).storage(writer, 1)
                if value != expected[block_hash]:
                    wrong.append((block_hash, value))
                view, value = kept[turn % len(kept)]
                if view.storage(writer, 1) != value:
                    wrong.append((b"kept", value))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(seed,), daemon=True) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        for height in range(24):
            parent = chain.head()
            for salt in (1, 2):  # the second replaces the first
                value = 100 + height * 2 + salt
                block = states.writes_block(chain, parent, [(0, 1, value)], [height % 9], salt)
                expected[block.hash] = value
                kept.append((chain.state(block.hash), value))
                chain.set_heads(unsafe=block.hash)
            if height % 8 == 7:
                chain.rollback(chain.header_by_number(height - 3).hash)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert wrong == []
    chain.close()
