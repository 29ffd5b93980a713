"""The address index and the internal operations, recorded while blocks are executed."""

from __future__ import annotations

import pytest

from openledger.evm_ext import Chain
from openledger.evm_ext.index_recorder import InternalOperation, OperationKind, OperationRecorder, recording
from openledger.evm_ext.processing import BlockProcessor
from openledger.evm_ext.vm.computation import with_tier
from openledger.evm_ext.vm.entry import contract_address
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hashing import keccak256

FORWARDER = b"\xf1" * 20
REVERTER = b"\xf2" * 20
FACTORY = b"\xf3" * 20
MORTAL = b"\xf4" * 20
PAID = b"\xd1" * 20


def _call(address: bytes, value: int) -> str:
    """CALL an account with value and forget whether it succeeded."""
    return "600060006000600060" + f"{value:02x}" + "73" + address.hex() + "5af150"


# pays 3 to PAID, calls REVERTER with 1 (which pays PAID and reverts), then pays 2 to PAID
FORWARDER_CODE = _call(PAID, 3) + _call(REVERTER, 1) + _call(PAID, 2)
REVERTER_CODE = _call(PAID, 1) + "60006000fd"
# CREATE(value 1, empty code), CREATE2(value 0, empty code, salt 7)
FACTORY_CODE = "600060006001f050" + "6007600060006000f550"
MORTAL_CODE = "73" + PAID.hex() + "ff"


@pytest.fixture
def genesis(tools):
    def contract(code: str) -> GenesisAccount:
        return GenesisAccount(nonce=1, balance=10, code=bytes.fromhex(code))

    return tools.ethereum_genesis(
        {
            FORWARDER: contract(FORWARDER_CODE),
            REVERTER: contract(REVERTER_CODE),
            FACTORY: contract(FACTORY_CODE),
            MORTAL: contract(MORTAL_CODE),
        }
    )


@pytest.fixture
def chain(genesis, tmp_path):
    opened = Chain.open(tmp_path / "indexed", genesis, address_index=True)
    yield opened
    opened.close()


def _located(transactions):
    return [(found.block_number, found.index) for found in transactions]


def test_transfers_inside_are_recorded_and_those_undone_are_not(tools, chain):
    block = tools.extend(chain, (tools.signed(0, chain.chain_id, 0, FORWARDER, value=5),))
    ((first, second),) = chain.index.operations(block.hash)
    assert first == InternalOperation(OperationKind.TRANSFER, FORWARDER, PAID, 3)
    assert second == InternalOperation(OperationKind.TRANSFER, FORWARDER, PAID, 2)


def test_a_failed_transaction_did_nothing_inside_but_concerns_whom_it_called(tools, chain):
    block = tools.extend(chain, (tools.signed(0, chain.chain_id, 0, REVERTER, value=5),))
    assert chain.index.operations(block.hash) == ((),)
    assert _located(chain.index.transactions_before(PAID, 99)) == [(1, 0)]


def test_creations_and_self_destructs_are_told_apart(tools, chain):
    chain_id = chain.chain_id
    block = tools.extend(
        chain, (tools.signed(0, chain_id, 0, FACTORY, gas=500_000), tools.signed(0, chain_id, 1, MORTAL))
    )
    created = contract_address(FACTORY, 1)
    salted = keccak256(b"\xff" + FACTORY + (7).to_bytes(32, "big") + keccak256(b""))[12:]
    factory, mortal = chain.index.operations(block.hash)
    assert factory == (
        InternalOperation(OperationKind.CREATE, FACTORY, created, 1),
        InternalOperation(OperationKind.CREATE2, FACTORY, salted, 0),
    )
    assert mortal == (InternalOperation(OperationKind.SELF_DESTRUCT, MORTAL, PAID, 10),)
    assert chain.index.creation(salted).creator == FACTORY
    assert chain.index.creation(FACTORY) is None


def test_a_contract_knows_the_transaction_that_deployed_it(tools, chain):
    sender = tools.ADDRESSES[0]
    block = tools.extend(chain, (tools.signed(0, chain.chain_id, 0, None, data=bytes.fromhex("60016000f3")),))
    creation = chain.index.creation(contract_address(sender, 0))
    assert creation.creator == sender
    assert (creation.transaction.block_hash, creation.transaction.index) == (block.hash, 0)


def test_transactions_of_an_account_are_found_forth_and_back(tools, chain):
    for nonce in range(3):
        tools.extend(
            chain, (tools.signed(1, chain.chain_id, nonce, None), tools.signed(0, chain.chain_id, nonce, PAID))
        )
    assert _located(chain.index.transactions_before(PAID, 3)) == [(2, 1), (1, 1)]
    assert _located(chain.index.transactions_after(PAID, 1)) == [(2, 1), (3, 1)]
    assert _located(chain.index.transactions_before(tools.ADDRESSES[1], 99)) == [(3, 0), (2, 0), (1, 0)]
    found = chain.index.by_nonce(tools.ADDRESSES[0], 2)
    assert (found.block_number, found.index) == (3, 1)
    assert chain.index.by_nonce(tools.ADDRESSES[0], 3) is None


def test_what_a_reorganisation_took_away_is_not_found(tools, chain):
    genesis_block = chain.head()
    gone = tools.extend(chain, (tools.signed(0, chain.chain_id, 0, PAID),))
    other = chain.build(genesis_block.hash, tools.attributes(genesis_block, timestamp=genesis_block.timestamp + 9))
    chain.set_heads(unsafe=other.hash)
    assert list(chain.index.transactions_before(PAID, 99)) == []
    assert chain.index.by_nonce(tools.ADDRESSES[0], 0) is None
    chain.set_heads(unsafe=gone.hash)
    assert _located(chain.index.transactions_before(PAID, 99)) == [(1, 0)]


def test_deposits_are_found_by_the_nonce_they_used(tools, tmp_path):
    chain = Chain.open(tmp_path, tools.op_genesis(), address_index=True)
    try:
        deposit = tools.l1_info_transaction()
        tools.extend(chain, (deposit,))
        tools.extend(chain, (tools.l1_info_transaction(sequence_number=1),))
        assert [chain.index.by_nonce(deposit.sender, nonce).block_number for nonce in (0, 1)] == [1, 2]
    finally:
        chain.close()


def test_an_index_switched_on_later_is_filled_back_to_the_first_block(tools, genesis, tmp_path):
    chain = Chain.open(tmp_path, genesis)
    blocks = [tools.extend(chain, (tools.signed(0, chain.chain_id, nonce, FORWARDER, value=5),)) for nonce in range(3)]
    assert chain.index is None
    assert chain.index_one_more() == 0
    chain.close()

    chain = Chain.open(tmp_path, genesis, address_index=True)
    tools.extend(chain, (tools.signed(0, chain.chain_id, 3, PAID),))
    assert _located(chain.index.transactions_before(PAID, 99)) == [(4, 0)]
    assert [chain.index_one_more() for _ in range(4)] == [2, 1, 0, 0]
    assert chain.index.complete_from == 1
    assert _located(chain.index.transactions_before(PAID, 99)) == [(4, 0), (3, 0), (2, 0), (1, 0)]
    assert len(chain.index.operations(blocks[0].hash)[0]) == 2
    chain.close()

    # Without the index for a while: what was indexed is taken as it is, only the gap is executed again.
    chain = Chain.open(tmp_path, genesis)
    tools.extend(chain, (tools.signed(0, chain.chain_id, 4, PAID),))
    chain.close()
    chain = Chain.open(tmp_path, genesis, address_index=True)
    assert chain.index.complete_from == 6
    assert [chain.index_one_more() for _ in range(2)] == [0, 0]
    assert chain.index.complete_from == 1
    assert _located(chain.index.transactions_before(PAID, 99))[0] == (5, 0)
    chain.close()


def test_looking_into_a_chain_without_the_index_interrupts_nothing(tools, genesis, tmp_path):
    chain = Chain.open(tmp_path, genesis, address_index=True)
    tools.extend(chain, (tools.signed(0, chain.chain_id, 0, PAID),))
    chain.close()
    Chain.open(tmp_path, genesis).close()
    chain = Chain.open(tmp_path, genesis, address_index=True)
    assert chain.blocks_to_index == 0
    chain.close()


def test_only_what_was_not_recorded_is_executed_again(tools, genesis, tmp_path):
    """Blocks 1 and 2 with the index, 3 to 5 without, of which 2' to 4' replace some, 6 with it."""
    chain = Chain.open(tmp_path, genesis, address_index=True)
    first = tools.extend(chain)
    tools.extend(chain)
    chain.close()
    chain = Chain.open(tmp_path, genesis)
    parent = first.header
    for _ in range(3):
        block = chain.build(parent.hash, tools.attributes(parent, timestamp=parent.timestamp + 7))
        parent = block.header
    chain.set_heads(unsafe=parent.hash)
    chain.close()
    chain = Chain.open(tmp_path, genesis, address_index=True)
    tools.extend(chain)
    left = [chain.index_one_more() for _ in range(4)]
    assert left == [3, 2, 0, 0]  # 4', 3', 2', and then block 1 is there
    assert all(chain.index.has_block(chain.header_by_number(number).hash) for number in range(1, 6))
    chain.close()


def test_a_block_from_before_that_becomes_canonical_is_indexed_then(tools, genesis, tmp_path):
    chain = Chain.open(tmp_path, genesis)
    start = chain.head()
    transaction = tools.signed(0, chain.chain_id, 0, PAID)
    old = chain.build(start.hash, tools.attributes(start, (transaction.raw,)))
    chain.close()
    chain = Chain.open(tmp_path, genesis, address_index=True)
    tools.extend(chain)
    assert chain.blocks_to_index == 0
    chain.set_heads(unsafe=old.hash)
    assert list(chain.index.transactions_before(PAID, 99)) == []
    assert chain.blocks_to_index == 1
    assert chain.index_one_more() == 0
    assert _located(chain.index.transactions_before(PAID, 99)) == [(1, 0)]
    chain.close()


@pytest.mark.parametrize("tier", ["plain", "generated"])
def test_both_tiers_of_the_interpreter_are_heard(tools, chain, tier):
    targets = ((FORWARDER, 5), (FACTORY, 0), (MORTAL, 0), (REVERTER, 0))
    transactions = tuple(
        tools.signed(0, chain.chain_id, nonce, to, value=value, gas=500_000)
        for nonce, (to, value) in enumerate(targets)
    )
    block = tools.extend(chain, transactions)
    recorded = chain.index.operations(block.hash)
    assert [len(operations) for operations in recorded] == [2, 2, 1, 0]

    def wrap(machine):
        return with_tier(recording(machine), tier)

    parent = chain.parent_state(block.header.parent_hash)
    processor = BlockProcessor(chain.rules, parent.reader, block.header, parent.ancestor_hash, wrap)
    processor.state.observer = recorder = OperationRecorder()
    processor.start()
    for transaction, operations in zip(transactions, recorded, strict=True):
        recorder.forget()
        processor.apply(transaction)
        assert recorder.take().operations == operations


def test_nothing_is_recorded_without_the_index(tools, open_chain, genesis):
    chain = open_chain(genesis)
    block = tools.extend(chain, (tools.signed(0, chain.chain_id, 0, FORWARDER, value=5),))
    assert list(chain._store.index_range(b"xa", b"xz")) == []
    assert chain._store.get_index(b"xo" + block.hash) is None


def test_plain_payments_take_their_shortcut_and_are_indexed_all_the_same(tools, chain):
    block = tools.extend(chain, (tools.signed(0, chain.chain_id, 0, PAID, value=1),))
    assert chain.index.operations(block.hash) == ((),)
    assert _located(chain.index.transactions_before(PAID, 99)) == [(1, 0)]
    assert _located(chain.index.transactions_before(tools.ADDRESSES[0], 99)) == [(1, 0)]
