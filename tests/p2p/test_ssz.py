import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.evm_ext.payload import ExecutionPayload, Withdrawal
from openledger.p2p.ssz import FIXED_BYTES, InvalidPayloadEncoding, decode_payload, encode_payload

VECTORS = json.loads((Path(__file__).parent / "vectors/ssz-payload-v4.json").read_text())["cases"]
ROOT = bytes(range(32))
NUMBERS = {
    "block_number",
    "gas_limit",
    "gas_used",
    "timestamp",
    "base_fee_per_gas",
    "blob_gas_used",
    "excess_blob_gas",
}


def payload_of(case: dict[str, Any]) -> ExecutionPayload:
    fields = {name: int(value) if name in NUMBERS else bytes.fromhex(value) for name, value in case["fields"].items()}
    transactions = tuple(bytes.fromhex(item) for item in case["transactions"])
    return ExecutionPayload(**fields, transactions=transactions, parent_beacon_block_root=ROOT)


PAYLOAD = payload_of(VECTORS[2])
ENCODED = bytes.fromhex(VECTORS[2]["ssz"])


@pytest.mark.parametrize("case", VECTORS)
def test_encoding_equals_remerkleable(case: dict[str, Any]) -> None:
    payload = payload_of(case)
    assert encode_payload(payload).hex() == case["ssz"]
    assert decode_payload(bytes.fromhex(case["ssz"]), ROOT) == payload


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=32), st.lists(st.binary(max_size=60), max_size=12), st.integers(0, 2**256 - 1))
def test_decode_inverts_encode(extra_data: bytes, transactions: list[bytes], base_fee: int) -> None:
    payload = replace(PAYLOAD, extra_data=extra_data, transactions=tuple(transactions), base_fee_per_gas=base_fee)
    assert decode_payload(encode_payload(payload), ROOT) == payload


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(ENCODED) - 1), st.integers(0, 255))
def test_every_accepted_encoding_is_the_only_one(index: int, value: int) -> None:
    data = bytearray(ENCODED)
    data[index] = value
    try:
        payload = decode_payload(bytes(data), ROOT)
    except InvalidPayloadEncoding:
        return
    assert encode_payload(payload) == bytes(data)


def with_offset(position: int, value: int) -> bytes:
    data = bytearray(ENCODED)
    data[position : position + 4] = value.to_bytes(4, "little")
    return bytes(data)


EXTRA_DATA_OFFSET, TRANSACTIONS_OFFSET, WITHDRAWALS_OFFSET = 436, 504, 508
LIST = FIXED_BYTES + 32


@pytest.mark.parametrize(
    "data",
    [
        b"",
        ENCODED[: FIXED_BYTES - 1],
        with_offset(EXTRA_DATA_OFFSET, FIXED_BYTES - 1),
        with_offset(EXTRA_DATA_OFFSET, FIXED_BYTES + 1),
        with_offset(TRANSACTIONS_OFFSET, FIXED_BYTES - 1),
        with_offset(TRANSACTIONS_OFFSET, FIXED_BYTES + 33),
        with_offset(TRANSACTIONS_OFFSET, 2**32 - 1),
        with_offset(WITHDRAWALS_OFFSET, len(ENCODED) + 1),
        with_offset(WITHDRAWALS_OFFSET, len(ENCODED) - 1),
        with_offset(WITHDRAWALS_OFFSET, FIXED_BYTES),
        ENCODED + bytes(44),
        with_offset(LIST, 0),
        with_offset(LIST, 3),
        with_offset(LIST, 2**32 - 4),
        with_offset(LIST + 4, 0),
        with_offset(LIST + 4, 2**32 - 1),
    ],
)
def test_malformed_payload_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidPayloadEncoding):
        decode_payload(data, ROOT)


@pytest.mark.parametrize(
    "change",
    [
        {"extra_data": bytes(33)},
        {"withdrawals": (Withdrawal(0, 0, bytes(20), 0),)},
        {"parent_hash": bytes(31)},
        {"fee_recipient": bytes(32)},
        {"parent_beacon_block_root": b""},
    ],
)
def test_field_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        encode_payload(replace(PAYLOAD, **change))
