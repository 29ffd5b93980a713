"""geth's block overrides: what a call pretends about the block it runs in."""

from __future__ import annotations

from typing import Any

from openledger.evm_ext.overrides import BlockOverrides
from openledger.evm_ext.payload import Withdrawal
from openledger.node.rpc.parameters import (
    decode_address,
    decode_hash,
    decode_object,
    decode_quantity,
    decode_uint64,
    list_of,
)

MOST_WITHDRAWALS = 1_000


def decode_block_overrides(value: Any) -> BlockOverrides:
    """Unknown fields are passed over. Raises ValueError."""
    fields = {name: item for name, item in decode_object(value).items() if item is not None}

    def read(name: str, decode: Any) -> Any:
        return decode(fields[name]) if name in fields else None

    withdrawals = read("withdrawals", list_of(_withdrawal, MOST_WITHDRAWALS))
    return BlockOverrides(
        number=read("number", decode_uint64),
        difficulty=read("difficulty", decode_quantity),
        timestamp=read("time", decode_uint64),
        gas_limit=read("gasLimit", decode_uint64),
        fee_recipient=read("feeRecipient", decode_address) or read("coinbase", decode_address),
        prev_randao=read("prevRandao", decode_hash) or read("random", decode_hash),
        base_fee_per_gas=read("baseFeePerGas", decode_quantity)
        if "baseFeePerGas" in fields
        else read("baseFee", decode_quantity),
        blob_base_fee=read("blobBaseFee", decode_quantity),
        parent_beacon_block_root=read("beaconRoot", decode_hash),
        withdrawals=None if withdrawals is None else tuple(withdrawals),
    )


def _withdrawal(value: Any) -> Withdrawal:
    fields = decode_object(value)
    return Withdrawal(
        decode_uint64(fields.get("index")),
        decode_uint64(fields.get("validatorIndex")),
        decode_address(fields.get("address")),
        decode_uint64(fields.get("amount")),
    )
