"""Stage 2: takes the batcher's data out of an L1 block, resolving DA commitments (derivation.md, "L1 retrieval"; alt-da.md)."""

from collections import deque
from typing import Protocol

import structlog

from openledger.evm_ext.block import Header
from openledger.evm_ext.errors import InvalidTransaction
from openledger.evm_ext.transactions import BLOB, DEPOSIT, decode_transaction
from openledger.rollup.codec.batcher_transaction import InvalidBatcherData, decode_commitment_data
from openledger.rollup.da.client import InvalidCommitment
from openledger.rollup.l1.source import L1Source

log = structlog.get_logger(__name__)


class DASource(Protocol):
    """Where payloads lie behind commitments."""

    async def get(self, commitment: bytes, l1_inclusion_block: int | None) -> bytes:
        """The payload; raises `InvalidCommitment` if no honest node can ever have it, `DAError` if not now."""
        ...


def batcher_data(transactions: tuple[bytes, ...], batch_inbox: bytes, batcher: bytes) -> tuple[bytes, ...]:
    """Calldata of the transactions that the batcher sent to the inbox, in order.

    Types 0 to 3 and deposits count. Blob transactions (type 3) carry their data in blobs, not here.
    """
    found: list[bytes] = []
    for raw in transactions:
        if not raw or (raw[0] > BLOB and raw[0] < 0x80 and raw[0] != DEPOSIT):
            continue
        try:
            transaction = decode_transaction(raw)
            if transaction.to != batch_inbox:
                continue
            if transaction.sender != batcher:
                log.warning("batch inbox transaction from a stranger", sender=transaction.sender.hex())
                continue
        except InvalidTransaction as error:
            log.warning("L1 transaction cannot be read", error=str(error))
            continue
        if transaction.type == BLOB:
            log.warning("batcher data in blobs is not read by this version", transaction=transaction.hash.hex())
            continue
        found.append(transaction.data)
    return tuple(found)


class L1Retrieval:
    """Batcher data of the current L1 block, one piece at a time; a piece that cannot be had yet stays in front."""

    def __init__(self, l1: L1Source, da: DASource, batch_inbox: bytes) -> None:
        self._l1 = l1
        self._da = da
        self._batch_inbox = batch_inbox
        self._opened: bytes | None = None
        self._pending: deque[bytes] = deque()

    async def next_data(self, origin: Header, batcher: bytes) -> bytes | None:
        """Frames data of L1 block `origin` sent by `batcher`; None when the block holds no more.

        Raises what the L1 source raises, and `DAError` while the DA layer cannot answer; asking again continues.
        """
        if self._opened != origin.hash:
            transactions = await self._l1.transactions(origin)
            self._pending = deque(batcher_data(transactions, self._batch_inbox, batcher))
            self._opened = origin.hash
        while self._pending:
            data = await self._resolve(self._pending[0], origin.number)
            self._pending.popleft()
            if data is not None:
                return data
        return None

    async def _resolve(self, data: bytes, l1_inclusion_block: int) -> bytes | None:
        try:
            commitment = decode_commitment_data(data)
            if commitment is None:
                return data
            return await self._da.get(commitment, l1_inclusion_block)
        except (InvalidBatcherData, InvalidCommitment) as error:
            log.warning("DA commitment dropped", l1_block=l1_inclusion_block, reason=str(error))
            return None
