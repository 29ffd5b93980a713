"""Heads, reorganisations, indexes, logs, proofs, opening and reopening."""

from __future__ import annotations

import threading
from dataclasses import replace

import plyvel
import pytest
import rlp
from trie import HexaryTrie

from openledger.evm_ext import Chain, HeadChange, block_from_payload, payload_from_block
from openledger.evm_ext.errors import (
    DatabaseCorrupt,
    DatabaseLocked,
    GenesisInvalid,
    GenesisMismatch,
    HeaderFieldMismatch,
    InconsistentHeads,
    TooManyResults,
    UnknownBlock,
    UnknownParent,
)
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hashing import keccak256

CHAIN_ID = 161299
LOGGER = b"\x0d" * 20
# logs calldata with topics 1 and calldata's first word
LOGGER_CODE = bytes.fromhex("365f5f375f35600136 5fa200".replace(" ", ""))
CONTRACTS = {LOGGER: GenesisAccount(code=LOGGER_CODE, nonce=1, storage={1: 11, 2: 22})}


@pytest.fixture
def chain(tools, open_chain):
    return open_chain(tools.op_genesis(CONTRACTS))


def build_on(tools, chain, parent, *transactions, **changes):
    return chain.build(parent.hash, tools.attributes(parent, tuple(item.raw for item in transactions), **changes))


def test_a_new_chain_stands_on_its_genesis(chain):
    assert chain.head().number == 0
    assert chain.head("safe").hash == chain.head("finalized").hash == chain.genesis_hash
    assert chain.block_by_number(0).hash == chain.genesis_hash
    assert chain.receipts(chain.genesis_hash) == ()


def test_building_moves_no_head(tools, chain):
    block = build_on(tools, chain, chain.head())
    assert chain.head().number == 0
    assert chain.header_by_number(1) is None
    assert chain.block_by_hash(block.hash) == block


def test_a_reorganisation_moves_the_canonical_index_and_the_transaction_index(tools, chain):
    seen: list[HeadChange] = []
    chain.listeners.append(seen.append)
    genesis = chain.head()
    common = build_on(tools, chain, genesis)
    mine = tools.signed(0, CHAIN_ID, 0, LOGGER)
    old_1 = build_on(tools, chain, common.header, mine)
    old_2 = build_on(tools, chain, old_1.header)
    other = tools.signed(1, CHAIN_ID, 0, LOGGER)
    new_1 = build_on(tools, chain, common.header, other, suggested_fee_recipient=b"\x01" * 20)
    chain.set_heads(unsafe=old_2.hash)
    assert chain.transaction_location(mine.hash) == (old_1.hash, 0)
    chain.set_heads(unsafe=new_1.hash)
    assert chain.head().hash == new_1.hash
    assert chain.header_by_number(2).hash == new_1.hash
    assert chain.header_by_number(3) is None
    assert chain.transaction_location(mine.hash) is None
    assert chain.transaction_location(other.hash) == (new_1.hash, 0)
    assert chain.block_by_hash(old_2.hash) is not None
    assert seen == [
        HeadChange("unsafe", genesis.hash, old_2.hash, (common.hash, old_1.hash, old_2.hash), ()),
        HeadChange("unsafe", old_2.hash, new_1.hash, (new_1.hash,), (old_2.hash, old_1.hash)),
    ]


def test_a_transaction_in_both_branches_is_found_in_the_canonical_one(tools, chain):
    mine = tools.signed(0, CHAIN_ID, 0, LOGGER)
    left = build_on(tools, chain, chain.head(), mine)
    right = build_on(tools, chain, chain.head(), mine, suggested_fee_recipient=b"\x01" * 20)
    for block in (left, right, left):
        chain.set_heads(unsafe=block.hash)
        assert chain.transaction_location(mine.hash) == (block.hash, 0)


def test_safe_and_finalized_stay_in_order_on_the_canonical_chain(tools, chain):
    first = build_on(tools, chain, chain.head())
    second = build_on(tools, chain, first.header)
    fork = build_on(tools, chain, chain.head(), suggested_fee_recipient=b"\x01" * 20)
    chain.set_heads(unsafe=second.hash, safe=first.hash, finalized=first.hash)
    for wrong in (
        {"safe": fork.hash},
        {"finalized": second.hash},
        {"unsafe": fork.hash},
        {"unsafe": chain.genesis_hash},
        {"unsafe": fork.hash, "safe": first.hash},
    ):
        with pytest.raises(InconsistentHeads):
            chain.set_heads(**wrong)
        assert chain.head().hash == second.hash
        assert chain.header_by_number(1).hash == first.hash
    with pytest.raises(UnknownBlock):
        chain.set_heads(unsafe=b"\x01" * 32)
    chain.set_heads(unsafe=fork.hash, safe=fork.hash, finalized=chain.genesis_hash)
    assert chain.head("safe").hash == fork.hash


def test_everything_is_there_again_after_reopening(tools, chain, tmp_path):
    transaction = tools.signed(0, CHAIN_ID, 0, LOGGER, data=b"\x05" * 32)
    block = tools.extend(chain, (transaction,))
    receipts = chain.receipts(block.hash)
    chain.set_heads(safe=block.hash)
    chain.close()
    again = Chain.open(tmp_path / "chain", tools.op_genesis(CONTRACTS))
    try:
        assert again.head() == block.header
        assert again.head("safe").hash == block.hash
        assert again.head("finalized").hash == again.genesis_hash
        assert again.block_by_number(1) == block
        assert again.receipts(block.hash) == receipts
        assert again.transaction_location(transaction.hash) == (block.hash, 0)
        assert again.state(block.hash).storage(LOGGER, 1) == 11
        tools.extend(again, (tools.signed(0, CHAIN_ID, 1, LOGGER),))
    finally:
        again.close()


def test_a_folder_of_another_chain_is_refused(tools, chain, tmp_path):
    chain.close()
    with pytest.raises(GenesisMismatch, match="another data folder"):
        Chain.open(tmp_path / "chain", tools.op_genesis())


def test_a_folder_in_use_is_refused(tools, chain, tmp_path):
    with pytest.raises(DatabaseLocked):
        Chain.open(tmp_path / "chain", tools.op_genesis(CONTRACTS))


@pytest.mark.parametrize("damage", ["manifest", "current", "version", "tables"])
def test_a_damaged_folder_is_named_as_such(tools, chain, tmp_path, damage):
    for _ in range(3):
        tools.extend(chain)
    chain.close()
    folder = tmp_path / "chain"
    if damage == "manifest":
        for file in folder.glob("MANIFEST-*"):
            file.write_bytes(b"nonsense" * 10)
    elif damage == "current":
        (folder / "CURRENT").write_bytes(b"MANIFEST-999999\n")
    elif damage == "version":
        database = plyvel.DB(str(folder))
        database.put(b"mversion", b"99")
        database.close()
    else:
        database = plyvel.DB(str(folder))
        database.compact_range()
        database.close()
        for file in folder.glob("*.ldb"):
            file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(DatabaseCorrupt, match=str(folder)):
        Chain.open(folder, tools.op_genesis(CONTRACTS))


def test_a_genesis_nothing_can_follow_is_refused(tools, tmp_path):
    for extra_data in (b"", b"\x00" * 9, b"\x01" + bytes(8)):
        with pytest.raises(GenesisInvalid):
            Chain.open(tmp_path / "x", tools.op_genesis(extra_data=extra_data))


def test_a_block_without_its_parent_is_refused(tools, chain, open_chain):
    first = build_on(tools, chain, chain.head())
    second = build_on(tools, chain, first.header)
    other = open_chain(tools.op_genesis(CONTRACTS), "other")
    with pytest.raises(UnknownParent):
        other.import_block(second)
    other.import_block(first)
    other.import_block(second)
    other.import_block(second)


def test_payloads_go_there_and_back(tools, chain):
    block = build_on(tools, chain, chain.head(), tools.l1_info_transaction(), tools.signed(0, CHAIN_ID, 0, LOGGER))
    payload = payload_from_block(block)
    assert block_from_payload(payload) == block
    with pytest.raises(HeaderFieldMismatch):
        block_from_payload(replace(payload, gas_used=1))


def test_logs_are_found_by_address_topic_and_range(tools, chain):
    word = lambda number: number.to_bytes(32, "big")  # noqa: E731
    blocks = [
        tools.extend(
            chain,
            tuple(tools.signed(key, CHAIN_ID, height, LOGGER, data=word(height * 10 + key)) for key in range(3)),
        )
        for height in range(4)
    ]
    tools.extend(chain)
    everything = chain.logs(0, 99)
    assert [item.log.topics[1] for item in everything] == [
        word(height * 10 + key) for height in range(4) for key in range(3)
    ]
    assert [item.log_index for item in everything[:3]] == [0, 1, 2]
    assert everything[4].transaction_hash == blocks[1].transactions[1].hash
    assert chain.logs(0, 99, addresses=[b"\x01" * 20]) == []
    assert [item.block_number for item in chain.logs(0, 99, [LOGGER], [None, [word(21), word(2)]])] == [1, 3]
    assert len(chain.logs(2, 3, [LOGGER], [[word(1)]])) == 6
    assert chain.logs(0, 99, [], [[word(1)], [], None]) == []
    assert len(list(chain.block_logs(blocks[2].hash))) == 3
    with pytest.raises(TooManyResults):
        chain.logs(0, 99, limit=11)


def test_account_proofs_are_accepted_by_the_trie_library(tools, chain):
    tools.extend(chain, (tools.signed(0, CHAIN_ID, 0, b"\xbb" * 20, value=5),))
    header = chain.head()
    view = chain.state(header.hash)
    for address in (LOGGER, b"\xbb" * 20, b"\x77" * 20):
        proof = view.account_proof(address, (1, 2, 3))
        nodes = [rlp.decode(node) for node in proof.proof]
        leaf = HexaryTrie.get_from_proof(header.state_root, keccak256(address), nodes)
        if leaf:
            _, balance, storage_root, code_hash = rlp.decode(leaf)
            assert int.from_bytes(balance, "big") == proof.balance == view.balance(address)
            assert (storage_root, code_hash) == (proof.storage_root, proof.code_hash)
        else:
            assert (proof.nonce, proof.balance) == (0, 0)
        for item in proof.storage_proofs:
            if not item.proof:
                assert item.value == 0
                continue
            found = HexaryTrie.get_from_proof(
                proof.storage_root,
                keccak256(item.slot.to_bytes(32, "big")),
                [rlp.decode(node) for node in item.proof],
            )
            assert int.from_bytes(rlp.decode(found) if found else b"", "big") == item.value
    assert [item.value for item in view.account_proof(LOGGER, (1, 2, 3)).storage_proofs] == [11, 22, 0]


def test_readers_see_whole_blocks_while_blocks_are_imported(tools, chain):
    """The sum of two balances never changes, whatever head a reader catches."""
    stop = threading.Event()
    wrong: list[int] = []
    seen: set[int] = set()
    left, right = b"\x21" * 20, b"\x22" * 20

    def read() -> None:
        while not stop.is_set():
            head = chain.head()
            state = chain.state(head.hash)
            seen.add(head.number)
            if state.balance(left) != state.balance(right):
                wrong.append(head.number)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for height in range(15):
        tools.extend(
            chain,
            tuple(
                tools.signed(0, CHAIN_ID, height * 2 + index, address, value=3)
                for index, address in enumerate((left, right))
            ),
        )
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert chain.state(chain.head().hash).balance(left) == 45
    assert len(seen) > 1


def test_deep_recursion_runs_in_any_thread(tools, open_chain):
    """A contract that calls itself until the depth or the gas ends, in a thread with a default stack."""
    from openledger.evm_ext import CallRequest

    myself = b"\x0f" * 20
    code = bytes.fromhex("5f5f5f5f5f305af15f55 00".replace(" ", ""))
    chain = open_chain(tools.op_genesis({myself: GenesisAccount(code=code)}), "deep")
    results = []

    def run() -> None:
        results.append(chain.call(CallRequest(to=myself, gas=2**60), chain.head().hash, gas_cap=2**60))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert results[0].success
