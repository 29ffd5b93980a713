"""Osaka's EIPs, by the numbers that they write down."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openledger.evm_ext import CallRequest
from openledger.evm_ext.block import transactions_root
from openledger.evm_ext.errors import (
    BlockTooLarge,
    HeaderFieldMismatch,
    InvalidBlobTransaction,
    InvalidBlockTransaction,
    TransactionGasTooHigh,
)
from openledger.evm_ext.fees import GAS_PER_BLOB, blob_base_fee, next_excess_blob_gas_with_floor
from openledger.evm_ext.header_rules import child_excess_blob_gas
from openledger.evm_ext.vm.rules import MAX_BLOCK_RLP_BYTES, MAX_TRANSACTION_GAS
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hardforks import PRAGUE_BLOBS, BlobParameters, Hardfork, HardforkSchedule

CHAIN_ID = 1337
CLZ = b"\xc1" * 20
# PUSH0 CALLDATALOAD CLZ PUSH0 MSTORE PUSH1 32 PUSH0 RETURN
CLZ_CODE = bytes.fromhex("5f351e5f5260205ff3")
P256VERIFY = (0x100).to_bytes(20, "big")


@pytest.fixture
def open_at(tools, open_chain):
    def open_one(schedule: HardforkSchedule, name: str = "chain", **changes):
        genesis = replace(tools.ethereum_genesis({CLZ: GenesisAccount(code=CLZ_CODE)}), hardforks=schedule, **changes)
        return open_chain(genesis, name)

    return open_one


@pytest.mark.parametrize(
    ("word", "zeros"),
    [(0, 256), (1 << 255, 0), (2**256 - 1, 0), (1 << 254, 1), (2**255 - 1, 1), (1, 255)],
    ids=["zero", "top", "ones", "second", "below top", "one"],
)
def test_clz_counts_as_eip_7939_lists(word, zeros, open_at):
    chain = open_at(HardforkSchedule.always(Hardfork.OSAKA))
    result = chain.call(CallRequest(to=CLZ, data=word.to_bytes(32, "big")), chain.head().hash)
    assert result.success
    assert int.from_bytes(result.output, "big") == zeros


def test_clz_costs_five_gas_and_is_no_opcode_in_prague(open_at):
    with_clz = open_at(HardforkSchedule.always(Hardfork.OSAKA))
    data = b"\xff" * 32
    gas = with_clz.call(CallRequest(to=CLZ, data=data), with_clz.head().hash).gas_used
    floor = 21_000 + 40 * 32
    assert gas == max(21_000 + 32 * 16 + 2 + 3 + 5 + 2 + 3 + 3 + 3 + 2, floor)
    tight = CallRequest(to=CLZ, data=b"", gas=21_000 + 2 + 3 + 4)
    assert with_clz.call(tight, with_clz.head().hash).error.startswith("out of gas")
    without = open_at(HardforkSchedule.always(Hardfork.PRAGUE), "prague")
    assert "opcode" in without.call(CallRequest(to=CLZ, data=data), without.head().hash).error


def test_no_transaction_may_ask_for_more_than_2_to_the_24_gas(open_at, tools):
    chain = open_at(HardforkSchedule.always(Hardfork.OSAKA))
    assert MAX_TRANSACTION_GAS == 16_777_216
    tools.extend(chain, (tools.signed(0, CHAIN_ID, 0, CLZ, gas=MAX_TRANSACTION_GAS),))
    over = tools.signed(0, CHAIN_ID, 1, CLZ, gas=MAX_TRANSACTION_GAS + 1)
    with pytest.raises(InvalidBlockTransaction) as raised:
        tools.extend(chain, (over,))
    assert isinstance(raised.value.reason, TransactionGasTooHigh)
    before = open_at(HardforkSchedule.always(Hardfork.PRAGUE), "prague")
    tools.extend(before, (tools.signed(0, CHAIN_ID, 0, CLZ, gas=MAX_TRANSACTION_GAS + 1),))


def test_p256verify_is_there_since_osaka_for_6900_gas(open_at):
    schedule = HardforkSchedule.always(Hardfork.PRAGUE).since(Hardfork.OSAKA, 1_800_000_000)
    chain = open_at(schedule)
    rules = chain.rules
    from openledger.evm_ext.vm.machines import machine

    assert P256VERIFY not in machine(rules.at(1, 1_799_999_999)).get_precompiles()
    assert P256VERIFY in machine(rules.at(1, 1_800_000_000)).get_precompiles()
    now = open_at(HardforkSchedule.always(Hardfork.OSAKA), "osaka")
    assert now.call(CallRequest(to=P256VERIFY, data=b"\x00"), now.head().hash).gas_used == 21_000 + 4 + 6_900


def blob_transaction(tools, nonce: int, blobs: int):
    return tools.signed(
        0, CHAIN_ID, nonce, CLZ, type=3, max_fee_per_blob_gas=10**9,
        blob_versioned_hashes=tuple(b"\x01" + bytes([index]) * 31 for index in range(blobs)),
    )  # fmt: skip


def test_a_transaction_carries_at_most_six_blobs_and_a_block_as_many_as_its_schedule_says(open_at, tools):
    chain = open_at(HardforkSchedule.always(Hardfork.OSAKA))
    with pytest.raises(InvalidBlockTransaction) as raised:
        tools.extend(chain, (blob_transaction(tools, 0, 7),))
    assert isinstance(raised.value.reason, InvalidBlobTransaction)
    block = tools.extend(chain, (blob_transaction(tools, 0, 6), blob_transaction(tools, 1, 3)))
    assert block.header.blob_gas_used == 9 * GAS_PER_BLOB
    with pytest.raises(InvalidBlockTransaction, match="blob gas limit"):
        tools.extend(chain, (blob_transaction(tools, 2, 6), blob_transaction(tools, 3, 4)))
    more = replace(HardforkSchedule.always(Hardfork.OSAKA), bpo1_time=0)
    wider = open_at(more, "bpo")
    assert (
        tools.extend(wider, tuple(blob_transaction(tools, index, 5) for index in range(3))).header.blob_gas_used
        == 15 * GAS_PER_BLOB
    )


def test_excess_blob_gas_has_a_floor_by_the_base_fee():
    """EIP-7918: BLOB_BASE_COST (2**13) * base fee against GAS_PER_BLOB (2**17) * blob base fee."""
    blobs = PRAGUE_BLOBS
    target = blobs.target * GAS_PER_BLOB
    assert next_excess_blob_gas_with_floor(0, target - 1, 10**12, blobs) == 0
    # blobs cost 1 wei: from a base fee of 17 wei on their price is below what they are worth
    assert blob_base_fee(0) == 1
    used = 9 * GAS_PER_BLOB
    assert next_excess_blob_gas_with_floor(0, used, 16, blobs) == used - target
    assert next_excess_blob_gas_with_floor(0, used, 17, blobs) == used * 3 // 9
    assert next_excess_blob_gas_with_floor(10**7, 0, 10**12, blobs) == 10**7
    assert next_excess_blob_gas_with_floor(10**7, 0, 0, BlobParameters(14, 21, 11_684_671)) == 10**7 - 14 * GAS_PER_BLOB


def test_the_floor_is_what_a_chain_at_osaka_follows(open_at, tools):
    chain = open_at(HardforkSchedule.always(Hardfork.OSAKA), base_fee_per_gas=10**9)
    block = tools.extend(chain, (blob_transaction(tools, 0, 6), blob_transaction(tools, 1, 3)))
    following = tools.extend(chain)
    assert following.header.excess_blob_gas == 9 * GAS_PER_BLOB * 3 // 9
    assert child_excess_blob_gas(chain.rules, block.header) == following.header.excess_blob_gas
    before = open_at(HardforkSchedule.always(Hardfork.PRAGUE), "prague")
    tools.extend(before, (blob_transaction(tools, 0, 6), blob_transaction(tools, 1, 3)))
    assert tools.extend(before).header.excess_blob_gas == 3 * GAS_PER_BLOB


def test_no_block_is_longer_than_8_mib_and_none_is_built_so(open_at, tools):
    chain = open_at(HardforkSchedule.always(Hardfork.OSAKA), gas_limit=150_000_000)
    assert MAX_BLOCK_RLP_BYTES == 10 * 2**20 - 2 * 2**20
    size = 1_600_000
    payments = [tools.signed(0, CHAIN_ID, nonce, CLZ, data=bytes(size), gas=MAX_TRANSACTION_GAS) for nonce in range(6)]
    parent = chain.head()
    built = chain.build(parent.hash, tools.attributes(parent), payments)
    assert len(built.transactions) == 5
    assert len(built.encode()) <= MAX_BLOCK_RLP_BYTES
    longer = replace(built, transactions=tuple(payments))
    header = replace(built.header, transactions_root=transactions_root(longer.transactions))
    with pytest.raises(BlockTooLarge, match="8388608"):
        chain.import_block(replace(longer, header=header))


def test_forks_by_timestamp_change_the_header_and_the_rules_at_their_second(open_at, tools):
    start = tools.ethereum_genesis().timestamp
    schedule = (
        HardforkSchedule.always(Hardfork.PARIS)
        .since(Hardfork.SHANGHAI, start + 4)
        .since(Hardfork.CANCUN, start + 8)
        .since(Hardfork.PRAGUE, start + 12)
        .since(Hardfork.OSAKA, start + 16)
    )
    chain = open_at(schedule)
    forms = []
    for _ in range(10):
        block = tools.extend(chain)
        forms.append((int(block.header.form), chain.rules.of(block.header).fork.name))
    assert forms == [
        (16, "PARIS"), (17, "SHANGHAI"), (17, "SHANGHAI"), (20, "CANCUN"), (20, "CANCUN"), (21, "PRAGUE"),
        (21, "PRAGUE"), (21, "OSAKA"), (21, "OSAKA"), (21, "OSAKA"),
    ]  # fmt: skip
    again = open_at(schedule, "importer")
    for number in range(1, 11):
        again.import_block(chain.block_by_number(number))
    shanghai = chain.block_by_number(2)
    with pytest.raises(HeaderFieldMismatch, match="withdrawals_root"):
        again.import_block(replace(shanghai, header=replace(shanghai.header, timestamp=start + 3)))
