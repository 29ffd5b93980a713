"""Span batches: a run of L2 blocks, column by column (OP-Stack delta/span-batches.md).

    uvarint relative timestamp (since L2 genesis) | uvarint L1 origin number (of the last block) | parent check 20 | L1 origin check 20
    uvarint block count | origin bits | uvarint transaction count per block
    contract creation bits | y parity bits | signatures (r32 s32) | recipients (20, not for creations)
    transaction data | uvarint nonces | uvarint gas limits | protected bits (legacy transactions only)

A bit list is a big-endian integer in as many bytes as its bits need; bit i is the i-th least significant. Transaction
data is the envelope's type byte (none for legacy) and the RLP list of what the other columns do not hold. The chain id
comes from the configuration.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from openledger.evm_ext.encoding import InvalidRLP, encode_bytes, encode_sequence, encode_uint, split_list
from openledger.evm_ext.transactions import ACCESS_LIST, DYNAMIC_FEE, LEGACY, SET_CODE
from openledger.rollup.codec.strict_rlp import InvalidRlp, Item, iterate_list, read_fields, read_item, to_bytes, to_int

MAX_SPAN_BATCH_ELEMENTS = 10_000_000  # Fjord: blocks, and transactions in all of them
CHECK_SIZE = 20


class InvalidSpanBatch(ValueError):
    """The bytes are no span batch; the rest of its channel is dropped."""


@dataclass(frozen=True)
class SpanBatch:
    """A run of blocks; `blocks()` unfolds it. `first_changes_origin` tells whether the first block begins an epoch."""

    relative_timestamp: int
    parent_check: bytes
    l1_origin_check: bytes
    first_epoch_number: int
    last_epoch_number: int
    first_changes_origin: bool
    block_count: int
    _origin_bits: int
    _transaction_counts: "array[int]"
    _transactions: tuple[bytes, ...]

    def blocks(self) -> Iterator[tuple[int, tuple[bytes, ...]]]:
        """(epoch number, transactions) of each block, lazily."""
        epoch, start = self.first_epoch_number, 0
        for index, count in enumerate(self._transaction_counts):
            if index and self._origin_bits >> index & 1:
                epoch += 1
            yield epoch, self._transactions[start : start + count]
            start += count


# --- decoding ---


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    def take(self, size: int, what: str) -> bytes:
        if size > len(self.data) - self.offset:
            raise InvalidSpanBatch(f"{what} needs {size} bytes, {len(self.data) - self.offset} are left")
        taken = self.data[self.offset : self.offset + size]
        self.offset += size
        return taken

    def uvarint(self, what: str) -> int:
        """A protobuf varint of 64 bits; a longer form than needed is accepted, as everywhere on OP chains."""
        value = 0
        for index in range(10):
            byte = self.take(1, what)[0]
            if index == 9 and byte > 1:
                break
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value
        raise InvalidSpanBatch(f"{what} does not fit 64 bits")

    def bits(self, count: int, what: str) -> int:
        value = int.from_bytes(self.take((count + 7) // 8, what), "big")
        if value.bit_length() > count:
            raise InvalidSpanBatch(f"{what} has more than {count} bits set up")
        return value


def decode_span_batch(data: bytes, *, chain_id: int) -> SpanBatch:
    """The span batch in `data` (after the version byte); raises `InvalidSpanBatch`."""
    reader = _Reader(data)
    relative_timestamp = reader.uvarint("relative timestamp")
    last_epoch = reader.uvarint("L1 origin number")
    parent_check = reader.take(CHECK_SIZE, "parent check")
    l1_origin_check = reader.take(CHECK_SIZE, "L1 origin check")
    block_count = reader.uvarint("block count")
    if not 0 < block_count <= MAX_SPAN_BATCH_ELEMENTS:
        raise InvalidSpanBatch(f"block count is {block_count}, not from 1 to {MAX_SPAN_BATCH_ELEMENTS}")
    origin_bits = reader.bits(block_count, "origin bits")
    first_epoch = last_epoch - (origin_bits >> 1).bit_count()
    if first_epoch < 0:
        raise InvalidSpanBatch(f"origin bits go below L1 block 0 from {last_epoch}")
    if block_count > len(data) - reader.offset:
        raise InvalidSpanBatch(f"{block_count} blocks do not fit {len(data) - reader.offset} bytes")
    counts = array("I")
    total = 0
    for _ in range(block_count):
        count = reader.uvarint("transaction count")
        total += count
        if total > MAX_SPAN_BATCH_ELEMENTS:
            raise InvalidSpanBatch(f"more than {MAX_SPAN_BATCH_ELEMENTS} transactions")
        counts.append(count)
    return SpanBatch(
        relative_timestamp=relative_timestamp,
        parent_check=parent_check,
        l1_origin_check=l1_origin_check,
        first_epoch_number=first_epoch,
        last_epoch_number=last_epoch,
        first_changes_origin=bool(origin_bits & 1),
        block_count=block_count,
        _origin_bits=origin_bits,
        _transaction_counts=counts,
        _transactions=_read_transactions(reader, total, chain_id),
    )


def _read_transactions(reader: _Reader, count: int, chain_id: int) -> tuple[bytes, ...]:
    creations = reader.bits(count, "contract creation bits")
    parities = reader.bits(count, "y parity bits")
    signatures = reader.take(64 * count, "signatures")
    recipients = reader.take(20 * (count - creations.bit_count()), "recipients")
    data = [_read_transaction_data(reader) for _ in range(count)]
    nonces = [reader.uvarint("nonce") for _ in range(count)]
    gas_limits = [reader.uvarint("gas limit") for _ in range(count)]
    protected = reader.bits(sum(kind == LEGACY for kind, _ in data), "protected bits")
    transactions: list[bytes] = []
    recipient = legacy = 0
    for index, (kind, fields) in enumerate(data):
        to = b""
        if not creations >> index & 1:
            to = recipients[20 * recipient : 20 * recipient + 20]
            recipient += 1
        elif kind == SET_CODE:
            raise InvalidSpanBatch("a set-code transaction cannot create a contract")
        parity = parities >> index & 1
        r, s = signatures[64 * index : 64 * index + 32], signatures[64 * index + 32 : 64 * index + 64]
        signature = [encode_uint(int.from_bytes(r, "big")), encode_uint(int.from_bytes(s, "big"))]
        nonce, gas = encode_uint(nonces[index]), encode_uint(gas_limits[index])
        if kind == LEGACY:
            value, gas_price, payload = fields
            v = parity + (35 + 2 * chain_id if protected >> legacy & 1 else 27)
            legacy += 1
            parts = [nonce, gas_price, gas, encode_bytes(to), value, payload, encode_uint(v), *signature]
            transactions.append(encode_sequence(parts))
            continue
        fee_count = 1 if kind == ACCESS_LIST else 2
        value, fees, (payload, *lists) = fields[0], fields[1 : 1 + fee_count], fields[1 + fee_count :]
        parts = [encode_uint(chain_id), nonce, *fees, gas, encode_bytes(to), value, payload, *lists]
        transactions.append(bytes((kind,)) + encode_sequence([*parts, encode_uint(parity), *signature]))
    return tuple(transactions)


_FIELD_COUNTS = {LEGACY: 3, ACCESS_LIST: 4, DYNAMIC_FEE: 5, SET_CODE: 6}


def _read_transaction_data(reader: _Reader) -> tuple[int, tuple[bytes, ...]]:
    """(type, encoded fields) of one entry of the transaction data column."""
    data, kind = reader.data, LEGACY
    if reader.offset < len(data) and data[reader.offset] < 0x80:
        kind = reader.take(1, "transaction type")[0]
        if kind == LEGACY or kind not in _FIELD_COUNTS:
            raise InvalidSpanBatch(f"transaction type {kind} is not allowed in a span batch")
    try:
        item = read_item(data, reader.offset)
        if not item.is_list:
            raise InvalidSpanBatch("transaction data is not a list")
        items = read_fields(data, item, _FIELD_COUNTS[kind])
        _check_fields(data, kind, items)
    except InvalidRlp as error:
        raise InvalidSpanBatch(f"transaction data: {error}") from error
    encoded: list[bytes] = []
    start = item.start
    for field in items:
        encoded.append(data[start : field.end])
        start = field.end
    reader.offset = item.end
    return kind, tuple(encoded)


def _check_fields(data: bytes, kind: int, items: Sequence[Item]) -> None:
    """What must hold for a transaction of this type to be put together again; raises `InvalidRlp`."""
    fee_count = 2 if kind in (DYNAMIC_FEE, SET_CODE) else 1
    for field in items[: 1 + fee_count]:
        to_int(data, field, 256)
    to_bytes(data, items[1 + fee_count])
    if kind == LEGACY:
        return
    for entry in iterate_list(data, items[2 + fee_count]):
        address, keys = read_fields(data, entry, 2)
        to_bytes(data, address, 20)
        for key in iterate_list(data, keys):
            to_bytes(data, key, 32)
    if kind == SET_CODE:
        for entry in iterate_list(data, items[3 + fee_count]):
            chain, address, nonce, parity, r, s = read_fields(data, entry, 6)
            to_bytes(data, address, 20)
            for field, bits in ((chain, 256), (nonce, 64), (parity, 8), (r, 256), (s, 256)):
                to_int(data, field, bits)


# --- encoding ---


def encode_span_batch(
    *,
    relative_timestamp: int,
    parent_check: bytes,
    l1_origin_check: bytes,
    first_changes_origin: bool,
    blocks: Sequence[tuple[int, Sequence[bytes]]],
) -> bytes:
    """The span batch (without version byte) of (epoch number, transactions) blocks, the inverse of `decode_span_batch`.

    The checks are the first 20 bytes of the parent's hash and of the last block's L1 origin's. Raises
    `InvalidSpanBatch` for no blocks, epochs that jump, or a transaction that is not of types 0, 1, 2 or 4.
    """
    if not blocks:
        raise InvalidSpanBatch("a span batch has at least one block")
    origin_bits = int(first_changes_origin)
    for index in range(1, len(blocks)):
        step = blocks[index][0] - blocks[index - 1][0]
        if step not in (0, 1):
            raise InvalidSpanBatch(f"epoch {blocks[index - 1][0]} is followed by {blocks[index][0]}")
        origin_bits |= step << index
    columns = _Columns()
    for _, transactions in blocks:
        for raw in transactions:
            columns.add(raw)
    return b"".join(
        (
            _uvarint(relative_timestamp),
            _uvarint(blocks[-1][0]),
            parent_check,
            l1_origin_check,
            _uvarint(len(blocks)),
            _bits(origin_bits, len(blocks)),
            *(_uvarint(len(transactions)) for _, transactions in blocks),
            columns.encode(),
        )
    )


class _Columns:
    def __init__(self) -> None:
        self.creations: list[bool] = []
        self.parities: list[bool] = []
        self.protected: list[bool] = []
        self.signatures = bytearray()
        self.recipients = bytearray()
        self.data = bytearray()
        self.nonces = bytearray()
        self.gas_limits = bytearray()

    def add(self, raw: bytes) -> None:
        try:
            self._add(raw)
        except (InvalidRLP, InvalidRlp, ValueError, IndexError) as error:
            raise InvalidSpanBatch(f"transaction cannot be put into a span batch: {error}") from error

    def _add(self, raw: bytes) -> None:
        if raw[0] >= 0xC0:
            nonce, gas_price, gas, to, value, payload, encoded_v, r, s = split_list(raw)
            v = _number(encoded_v)
            self.protected.append(v >= 35)
            parity = (v - 35) % 2 if v >= 35 else v - 27
            self.data += encode_sequence([value, gas_price, payload])
        else:
            kind, fields = raw[0], split_list(raw[1:])
            if kind not in _FIELD_COUNTS:
                raise InvalidSpanBatch(f"transaction type {kind} is not allowed in a span batch")
            fee_count = 1 if kind == ACCESS_LIST else 2
            nonce, fees, (gas, to, value, payload, *lists) = (
                fields[1],
                fields[2 : 2 + fee_count],
                fields[2 + fee_count : -3],
            )
            r, s = fields[-2:]
            parity = _number(fields[-3])
            self.data += bytes((kind,)) + encode_sequence([value, *fees, payload, *lists])
        recipient = to_bytes(to, read_item(to, 0))
        self.creations.append(not recipient)
        self.recipients += recipient
        self.parities.append(bool(parity))
        self.signatures += _number(r).to_bytes(32, "big") + _number(s).to_bytes(32, "big")
        self.nonces += _uvarint(_number(nonce))
        self.gas_limits += _uvarint(_number(gas))

    def encode(self) -> bytes:
        return b"".join(
            (
                _flags(self.creations),
                _flags(self.parities),
                bytes(self.signatures),
                bytes(self.recipients),
                bytes(self.data),
                bytes(self.nonces),
                bytes(self.gas_limits),
                _flags(self.protected),
            )
        )


def _number(encoded: bytes) -> int:
    return to_int(encoded, read_item(encoded, 0), 256)


def _uvarint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _flags(flags: Sequence[bool]) -> bytes:
    return _bits(sum(1 << index for index, flag in enumerate(flags) if flag), len(flags))


def _bits(value: int, count: int) -> bytes:
    return value.to_bytes((count + 7) // 8, "big")
