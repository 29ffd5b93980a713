"""Fees against published vectors and against independent arithmetic."""

from __future__ import annotations

import pytest
from eth._utils.calculations import fake_exponential as reference_fake_exponential
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.evm_ext.fees import (
    L1FeeParameters,
    blob_base_fee,
    fake_exponential,
    flz_compress_len,
    l1_gas_used,
    next_base_fee,
    next_excess_blob_gas,
)
from openledger.evm_ext.transactions import decode_transaction

# Source: op-geth core/types/rollup_cost_test.go; the transaction is on OP Mainnet.
EMPTY_TRANSACTION = bytes.fromhex("dd80808094095e7baea6a6c7c4c2dfeb977efac326af552d878080808080")
CONTRACT_CALL = bytes.fromhex(
    "02f901550a758302df1483be21b88304743f94f8"
    "0e51afb613d764fa61751affd3313c190a86bb870151bd62fd12adb8"
    "e41ef24f3f0000000000000000000000000000000000000000000000"
    "00000000000000006e000000000000000000000000af88d065e77c8c"
    "c2239327c5edb3a432268e5831000000000000000000000000000000"
    "000000000000000000000000000003c1e50000000000000000000000"
    "00000000000000000000000000000000000000000000000000000000"
    "000000000000000000000000000000000000000000000000a0000000"
    "00000000000000000000000000000000000000000000000000000000"
    "148c89ed219d02f1a5be012c689b4f5b731827bebe00000000000000"
    "0000000000c001a033fd89cb37c31b2cba46b6466e040c61fc9b2a36"
    "75a7f5f493ebd5ad77c497f8a07cdf65680e238392693019b4092f61"
    "0222e71b7cec06449cb922b93b6a12744e"
)


@pytest.mark.parametrize(
    ("data", "length"),
    [(b"", 0), (b"\x01" * 1000, 21), (bytes(1000), 21), (EMPTY_TRANSACTION, 31), (CONTRACT_CALL, 202)],
)
def test_fastlz_lengths_are_those_of_op_geth(data, length):
    assert flz_compress_len(data) == length


def _real_fastlz_length(data: bytes) -> int:
    """FastLZ level 1 that really compresses, after Solady's LibZip, and is checked by decompressing."""
    size = len(data)
    table = [0] * 8192
    output = bytearray()
    anchor = 0
    position = 2
    group = lambda at: data[at] | data[at + 1] << 8 | data[at + 2] << 16  # noqa: E731
    slot = lambda at: (2654435769 * group(at) >> 19) & 8191  # noqa: E731

    def literals(start: int, end: int) -> None:
        while start < end:
            run = min(32, end - start)
            output.append(run - 1)
            output.extend(data[start : start + run])
            start += run

    while position < size - 13:
        found = None
        while position < size - 13:
            reference = table[slot(position)]
            table[slot(position)] = position
            if position - reference <= 8191 and group(reference) == group(position):
                found = reference
                break
            position += 1
        if found is None or position + 1 >= size - 13:
            break
        literals(anchor, position)
        length = 3
        while position + length < size - 5 and data[found + length] == data[position + length]:
            length += 1
        # `length` bytes match; the format stores length - 2 and the distance less one.
        stored, distance = length - 2, position - found - 1
        while stored > 262:
            output.extend((224 + (distance >> 8), 253, distance & 255))
            stored -= 262
        if stored < 7:
            output.extend((stored * 32 + (distance >> 8), distance & 255))
        else:
            output.extend((224 + (distance >> 8), stored - 7, distance & 255))
        position += length - 2
        for _ in range(2):
            table[slot(position)] = position
            position += 1
        anchor = position
    literals(anchor, size)
    assert _decompress(bytes(output)) == data
    return len(output)


def _decompress(compressed: bytes) -> bytes:
    output = bytearray()
    position = 0
    while position < len(compressed):
        control = compressed[position]
        if control < 32:
            output.extend(compressed[position + 1 : position + 2 + control])
            position += 2 + control
            continue
        if control >> 5 == 7:
            length, distance = 9 + compressed[position + 1], (control & 31) << 8 | compressed[position + 2]
            position += 3
        else:
            length, distance = 2 + (control >> 5), (control & 31) << 8 | compressed[position + 1]
            position += 2
        for _ in range(length):
            output.append(output[-distance - 1])
    return bytes(output)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(st.binary(max_size=12), st.sampled_from([bytes(32), b"abcabcabc", b"\x01" * 300, bytes(19)])),
        max_size=25,
    ).map(b"".join)
)
def test_the_length_is_that_of_a_real_compressor_whose_output_decompresses(data):
    assert flz_compress_len(data) == _real_fastlz_length(data)


def test_the_l1_fee_is_that_of_the_fjord_specification():
    parameters = L1FeeParameters(
        base_fee=2_000_000,
        blob_base_fee=3_000_000,
        base_fee_scalar=20,
        blob_base_fee_scalar=15,
        operator_fee_scalar=0,
        operator_fee_constant=0,
    )
    assert parameters.l1_fee(235) == 105_484


def test_a_small_transaction_pays_for_a_hundred_bytes():
    # Source: op-geth, fjordFee with its minimum of 100 bytes.
    parameters = L1FeeParameters(1_000_000_000, 10_000_000, 2, 3, 0, 0)
    assert parameters.l1_fee(31) == 100 * (2 * 1000 * 16 + 3 * 10)
    assert l1_gas_used(31) == 1600


def test_the_slots_are_read_as_l1_block_packs_them():
    scalars = (20 << 96) | (15 << 64) | 7
    operator = (1_500_000 << 64) | 99
    parameters = L1FeeParameters.from_slots(1, scalars, 2, operator)
    assert (parameters.base_fee_scalar, parameters.blob_base_fee_scalar) == (20, 15)
    assert parameters.operator_fee(100_000) == 150_000 + 99
    assert L1FeeParameters.from_slots(1, scalars, 2, 0).operator_fee(10**6) == 0


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        # denominator 250, elasticity 6, limit 60M: target 10M
        (10_000_000, 1_000_000_000),
        (60_000_000, 1_000_000_000 + 1_000_000_000 * 50 // 10 // 250),
        (0, 1_000_000_000 - 1_000_000_000 // 250),
        (10_000_001, 1_000_000_001),
        (9_999_999, 1_000_000_000),
    ],
)
def test_the_base_fee_follows_holocene_parameters(used, expected):
    assert next_base_fee(1_000_000_000, used, 60_000_000, 250, 6) == expected


def test_a_tiny_base_fee_still_rises():
    assert next_base_fee(1, 60_000_000, 60_000_000, 250, 6) == 2
    assert next_base_fee(0, 60_000_000, 60_000_000, 250, 6) == 1


@given(st.integers(0, 10**8), st.integers(1, 10**7))
def test_the_exponential_is_py_evm_s(numerator, denominator):
    if numerator // denominator < 200:
        assert fake_exponential(1, numerator, denominator) == reference_fake_exponential(1, numerator, denominator)


def test_blob_prices():
    assert blob_base_fee(0) == 1
    assert next_excess_blob_gas(0, 6 * 2**17) == 0
    assert next_excess_blob_gas(5, 9 * 2**17) == 3 * 2**17 + 5


def test_the_op_mainnet_transaction_is_read_whole():
    transaction = decode_transaction(CONTRACT_CALL)
    assert transaction.hash.hex() == "8eb9dd4eb6d33f4dc25fb015919e4b1e9f7542f9b0322bf6622e268cd116b594"
    assert transaction.sender.hex() == "8c89ed219d02f1a5be012c689b4f5b731827bebe"
