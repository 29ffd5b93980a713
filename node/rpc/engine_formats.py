"""The Engine API's objects: payloads, attributes and statuses between JSON and values.

Sources: execution-apis, engine/paris, shanghai, cancun, prague; OP-Stack specification, exec-engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from openledger.evm_ext.block import Block, withdrawals_trie_root
from openledger.evm_ext.payload import ExecutionPayload, PayloadAttributes
from openledger.node.rpc.call_request import MOST_WITHDRAWALS, decode_withdrawal
from openledger.node.rpc.errors import InvalidParams
from openledger.node.rpc.fields import field
from openledger.node.rpc.formats import Json, hex_bytes, withdrawals_json
from openledger.node.rpc.parameters import (
    decode_address,
    decode_boolean,
    decode_bytes,
    decode_hash,
    decode_object,
    decode_quantity,
    decode_uint64,
    list_of,
)

MOST_TRANSACTIONS = 1_048_576
MOST_REQUESTS = 256
BLOOM_BYTES = 256
ZERO_HASH = bytes(32)

_TRANSACTIONS = list_of(decode_bytes, MOST_TRANSACTIONS)
_WITHDRAWALS = list_of(decode_withdrawal, MOST_WITHDRAWALS)


class Status(StrEnum):
    """What the execution side thinks of a block."""

    VALID = "VALID"
    INVALID = "INVALID"
    SYNCING = "SYNCING"
    ACCEPTED = "ACCEPTED"


@dataclass(frozen=True)
class PayloadStatus:
    """A status, the newest valid ancestor where one is known, and why a block is invalid."""

    status: Status
    latest_valid_hash: bytes | None = None
    validation_error: str | None = None

    def to_json(self) -> Json:
        return {
            "status": str(self.status),
            "latestValidHash": None if self.latest_valid_hash is None else hex_bytes(self.latest_valid_hash),
            "validationError": self.validation_error,
        }


SYNCING = PayloadStatus(Status.SYNCING)


@dataclass(frozen=True)
class ForkchoiceState:
    """Which blocks are the heads. `safe` and `finalized` None leave those heads."""

    head: bytes
    safe: bytes | None
    finalized: bytes | None


def decode_forkchoice_state(value: Any) -> ForkchoiceState:
    """Raises ValueError."""
    fields = decode_object(value)
    head, safe, finalized = (
        field(fields, name, decode_hash) for name in ("headBlockHash", "safeBlockHash", "finalizedBlockHash")
    )
    return ForkchoiceState(head, None if safe == ZERO_HASH else safe, None if finalized == ZERO_HASH else finalized)


# --- payloads ---------------------------------------------------------------------------------------------


def decode_payload(
    value: Any, *, is_op: bool, parent_beacon_block_root: bytes
) -> tuple[ExecutionPayload, frozenset[str]]:
    """A payload of any version, and the names of its fields that are not null. Raises ValueError.

    Fields that a version lacks are left at their neutral values: who calls says which have to be there."""
    fields = {name: item for name, item in decode_object(value).items() if item is not None}
    withdrawals = tuple(field(fields, "withdrawals", _WITHDRAWALS, ()))
    if is_op and "withdrawalsRoot" in fields:
        withdrawals_root = field(fields, "withdrawalsRoot", decode_hash)
    else:
        withdrawals_root = withdrawals_trie_root(withdrawals)
    payload = ExecutionPayload(
        parent_hash=field(fields, "parentHash", decode_hash),
        fee_recipient=field(fields, "feeRecipient", decode_address),
        state_root=field(fields, "stateRoot", decode_hash),
        receipts_root=field(fields, "receiptsRoot", decode_hash),
        logs_bloom=field(fields, "logsBloom", _decode_bloom),
        prev_randao=field(fields, "prevRandao", decode_hash),
        block_number=field(fields, "blockNumber", decode_uint64),
        gas_limit=field(fields, "gasLimit", decode_uint64),
        gas_used=field(fields, "gasUsed", decode_uint64),
        timestamp=field(fields, "timestamp", decode_uint64),
        extra_data=field(fields, "extraData", decode_bytes),
        base_fee_per_gas=field(fields, "baseFeePerGas", decode_quantity),
        block_hash=field(fields, "blockHash", decode_hash),
        transactions=tuple(field(fields, "transactions", _TRANSACTIONS)),
        withdrawals=withdrawals,
        blob_gas_used=field(fields, "blobGasUsed", decode_uint64, 0),
        excess_blob_gas=field(fields, "excessBlobGas", decode_uint64, 0),
        withdrawals_root=withdrawals_root,
        parent_beacon_block_root=parent_beacon_block_root,
    )
    return payload, frozenset(fields)


def payload_json(block: Block, version: int, *, is_op: bool) -> Json:
    """A block as ExecutionPayloadV1, V2 or V3; an OP chain's V3 has the withdrawals root of Isthmus."""
    header = block.header
    body: Json = {
        "parentHash": hex_bytes(header.parent_hash),
        "feeRecipient": hex_bytes(header.fee_recipient),
        "stateRoot": hex_bytes(header.state_root),
        "receiptsRoot": hex_bytes(header.receipts_root),
        "logsBloom": hex_bytes(header.logs_bloom),
        "prevRandao": hex_bytes(header.prev_randao),
        "blockNumber": hex(header.number),
        "gasLimit": hex(header.gas_limit),
        "gasUsed": hex(header.gas_used),
        "timestamp": hex(header.timestamp),
        "extraData": hex_bytes(header.extra_data),
        "baseFeePerGas": hex(header.base_fee_per_gas),
        "blockHash": hex_bytes(header.hash),
        "transactions": [hex_bytes(item.raw) for item in block.transactions],
    }
    if version >= 2:
        body["withdrawals"] = withdrawals_json(block.withdrawals)
    if version >= 3:
        body["blobGasUsed"] = hex(header.blob_gas_used)
        body["excessBlobGas"] = hex(header.excess_blob_gas)
        if is_op:
            body["withdrawalsRoot"] = hex_bytes(header.withdrawals_root)
    return body


def decode_requests(value: Any) -> tuple[bytes, ...]:
    """EIP-7685 requests: a type byte and data each, types ascending. Raises ValueError."""
    requests = tuple(list_of(decode_bytes, MOST_REQUESTS)(value))
    previous = -1
    for request in requests:
        if len(request) < 2:
            raise ValueError(f"an execution request has a type and data, got 0x{request.hex()}")
        if request[0] <= previous:
            raise ValueError(f"execution requests are in ascending order of type, got {request[0]} after {previous}")
        previous = request[0]
    return requests


# --- attributes -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttributesCall:
    """Payload attributes as they came: the value, and the names of the fields that are not null."""

    attributes: PayloadAttributes
    fields: frozenset[str]


def decode_attributes(value: Any) -> AttributesCall:
    """Payload attributes of any version, with the OP-Stack's. Raises ValueError."""
    fields: Mapping[str, Any] = {name: item for name, item in decode_object(value).items() if item is not None}
    attributes = PayloadAttributes(
        timestamp=field(fields, "timestamp", decode_uint64),
        prev_randao=field(fields, "prevRandao", decode_hash),
        suggested_fee_recipient=field(fields, "suggestedFeeRecipient", decode_address),
        parent_beacon_block_root=field(fields, "parentBeaconBlockRoot", decode_hash, ZERO_HASH),
        transactions=tuple(field(fields, "transactions", _TRANSACTIONS, ())),
        no_tx_pool=field(fields, "noTxPool", decode_boolean, False),
        gas_limit=field(fields, "gasLimit", decode_uint64, None),
        eip_1559_params=field(fields, "eip1559Params", _decode_eip_1559_params, None),
        withdrawals=tuple(field(fields, "withdrawals", _WITHDRAWALS, ())),
    )
    return AttributesCall(attributes, frozenset(fields))


def _decode_bloom(value: Any) -> bytes:
    return _exactly(BLOOM_BYTES, decode_bytes(value))


def _decode_eip_1559_params(value: Any) -> bytes:
    return _exactly(8, decode_bytes(value))


def _exactly(size: int, value: bytes) -> bytes:
    if len(value) != size:
        raise ValueError(f"{len(value)} bytes, want {size}")
    return value


def require_fields(fields: frozenset[str], names: tuple[str, ...], what: str) -> None:
    """Raises InvalidParams for a field that this version of a method needs."""
    for name in names:
        if name not in fields:
            raise InvalidParams(f"{what} lacks {name}")


def refuse_fields(fields: frozenset[str], names: tuple[str, ...], what: str) -> None:
    """Raises InvalidParams for a field that this version of a method does not know."""
    for name in names:
        if name in fields:
            raise InvalidParams(f"{what} has {name}, which this version of the method does not take")
