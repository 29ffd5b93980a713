"""JSON-RPC's blocks, transactions and receipts turned into values that can be hashed, so that none is taken on trust.

Every function raises `L1DataInvalid` for a field that is missing or malformed.
"""

import re
from collections.abc import Mapping
from typing import Any

from openledger.evm_ext.block import Header
from openledger.evm_ext.receipts import Log, Receipt
from openledger.evm_ext.transactions import (
    ACCESS_LIST,
    BLOB,
    DYNAMIC_FEE,
    LEGACY,
    SET_CODE,
    Authorization,
    Transaction,
    encode_transaction,
)
from openledger.rollup.l1.source import L1DataInvalid

Json = Mapping[str, Any]

QUANTITY = re.compile("0x[0-9a-fA-F]{1,64}")


def quantity(value: object, name: str) -> int:
    """A hex quantity as an integer."""
    # int() alone would take "0x-1" and "0x_1" too.
    if isinstance(value, str) and QUANTITY.fullmatch(value):
        return int(value, 16)
    raise L1DataInvalid(f"L1 answered {value!r} where {name}, a hex quantity, belongs")


def data(value: object, name: str, size: int | None = None) -> bytes:
    """Hex data as bytes, of exactly `size` if given."""
    if isinstance(value, str) and value.startswith("0x"):
        try:
            decoded = bytes.fromhex(value[2:])
        except ValueError:
            pass
        else:
            if size is None or len(decoded) == size:
                return decoded
    shown = value[:80] if isinstance(value, str) else value
    raise L1DataInvalid(f"L1 answered {shown!r} where {name}, hex data, belongs")


def header_from_json(block: Json) -> Header:
    """The header in a block object; its hash is computed and compared with the one that was sent."""
    if not isinstance(block, Mapping):
        raise L1DataInvalid(f"L1 answered {type(block).__name__} where a block belongs")
    header = Header(
        parent_hash=_data(block, "parentHash", 32),
        uncles_hash=_data(block, "sha3Uncles", 32),
        fee_recipient=_data(block, "miner", 20),
        state_root=_data(block, "stateRoot", 32),
        transactions_root=_data(block, "transactionsRoot", 32),
        receipts_root=_data(block, "receiptsRoot", 32),
        logs_bloom=_data(block, "logsBloom", 256),
        difficulty=_quantity(block, "difficulty"),
        number=_quantity(block, "number"),
        gas_limit=_quantity(block, "gasLimit"),
        gas_used=_quantity(block, "gasUsed"),
        timestamp=_quantity(block, "timestamp"),
        extra_data=_data(block, "extraData"),
        prev_randao=_data(block, "mixHash", 32),
        nonce=_data(block, "nonce", 8),
        base_fee_per_gas=_quantity(block, "baseFeePerGas"),
        withdrawals_root=_data(block, "withdrawalsRoot", 32),
        blob_gas_used=_quantity(block, "blobGasUsed"),
        excess_blob_gas=_quantity(block, "excessBlobGas"),
        parent_beacon_block_root=_data(block, "parentBeaconBlockRoot", 32),
        requests_hash=_data(block, "requestsHash", 32),
    )
    claimed = _data(block, "hash", 32)
    if header.hash != claimed:
        raise L1DataInvalid(
            f"L1 block {header.number} hashes to 0x{header.hash.hex()}, not to 0x{claimed.hex()} as L1 says"
        )
    return header


def transaction_from_json(item: Json) -> bytes:
    """The encoding of a transaction object."""
    kind = _quantity(item, "type")
    if kind not in (LEGACY, ACCESS_LIST, DYNAMIC_FEE, BLOB, SET_CODE):
        raise L1DataInvalid(f"L1 transaction {item.get('hash')!r} is of unknown type {kind}")
    v = _quantity(item, "v") if kind == LEGACY else quantity(item.get("yParity", item.get("v")), "yParity")
    chain_id = _quantity(item, "chainId") if kind != LEGACY else ((v - 35) // 2 if v >= 35 else None)
    priced = kind in (LEGACY, ACCESS_LIST)
    to = item.get("to")
    return encode_transaction(
        Transaction(
            raw=b"",
            type=kind,
            chain_id=chain_id,
            nonce=_quantity(item, "nonce"),
            max_priority_fee_per_gas=_quantity(item, "gasPrice" if priced else "maxPriorityFeePerGas"),
            max_fee_per_gas=_quantity(item, "gasPrice" if priced else "maxFeePerGas"),
            gas=_quantity(item, "gas"),
            to=None if to is None else data(to, "to", 20),
            value=_quantity(item, "value"),
            data=_data(item, "input"),
            access_list=tuple(
                (
                    _data(entry, "address", 20),
                    tuple(int.from_bytes(data(key, "storageKeys", 32), "big") for key in _list(entry, "storageKeys")),
                )
                for entry in (_list(item, "accessList") if kind != LEGACY else ())
            ),
            max_fee_per_blob_gas=_quantity(item, "maxFeePerBlobGas") if kind == BLOB else 0,
            blob_versioned_hashes=tuple(
                data(value, "blobVersionedHashes", 32)
                for value in (_list(item, "blobVersionedHashes") if kind == BLOB else ())
            ),
            authorization_list=tuple(
                Authorization(
                    chain_id=_quantity(entry, "chainId"),
                    address=_data(entry, "address", 20),
                    nonce=_quantity(entry, "nonce"),
                    y_parity=_quantity(entry, "yParity"),
                    r=_quantity(entry, "r"),
                    s=_quantity(entry, "s"),
                )
                for entry in (_list(item, "authorizationList") if kind == SET_CODE else ())
            ),
            y_parity=(v - 35) % 2 if v >= 35 else (v - 27 if kind == LEGACY else v),
            r=_quantity(item, "r"),
            s=_quantity(item, "s"),
        )
    )


def receipt_from_json(item: Json) -> Receipt:
    """The consensus fields of a receipt object; its bloom is computed, not read."""
    return Receipt(
        type=_quantity(item, "type"),
        status=_quantity(item, "status"),
        cumulative_gas_used=_quantity(item, "cumulativeGasUsed"),
        logs=tuple(
            Log(
                address=_data(entry, "address", 20),
                topics=tuple(data(topic, "topics", 32) for topic in _list(entry, "topics")),
                data=_data(entry, "data"),
            )
            for entry in _list(item, "logs")
        ),
    )


def _quantity(item: Json, name: str) -> int:
    return quantity(_member(item, name), name)


def _data(item: Json, name: str, size: int | None = None) -> bytes:
    return data(_member(item, name), name, size)


def _list(item: Json, name: str) -> list[Any]:
    value = _member(item, name)
    if not isinstance(value, list):
        raise L1DataInvalid(f"L1 answered {type(value).__name__} where {name}, a list, belongs")
    return value


def _member(item: Json, name: str) -> Any:
    if not isinstance(item, Mapping):
        raise L1DataInvalid(f"L1 answered {type(item).__name__} where an object with {name} belongs")
    if name not in item:
        raise L1DataInvalid(f"L1's answer lacks {name}; chains before Prague cannot be an L1")
    return item[name]
