"""Reading single fields of a genesis file, with errors that name the field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


class InvalidGenesis(ValueError):
    """A genesis file that cannot be read; the message names the field."""


def member(document: Mapping[str, Any], name: str) -> Any:
    """A field that must be there."""
    try:
        return document[name]
    except KeyError:
        raise InvalidGenesis(f"genesis lacks the field {name}") from None


def number_field(value: Any, where: str) -> int:
    """A number as geth accepts it: an integer, or text in hex (0x) or decimal; below 2**256."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidGenesis(f"genesis field {where} must be a number, got {value!r}")
    try:
        number = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        raise InvalidGenesis(f"genesis field {where} must be a number, got {value!r}") from None
    if not 0 <= number < 2**256:
        raise InvalidGenesis(f"genesis field {where} is out of range: {value!r}")
    return number


def data_field(value: Any, where: str, length: int | None = None) -> bytes:
    """Bytes in hex, with or without 0x; of exactly `length` bytes if that is given."""
    if not isinstance(value, str):
        raise InvalidGenesis(f"genesis field {where} must be hex, got {value!r}")
    try:
        data = bytes.fromhex(value.removeprefix("0x"))
    except ValueError:
        raise InvalidGenesis(f"genesis field {where} must be hex, got {value!r}") from None
    if length is not None and len(data) != length:
        raise InvalidGenesis(f"genesis field {where} must be {length} bytes, got {len(data)}")
    return data


def word_field(value: Any, where: str) -> int:
    """A storage key or value as geth reads it: hex whether or not 0x comes first, at most 32 bytes."""
    digits = value.removeprefix("0x") if isinstance(value, str) else None
    if digits is None or len(digits) > 64 or not set(digits) <= _HEX_DIGITS:
        raise InvalidGenesis(f"genesis field {where} must be hex of at most 32 bytes, got {value!r}")
    return int(digits or "0", 16)


def address_field(value: Any, where: str) -> bytes:
    """20 bytes in hex."""
    return data_field(value, where, 20)
