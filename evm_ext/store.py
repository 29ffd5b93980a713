"""What is on disk: one LevelDB folder, written in atomic batches.

Every block is one batch: header, body, receipts, trie nodes, code, what it changes. Every move of the heads is one
batch: heads, canonical index, transaction index, flat tables and their history. A process that dies at any
instruction leaves either all of a batch or nothing of it.

Keys are one letter and then:
| letter | key | value |
|---|---|---|
| n | hashed address of the owner if it is a storage trie's, node hash | trie node |
| c | code hash | code |
| h | block hash | header RLP |
| b | block hash | body RLP |
| r | block hash | receipts with derived fields |
| d | block hash | `StateDiff`: what the block changes |
| k | number, block hash | nothing: all stored blocks, canonical or not |
| i | number | canonical block hash |
| t | transaction hash | block hash, index 4 bytes (canonical blocks only) |
| a | hashed address | account at the unsafe head |
| s | hashed address, hashed slot | word at the unsafe head |
| A | hashed address, number | account before the canonical block with this number changed it; empty if there was none |
| S | hashed address, hashed slot, number | word before the canonical block with this number changed it |
| x | kind letter, … | index of addresses and internal operations, where recorded, see `index.py` |
| H | label | block hash of a head |
| m | name | format version, genesis, what the flat tables hold (`Marks`) |

Numbers are 8 bytes, big-endian.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from openledger.evm_ext.block import Block, Header, block_from_body
from openledger.evm_ext.database import REPAIR_HINT, Database
from openledger.evm_ext.errors import DatabaseCorrupt, UndecodableBlock
from openledger.evm_ext.receipts import Receipt, UndecodableReceipt, decode_stored, encode_stored
from openledger.evm_ext.state.changes import StateChanges, StateDiff

FORMAT_VERSION = b"2"
READABLE_VERSIONS = (b"1", FORMAT_VERSION)
REPAIRING = b"1"
"""Value of the mark `repairing` while a repair is under way."""
REPAIRED_IN_VAIN = b"2"
"""Its value once a repair has found nothing to go back to."""


def number_key(number: int) -> bytes:
    return number.to_bytes(8, "big")


class Store:
    """The tables of one chain. Any thread may read; one thread at a time may write."""

    def __init__(self, path: Path, *, create: bool = True, version_if_missing: bytes | None = None) -> None:
        """Open or create. `version_if_missing` is believed of a damaged store that does not say its format.

        Raises `DatabaseLocked` and `DatabaseCorrupt`."""
        self.path = path
        self.database = Database(path, create=create)
        try:
            version = self.database.get(b"mversion") or version_if_missing
            if version is None:
                if next(self.database.keys(b"", b"\xff"), None) is not None:
                    raise DatabaseCorrupt(f"the database in {path} does not say its format: {REPAIR_HINT}")
                with self.database.batch() as batch:
                    batch.put(b"mversion", FORMAT_VERSION)
                version = FORMAT_VERSION
            if version not in READABLE_VERSIONS:
                raise DatabaseCorrupt(
                    f"the database in {path} has format {version!r}, this program reads {FORMAT_VERSION!r}: "
                    "use the program that wrote it, or another data folder"
                )
        except BaseException:
            self.database.close()
            raise
        self.version = version
        self.has_ownerless_nodes = version == b"1" or self.database.get(b"mownerless") is not None

    def close(self) -> None:
        self.database.close()

    # --- marks ----------------------------------------------------------------------------------------

    def mark(self, name: str) -> bytes | None:
        """A named value: `base` (block whose state the flat tables hold), `history` (first number whose state can
        be read through them), `pruned` (first number whose trie is whole), `repairing` (the chain does not open)."""
        return self.database.get(b"m" + name.encode())

    def number_mark(self, name: str) -> int | None:
        value = self.mark(name)
        return None if value is None else int.from_bytes(value, "big")

    # --- state ----------------------------------------------------------------------------------------

    def node(self, key: bytes) -> bytes | None:
        """A trie node by its key, `owner || hash`, as the disk gives it: tries hash what they read.

        Nodes of format 1 have no owner in their keys."""
        node = self.database.get(b"n" + key, verify=False)
        if node is None and self.has_ownerless_nodes and len(key) == 64:
            return self.database.get(b"n" + key[32:], verify=False)
        return node

    def code(self, code_hash: bytes) -> bytes | None:
        return self.database.get(b"c" + code_hash)

    def diff(self, block_hash: bytes) -> StateDiff | None:
        """What a block changes, None if it is not known (any more)."""
        raw = self.database.get(b"d" + block_hash)
        try:
            return None if raw is None else StateDiff.decode(raw)
        except ValueError as error:
            raise DatabaseCorrupt(
                f"the changes of block 0x{block_hash.hex()} are damaged ({error}): {REPAIR_HINT}"
            ) from error

    # --- blocks ---------------------------------------------------------------------------------------

    def put_block(
        self,
        block: Block,
        receipts: tuple[Receipt, ...],
        changes: StateChanges,
        index_entries: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """A block with all that executing it gave, in one batch. Keys of `index_entries` begin with `x`."""
        with self.database.batch() as batch:
            _put_index(batch, index_entries)
            self._put_block(batch, block, receipts, changes)
            batch.put(b"d" + block.hash, changes.diff.encode())

    def _put_block(self, batch: Any, block: Block, receipts: tuple[Receipt, ...], changes: StateChanges) -> None:
        for key, node in changes.nodes.items():
            batch.put(b"n" + key, node)
        for code_hash, code in changes.codes.items():
            batch.put(b"c" + code_hash, code)
        batch.put(b"b" + block.hash, block.encode_body())
        batch.put(b"r" + block.hash, encode_stored(receipts))
        batch.put(b"h" + block.hash, block.header.encode())
        batch.put(b"k" + number_key(block.number) + block.hash, b"")

    def delete_block(self, batch: Any, number: int, block_hash: bytes) -> None:
        """Forget a block that is not canonical. Its trie nodes stay."""
        for letter in (b"d", b"b", b"r", b"h"):
            batch.delete(letter + block_hash)
        batch.delete(b"k" + number_key(number) + block_hash)

    def has_block(self, block_hash: bytes) -> bool:
        return self.database.get(b"h" + block_hash) is not None

    def header(self, block_hash: bytes) -> Header | None:
        raw = self.database.get(b"h" + block_hash)
        try:
            return None if raw is None else Header.decode(raw)
        except UndecodableBlock as error:
            raise DatabaseCorrupt(
                f"the header of block 0x{block_hash.hex()} is damaged ({error}): {REPAIR_HINT}"
            ) from error

    def block(self, block_hash: bytes) -> Block | None:
        header = self.header(block_hash)
        if header is None:
            return None
        body = self.database.get(b"b" + block_hash)
        if body is None:
            raise DatabaseCorrupt(f"the body of block 0x{block_hash.hex()} is missing: {REPAIR_HINT}")
        try:
            return block_from_body(header, body)
        except UndecodableBlock as error:
            raise DatabaseCorrupt(
                f"the body of block 0x{block_hash.hex()} is damaged ({error}): {REPAIR_HINT}"
            ) from error

    def receipts(self, block_hash: bytes) -> tuple[Receipt, ...] | None:
        raw = self.database.get(b"r" + block_hash)
        try:
            return None if raw is None else decode_stored(raw)
        except UndecodableReceipt as error:
            raise DatabaseCorrupt(
                f"the receipts of block 0x{block_hash.hex()} are damaged ({error}): {REPAIR_HINT}"
            ) from error

    def blocks_from(self, first: int, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
        """(number, hash) of all stored blocks from one number to below another, canonical or not."""
        end = b"l" if stop is None else b"k" + number_key(stop)
        for key in self.database.keys(b"k" + number_key(first), end):
            yield int.from_bytes(key[1:9], "big"), key[9:]

    # --- the index of addresses and internal operations ---------------------------------------------------

    def get_index(self, key: bytes) -> bytes | None:
        return self.database.get(key)

    def index_range(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Entries with keys from `start` to below `stop`."""
        return self.database.items(start, stop, reverse=reverse)

    def put_index(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Entries for blocks that are stored already, in one batch."""
        with self.database.batch() as batch:
            _put_index(batch, entries)

    # --- heads and indexes ------------------------------------------------------------------------------

    def canonical_hash(self, number: int) -> bytes | None:
        if not 0 <= number < 1 << 64:
            return None
        return self.database.get(b"i" + number_key(number))

    def transaction_location(self, tx_hash: bytes) -> tuple[bytes, int] | None:
        value = self.database.get(b"t" + tx_hash)
        return None if value is None else (value[:32], int.from_bytes(value[32:], "big"))

    def head(self, label: str) -> bytes | None:
        return self.database.get(b"H" + label.encode())

    def put_heads(
        self,
        heads: Mapping[str, bytes],
        added: Iterable[Block],
        removed: Iterable[Block],
        flat: Iterable[tuple[bytes, bytes | None]] = (),
        *,
        forgotten: Iterable[tuple[int, bytes]] = (),
        sync: bool = True,
    ) -> None:
        """Move heads, and make `added` canonical in the place of `removed`, in one batch.

        `flat` is what the move changes in the flat tables, their history and marks (None deletes), `forgotten` are
        number and hash of blocks to delete. With `sync` the batch, and so every earlier one, survives loss of power
        too."""
        with self.database.batch(sync=sync) as batch:
            for block in removed:
                batch.delete(b"i" + number_key(block.number))
                for transaction in block.transactions:
                    batch.delete(b"t" + transaction.hash)
            for block in added:
                put_canonical(batch, block)
            for label, block_hash in heads.items():
                batch.put(b"H" + label.encode(), block_hash)
            for key, value in flat:
                if value is None:
                    batch.delete(key)
                else:
                    batch.put(key, value)
            for number, block_hash in forgotten:
                self.delete_block(batch, number, block_hash)

    # --- which chain this is ------------------------------------------------------------------------------

    def genesis_hash(self) -> bytes | None:
        return self.database.get(b"mgenesis")

    def put_genesis(self, block: Block, changes: StateChanges) -> None:
        """Block 0, its state and all heads on it, in one batch. Nobody goes back before it, so it has no diff."""
        with self.database.batch(sync=True) as batch:
            self._put_block(batch, block, (), changes)
            for key, value in changes.diff.flat():
                batch.put(key, value)
            put_canonical(batch, block)
            for label in ("unsafe", "safe", "finalized"):
                batch.put(b"H" + label.encode(), block.hash)
            batch.put(b"mbase", block.hash)
            batch.put(b"mhistory", number_key(0))
            batch.put(b"mgenesis", block.hash)


def put_canonical(batch: Any, block: Block) -> None:
    """The index entries of a canonical block."""
    batch.put(b"i" + number_key(block.number), block.hash)
    for index, transaction in enumerate(block.transactions):
        batch.put(b"t" + transaction.hash, block.hash + index.to_bytes(4, "big"))


def _put_index(batch: Any, entries: Iterable[tuple[bytes, bytes]]) -> None:
    for key, value in entries:
        if key[:1] != b"x":
            raise ValueError(f"keys of the index begin with x, got {key!r}")
        batch.put(key, value)
