"""RLP, transactions, blocks and receipts against the `rlp`, `eth_account` and py-evm libraries."""

from __future__ import annotations

import pytest
import rlp
from eth.vm.forks.prague.blocks import PragueBlock, PragueBlockHeader
from eth_account import Account as EthAccount
from eth_utils import to_checksum_address
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.evm_ext import Block, DepositTransaction, Header, Log, Receipt, decode_transaction, encoding
from openledger.evm_ext.block import transactions_root
from openledger.evm_ext.errors import InvalidTransaction, UndecodableBlock
from openledger.evm_ext.receipts import decode_stored, encode_stored, receipts_root
from openledger.evm_ext.transactions import (
    encode_transaction,
    sign_authorization,
    sign_transaction,
    transaction_from_deposit,
)
from openledger.genesis.hashing import keccak256

ITEMS = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=6), max_leaves=25)
UINT64 = st.integers(0, 2**64 - 2)
UINT256 = st.integers(0, 2**256 - 1)
ADDRESS = st.binary(min_size=20, max_size=20)
HASH = st.binary(min_size=32, max_size=32)
KEY = st.integers(1, 2**200).map(lambda number: number.to_bytes(32, "big"))
ACCESS_LIST = st.lists(st.tuples(ADDRESS, st.lists(UINT256, max_size=3).map(tuple)), max_size=3).map(tuple)


@settings(max_examples=300, deadline=None)
@given(ITEMS)
def test_rlp_is_the_library_s(item):
    encoded = encoding.encode(item)
    assert encoded == rlp.encode(item)
    assert encoding.decode(encoded) == item
    if isinstance(item, list):
        assert encoding.split_list(encoded) == [rlp.encode(part) for part in item]


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=40),
        ITEMS.map(rlp.encode).flatmap(
            lambda good: st.tuples(st.integers(0, max(0, len(good) - 1)), st.integers(0, 255)).map(
                lambda change: good[: change[0]] + bytes([change[1]]) + good[change[0] + 1 :]
            )
        ),
    )
)
def test_rlp_accepts_exactly_what_the_strict_library_accepts(data):
    try:
        expected = rlp.decode(data, strict=True)
    except Exception:
        with pytest.raises(encoding.InvalidRLP):
            encoding.decode(data)
    else:
        assert encoding.decode(data) == _as_lists(expected)


def _as_lists(item):
    return item if isinstance(item, bytes) else [_as_lists(part) for part in item]


@settings(max_examples=150, deadline=None)
@given(
    key=KEY,
    type=st.sampled_from([0, 1, 2, 3, 4]),
    chain_id=st.integers(1, 2**40),
    nonce=UINT64,
    gas=UINT64,
    to=st.one_of(st.none(), ADDRESS),
    value=UINT256,
    data=st.binary(max_size=100),
    max_fee_per_gas=st.integers(0, 2**100),
    access_list=ACCESS_LIST,
)
def test_transactions_go_there_and_back(key, type, to, access_list, **fields):
    extra = {}
    if type:
        extra["access_list"] = access_list
    if type == 3:
        extra.update(blob_versioned_hashes=(b"\x01" * 32,), max_fee_per_blob_gas=5)
    if type == 4:
        extra["authorization_list"] = (
            sign_authorization(key, chain_id=fields["chain_id"], address=b"\x02" * 20, nonce=1),
        )
    transaction = sign_transaction(key, type=type, to=to, **fields, **extra)
    decoded = decode_transaction(transaction.raw)
    assert encode_transaction(decoded) == transaction.raw
    for name in ("type", "chain_id", "nonce", "gas", "to", "value", "data", "max_fee_per_gas", "access_list"):
        assert getattr(decoded, name) == getattr(transaction, name), name
    assert decoded.authorization_list == transaction.authorization_list
    assert decoded.sender.hex() == EthAccount.from_key(key).address[2:].lower()
    for authorization in decoded.authorization_list:
        assert authorization.authority == decoded.sender


@pytest.mark.parametrize("kind", ["legacy", "unprotected", "access_list", "dynamic", "set_code"])
def test_transactions_signed_by_eth_account_are_read(kind):
    account = EthAccount.from_key(b"\x07" * 32)
    common = {"nonce": 3, "gas": 90_000, "to": to_checksum_address("0x" + "bb" * 20), "value": 5, "data": "0x0102"}
    fees = {"maxFeePerGas": 9, "maxPriorityFeePerGas": 4, "chainId": 161299}
    access = [{"address": "0x" + "11" * 20, "storageKeys": ["0x" + "00" * 31 + "07"]}]
    fields = {
        "legacy": {"gasPrice": 7, "chainId": 161299},
        "unprotected": {"gasPrice": 7},
        "access_list": {"gasPrice": 7, "chainId": 161299, "accessList": access, "type": 1},
        "dynamic": {**fees, "accessList": access, "type": 2},
        "set_code": {
            **fees,
            "type": 4,
            "authorizationList": [account.sign_authorization({"chainId": 0, "address": "0x" + "22" * 20, "nonce": 1})],
        },
    }[kind]
    signed = account.sign_transaction({**common, **fields})
    transaction = decode_transaction(bytes(signed.raw_transaction))
    assert transaction.hash == bytes(signed.hash)
    assert transaction.sender.hex() == account.address[2:].lower()
    assert (transaction.nonce, transaction.gas, transaction.value, transaction.data) == (3, 90_000, 5, b"\x01\x02")
    assert (transaction.r, transaction.s, transaction.v) == (signed.r, signed.s, signed.v)
    assert transaction.max_fee_per_gas == (9 if "type" in fields and fields["type"] != 1 else 7)
    if kind == "set_code":
        assert transaction.authorization_list[0].authority == transaction.sender


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_damaged_transactions_raise_the_named_error(noise, position, byte):
    good = sign_transaction(
        b"\x05" * 32, chain_id=1, nonce=0, gas=21_000, to=b"\x01" * 20, max_fee_per_gas=1, value=7
    ).raw
    damaged = good[:position] + bytes([byte]) + good[position + 1 :]
    for raw in (noise, damaged, good[:position], good + noise):
        try:
            transaction = decode_transaction(raw)
            assert encode_transaction(transaction) == raw
            _ = transaction.sender
        except InvalidTransaction:
            pass


@settings(max_examples=100, deadline=None)
@given(
    source_hash=HASH,
    sender=ADDRESS,
    to=st.one_of(st.none(), ADDRESS),
    mint=UINT256,
    value=UINT256,
    gas=UINT64,
    is_system_transaction=st.booleans(),
    data=st.binary(max_size=100),
)
def test_deposits_go_there_and_back(**fields):
    deposit = DepositTransaction(**fields)
    assert DepositTransaction.decode(deposit.encode()) == deposit
    assert decode_transaction(deposit.encode()).deposit == deposit


RECEIPTS = st.builds(
    Receipt,
    type=st.sampled_from([0, 1, 2, 4]),
    status=st.integers(0, 1),
    cumulative_gas_used=UINT64,
    logs=st.lists(
        st.builds(Log, ADDRESS, st.lists(HASH, max_size=4).map(tuple), st.binary(max_size=40)), max_size=3
    ).map(tuple),
    gas_used=UINT64,
    effective_gas_price=UINT256,
    contract_address=st.one_of(st.none(), ADDRESS),
    l1_fee=st.one_of(st.none(), UINT256),
    operator_fee=st.one_of(st.none(), st.just(0), UINT64),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(RECEIPTS, max_size=4))
def test_stored_receipts_keep_their_derived_fields(receipts):
    assert decode_stored(encode_stored(receipts)) == tuple(receipts)
    for receipt in receipts:
        again = Receipt.decode(receipt.encode())
        assert again.encode() == receipt.encode()
        assert again.logs == receipt.logs


def test_a_receipt_of_op_mainnet_s_form_for_deposits():
    receipt = Receipt(0x7E, 1, 46913, (), deposit_nonce=4012991, deposit_version=1)
    assert Receipt.decode(receipt.encode()) == receipt
    bedrock = Receipt(0x7E, 1, 46913, (), deposit_nonce=4012991)
    assert receipts_root([receipt]) != receipts_root([bedrock])


def _header(**changes):
    values = {
        "parent_hash": b"\x01" * 32,
        "uncles_hash": b"\x02" * 32,
        "fee_recipient": b"\x03" * 20,
        "state_root": b"\x04" * 32,
        "transactions_root": b"\x05" * 32,
        "receipts_root": b"\x06" * 32,
        "logs_bloom": b"\x07" * 256,
        "difficulty": 0,
        "number": 8,
        "gas_limit": 9,
        "gas_used": 10,
        "timestamp": 11,
        "extra_data": b"\x0c" * 9,
        "prev_randao": b"\x0d" * 32,
        "nonce": bytes(8),
        "base_fee_per_gas": 14,
        "withdrawals_root": b"\x0f" * 32,
        "blob_gas_used": 0,
        "excess_blob_gas": 0,
        "parent_beacon_block_root": b"\x10" * 32,
        "requests_hash": b"\x11" * 32,
    }
    return Header(**{**values, **changes})


def test_headers_are_py_evm_s():
    header = _header()
    theirs = rlp.decode(header.encode(), PragueBlockHeader)
    assert theirs.hash == header.hash
    assert rlp.encode(theirs) == header.encode()
    assert Header.decode(header.encode()) == header


def test_blocks_are_py_evm_s():
    transactions = tuple(
        sign_transaction(
            b"\x05" * 32, type=type, chain_id=1, nonce=type, gas=21_000, to=b"\x01" * 20, max_fee_per_gas=1
        )
        for type in (0, 1, 2)
    )
    block = Block(_header(transactions_root=transactions_root(transactions)), transactions)
    theirs = rlp.decode(block.encode(), PragueBlock)
    assert rlp.encode(theirs) == block.encode()
    assert [item.hash for item in theirs.transactions] == [item.hash for item in transactions]
    assert [item.sender for item in theirs.transactions] == [item.sender for item in transactions]
    assert Block.decode(block.encode()) == block


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 900), st.integers(0, 255), st.binary(max_size=50))
def test_damaged_blocks_raise_the_named_error(position, byte, noise):
    deposit = transaction_from_deposit(DepositTransaction(b"\x01" * 32, b"\x02" * 20, None, 1, 2, 3, False, b"data"))
    good = Block(_header(), (deposit,)).encode()
    position %= len(good)
    for raw in (noise, good[:position], good[:position] + bytes([byte]) + good[position + 1 :], good + noise):
        try:
            block = Block.decode(raw)
            assert block.encode() == raw
        except UndecodableBlock:
            pass


def test_the_hash_is_keccak():
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
