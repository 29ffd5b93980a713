"""Reading RLP one field at a time: canonical forms only, no recursion, nothing copied before its length is checked.

A channel is a run of items that may break off anywhere, and what comes from L1 may nest a million lists deep: the
rollup's codecs walk the few levels they expect with this cursor. Encoding is `openledger.evm_ext.encoding`'s.
"""

from collections.abc import Iterator
from dataclasses import dataclass


class InvalidRlp(ValueError):
    """The bytes are not the canonical RLP form that was expected; the message says which rule is broken."""


class TruncatedRlp(InvalidRlp):
    """The item claims more bytes than there are."""


@dataclass(frozen=True)
class Item:
    """One RLP item: its payload lies at `data[start:end]`; `is_list` tells strings from lists."""

    is_list: bool
    start: int
    end: int


def read_item(data: bytes, offset: int, limit: int | None = None) -> Item:
    """The item that begins at `offset` and must end at or before `limit` (default: the end of `data`).

    Raises `TruncatedRlp` if it does not fit and `InvalidRlp` if its prefix is not canonical (Yellow Paper, B).
    """
    limit = len(data) if limit is None else limit
    if offset >= limit:
        raise TruncatedRlp(f"no RLP item at offset {offset}: the data ends at {limit}")
    first = data[offset]
    if first < 0x80:
        return Item(False, offset, offset + 1)
    is_list = first >= 0xC0
    base = 0xC0 if is_list else 0x80
    if first <= base + 55:
        start, length = offset + 1, first - base
        if not is_list and length == 1 and start < limit and data[start] < 0x80:
            raise InvalidRlp(f"a single byte below 0x80 has a length prefix at offset {offset}")
    else:
        length_size = first - base - 55
        start = offset + 1 + length_size
        if start > limit:
            raise TruncatedRlp(f"length prefix at offset {offset} is cut off at {limit}")
        length = int.from_bytes(data[offset + 1 : start], "big")
        if data[offset + 1] == 0:
            raise InvalidRlp(f"length at offset {offset} starts with a zero byte")
        if length < 56:
            raise InvalidRlp(f"long length form used for {length} bytes at offset {offset}")
    if start + length > limit:
        raise TruncatedRlp(f"item at offset {offset} needs {length} bytes, {limit - start} are left")
    return Item(is_list, start, start + length)


def iterate_list(data: bytes, item: Item) -> Iterator[Item]:
    """The items of a list, one after the other, lazily."""
    if not item.is_list:
        raise InvalidRlp(f"expected a list at offset {item.start}, found a string")
    offset = item.start
    while offset < item.end:
        child = read_item(data, offset, item.end)
        yield child
        offset = child.end


def read_fields(data: bytes, item: Item, count: int) -> tuple[Item, ...]:
    """The items of a list that must hold exactly `count` of them."""
    fields: list[Item] = []
    for child in iterate_list(data, item):
        if len(fields) == count:
            raise InvalidRlp(f"expected a list of {count} items, found more")
        fields.append(child)
    if len(fields) != count:
        raise InvalidRlp(f"expected a list of {count} items, found {len(fields)}")
    return tuple(fields)


def read_document(data: bytes) -> Item:
    """The one item that `data` consists of, without anything after it."""
    item = read_item(data, 0)
    if item.end != len(data):
        raise InvalidRlp(f"{len(data) - item.end} bytes follow the item")
    return item


def to_bytes(data: bytes, item: Item, size: int | None = None) -> bytes:
    """The item's string; `size` demands an exact length in bytes."""
    if item.is_list:
        raise InvalidRlp(f"expected a string at offset {item.start}, found a list")
    value = data[item.start : item.end]
    if size is not None and len(value) != size:
        raise InvalidRlp(f"expected {size} bytes, found {len(value)}")
    return value


def to_int(data: bytes, item: Item, bits: int) -> int:
    """The item as an unsigned integer of at most `bits` bits, without leading zero bytes."""
    value = to_bytes(data, item)
    if value[:1] == b"\x00":
        raise InvalidRlp(f"integer at offset {item.start} has leading zeros")
    if len(value) * 8 > bits:
        raise InvalidRlp(f"integer at offset {item.start} needs more than {bits} bits")
    return int.from_bytes(value, "big")
