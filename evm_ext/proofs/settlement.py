"""The argument of `InferenceLedger.settle(bytes)`: one transaction that pays for many answers.

    u8 version = 1 | receiptsRoot 32 | u16 groups
    group  : channelId 32 | release u32 | maxClaimable u64 | signature 65 | u16 records
    record : fee u40 | u8 k | k x (contribution u32 | weight u16)

Integers are big-endian, fees micro-OPEN. Weights are not zero and sum to 10,000, contributions are
strictly ascending, k <= 16. Record i, counted over all groups, is leaf i under receiptsRoot.
"""

import struct
from dataclasses import dataclass

VERSION = 1
MAX_BYTES = 120_000
"""Keeps the transaction under the 128 KiB that transaction pools accept."""
MAX_ENTRIES = 16
WEIGHT_SUM = 10_000
MAX_FEE = (1 << 40) - 1

_HEADER = struct.Struct(">B32sH")
_GROUP = struct.Struct(">32sIQ65sH")


class InvalidSettlement(ValueError):
    """Bytes that are not a settlement, or values that do not make one."""


class SettlementTooLong(InvalidSettlement):
    """More bytes than one settlement may have."""


class UnsupportedSettlementVersion(InvalidSettlement):
    """The first byte is not a version we know."""


class SettlementTruncated(InvalidSettlement):
    """The bytes end inside a header, group or record."""


class SettlementTrailingBytes(InvalidSettlement):
    """Bytes after the last record."""


class EmptySettlement(InvalidSettlement):
    """No groups, or a group without records."""


class TooManyEntries(InvalidSettlement):
    """More than 16 contributions in one record."""


class InvalidWeights(InvalidSettlement):
    """A weight is zero, or a record's weights do not sum to 10,000."""


class EntriesNotAscending(InvalidSettlement):
    """A record names its contributions twice or out of order."""


class ValueOutOfRange(InvalidSettlement):
    """A number or a byte string that does not fit its field."""


Entry = tuple[int, int]
"""(contribution id, weight of 10,000)"""


@dataclass(frozen=True, slots=True)
class Record:
    """One answer's fee in micro-OPEN and its attribution vector; no entries: nothing was found."""

    fee: int
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Group:
    """Answers of one release paid from one channel, in the order of their receipts."""

    channel_id: bytes
    release: int
    max_claimable: int
    signature: bytes
    records: tuple[Record, ...]

    @property
    def fees(self) -> int:
        return sum(record.fee for record in self.records)


@dataclass(frozen=True)
class Settlement:
    receipts_root: bytes
    groups: tuple[Group, ...]

    @property
    def fees(self) -> int:
        """Everything this settlement debits, in micro-OPEN."""
        return sum(group.fees for group in self.groups)

    @property
    def records(self) -> int:
        return sum(len(group.records) for group in self.groups)


def encode_settlement(settlement: Settlement) -> bytes:
    """The bytes of a settlement; raises InvalidSettlement's subclasses for what cannot be decoded again."""
    if not 0 < len(settlement.groups) < 1 << 16:
        raise EmptySettlement(f"a settlement has 1 to 65535 groups, not {len(settlement.groups)}")
    _check_bytes("receiptsRoot", settlement.receipts_root, 32)
    parts = [_HEADER.pack(VERSION, settlement.receipts_root, len(settlement.groups))]
    for group in settlement.groups:
        _check_bytes("channelId", group.channel_id, 32)
        _check_bytes("signature", group.signature, 65)
        _check_range("release", group.release, 32)
        _check_range("maxClaimable", group.max_claimable, 64)
        if not 0 < len(group.records) < 1 << 16:
            raise EmptySettlement(f"a group has 1 to 65535 records, not {len(group.records)}")
        parts.append(
            _GROUP.pack(group.channel_id, group.release, group.max_claimable, group.signature, len(group.records))
        )
        parts += [_encode_record(record) for record in group.records]
    encoded = b"".join(parts)
    if len(encoded) > MAX_BYTES:
        raise SettlementTooLong(f"{len(encoded)} bytes: a settlement has at most {MAX_BYTES}; settle in parts")
    return encoded


def decode_settlement(data: bytes) -> Settlement:
    """The settlement in these bytes, all of them; raises a subclass of InvalidSettlement."""
    if len(data) > MAX_BYTES:
        raise SettlementTooLong(f"{len(data)} bytes: a settlement has at most {MAX_BYTES}")
    if data[:1] != bytes([VERSION]):
        raise UnsupportedSettlementVersion(f"version {data[:1].hex() or 'missing'}: only {VERSION} is known")
    if len(data) < _HEADER.size:
        raise SettlementTruncated("the header is 35 bytes")
    _, receipts_root, group_count = _HEADER.unpack_from(data)
    if not group_count:
        raise EmptySettlement("a settlement has at least one group")
    at = _HEADER.size
    groups = []
    for _ in range(group_count):
        if at + _GROUP.size > len(data):
            raise SettlementTruncated("the bytes end inside a group's header")
        channel_id, release, max_claimable, signature, record_count = _GROUP.unpack_from(data, at)
        at += _GROUP.size
        if not record_count:
            raise EmptySettlement("a group has at least one record")
        records = []
        for _ in range(record_count):
            record, at = _decode_record(data, at)
            records.append(record)
        groups.append(Group(channel_id, release, max_claimable, signature, tuple(records)))
    if at != len(data):
        raise SettlementTrailingBytes(f"{len(data) - at} bytes after the last record")
    return Settlement(receipts_root, tuple(groups))


def check_entries(entries: tuple[Entry, ...]) -> None:
    """Raises TooManyEntries, InvalidWeights or EntriesNotAscending unless this is an attribution vector."""
    if not entries:
        return
    if len(entries) > MAX_ENTRIES:
        raise TooManyEntries(f"{len(entries)} contributions in a record: at most {MAX_ENTRIES}")
    total = 0
    last = -1
    for contribution, weight in entries:
        if contribution <= last:
            raise EntriesNotAscending(f"contribution {contribution} after {last}: ids must ascend")
        if weight <= 0:
            raise InvalidWeights(f"contribution {contribution} has weight {weight}: leave it out")
        last = contribution
        total += weight
    if total != WEIGHT_SUM:
        raise InvalidWeights(f"weights sum to {total}, not {WEIGHT_SUM}")


def encode_entries(entries: tuple[Entry, ...]) -> bytes:
    """`u8 k | k x (contribution u32 | weight u16)`, also what a receipt's vectorHash is the keccak of."""
    check_entries(entries)
    for contribution, _ in entries:
        _check_range("contribution", contribution, 32)
    return bytes([len(entries)]) + b"".join(struct.pack(">IH", *entry) for entry in entries)


def _encode_record(record: Record) -> bytes:
    _check_range("fee", record.fee, 40)
    return record.fee.to_bytes(5, "big") + encode_entries(record.entries)


_ENTRIES = [struct.Struct(">" + "IH" * k) for k in range(MAX_ENTRIES + 1)]


def _decode_record(data: bytes, at: int) -> tuple[Record, int]:
    body = at + 6
    if body > len(data):
        raise SettlementTruncated("the bytes end inside a record")
    k = data[at + 5]
    if k > MAX_ENTRIES:
        raise TooManyEntries(f"{k} contributions in a record: at most {MAX_ENTRIES}")
    end = body + 6 * k
    if end > len(data):
        raise SettlementTruncated("the bytes end inside a record")
    values = _ENTRIES[k].unpack_from(data, body)
    entries = tuple(zip(values[::2], values[1::2], strict=True))
    check_entries(entries)
    return Record(int.from_bytes(data[at : at + 5], "big"), entries), end


def _check_bytes(name: str, value: bytes, length: int) -> None:
    if len(value) != length:
        raise ValueOutOfRange(f"{name} is {length} bytes, got {len(value)}")


def _check_range(name: str, value: int, bits: int) -> None:
    if not 0 <= value < 1 << bits:
        raise ValueOutOfRange(f"{name} is a u{bits}, got {value}")
