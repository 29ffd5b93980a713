"""SSZ of the OP-Stack's execution payload, version 4 (Isthmus): the only SSZ type that travels between peers.

The fixed part is the consensus layer's ExecutionPayload with `withdrawals_root` appended; offsets of the three
lists are from the payload's start. Source: OP-Stack specification, "rollup node p2p"; consensus-specs, deneb.
"""

import itertools
import struct

from openledger.evm_ext.payload import ExecutionPayload

MAX_EXTRA_DATA_BYTES = 32
MAX_TRANSACTIONS = 1 << 20

# parent hash, fee recipient, state root, receipts root, bloom, randao | number, gas limit, gas used, time |
# offset of extra data | base fee, block hash | offsets of transactions and withdrawals | blob gas used, excess |
# withdrawals root
_FIXED = struct.Struct("<32s20s32s32s256s32sQQQQI32s32sIIQQ32s")
FIXED_BYTES = _FIXED.size


class InvalidPayloadEncoding(ValueError):
    """The bytes are not the one SSZ encoding of a payload."""


def encode_payload(payload: ExecutionPayload) -> bytes:
    """The SSZ bytes, without the parent beacon block root. Raises ValueError when a field does not fit."""
    if payload.withdrawals:
        raise ValueError("an OP payload has no withdrawals")
    if len(payload.extra_data) > MAX_EXTRA_DATA_BYTES:
        raise ValueError(f"extra data of {len(payload.extra_data)} bytes; the limit is {MAX_EXTRA_DATA_BYTES}")
    for name, length in _LENGTHS.items():
        if len(getattr(payload, name)) != length:
            raise ValueError(f"{name} has {len(getattr(payload, name))} bytes instead of {length}")
    transactions = _encode_transactions(payload.transactions)
    transactions_offset = FIXED_BYTES + len(payload.extra_data)
    fixed = _FIXED.pack(
        payload.parent_hash,
        payload.fee_recipient,
        payload.state_root,
        payload.receipts_root,
        payload.logs_bloom,
        payload.prev_randao,
        payload.block_number,
        payload.gas_limit,
        payload.gas_used,
        payload.timestamp,
        FIXED_BYTES,
        payload.base_fee_per_gas.to_bytes(32, "little"),
        payload.block_hash,
        transactions_offset,
        transactions_offset + len(transactions),
        payload.blob_gas_used,
        payload.excess_blob_gas,
        payload.withdrawals_root,
    )
    return b"".join((fixed, payload.extra_data, transactions))


def decode_payload(data: bytes, parent_beacon_block_root: bytes) -> ExecutionPayload:
    """The payload in `data`; re-encoding it gives `data` again. Raises InvalidPayloadEncoding."""
    if len(data) < FIXED_BYTES:
        raise InvalidPayloadEncoding(f"{len(data)} bytes are fewer than a payload's fixed part of {FIXED_BYTES}")
    (
        parent_hash,
        fee_recipient,
        state_root,
        receipts_root,
        logs_bloom,
        prev_randao,
        block_number,
        gas_limit,
        gas_used,
        timestamp,
        extra_data_offset,
        base_fee_per_gas,
        block_hash,
        transactions_offset,
        withdrawals_offset,
        blob_gas_used,
        excess_blob_gas,
        withdrawals_root,
    ) = _FIXED.unpack_from(data)
    if extra_data_offset != FIXED_BYTES:
        raise InvalidPayloadEncoding(f"extra data begins at {extra_data_offset} instead of {FIXED_BYTES}")
    if not extra_data_offset <= transactions_offset <= extra_data_offset + MAX_EXTRA_DATA_BYTES:
        raise InvalidPayloadEncoding(f"extra data ends at {transactions_offset}")
    if not transactions_offset <= withdrawals_offset <= len(data):
        raise InvalidPayloadEncoding(f"transactions from {transactions_offset} to {withdrawals_offset}")
    if withdrawals_offset != len(data):
        raise InvalidPayloadEncoding("an OP payload has no withdrawals")
    return ExecutionPayload(
        parent_hash=parent_hash,
        fee_recipient=fee_recipient,
        state_root=state_root,
        receipts_root=receipts_root,
        logs_bloom=logs_bloom,
        prev_randao=prev_randao,
        block_number=block_number,
        gas_limit=gas_limit,
        gas_used=gas_used,
        timestamp=timestamp,
        extra_data=data[extra_data_offset:transactions_offset],
        base_fee_per_gas=int.from_bytes(base_fee_per_gas, "little"),
        block_hash=block_hash,
        transactions=_decode_transactions(data[transactions_offset:withdrawals_offset]),
        withdrawals=(),
        blob_gas_used=blob_gas_used,
        excess_blob_gas=excess_blob_gas,
        withdrawals_root=withdrawals_root,
        parent_beacon_block_root=parent_beacon_block_root,
    )


_LENGTHS = {
    "parent_hash": 32,
    "fee_recipient": 20,
    "state_root": 32,
    "receipts_root": 32,
    "logs_bloom": 256,
    "prev_randao": 32,
    "block_hash": 32,
    "withdrawals_root": 32,
    "parent_beacon_block_root": 32,
}


def _encode_transactions(transactions: tuple[bytes, ...]) -> bytes:
    if len(transactions) > MAX_TRANSACTIONS:
        raise ValueError(f"{len(transactions)} transactions; the limit is {MAX_TRANSACTIONS}")
    offsets, offset = [], 4 * len(transactions)
    for transaction in transactions:
        offsets.append(offset)
        offset += len(transaction)
    return b"".join((struct.pack(f"<{len(offsets)}I", *offsets), *transactions))


def _decode_transactions(data: bytes) -> tuple[bytes, ...]:
    if not data:
        return ()
    first = int.from_bytes(data[:4], "little")
    count, rest = divmod(first, 4)
    if len(data) < 4 or rest or count == 0 or first > len(data):
        raise InvalidPayloadEncoding(f"first transaction begins at {first} of {len(data)} bytes")
    if count > MAX_TRANSACTIONS:
        raise InvalidPayloadEncoding(f"{count} transactions; the limit is {MAX_TRANSACTIONS}")
    bounds = (*struct.unpack_from(f"<{count}I", data), len(data))
    if any(begin > end for begin, end in itertools.pairwise(bounds)):
        raise InvalidPayloadEncoding("transaction offsets go backwards")
    return tuple(data[begin:end] for begin, end in itertools.pairwise(bounds))
