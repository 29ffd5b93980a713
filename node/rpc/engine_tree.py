"""Blocks that come from the consensus side: executed, refused for good, or kept until their parent is there."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import structlog
from lru import LRU

from openledger.evm_ext.block import Block
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.errors import InvalidBlock, StatePruned, UnknownParent
from openledger.node.rpc.engine_builder import PayloadBuilder
from openledger.node.rpc.engine_formats import SYNCING, ZERO_HASH, PayloadStatus, Status

log = structlog.get_logger(__name__)

WAITING_BLOCKS = 256
"""Blocks without a parent that are kept; the oldest goes first."""
WAITING_BYTES = 64 * 1024 * 1024
INVALID_REMEMBERED = 4_096


class BlockTree:
    """What newPayload and forkchoiceUpdated know of blocks. Safe from any thread."""

    def __init__(self, chain: Chain, builder: PayloadBuilder) -> None:
        self._chain = chain
        self._builder = builder
        self._lock = Lock()
        self._waiting: OrderedDict[bytes, Block] = OrderedDict()
        self._waiting_bytes = 0
        self._invalid: LRU[bytes, PayloadStatus] = LRU(INVALID_REMEMBERED)

    def add(self, block: Block) -> PayloadStatus:
        """Execute and store a block if its parent is there, and with it the blocks that waited for it."""
        with self._lock:
            status = self._add(block)
            if status.status is Status.VALID:
                self._add_descendants(block.hash)
            return status

    def status(self, block_hash: bytes) -> PayloadStatus:
        """Of a block that was or was not seen: SYNCING for one whose ancestors are missing."""
        if self._chain.has_block(block_hash):
            return PayloadStatus(Status.VALID, block_hash)
        return self._invalid.get(block_hash) or SYNCING

    def _add(self, block: Block) -> PayloadStatus:
        if self._chain.has_block(block.hash):
            return PayloadStatus(Status.VALID, block.hash)
        parent_hash = block.header.parent_hash
        known = self._invalid.get(block.hash)
        if known is None and (parent := self._invalid.get(parent_hash)) is not None:
            known = PayloadStatus(Status.INVALID, parent.latest_valid_hash, "the block has an invalid ancestor")
            self._invalid[block.hash] = known
        if known is not None:
            return known
        try:
            self._execute(block)
        except UnknownParent:
            self._keep_waiting(block)
            return SYNCING
        except StatePruned as error:
            log.warning("payload_too_old", number=block.number, hash="0x" + block.hash.hex(), reason=str(error))
            return PayloadStatus(Status.ACCEPTED, None)
        except InvalidBlock as error:
            log.warning("invalid_payload", number=block.number, hash="0x" + block.hash.hex(), reason=str(error))
            header = self._chain.header_by_hash(parent_hash)
            valid = ZERO_HASH if header is not None and header.difficulty else parent_hash
            status = PayloadStatus(Status.INVALID, valid, str(error))
            self._invalid[block.hash] = status
            return status
        return PayloadStatus(Status.VALID, block.hash)

    def _execute(self, block: Block) -> None:
        draft = self._builder.find(block.hash)
        if draft is not None:
            self._chain.keep_draft(draft.block, draft.executed)
        else:
            self._chain.import_block(block)

    def _add_descendants(self, block_hash: bytes) -> None:
        ready = [block_hash]
        while ready:
            parent_hash = ready.pop()
            children = [block for block in self._waiting.values() if block.header.parent_hash == parent_hash]
            for block in children:
                self._forget(block.hash)
                if self._add(block).status in (Status.VALID, Status.INVALID):
                    ready.append(block.hash)

    def _keep_waiting(self, block: Block) -> None:
        if block.hash in self._waiting:
            return
        self._waiting[block.hash] = block
        self._waiting_bytes += _size(block)
        while len(self._waiting) > WAITING_BLOCKS or self._waiting_bytes > WAITING_BYTES:
            self._forget(next(iter(self._waiting)))

    def _forget(self, block_hash: bytes) -> None:
        self._waiting_bytes -= _size(self._waiting.pop(block_hash))


def _size(block: Block) -> int:
    return 1_024 + sum(len(transaction.raw) for transaction in block.transactions)
