"""Single fields of a test file, with errors that name the field.

Files of ten years are read: numbers are hex with or without zeros in front, decimal text or JSON numbers; bytes come
with or without 0x; `0x:bigint` marks a number that does not fit and is meant not to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BIGINT = "0x:bigint "


class InvalidFixture(ValueError):
    """A test file, or a case in it, that cannot be read; the message names the field."""


def member(document: Any, name: str, where: str) -> Any:
    """A member that has to be there."""
    value = as_object(document, where).get(name)
    if value is None:
        raise InvalidFixture(f"{where} lacks {name}")
    return value


def as_object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidFixture(f"{where} must be an object, got {_shown(value)}")
    return value


def as_list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidFixture(f"{where} must be a list, got {_shown(value)}")
    return value


def quantity(value: Any, where: str, bits: int = 256) -> int:
    """A number of at most `bits` bits."""
    number = unbounded_quantity(value, where)
    if number.bit_length() > bits:
        raise InvalidFixture(f"{where} does not fit into {bits} bits: {_shown(value)}")
    return number


def unbounded_quantity(value: Any, where: str) -> int:
    """A non-negative number of any size."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidFixture(f"{where} must be a number, got {_shown(value)}")
    if isinstance(value, int):
        number = value
    else:
        text = value.removeprefix(_BIGINT)
        try:
            if text in ("", "0x"):
                number = 0
            elif text[:2] in ("0x", "0X"):
                number = int(text, 16)
            else:
                number = int(text, 10)
        except ValueError:
            raise InvalidFixture(f"{where} must be a number, got {_shown(value)}") from None
    if number < 0:
        raise InvalidFixture(f"{where} must not be negative, got {_shown(value)}")
    return number


def data(value: Any, where: str, length: int | None = None) -> bytes:
    """Bytes; of exactly `length` if that is given."""
    if not isinstance(value, str):
        raise InvalidFixture(f"{where} must be hex, got {_shown(value)}")
    text = value.removeprefix("0x")
    try:
        decoded = bytes.fromhex("0" + text if len(text) & 1 else text)
    except ValueError:
        raise InvalidFixture(f"{where} must be hex, got {_shown(value)}") from None
    if length is not None and len(decoded) != length:
        raise InvalidFixture(f"{where} must have {length} bytes, got {len(decoded)}")
    return decoded


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
