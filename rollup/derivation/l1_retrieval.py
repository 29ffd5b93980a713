"""Stage 2: takes the batcher's data out of an L1 block: calldata, blobs, and what DA commitments stand for
(derivation.md, "L1 retrieval"; alt-da.md)."""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

import structlog

from openledger.evm_ext.block import Header
from openledger.evm_ext.errors import InvalidTransaction
from openledger.evm_ext.transactions import BLOB, DEPOSIT, decode_transaction
from openledger.rollup.codec.batcher_transaction import InvalidBatcherData, decode_commitment_data
from openledger.rollup.codec.blobs import InvalidBlob, decode_blob
from openledger.rollup.da.client import InvalidCommitment
from openledger.rollup.l1.beacon import BlobSource
from openledger.rollup.l1.source import L1Source

log = structlog.get_logger(__name__)


class DASource(Protocol):
    """Where payloads lie behind commitments."""

    async def get(self, commitment: bytes, l1_inclusion_block: int | None) -> bytes:
        """The payload; raises `InvalidCommitment` if no honest node can ever have it, `DAError` if not now."""
        ...


@dataclass(frozen=True)
class BatcherInput:
    """What one batcher transaction carries: calldata, or the hashes of blobs, whose calldata is not looked at."""

    calldata: bytes = b""
    blob_hashes: tuple[bytes, ...] = ()


def batcher_inputs(transactions: tuple[bytes, ...], batch_inbox: bytes, batcher: bytes) -> tuple[BatcherInput, ...]:
    """The inputs of the transactions that the batcher sent to the inbox, in order. Types 0 to 3 and deposits count."""
    found: list[BatcherInput] = []
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
            found.append(BatcherInput(blob_hashes=transaction.blob_versioned_hashes))
        else:
            found.append(BatcherInput(transaction.data))
    return tuple(found)


class L1Retrieval:
    """Batcher data of the current L1 block, one piece at a time; a piece that cannot be had yet stays in front.

    Calldata, blobs and DA commitments may follow each other in any order; what a blob holds may itself be a commitment.
    """

    def __init__(self, l1: L1Source, da: DASource, batch_inbox: bytes, blobs: BlobSource) -> None:
        self._l1 = l1
        self._da = da
        self._blobs = blobs
        self._batch_inbox = batch_inbox
        self._opened: bytes | None = None
        self._pending: deque[BatcherInput] = deque()

    async def next_data(self, origin: Header, batcher: bytes) -> bytes | None:
        """Frames data of L1 block `origin` sent by `batcher`; None when the block holds no more.

        Raises what the L1 source raises, and `DAError` while the DA layer cannot answer; asking again continues.
        """
        if self._opened != origin.hash:
            transactions = await self._l1.transactions(origin)
            self._pending = deque(batcher_inputs(transactions, self._batch_inbox, batcher))
            self._opened = origin.hash
        while self._pending:
            if self._pending[0].blob_hashes:
                unfolded = await self._unfold(self._pending[0].blob_hashes, origin)
                self._pending.popleft()
                self._pending.extendleft(reversed(unfolded))
                continue
            data = await self._resolve(self._pending[0].calldata, origin.number)
            self._pending.popleft()
            if data is not None:
                return data
        return None

    async def _unfold(self, blob_hashes: tuple[bytes, ...], origin: Header) -> list[BatcherInput]:
        """What the blobs hold; one that holds no batcher data is dropped."""
        found: list[BatcherInput] = []
        for index, blob in enumerate(await self._blobs.blobs(origin, blob_hashes)):
            try:
                found.append(BatcherInput(decode_blob(blob)))
            except InvalidBlob as error:
                log.warning("blob dropped", l1_block=origin.number, index=index, reason=str(error))
        return found

    async def _resolve(self, data: bytes, l1_inclusion_block: int) -> bytes | None:
        try:
            commitment = decode_commitment_data(data)
            if commitment is None:
                return data
            return await self._da.get(commitment, l1_inclusion_block)
        except (InvalidBatcherData, InvalidCommitment) as error:
            log.warning("DA commitment dropped", l1_block=l1_inclusion_block, reason=str(error))
            return None
