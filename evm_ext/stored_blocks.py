"""Stored blocks, canonical or not, with the recent ones in memory."""

from __future__ import annotations

from lru import LRU

from openledger.evm_ext.block import Block, Header
from openledger.evm_ext.database import REPAIR_HINT
from openledger.evm_ext.errors import DatabaseCorrupt, UnknownBlock
from openledger.evm_ext.receipts import Receipt
from openledger.evm_ext.store import Store

_RECENT_HEADERS = 4_096
_RECENT_BLOCKS = 128


class StoredBlocks:
    """Headers, blocks and receipts of a store. Any thread may read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._headers: LRU[bytes, Header] = LRU(_RECENT_HEADERS)
        self._blocks: LRU[bytes, Block] = LRU(_RECENT_BLOCKS)
        self._receipts: LRU[bytes, tuple[Receipt, ...]] = LRU(_RECENT_BLOCKS)

    def remember(self, block: Block, receipts: tuple[Receipt, ...]) -> None:
        """A block that was just stored."""
        self._headers[block.hash] = block.header
        self._blocks[block.hash] = block
        self._receipts[block.hash] = receipts

    def forget(self, block_hash: bytes) -> None:
        """A block that was just deleted."""
        for remembered in (self._headers, self._blocks, self._receipts):
            remembered.pop(block_hash, None)

    def has(self, block_hash: bytes) -> bool:
        return block_hash in self._headers or self._store.has_block(block_hash)

    def find_header(self, block_hash: bytes) -> Header | None:
        header = self._headers.get(block_hash)
        if header is None:
            header = self._store.header(block_hash)
            if header is not None:
                self._headers[block_hash] = header
        return header

    def find_block(self, block_hash: bytes) -> Block | None:
        block = self._blocks.get(block_hash)
        if block is None:
            block = self._store.block(block_hash)
            if block is not None:
                self._blocks[block_hash] = block
        return block

    def known_header(self, block_hash: bytes) -> Header:
        """The header of a block that a caller named. Raises `UnknownBlock`."""
        header = self.find_header(block_hash)
        if header is None:
            raise UnknownBlock(f"block 0x{block_hash.hex()} is not stored")
        return header

    def header(self, block_hash: bytes) -> Header:
        """The header of a block that has to be there. Raises `DatabaseCorrupt`."""
        header = self.find_header(block_hash)
        if header is None:
            raise DatabaseCorrupt(f"block 0x{block_hash.hex()} is missing: {REPAIR_HINT}")
        return header

    def block(self, block_hash: bytes) -> Block:
        """A block that has to be there. Raises `DatabaseCorrupt`."""
        block = self.find_block(block_hash)
        if block is None:
            raise DatabaseCorrupt(f"block 0x{block_hash.hex()} is missing: {REPAIR_HINT}")
        return block

    def receipts(self, block_hash: bytes) -> tuple[Receipt, ...]:
        """Raises `UnknownBlock`."""
        receipts = self._receipts.get(block_hash)
        if receipts is None:
            receipts = self._store.receipts(block_hash)
            if receipts is None:
                raise UnknownBlock(f"block 0x{block_hash.hex()} is not stored")
            self._receipts[block_hash] = receipts
        return receipts
