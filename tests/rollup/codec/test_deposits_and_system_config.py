import pytest
from eth_abi import encode as abi_encode
from eth_utils import keccak
from hypothesis import given
from hypothesis import strategies as st

from openledger.evm_ext.receipts import Log
from openledger.evm_ext.transactions import DepositTransaction
from openledger.rollup.codec.abi_bytes import InvalidAbi, read_single_bytes, write_single_bytes
from openledger.rollup.codec.deposits import (
    TRANSACTION_DEPOSITED_TOPIC,
    InvalidDeposit,
    apply_alias,
    deposit_from_log,
    deposits_in_block,
    encode_opaque_data,
    l1_info_source_hash,
    upgrade_source_hash,
    user_source_hash,
)
from openledger.rollup.codec.l1_info import InvalidL1Info, L1Info, decode_l1_info, encode_l1_info, l1_info_deposit
from openledger.rollup.codec.outputs import output_root, withdrawal_storage_slot
from openledger.rollup.codec.system_config import (
    CONFIG_UPDATE_TOPIC,
    InvalidConfigUpdate,
    SystemConfig,
    apply_update,
    apply_updates,
    decode_fee_scalar,
    encode_fee_scalar,
)

U32, U64, U256 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**256 - 1)
ADDRESSES, HASHES = st.binary(min_size=20, max_size=20), st.binary(min_size=32, max_size=32)
PORTAL, SYSTEM_CONFIG = b"\x01" * 20, b"\x02" * 20
CONFIG = SystemConfig(b"\x03" * 20, 1, 2, 30_000_000)


def word(value: int | bytes) -> bytes:
    return value.rjust(32, b"\0") if isinstance(value, bytes) else value.to_bytes(32, "big")


def deposit_log(opaque: bytes, version: int = 0, sender: bytes = b"\x0a" * 20, to: bytes = b"\x0b" * 20) -> Log:
    topics = (TRANSACTION_DEPOSITED_TOPIC, word(sender), word(to), word(version))
    return Log(PORTAL, topics, abi_encode(["bytes"], [opaque]))


def test_the_deposit_topic_is_the_specifications() -> None:
    assert TRANSACTION_DEPOSITED_TOPIC.hex() == "b3813568d9991fc951961fcb4c784893574240a28925604d09fc577c55bb7c32"


@given(st.binary(max_size=100))
def test_single_bytes_is_eth_abis_encoding(value: bytes) -> None:
    encoded = abi_encode(["bytes"], [value])
    assert write_single_bytes(value) == encoded
    assert read_single_bytes(encoded) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(63),
        word(64) + word(0),
        word(32) + word(1),
        word(32) + word(1) + b"a" + b"\x01" * 31,
        word(32) + word(0) + bytes(32),
        word(32) + word(2**256 - 1) + bytes(32),
    ],
)
def test_abi_bytes_in_any_other_form_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidAbi):
        read_single_bytes(data)


@given(
    mint=U256, value=U256, gas=U64, creation=st.booleans(), data=st.binary(max_size=80), sender=ADDRESSES, to=ADDRESSES
)
def test_a_portal_log_becomes_its_deposit(
    mint: int, value: int, gas: int, creation: bool, data: bytes, sender: bytes, to: bytes
) -> None:
    opaque = encode_opaque_data(mint=mint, value=value, gas=gas, is_creation=creation, data=data)
    assert len(opaque) == 73 + len(data)
    deposit = deposit_from_log(deposit_log(opaque, sender=sender, to=to), b"\x11" * 32, 5)
    assert deposit == DepositTransaction(
        user_source_hash(b"\x11" * 32, 5), sender, None if creation else to, mint, value, gas, False, data
    )
    assert DepositTransaction.decode(deposit.encode()) == deposit


def test_source_hashes_follow_the_three_domains() -> None:
    block, index = b"\x22" * 32, 7
    assert user_source_hash(block, index) == keccak(word(0) + keccak(block + word(index)))
    assert l1_info_source_hash(block, index) == keccak(word(1) + keccak(block + word(index)))
    # Ecotone's published source hash of the L1Block deployment (ecotone/derivation.md).
    assert (
        upgrade_source_hash("Ecotone: L1 Block Deployment").hex()
        == "877a6077205782ea15a6dc8699fa5ebcec5e0f4389f09cb8eda09488231346f8"
    )


@pytest.mark.parametrize(
    "log",
    [
        deposit_log(bytes(72)),
        deposit_log(bytes(73), version=1),
        deposit_log(bytes(72) + b"\x02"),
        Log(PORTAL, (TRANSACTION_DEPOSITED_TOPIC, word(1), word(2)), abi_encode(["bytes"], [bytes(73)])),
        Log(PORTAL, (word(9), word(1), word(2), word(0)), abi_encode(["bytes"], [bytes(73)])),
        Log(PORTAL, (TRANSACTION_DEPOSITED_TOPIC, b"\xff" * 32, word(2), word(0)), abi_encode(["bytes"], [bytes(73)])),
        Log(PORTAL, (TRANSACTION_DEPOSITED_TOPIC, word(1), word(2), word(0)), b""),
    ],
)
def test_a_log_that_is_no_version_zero_deposit_is_refused(log: Log) -> None:
    with pytest.raises(InvalidDeposit):
        deposit_from_log(log, bytes(32), 0)


def test_only_the_portals_logs_count_and_keep_their_block_wide_index() -> None:
    good = deposit_log(encode_opaque_data(mint=1, value=0, gas=21000, is_creation=False, data=b""))
    stranger = Log(SYSTEM_CONFIG, good.topics, good.data)
    other = Log(PORTAL, (word(1),), b"")
    found = deposits_in_block(enumerate([stranger, other, good]), PORTAL, b"\x33" * 32)
    assert [deposit.source_hash for deposit in found] == [user_source_hash(b"\x33" * 32, 2)]


def test_contract_senders_are_aliased_modulo_two_to_the_160() -> None:
    assert apply_alias(bytes(20)).hex() == "1111000000000000000000000000000000001111"
    assert apply_alias(b"\xff" * 20).hex() == "1111000000000000000000000000000000001110"


INFOS = st.builds(
    L1Info,
    number=U64,
    timestamp=U64,
    base_fee=U256,
    blob_base_fee=U256,
    block_hash=HASHES,
    sequence_number=U64,
    batcher=ADDRESSES,
    base_fee_scalar=U32,
    blob_base_fee_scalar=U32,
    operator_fee_scalar=U32,
    operator_fee_constant=U64,
)


@given(INFOS)
def test_l1_info_lies_at_the_offsets_of_the_specification(info: L1Info) -> None:
    data = encode_l1_info(info)
    assert len(data) == 176
    assert decode_l1_info(data) == info
    assert data[:4].hex() == "098999be"
    assert int.from_bytes(data[4:8], "big") == info.base_fee_scalar
    assert int.from_bytes(data[8:12], "big") == info.blob_base_fee_scalar
    assert int.from_bytes(data[12:20], "big") == info.sequence_number
    assert int.from_bytes(data[20:28], "big") == info.timestamp
    assert int.from_bytes(data[28:36], "big") == info.number
    assert int.from_bytes(data[36:68], "big") == info.base_fee
    assert int.from_bytes(data[68:100], "big") == info.blob_base_fee
    assert data[100:132] == info.block_hash
    assert data[132:164] == word(info.batcher)
    assert int.from_bytes(data[164:168], "big") == info.operator_fee_scalar
    assert int.from_bytes(data[168:176], "big") == info.operator_fee_constant


def test_the_l1_info_deposit_is_the_depositors_call_of_l1_block() -> None:
    info = L1Info(1, 2, 3, 4, b"\x05" * 32, 6, b"\x07" * 20, 8, 9, 10, 11)
    deposit = l1_info_deposit(info)
    assert deposit.sender.hex() == "deaddeaddeaddeaddeaddeaddeaddeaddead0001"
    assert deposit.to is not None
    assert deposit.to.hex() == "4200000000000000000000000000000000000015"
    assert (deposit.mint, deposit.value, deposit.gas, deposit.is_system_transaction) == (0, 0, 1_000_000, False)
    assert deposit.source_hash == l1_info_source_hash(info.block_hash, 6)


def test_l1_info_of_another_form_is_refused() -> None:
    good = encode_l1_info(L1Info(1, 2, 3, 4, b"\x05" * 32, 6, b"\x07" * 20, 8, 9, 10, 11))
    for bad in (good[:-1], good + b"\0", b"\x44\x0a\x5e\x20" + good[4:], good[:132] + b"\x01" + good[133:]):
        with pytest.raises(InvalidL1Info):
            decode_l1_info(bad)


def update(kind: int, value: bytes, version: int = 0) -> Log:
    return Log(SYSTEM_CONFIG, (CONFIG_UPDATE_TOPIC, word(version), word(kind)), abi_encode(["bytes"], [value]))


def test_the_config_topic_is_the_event_signatures_hash() -> None:
    assert keccak(text="ConfigUpdate(uint256,uint8,bytes)") == CONFIG_UPDATE_TOPIC


def test_each_update_changes_its_own_value() -> None:
    assert apply_update(CONFIG, update(0, word(b"\x09" * 20))).batcher == b"\x09" * 20
    scalars = apply_update(CONFIG, update(1, word(0) + encode_fee_scalar(77, 88)))
    assert (scalars.base_fee_scalar, scalars.blob_base_fee_scalar) == (77, 88)
    assert apply_update(CONFIG, update(2, word(40_000_000))).gas_limit == 40_000_000
    assert apply_update(CONFIG, update(3, word(b"\x09" * 20))) == CONFIG
    params = apply_update(CONFIG, update(4, word(250 << 32 | 6)))
    assert (params.eip_1559_denominator, params.eip_1559_elasticity) == (250, 6)
    assert params.eip_1559_params == bytes.fromhex("000000fa00000006")
    fee = apply_update(CONFIG, update(5, word(100 << 64 | 1000)))
    assert (fee.operator_fee_scalar, fee.operator_fee_constant) == (100, 1000)


@pytest.mark.parametrize(
    "log",
    [
        update(0, b"\xff" * 32),
        update(1, word(0)),
        update(1, word(0) + b"\x02" + bytes(31)),
        update(1, word(0) + b"\x01" + b"\x01" + bytes(30)),
        update(2, b"\x01" + bytes(31)),
        update(4, b"\x01" + bytes(31)),
        update(5, b"\x01" + bytes(31)),
        update(9, word(1)),
        update(2, word(1), version=1),
        Log(SYSTEM_CONFIG, (CONFIG_UPDATE_TOPIC,), b""),
        Log(SYSTEM_CONFIG, (CONFIG_UPDATE_TOPIC, word(0), word(2)), b"\x01"),
    ],
)
def test_an_unreadable_update_is_skipped_and_the_reason_told(log: Log) -> None:
    with pytest.raises(InvalidConfigUpdate):
        apply_update(CONFIG, log)
    good = update(2, word(50_000_000))
    config, skipped = apply_updates(CONFIG, enumerate([log, good]), SYSTEM_CONFIG)
    assert config.gas_limit == 50_000_000
    assert len(skipped) == 1


@given(U32, U32)
def test_fee_scalars_survive_their_word(base: int, blob: int) -> None:
    assert decode_fee_scalar(encode_fee_scalar(base, blob)) == (base, blob)


def test_output_root_and_withdrawal_slot_are_hashes_of_the_written_layout() -> None:
    state, storage, block = b"\x01" * 32, b"\x02" * 32, b"\x03" * 32
    assert output_root(state, storage, block) == keccak(bytes(32) + state + storage + block)
    assert withdrawal_storage_slot(block) == keccak(abi_encode(["bytes32", "uint256"], [block, 0]))
