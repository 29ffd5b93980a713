"""What is on disk: one LevelDB folder, written in atomic batches.

Every block is one batch: header, body, receipts, trie nodes, code. Every move of the heads is one batch:
heads, canonical index, transaction index. A process that dies at any instruction leaves either all of a
batch or nothing of it. Trie nodes and blocks are only ever added, so readers need no locks.

Keys are one letter and then:
| letter | key | value |
|---|---|---|
| n | hashed address of the owner if it is a storage trie's, node hash | trie node |
| c | code hash | code |
| h | block hash | header RLP |
| b | block hash | body RLP |
| r | block hash | receipts with derived fields |
| i | number, 8 bytes | canonical block hash |
| t | transaction hash | block hash, index 4 bytes (canonical blocks only) |
| H | label | block hash of a head |
| m | name | format version, genesis |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import plyvel

from openledger.evm_ext.batches import BatchWriter
from openledger.evm_ext.block import Block, Header, block_from_body
from openledger.evm_ext.errors import DatabaseCorrupt, DatabaseLocked, UndecodableBlock
from openledger.evm_ext.receipts import Receipt, UndecodableReceipt, decode_stored, encode_stored
from openledger.evm_ext.state.changes import StateChanges

FORMAT_VERSION = b"1"

_WRITE_BUFFER_BYTES = 16 << 20
_BLOCK_CACHE_BYTES = 32 << 20
_BLOOM_BITS = 10


class Store:
    """The LevelDB folder of one chain. Any thread may read; one thread at a time may write."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises `DatabaseLocked` and `DatabaseCorrupt`."""
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        try:
            self._db = plyvel.DB(
                str(path),
                create_if_missing=True,
                write_buffer_size=_WRITE_BUFFER_BYTES,
                lru_cache_size=_BLOCK_CACHE_BYTES,
                bloom_filter_bits=_BLOOM_BITS,
            )
        except plyvel.CorruptionError as error:
            raise DatabaseCorrupt(f"the database in {path} is damaged: {error}") from error
        except plyvel.IOError as error:
            if "lock" in str(error).lower():
                raise DatabaseLocked(f"the database in {path} is in use by another process: stop it") from error
            raise DatabaseCorrupt(f"the database in {path} cannot be opened: {error}") from error
        try:
            version = self._get(b"mversion")
        except DatabaseCorrupt:
            self._db.close()
            raise
        self._writer = BatchWriter(self._db, path)
        if version is None:
            with self._writer.batch() as batch:
                batch.put(b"mversion", FORMAT_VERSION)
        elif version != FORMAT_VERSION:
            self._db.close()
            raise DatabaseCorrupt(
                f"the database in {path} has format {version!r}, this program reads {FORMAT_VERSION!r}"
            )

    def close(self) -> None:
        self._db.close()

    def _get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key)
        except plyvel.Error as error:
            raise DatabaseCorrupt(f"the database in {self.path} cannot be read: {error}") from error
        return value

    # --- state --------------------------------------------------------------------------------------

    def node(self, key: bytes) -> bytes | None:
        """A trie node by its key, `owner || hash`. Nodes of format 1 have no owner in their keys."""
        node = self._get(b"n" + key)
        return self._get(b"n" + key[-32:]) if node is None and len(key) == 64 else node

    def code(self, code_hash: bytes) -> bytes | None:
        return self._get(b"c" + code_hash)

    # --- blocks -------------------------------------------------------------------------------------

    def put_block(self, block: Block, receipts: tuple[Receipt, ...], changes: StateChanges) -> None:
        """A block with all that executing it gave, in one batch."""
        block_hash = block.hash
        with self._writer.batch() as batch:
            for node_hash, node in changes.nodes.items():
                batch.put(b"n" + node_hash, node)
            for code_hash, code in changes.codes.items():
                batch.put(b"c" + code_hash, code)
            batch.put(b"b" + block_hash, block.encode_body())
            batch.put(b"r" + block_hash, encode_stored(receipts))
            batch.put(b"h" + block_hash, block.header.encode())

    def has_block(self, block_hash: bytes) -> bool:
        return self._get(b"h" + block_hash) is not None

    def header(self, block_hash: bytes) -> Header | None:
        raw = self._get(b"h" + block_hash)
        try:
            return None if raw is None else Header.decode(raw)
        except UndecodableBlock as error:
            raise DatabaseCorrupt(f"header of block 0x{block_hash.hex()} is damaged: {error}") from error

    def block(self, block_hash: bytes) -> Block | None:
        header = self.header(block_hash)
        if header is None:
            return None
        body = self._get(b"b" + block_hash)
        if body is None:
            raise DatabaseCorrupt(f"body of block 0x{block_hash.hex()} is missing")
        try:
            return block_from_body(header, body)
        except UndecodableBlock as error:
            raise DatabaseCorrupt(f"body of block 0x{block_hash.hex()} is damaged: {error}") from error

    def receipts(self, block_hash: bytes) -> tuple[Receipt, ...] | None:
        raw = self._get(b"r" + block_hash)
        try:
            return None if raw is None else decode_stored(raw)
        except UndecodableReceipt as error:
            raise DatabaseCorrupt(f"receipts of block 0x{block_hash.hex()} are damaged: {error}") from error

    # --- heads and indexes ----------------------------------------------------------------------------

    def canonical_hash(self, number: int) -> bytes | None:
        if not 0 <= number < 1 << 64:
            return None
        return self._get(b"i" + number.to_bytes(8, "big"))

    def transaction_location(self, tx_hash: bytes) -> tuple[bytes, int] | None:
        value = self._get(b"t" + tx_hash)
        return None if value is None else (value[:32], int.from_bytes(value[32:], "big"))

    def head(self, label: str) -> bytes | None:
        return self._get(b"H" + label.encode())

    def put_heads(
        self, heads: Mapping[str, bytes], added: list[Block], removed: list[Block], *, sync: bool = True
    ) -> None:
        """Move heads, and make `added` canonical in the place of `removed`, in one batch.

        With `sync` the batch, and so every earlier one, survives loss of power too."""
        with self._writer.batch(sync=sync) as batch:
            for block in removed:
                batch.delete(b"i" + block.number.to_bytes(8, "big"))
                for transaction in block.transactions:
                    batch.delete(b"t" + transaction.hash)
            for block in added:
                batch.put(b"i" + block.number.to_bytes(8, "big"), block.hash)
                for index, transaction in enumerate(block.transactions):
                    batch.put(b"t" + transaction.hash, block.hash + index.to_bytes(4, "big"))
            for label, block_hash in heads.items():
                batch.put(b"H" + label.encode(), block_hash)

    # --- which chain this is ----------------------------------------------------------------------------

    def genesis_hash(self) -> bytes | None:
        return self._get(b"mgenesis")

    def put_genesis(self, block: Block, changes: StateChanges) -> None:
        """Block 0, its state and all heads on it, in one batch."""
        with self._writer.batch(sync=True) as batch:
            for node_hash, node in changes.nodes.items():
                batch.put(b"n" + node_hash, node)
            for code_hash, code in changes.codes.items():
                batch.put(b"c" + code_hash, code)
            batch.put(b"b" + block.hash, block.encode_body())
            batch.put(b"r" + block.hash, encode_stored(()))
            batch.put(b"h" + block.hash, block.header.encode())
            batch.put(b"i" + bytes(8), block.hash)
            for label in ("unsafe", "safe", "finalized"):
                batch.put(b"H" + label.encode(), block.hash)
            batch.put(b"mgenesis", block.hash)
