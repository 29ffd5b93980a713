"""The address index: which transactions concern an account, and what they did inside. For explorers.

Entries are written in the batch of their block and belong to it: their keys end with the block's number and the
first bytes of its hash, so entries of blocks that a reorganisation took away are passed over when they are read.

| key | value |
|---|---|
| xa, address, number, hash | indexes in the block of the transactions that concern the address, 4 bytes each |
| xc, contract, number, hash | index of the transaction that created it, 4 bytes, and its creator |
| xn, sender, nonce, number, hash | index of the transaction, 4 bytes |
| xo, block hash | internal operations of every transaction of the block, RLP |
| xm | which canonical blocks are indexed: all from one number on, then (first beyond, first) of older ranges, newest first |

Numbers and nonces are 8 bytes, `hash` the first 8 bytes of the block's hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from openledger.evm_ext import encoding
from openledger.evm_ext.block import Block
from openledger.evm_ext.encoding import encode_bytes, encode_sequence, encode_uint
from openledger.evm_ext.errors import DatabaseCorrupt
from openledger.evm_ext.index_recorder import InternalOperation, OperationKind, TransactionRecord
from openledger.evm_ext.receipts import Receipt
from openledger.evm_ext.store import Store

Entry = tuple[bytes, bytes]

_COMPLETE_FROM = b"xm"
_HASH_BYTES = 8
_SUFFIX_BYTES = 8 + _HASH_BYTES
_LAST_NUMBER = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class IndexedTransaction:
    """A transaction of the canonical chain."""

    block_number: int
    block_hash: bytes
    index: int


@dataclass(frozen=True, slots=True)
class Creation:
    """Who created a contract, and in which transaction."""

    transaction: IndexedTransaction
    creator: bytes


def block_entries(block: Block, receipts: Sequence[Receipt], records: Sequence[TransactionRecord]) -> list[Entry]:
    """What a block adds to the index. `records` are those of its transactions, in order."""
    suffix = block.number.to_bytes(8, "big") + block.hash[:_HASH_BYTES]
    entries: list[Entry] = []
    concerned: dict[bytes, list[int]] = {}
    for index, (transaction, receipt, record) in enumerate(zip(block.transactions, receipts, records, strict=True)):
        place = index.to_bytes(4, "big")
        sender = transaction.sender
        own = {sender, transaction.to or receipt.contract_address or sender}
        for address in own | record.addresses:
            concerned.setdefault(address, []).append(index)
        entries.extend((b"xc" + contract + suffix, place + creator) for contract, creator in record.created)
        nonce = transaction.nonce if receipt.deposit_nonce is None else receipt.deposit_nonce
        entries.append((b"xn" + sender + nonce.to_bytes(8, "big") + suffix, place))
    entries.extend(
        (b"xa" + address + suffix, b"".join(index.to_bytes(4, "big") for index in indexes))
        for address, indexes in sorted(concerned.items())
    )
    entries.append((b"xo" + block.hash, _encode_operations(records)))
    return entries


class AddressIndex:
    """Reads the index of one chain. Any thread may use it."""

    def __init__(self, store: Store, canonical_hash: Callable[[int], bytes | None]) -> None:
        self._store = store
        self._canonical_hash = canonical_hash

    @property
    def complete_from(self) -> int | None:
        """The first number from which on every canonical block is indexed; None if recording never began."""
        ranges = self._ranges()
        return ranges[0] if ranges else None

    def has_block(self, block_hash: bytes) -> bool:
        return self._store.get_index(b"xo" + block_hash) is not None

    def operations(self, block_hash: bytes) -> tuple[tuple[InternalOperation, ...], ...] | None:
        """Internal operations of each transaction of a block; None if the block is not indexed."""
        value = self._store.get_index(b"xo" + block_hash)
        return None if value is None else _decode_operations(value)

    def transactions_before(self, address: bytes, number: int) -> Iterator[IndexedTransaction]:
        """Transactions that concern an account in blocks below `number`, the newest first."""
        prefix = b"xa" + address
        stop = prefix + min(number, _LAST_NUMBER).to_bytes(8, "big")
        for key, value in self._store.index_range(prefix, stop, reverse=True):
            yield from reversed(self._located(key, value))

    def transactions_after(self, address: bytes, number: int) -> Iterator[IndexedTransaction]:
        """Transactions that concern an account in blocks above `number`, the oldest first."""
        prefix = b"xa" + address
        start = prefix + min(number + 1, _LAST_NUMBER).to_bytes(8, "big")
        for key, value in self._store.index_range(start, prefix + b"\xff" * _SUFFIX_BYTES):
            yield from self._located(key, value)

    def creation(self, contract: bytes) -> Creation | None:
        """The newest creation at an address; None for accounts that no transaction created."""
        prefix = b"xc" + contract
        for key, value in self._store.index_range(prefix, prefix + b"\xff" * _SUFFIX_BYTES, reverse=True):
            for transaction in self._located(key, value[:4]):
                return Creation(transaction, value[4:])
        return None

    def by_nonce(self, sender: bytes, nonce: int) -> IndexedTransaction | None:
        """The transaction that an account sent with a nonce."""
        prefix = b"xn" + sender + nonce.to_bytes(8, "big")
        for key, value in self._store.index_range(prefix, prefix + b"\xff" * _SUFFIX_BYTES):
            for transaction in self._located(key, value):
                return transaction
        return None

    # --- recording --------------------------------------------------------------------------------------

    def begin(self, next_number: int) -> None:
        """Blocks are recorded from this number on; what is below and not indexed is left to back-filling."""
        ranges = self._ranges()
        if not ranges or ranges[0] > next_number:
            self._put([], [next_number, *ranges[1:]])

    def interrupt(self, number: int) -> None:
        """A block with this number is stored without being recorded."""
        first, *older = self._ranges() or [_LAST_NUMBER]
        if first < number:
            older = [number, first, *older]
        while older and older[0] > number:
            older = [number, *older[1:]] if older[1] < number else older[2:]
        if [_LAST_NUMBER, *older] != self._ranges() and (older or first != _LAST_NUMBER):
            self._put([], [_LAST_NUMBER, *older])

    def fill(self, number: int, entries: Sequence[Entry]) -> None:
        """Store the entries of a block that was executed again; all above it are complete."""
        self._put(entries, [number, *self._ranges()[1:]])

    def _ranges(self) -> list[int]:
        value = self._store.get_index(_COMPLETE_FROM) or b""
        return [int.from_bytes(value[start : start + 8], "big") for start in range(0, len(value), 8)]

    def _put(self, entries: Sequence[Entry], ranges: list[int]) -> None:
        first, *older = ranges
        while older and first <= older[0]:  # the open range has reached an older one
            first, older = min(first, older[1]), older[2:]
        value = b"".join(number.to_bytes(8, "big") for number in (first, *older))
        self._store.put_index([*entries, (_COMPLETE_FROM, value)])

    def _located(self, key: bytes, indexes: bytes) -> list[IndexedTransaction]:
        """The transactions of an entry, none if its block is not canonical."""
        number = int.from_bytes(key[-_SUFFIX_BYTES:-_HASH_BYTES], "big")
        block_hash = self._canonical_hash(number)
        if block_hash is None or not block_hash.startswith(key[-_HASH_BYTES:]):
            return []
        return [
            IndexedTransaction(number, block_hash, int.from_bytes(indexes[start : start + 4], "big"))
            for start in range(0, len(indexes), 4)
        ]


def _encode_operations(records: Sequence[TransactionRecord]) -> bytes:
    return encode_sequence(
        encode_sequence(
            encode_sequence(
                (
                    encode_uint(operation.kind),
                    encode_bytes(operation.sender),
                    encode_bytes(operation.to),
                    encode_uint(operation.value),
                )
            )
            for operation in record.operations
        )
        for record in records
    )


def _decode_operations(raw: bytes) -> tuple[tuple[InternalOperation, ...], ...]:
    try:
        return tuple(
            tuple(_decode_operation(item) for item in encoding.to_list(transaction))
            for transaction in encoding.to_list(encoding.decode(raw))
        )
    except (encoding.InvalidRLP, ValueError) as error:
        raise DatabaseCorrupt(f"internal operations of a block are damaged: {error}") from error


def _decode_operation(item: encoding.Item) -> InternalOperation:
    kind, sender, to, value = encoding.to_list(item, 4)
    return InternalOperation(
        OperationKind(encoding.to_uint(kind)),
        encoding.to_bytes(sender, 20),
        encoding.to_bytes(to, 20),
        encoding.to_uint(value),
    )
