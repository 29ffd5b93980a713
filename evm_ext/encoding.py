"""RLP as the Yellow Paper's appendix B writes it: canonical only, over bytes and nested lists.

The one RLP codec of this package. It exists beside the `rlp` library because decoding trie nodes and
transactions is most of what block execution does outside the interpreter, and the library's
serialiser objects cost several times the work itself; the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

Item: TypeAlias = "bytes | list[Item]"

EMPTY_STRING = b"\x80"
EMPTY_LIST = b"\xc0"
MAX_DEPTH = 64


_LONGEST_SHORT = 55
_from_bytes = int.from_bytes


def _prefix(base: int, length: int) -> bytes:
    """What stands before a payload: `base` is 0x80 for byte strings and 0xC0 for lists."""
    if length <= _LONGEST_SHORT:
        return bytes((base + length,))
    size = (length.bit_length() + 7) // 8
    return bytes((base + _LONGEST_SHORT + size,)) + length.to_bytes(size, "big")


# Nearly everything is shorter: its prefix is not made anew each time.
_KNOWN_LENGTHS = 1_024
_STRING_PREFIX = tuple(_prefix(0x80, length) for length in range(_KNOWN_LENGTHS))
_LIST_PREFIX = tuple(_prefix(0xC0, length) for length in range(_KNOWN_LENGTHS))
_BYTE = tuple(bytes((value,)) for value in range(128))


class InvalidRLP(ValueError):
    """Bytes that are not the canonical RLP encoding of one item."""


def encode_bytes(value: bytes) -> bytes:
    """One byte string."""
    length = len(value)
    if length == 1 and value[0] < 0x80:
        return bytes(value)
    if length < _KNOWN_LENGTHS:
        return _STRING_PREFIX[length] + value
    return _prefix(0x80, length) + value


def encode_uint(value: int) -> bytes:
    """A non-negative integer without leading zeros."""
    if value < 128:
        if value < 0:
            raise ValueError(f"RLP has no negative integers, got {value}")
        return _BYTE[value] if value else EMPTY_STRING
    length = (value.bit_length() + 7) >> 3
    if length < _KNOWN_LENGTHS:
        return _STRING_PREFIX[length] + value.to_bytes(length, "big")
    return encode_bytes(value.to_bytes(length, "big"))


def encode_sequence(encoded_items: Iterable[bytes]) -> bytes:
    """A list of items that are already encoded."""
    payload = b"".join(encoded_items)
    length = len(payload)
    if length < _KNOWN_LENGTHS:
        return _LIST_PREFIX[length] + payload
    return _prefix(0xC0, length) + payload


def encode(item: bytes | int | Sequence[object]) -> bytes:
    """Bytes, a non-negative integer, or a (nested) sequence of them."""
    if isinstance(item, (bytes, bytearray, memoryview)):
        return encode_bytes(bytes(item))
    if isinstance(item, int):
        return encode_uint(item)
    return encode_sequence(encode(part) for part in item)  # type: ignore[arg-type]


def decode(data: bytes) -> Item:
    """The one item that `data` encodes. Raises `InvalidRLP` for anything that is not canonical."""
    try:
        item, end = _decode_item(bytes(data), 0, len(data), 0)
    except IndexError:
        raise InvalidRLP("the encoding ends in the middle of an item") from None
    if end != len(data):
        raise InvalidRLP(f"{len(data) - end} bytes follow the item")
    return item


def decode_list(data: bytes) -> list[Item]:
    """As `decode`, for an item that has to be a list."""
    item = decode(data)
    if not isinstance(item, list):
        raise InvalidRLP("expected a list, got a byte string")
    return item


def split_list(data: bytes) -> list[bytes]:
    """The encodings of the items of the list that `data` encodes, each still encoded.

    Transactions keep the bytes they came as, so a block body is split without decoding it."""
    try:
        start, end, is_list = _bounds(data, 0, len(data))
        if not is_list:
            raise InvalidRLP("expected a list, got a byte string")
        if end != len(data):
            raise InvalidRLP(f"{len(data) - end} bytes follow the list")
        parts = []
        position = start
        while position < end:
            _, stop, _ = _bounds(data, position, end)
            parts.append(bytes(data[position:stop]))
            position = stop
    except IndexError:
        raise InvalidRLP("the encoding ends in the middle of an item") from None
    return parts


def to_uint(item: Item, maximum_bytes: int = 32) -> int:
    """The integer a decoded byte string stands for. Raises `InvalidRLP` for leading zeros and for lists."""
    if isinstance(item, list):
        raise InvalidRLP("expected an integer, got a list")
    if len(item) > maximum_bytes or (item and not item[0]):
        if not item[0]:
            raise InvalidRLP("an integer has leading zeros")
        raise InvalidRLP(f"an integer has {len(item)} bytes, more than {maximum_bytes}")
    return _from_bytes(item, "big")


def to_bytes(item: Item, length: int | None = None) -> bytes:
    """A decoded byte string, of exactly `length` bytes if that is given."""
    if isinstance(item, list):
        raise InvalidRLP("expected a byte string, got a list")
    if length is not None and len(item) != length:
        raise InvalidRLP(f"expected {length} bytes, got {len(item)}")
    return item


def to_list(item: Item, length: int | None = None) -> list[Item]:
    """A decoded list, of exactly `length` items if that is given."""
    if not isinstance(item, list):
        raise InvalidRLP("expected a list, got a byte string")
    if length is not None and len(item) != length:
        raise InvalidRLP(f"expected {length} items, got {len(item)}")
    return item


def _bounds(data: bytes, position: int, limit: int) -> tuple[int, int, bool]:
    """Where the payload of the item at `position` starts and ends, and whether it is a list."""
    first = data[position]
    if first < 0x80:
        return position, position + 1, False
    is_list = first >= 0xC0
    short = first - (0xC0 if is_list else 0x80)
    if short < 56:
        start = position + 1
        end = start + short
        if short == 1 and not is_list and end <= limit and data[start] < 0x80:
            raise InvalidRLP("a single byte below 0x80 must stand for itself")
    else:
        size = short - 55
        start = position + 1 + size
        if start > limit:
            raise InvalidRLP("the encoding ends in the middle of a length")
        if data[position + 1] == 0:
            raise InvalidRLP("a length has leading zeros")
        length = int.from_bytes(data[position + 1 : start], "big")
        if length < 56:
            raise InvalidRLP("a length below 56 must be in the first byte")
        end = start + length
    if end > limit:
        raise InvalidRLP("an item is longer than what contains it")
    return start, end, is_list


def _decode_item(data: bytes, position: int, limit: int, depth: int) -> tuple[Item, int]:
    first = data[position]
    if first < 0x80:
        return data[position : position + 1], position + 1
    if 0x81 < first < 0xB8:
        end = position + first - 0x7F
        if end > limit:
            raise InvalidRLP("an item is longer than what contains it")
        return data[position + 1 : end], end
    start, end, is_list = _bounds(data, position, limit)
    if not is_list:
        return data[start:end], end
    if depth >= MAX_DEPTH:
        raise InvalidRLP(f"lists are nested deeper than {MAX_DEPTH}")
    items: list[Item] = []
    position = start
    while position < end:
        first = data[position]
        # Most items are short byte strings: no call for them.
        if 0x81 < first < 0xB8:
            stop = position + first - 0x7F
            if stop > end:
                raise InvalidRLP("an item is longer than what contains it")
            items.append(data[position + 1 : stop])
            position = stop
        elif first == 0x80:
            items.append(b"")
            position += 1
        elif first < 0x80:
            items.append(data[position : position + 1])
            position += 1
        else:
            item, position = _decode_item(data, position, end, depth + 1)
            items.append(item)
    return items, end
