"""Blocks of an OP chain: deposits, fees and vaults, header fields, precompiles."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from openledger.evm_ext import CallRequest, DepositTransaction, decode_transaction
from openledger.evm_ext.errors import (
    HeaderFieldMismatch,
    InvalidAttributes,
    InvalidBlockTransaction,
    UnsupportedTransactionType,
)
from openledger.evm_ext.fees import L1FeeParameters
from openledger.evm_ext.transactions import transaction_from_deposit
from openledger.genesis import predeploys
from openledger.genesis.genesis import GenesisAccount

CHAIN_ID = 161299
COINBASE = b"\xfe" * 20
REVERTER = b"\x0e" * 20
COUNTER = b"\x0c" * 20
CONTRACTS = {
    REVERTER: GenesisAccount(code=bytes.fromhex("5f5ffd")),
    COUNTER: GenesisAccount(code=bytes.fromhex("5f546001015f5500")),
}


@pytest.fixture
def chain(tools, open_chain):
    return open_chain(tools.op_genesis(CONTRACTS))


def deposit(sender, to, *, mint=0, value=0, gas=100_000, data=b"", is_system=False):
    return DepositTransaction(b"\x11" * 32, sender, to, mint, value, gas, is_system, data)


def run_deposits(tools, chain, *deposits):
    block = tools.extend(chain, tuple(transaction_from_deposit(item) for item in deposits))
    return block, chain.receipts(block.hash), chain.state(block.hash)


def test_a_deposit_mints_and_transfers_without_a_fee(tools, chain):
    sender, recipient = b"\xaa" * 20, b"\xbb" * 20
    block, (receipt,), state = run_deposits(
        tools, chain, deposit(sender, recipient, mint=10 * tools.ETHER, value=4 * tools.ETHER)
    )
    assert receipt.status == 1
    assert receipt.gas_used == 21_000 == block.header.gas_used
    assert (receipt.deposit_nonce, receipt.deposit_version) == (0, 1)
    assert receipt.l1_fee is None
    assert state.balance(sender) == 6 * tools.ETHER
    assert state.balance(recipient) == 4 * tools.ETHER
    assert state.nonce(sender) == 1
    assert state.balance(COINBASE) == 0
    assert state.balance(predeploys.BASE_FEE_VAULT) == 0


@pytest.mark.parametrize(
    ("change", "gas_used"),
    [
        ({"value": 11 * 10**18}, 100_000),  # more than is there: cannot start, all gas is used
        ({"gas": 20_999}, 20_999),  # below the intrinsic gas
        ({"gas": 22_000, "data": b"\xff" * 100}, 22_000),  # below the calldata floor
        ({"to": None, "data": b"\x00" * 49_153, "gas": 10_000_000}, 10_000_000),  # creation code too long
        ({"to": REVERTER}, None),  # starts, and reverts
    ],
)
def test_a_failed_deposit_keeps_its_mint_and_its_place(tools, chain, change, gas_used):
    sender = b"\xaa" * 20
    fields = {"to": b"\xbb" * 20, "mint": 10 * tools.ETHER, "value": 0, **change}
    to = fields.pop("to")
    _, (receipt,), state = run_deposits(tools, chain, deposit(sender, to, **fields))
    assert receipt.status == 0
    assert state.balance(sender) == 10 * tools.ETHER
    assert state.nonce(sender) == 1
    assert receipt.gas_used < 100_000 if gas_used is None else receipt.gas_used == gas_used


def test_a_deposit_creates_a_contract_at_the_address_of_its_nonce(tools, chain):
    sender = b"\xaa" * 20
    code = bytes.fromhex("6001600c60003960016000f300")
    _, (first, second), state = run_deposits(
        tools, chain, deposit(sender, None, data=code), deposit(sender, None, data=code)
    )
    assert (first.deposit_nonce, second.deposit_nonce) == (0, 1)
    assert state.code(first.contract_address) == state.code(second.contract_address) == b"\x00"
    assert first.contract_address != second.contract_address


def test_system_transactions_and_too_much_gas_make_the_payload_invalid(tools, chain):
    parent = chain.head()
    for item in (
        deposit(b"\xaa" * 20, COUNTER, is_system=True),
        deposit(b"\xaa" * 20, COUNTER, gas=60_000_001),
    ):
        with pytest.raises(InvalidBlockTransaction):
            chain.build(parent.hash, tools.attributes(parent, (item.encode(),)))


def test_deposit_receipts_hash_their_nonce_and_version(tools, chain):
    _, (receipt,), _ = run_deposits(tools, chain, deposit(b"\xaa" * 20, COUNTER))
    assert receipt.encode().endswith(b"\x80\x01")  # nonce 0, version 1
    assert receipt.encode()[0] == 0x7E


def test_l1_attributes_set_the_fees_that_the_next_transactions_pay(tools, chain):
    info = tools.l1_info(operator_fee_scalar=1_500_000, operator_fee_constant=99)
    transaction = tools.signed(0, CHAIN_ID, 0, b"\xbb" * 20, value=7, gas=50_000, max_fee_per_gas=2 * tools.GWEI)
    before = chain.state(chain.head().hash)
    block, receipts, state = None, None, None
    block = tools.extend(chain, (transaction_from_deposit(info), transaction))
    receipts, state = chain.receipts(block.hash), chain.state(block.hash)
    assert receipts[0].status == 1
    receipt = receipts[1]
    parameters = L1FeeParameters(2_000_000, 3_000_000, 20, 15, 1_500_000, 99)
    l1_fee = parameters.l1_fee(transaction.flz_size)
    operator_fee = 21_000 * 1_500_000 // 10**6 + 99
    base_fee = block.header.base_fee_per_gas
    price = min(2 * tools.GWEI, base_fee + tools.GWEI)
    assert receipt.gas_used == 21_000
    assert receipt.effective_gas_price == price
    assert receipt.l1_fee == l1_fee > 0
    assert (receipt.l1_gas_price, receipt.l1_blob_base_fee) == (2_000_000, 3_000_000)
    assert (receipt.l1_base_fee_scalar, receipt.l1_blob_base_fee_scalar) == (20, 15)
    assert receipt.operator_fee == operator_fee
    assert state.balance(predeploys.BASE_FEE_VAULT) == 21_000 * base_fee
    assert state.balance(predeploys.L1_FEE_VAULT) == l1_fee
    assert state.balance(predeploys.OPERATOR_FEE_VAULT) == operator_fee
    assert state.balance(COINBASE) == 21_000 * (price - base_fee)
    spent = before.balance(tools.ADDRESSES[0]) - state.balance(tools.ADDRESSES[0])
    assert spent == 7 + 21_000 * price + l1_fee + operator_fee


def test_nothing_is_minted_or_burnt_by_a_block_of_transactions(tools, chain):
    def total(block_hash):
        state = chain.state(block_hash)
        return sum(state.balance(address) for address in accounts)

    accounts = {
        *tools.ADDRESSES,
        COINBASE,
        COUNTER,
        REVERTER,
        predeploys.BASE_FEE_VAULT,
        predeploys.L1_FEE_VAULT,
        predeploys.OPERATOR_FEE_VAULT,
    }
    before = total(chain.head().hash)
    info = transaction_from_deposit(tools.l1_info(operator_fee_scalar=7, operator_fee_constant=3))
    block = tools.extend(
        chain,
        (
            info,
            tools.signed(0, CHAIN_ID, 0, tools.ADDRESSES[1], value=5),
            tools.signed(1, CHAIN_ID, 0, COUNTER),
            tools.signed(2, CHAIN_ID, 0, REVERTER),
            tools.signed(3, CHAIN_ID, 0, COUNTER, gas=22_000),
        ),
    )
    assert [receipt.status for receipt in chain.receipts(block.hash)] == [1, 1, 1, 0, 0]
    assert total(block.hash) == before


def test_the_l1_fee_counts_in_the_required_balance(tools, open_chain):
    poor = tools.ADDRESSES[0]
    price = 2 * tools.GWEI
    info = tools.l1_info()
    transaction = tools.signed(
        0, CHAIN_ID, 0, b"\xbb" * 20, gas=21_000, max_fee_per_gas=price, max_priority_fee_per_gas=0
    )
    parameters = L1FeeParameters(2_000_000, 3_000_000, 20, 15, 0, 0)
    enough = 21_000 * price + parameters.l1_fee(transaction.flz_size)
    for index, (balance, included) in enumerate(((enough, True), (enough - 1, False))):
        chain = open_chain(tools.op_genesis({poor: GenesisAccount(balance=balance)}), f"chain{index}")
        parent = chain.head()
        block = chain.build(parent.hash, tools.attributes(parent, (info.encode(),)), [transaction])
        assert (len(block.transactions) == 2) is included


def test_the_base_fee_follows_the_parameters_in_the_parents_extra_data(tools, chain):
    parent = chain.head()
    params = (8).to_bytes(4, "big") + (2).to_bytes(4, "big")
    first = chain.build(parent.hash, tools.attributes(parent, eip_1559_params=params))
    assert first.header.extra_data == b"\x00" + params
    # genesis: denominator 250, and no gas was used
    assert first.header.base_fee_per_gas == tools.GWEI - tools.GWEI // 250
    second = chain.build(first.hash, tools.attributes(first.header, eip_1559_params=bytes(8)))
    assert second.header.base_fee_per_gas == first.header.base_fee_per_gas * 7 // 8 + 1 - (
        first.header.base_fee_per_gas % 8 == 0
    )
    assert second.header.extra_data == bytes.fromhex("00000000fa00000006")
    for bad in (bytes(7), (0).to_bytes(4, "big") + (1).to_bytes(4, "big"), (1).to_bytes(4, "big") + bytes(4)):
        with pytest.raises(InvalidAttributes):
            chain.build(parent.hash, tools.attributes(parent, eip_1559_params=bad))


def test_the_gas_limit_is_what_the_attributes_say(tools, chain):
    parent = chain.head()
    block = chain.build(parent.hash, tools.attributes(parent, gas_limit=30_000_000))
    assert block.header.gas_limit == 30_000_000


def test_the_header_commits_to_the_withdrawals_that_were_started(tools, chain):
    empty = tools.extend(chain)
    root = chain.state(empty.hash).storage_root(predeploys.L2_TO_L1_MESSAGE_PASSER)
    assert empty.header.withdrawals_root == root
    # initiateWithdrawal(address target, uint256 gasLimit, bytes data)
    data = (
        bytes.fromhex("c2b3e5ac")
        + bytes(12)
        + tools.ADDRESSES[1]
        + (100_000).to_bytes(32, "big")
        + (96).to_bytes(32, "big")
        + bytes(32)
    )
    block = tools.extend(chain, (tools.signed(0, CHAIN_ID, 0, predeploys.L2_TO_L1_MESSAGE_PASSER, data=data, value=5),))
    assert chain.receipts(block.hash)[0].status == 1
    assert block.header.withdrawals_root != root
    assert block.header.withdrawals_root == chain.state(block.hash).storage_root(predeploys.L2_TO_L1_MESSAGE_PASSER)
    assert block.header.requests_hash.hex().startswith("e3b0c44298fc1c14")
    assert (block.header.blob_gas_used, block.header.excess_blob_gas) == (0, 0)


def test_the_parent_and_the_beacon_root_are_in_the_system_contracts(tools, chain):
    first = tools.extend(chain)
    second = tools.extend(chain)
    state = chain.state(second.hash)
    assert state.storage(predeploys.HISTORY_STORAGE, 1).to_bytes(32, "big") == first.hash
    slot = second.header.timestamp % 8191
    assert state.storage(predeploys.BEACON_ROOTS, slot) == second.header.timestamp
    assert (
        state.storage(predeploys.BEACON_ROOTS, slot + 8191).to_bytes(32, "big")
        == second.header.parent_beacon_block_root
    )


def test_blob_transactions_are_not_for_an_op_chain(tools, chain):
    transaction = tools.signed(
        0, CHAIN_ID, 0, COUNTER, type=3, blob_versioned_hashes=(b"\x01" + bytes(31),), max_fee_per_blob_gas=1
    )
    parent = chain.head()
    with pytest.raises(InvalidBlockTransaction) as caught:
        chain.build(parent.hash, tools.attributes(parent, (transaction.raw,)))
    assert isinstance(caught.value.reason, UnsupportedTransactionType)


def test_candidates_that_do_not_fit_are_passed_over(tools, chain):
    parent = chain.head()
    good = tools.signed(0, CHAIN_ID, 0, COUNTER)
    block = chain.build(
        parent.hash,
        tools.attributes(parent, (tools.l1_info().encode(),), gas_limit=1_600_000),
        [
            tools.signed(1, CHAIN_ID, 5, COUNTER),  # nonce gap
            tools.signed(2, CHAIN_ID, 0, COUNTER, gas=2_000_000),  # too much gas
            tools.signed(3, 1, 0, COUNTER),  # another chain
            transaction_from_deposit(deposit(b"\xaa" * 20, COUNTER, mint=1)),  # deposits come from L1
            good,
            good,  # included already
        ],
    )
    assert [item.hash for item in block.transactions[1:]] == [good.hash]


def test_no_tx_pool_leaves_candidates_out(tools, chain):
    parent = chain.head()
    block = chain.build(parent.hash, tools.attributes(parent, no_tx_pool=True), [tools.signed(0, CHAIN_ID, 0, COUNTER)])
    assert block.transactions == ()


def test_p256_verify_says_one_for_a_signature_and_nothing_for_anything_else(tools, chain):
    key = ec.generate_private_key(ec.SECP256R1())
    digest = b"\x42" * 32
    r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256()))))
    numbers = key.public_key().public_numbers()
    good = digest + b"".join(value.to_bytes(32, "big") for value in (r, s, numbers.x, numbers.y))

    def verify(data):
        return chain.call(CallRequest(to=predeploys.P256VERIFY, data=data), chain.head().hash)

    result = verify(good)
    assert result.output == (1).to_bytes(32, "big")
    cost_of_data = 16 * sum(1 for byte in good if byte) + 4 * good.count(0)
    assert result.gas_used == max(21_000 + cost_of_data + 3_450, 21_000 + 10 * (cost_of_data // 4))
    for bad in (
        good[:-1],
        good + b"\x00",
        b"",
        b"\x43" + good[1:],
        good[:32] + bytes(32) + good[64:],
        good[:96] + bytes(64),
        good[:96] + b"\xff" * 64,
    ):
        result = verify(bad)
        assert result.success
        assert result.output == b""


def test_precompiles_of_ours_are_there_from_their_fork_on(tools):
    from openledger.evm_ext.vm.machines import machine
    from openledger.evm_ext.vm.rules import Rules
    from openledger.genesis.parameters import ForkSchedule

    genesis = tools.op_genesis(forks=ForkSchedule(credit=100, spans=None, scores=100))
    rules = Rules.from_genesis(genesis)
    early = machine(rules.at(1, 99)).get_precompiles()
    late = machine(rules.at(1, 100)).get_precompiles()
    assert predeploys.CREDIT not in early
    assert predeploys.CREDIT in late
    assert predeploys.SCORES in late
    assert predeploys.SPANS not in late
    assert predeploys.P256VERIFY in early


def test_every_header_field_is_checked_on_import(tools, chain, open_chain):
    parent = chain.head()
    block = chain.build(
        parent.hash,
        tools.attributes(parent, (tools.l1_info().encode(),)),
        [tools.signed(0, CHAIN_ID, 0, COUNTER)],
    )
    other = open_chain(tools.op_genesis(CONTRACTS), "other")
    for field, wrong in {
        "uncles_hash": b"\x01" * 32,
        "state_root": b"\x01" * 32,
        "transactions_root": b"\x01" * 32,
        "receipts_root": b"\x01" * 32,
        "logs_bloom": b"\x01" * 256,
        "difficulty": 1,
        "number": 2,
        "gas_used": block.header.gas_used + 1,
        "gas_limit": 4_999,
        "timestamp": parent.timestamp,
        "extra_data": b"\x01" * 9,
        "nonce": b"\x01" * 8,
        "base_fee_per_gas": 7,
        "withdrawals_root": b"\x01" * 32,
        "blob_gas_used": 1,
        "excess_blob_gas": 1,
        "requests_hash": b"\x01" * 32,
        "fee_recipient": b"\x01" * 20,  # changes who is paid, so the state root
        "parent_beacon_block_root": b"\x01" * 32,
    }.items():
        with pytest.raises(HeaderFieldMismatch) as caught:
            other.import_block(replace(block, header=replace(block.header, **{field: wrong})))
        if field not in ("fee_recipient", "parent_beacon_block_root"):
            assert caught.value.field == field
    other.import_block(block)
    assert other.state(block.hash).root == block.header.state_root


def test_a_block_with_an_invalid_transaction_is_refused_with_its_place(tools, chain, open_chain):
    parent = chain.head()
    block = chain.build(parent.hash, tools.attributes(parent), [tools.signed(0, CHAIN_ID, 0, COUNTER)])
    twice = (block.transactions[0], block.transactions[0])
    from openledger.evm_ext.block import transactions_root

    bad = replace(
        block,
        transactions=twice,
        header=replace(block.header, transactions_root=transactions_root(twice)),
    )
    with pytest.raises(InvalidBlockTransaction) as caught:
        chain.import_block(bad)
    assert caught.value.index == 1
    assert "nonce too low" in str(caught.value)


def test_deposits_are_not_for_a_plain_ethereum_chain(tools, open_chain):
    chain = open_chain(tools.ethereum_genesis())
    parent = chain.head()
    with pytest.raises(InvalidBlockTransaction):
        chain.build(parent.hash, tools.attributes(parent, (tools.l1_info().encode(),)))


def test_a_deposit_survives_its_encoding():
    item = deposit(b"\xaa" * 20, None, mint=5, value=6, data=b"xyz")
    transaction = decode_transaction(item.encode())
    assert transaction.deposit == item
    assert transaction.sender == item.sender
    assert transaction.hash == transaction_from_deposit(item).hash
