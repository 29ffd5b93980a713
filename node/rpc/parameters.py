"""JSON values into typed arguments. Every decoder raises ValueError that says what is wrong."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from openledger.node.rpc.fields import FieldError, field
from openledger.node.rpc.methods import Parameter

Label = Literal["latest", "safe", "finalized", "pending", "earliest"]
LABELS: tuple[Label, ...] = ("latest", "safe", "finalized", "pending", "earliest")
MAX_UINT64 = 2**64 - 1
MAX_UINT256 = 2**256 - 1
_HEX = re.compile(r"0[xX][0-9a-fA-F]*\Z")


@dataclass(frozen=True, slots=True)
class BlockReference:
    """A label, a number or a hash; exactly one is set."""

    label: Label | None = None
    number: int | None = None
    hash: bytes | None = None
    require_canonical: bool = False


_LABELLED: dict[str, BlockReference] = {label: BlockReference(label=label) for label in LABELS}
LATEST = _LABELLED["latest"]
PENDING = _LABELLED["pending"]


def decode_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a string, got {_kind(value)}")
    return value


def decode_boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {_kind(value)}")
    return value


def decode_quantity(value: Any, maximum: int = MAX_UINT256) -> int:
    """A hexadecimal quantity: "0x0", "0x1f"; no leading zeros."""
    digits = _hex_digits(value)
    if not digits:
        raise ValueError('hex string "0x" has no digits; zero is "0x0"')
    if len(digits) > 1 and digits[0] == "0":
        raise ValueError("hex number with leading zero digits")
    if len(digits) > 64 or (number := int(digits, 16)) > maximum:
        raise ValueError(f"hex number > {maximum.bit_length()} bits")
    return number


def decode_uint64(value: Any) -> int:
    return decode_quantity(value, MAX_UINT64)


def decode_count(value: Any) -> int:
    """A small count, as a hexadecimal quantity or a plain number (eth_feeHistory takes both)."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= MAX_UINT64:
            raise ValueError(f"{value} is out of range")
        return value
    return decode_quantity(value, MAX_UINT64)


def decode_bytes(value: Any) -> bytes:
    digits = _hex_digits(value)
    if len(digits) % 2:
        raise ValueError("hex string of odd length")
    return bytes.fromhex(digits)


def decode_address(value: Any) -> bytes:
    return _fixed(value, 20, "an address")


def decode_hash(value: Any) -> bytes:
    return _fixed(value, 32, "a hash")


def decode_slot(value: Any) -> int:
    """A storage slot: up to 32 bytes of hex, with or without leading zeros."""
    digits = _hex_digits(value)
    if len(digits) > 64:
        raise ValueError(f"hex string too long, want at most 32 bytes, has {(len(digits) + 1) // 2}")
    return int(digits or "0", 16)


def decode_block(value: Any) -> BlockReference:
    """A label, a number, a 32-byte hash, or EIP-1898's object."""
    if isinstance(value, dict):
        return _block_object(value)
    text = decode_text(value)
    labelled = _LABELLED.get(text)
    if labelled is not None:
        return labelled
    if len(text) == 66:
        return BlockReference(hash=decode_hash(text))
    if not text.startswith("0x"):
        raise ValueError(
            f"hex string without 0x prefix: {text[:40]!r} is no block; use a number in hex, a hash, or {', '.join(LABELS)}"
        )
    return BlockReference(number=decode_uint64(text))


def decode_block_number(value: Any) -> BlockReference:
    """A label or a number."""
    reference = decode_block(value)
    if reference.hash is not None:
        raise ValueError("expected a block number or a label, got a hash")
    return reference


def decode_plain_block_number(value: Any) -> BlockReference:
    """A label, a number, or a number that is not in hex: Otterscan sends what its page has."""
    if isinstance(value, int) and not isinstance(value, bool):
        return BlockReference(number=decode_count(value))
    return decode_block_number(value)


def decode_percentiles(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise ValueError(f"expected a list of percentiles, got {_kind(value)}")
    percentiles: list[float] = []
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int | float) or not 0 <= item <= 100:
            raise ValueError(f"invalid reward percentile: {str(item)[:40]}")
        if percentiles and item < percentiles[-1]:
            raise ValueError(f"invalid reward percentile: {item} comes after {percentiles[-1]}")
        percentiles.append(float(item))
    return tuple(percentiles)


def list_of(decode: Any, maximum: int) -> Any:
    """A decoder of lists whose items `decode` decodes."""

    def decode_list(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError(f"expected a list, got {_kind(value)}")
        if len(value) > maximum:
            raise ValueError(f"{len(value)} items, at most {maximum}")
        decoded: list[Any] = []
        try:
            for item in value:
                decoded.append(decode(item))
        except ValueError as error:
            raise FieldError.within(f"[{len(decoded)}]", error) from error
        return decoded

    return decode_list


def decode_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {_kind(value)}")
    return value


def _block_object(value: dict[str, Any]) -> BlockReference:
    number = field(value, "blockNumber", decode_block_number, None)
    block_hash = field(value, "blockHash", decode_hash, None)
    if number is not None and block_hash is not None:
        raise ValueError("cannot specify both BlockHash and BlockNumber, choose one or the other")
    if block_hash is not None:
        canonical = field(value, "requireCanonical", decode_boolean, False)
        return BlockReference(hash=block_hash, require_canonical=canonical)
    if number is not None:
        return number
    raise ValueError("a block object needs blockNumber or blockHash")


def _fixed(value: Any, size: int, what: str) -> bytes:
    if isinstance(value, str) and len(value) == 2 * size + 2 and value[:2] == "0x":
        try:
            decoded = bytes.fromhex(value[2:])
        except ValueError:
            pass
        else:
            if len(decoded) == size:  # else there were spaces, which it passes over
                return decoded
    digits = _hex_digits(value)
    if len(digits) != 2 * size:
        raise ValueError(f"hex string has length {len(digits)}, want {2 * size} for {what}")
    return bytes.fromhex(digits)


def _hex_digits(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected a hex string, got {_kind(value)}")
    if not value.startswith(("0x", "0X")):
        raise ValueError("hex string without 0x prefix")
    if not _HEX.match(value):
        raise ValueError("invalid hex string")
    return value[2:]


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}.get(
        type(value), "an object"
    )


ADDRESS = Parameter(decode_address)
HASH = Parameter(decode_hash)
BYTES = Parameter(decode_bytes)
QUANTITY = Parameter(decode_quantity)
INDEX = Parameter(decode_uint64)
COUNT = Parameter(decode_count)
SLOT = Parameter(decode_slot)
BOOLEAN = Parameter(decode_boolean)
TEXT = Parameter(decode_text)
OBJECT = Parameter(decode_object)
BLOCK = Parameter(decode_block)
BLOCK_NUMBER = Parameter(decode_block_number)
PLAIN_BLOCK_NUMBER = Parameter(decode_plain_block_number)
PERCENTILES = Parameter(decode_percentiles)
