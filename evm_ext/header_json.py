"""Headers in JSON: the field names of the Ethereum RPC and those of the public tests, read as one.

Nothing here belongs to a server: tools that are handed a header as a file read it with this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from openledger.evm_ext.block import HEADER_FIELDS, Header, HeaderForm
from openledger.evm_ext.errors import UndecodableBlock

# Field, name in the RPC, name in the public tests where that is another; length in bytes, 0 for any, None for a number.
_FIELDS: Final[tuple[tuple[str, str, str, int | None], ...]] = (
    ("parent_hash", "parentHash", "", 32),
    ("uncles_hash", "sha3Uncles", "uncleHash", 32),
    ("fee_recipient", "miner", "coinbase", 20),
    ("state_root", "stateRoot", "", 32),
    ("transactions_root", "transactionsRoot", "transactionsTrie", 32),
    ("receipts_root", "receiptsRoot", "receiptTrie", 32),
    ("logs_bloom", "logsBloom", "bloom", 256),
    ("difficulty", "difficulty", "", None),
    ("number", "number", "", None),
    ("gas_limit", "gasLimit", "", None),
    ("gas_used", "gasUsed", "", None),
    ("timestamp", "timestamp", "", None),
    ("extra_data", "extraData", "", 0),
    ("prev_randao", "mixHash", "", 32),
    ("nonce", "nonce", "", 8),
    ("base_fee_per_gas", "baseFeePerGas", "", None),
    ("withdrawals_root", "withdrawalsRoot", "", 32),
    ("blob_gas_used", "blobGasUsed", "", None),
    ("excess_blob_gas", "excessBlobGas", "", None),
    ("parent_beacon_block_root", "parentBeaconBlockRoot", "", 32),
    ("requests_hash", "requestsHash", "", 32),
)
RPC_NAMES: Final[Mapping[str, str]] = {field: name for field, name, _, _ in _FIELDS}
"""A header's fields and what the RPC calls them."""


def header_from_json(document: Any) -> Header:
    """The header with these fields; others are ignored. Its form is what fields it has: null and missing are the same.

    Raises `UndecodableBlock` naming the field, also if `hash` is there and is not the header's."""
    if not isinstance(document, Mapping):
        raise UndecodableBlock("a header in JSON must be an object")
    values: dict[str, int | bytes] = {}
    for field, name, other, length in _FIELDS:
        value = document.get(name)
        if value is None and other:
            value = document.get(other)
        if value is None:
            break
        values[field] = _number(value, name) if length is None else _bytes(value, name, length)
    form = _form(document, len(values))
    header = Header(**values, form=form)  # type: ignore[arg-type]
    claimed = document.get("hash")
    if claimed is not None and _bytes(claimed, "hash", 32) != header.hash:
        raise UndecodableBlock(f"header field hash is {claimed}, but the other fields give 0x{header.hash.hex()}")
    return header


def header_to_json(header: Header) -> dict[str, str]:
    """The header's fields as the RPC shows them, with its `hash`."""
    shown = {"hash": "0x" + header.hash.hex()}
    for field in HEADER_FIELDS[: header.form]:
        value = getattr(header, field)
        shown[RPC_NAMES[field]] = hex(value) if isinstance(value, int) else "0x" + value.hex()
    return shown


def _form(document: Mapping[str, Any], count: int) -> HeaderForm:
    """The form with the first `count` fields. Raises `UndecodableBlock` where fields in between are missing."""
    beyond = [name for _, name, other, _ in _FIELDS[count:] if document.get(name) is not None or document.get(other)]
    if count not in set(HeaderForm) or beyond:
        missing = _FIELDS[count][1] if count < len(_FIELDS) else ""
        raise UndecodableBlock(f"header lacks {missing}")
    return HeaderForm(count)


def _number(value: Any, name: str) -> int:
    try:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError
        number = int(value, 16 if value[:2] == "0x" else 10) if isinstance(value, str) else value
    except ValueError:
        raise UndecodableBlock(f"header field {name} must be a number, got {value!r}") from None
    if not 0 <= number < 1 << 256:
        raise UndecodableBlock(f"header field {name} is out of range: {value!r}")
    return number


def _bytes(value: Any, name: str, length: int) -> bytes:
    try:
        decoded = bytes.fromhex(value.removeprefix("0x"))
    except (AttributeError, ValueError):
        raise UndecodableBlock(f"header field {name} must be hex, got {value!r}") from None
    if length and len(decoded) != length:
        raise UndecodableBlock(f"header field {name} must have {length} bytes, got {len(decoded)}")
    return decoded
