"""Batches: what one channel says about L2 blocks (OP-Stack derivation.md, "Batch format").

A singular batch (version 0x00) is one L2 block:

    0x00 | rlp([parent_hash, epoch_number, epoch_hash, timestamp, [transaction, ...]])

A span batch (version 0x01, Delta) is a run of L2 blocks; see `span_batches`.
"""

from dataclasses import dataclass

from openledger.evm_ext.encoding import encode
from openledger.rollup.codec.span_batches import InvalidSpanBatch, SpanBatch, decode_span_batch
from openledger.rollup.codec.strict_rlp import InvalidRlp, iterate_list, read_document, read_fields, to_bytes, to_int

SINGULAR_BATCH = 0x00
SPAN_BATCH = 0x01


class InvalidBatch(ValueError):
    """The bytes are no batch; the rest of its channel is dropped."""


@dataclass(frozen=True)
class SingularBatch:
    """One L2 block as the batcher states it: hashes are 32 bytes, `timestamp` in seconds, transactions opaque."""

    parent_hash: bytes
    epoch_number: int
    epoch_hash: bytes
    timestamp: int
    transactions: tuple[bytes, ...] = ()


def encode_singular_batch(batch: SingularBatch) -> bytes:
    """Version byte and RLP list; the inverse of `decode_batch`."""
    fields = [batch.parent_hash, batch.epoch_number, batch.epoch_hash, batch.timestamp, list(batch.transactions)]
    return bytes([SINGULAR_BATCH]) + encode(fields)


def decode_batch(data: bytes, *, chain_id: int) -> SingularBatch | SpanBatch:
    """The batch in `data`, whose first byte is its version; raises `InvalidBatch` otherwise.

    `chain_id` is the L2's: span batches leave it out of their transactions.
    """
    if not data:
        raise InvalidBatch("batch is empty")
    try:
        if data[0] == SINGULAR_BATCH:
            return _decode_singular(data[1:])
        if data[0] == SPAN_BATCH:
            return decode_span_batch(data[1:], chain_id=chain_id)
    except (InvalidRlp, InvalidSpanBatch) as error:
        raise InvalidBatch(str(error)) from error
    raise InvalidBatch(f"unknown batch version 0x{data[0]:02x}")


def _decode_singular(content: bytes) -> SingularBatch:
    parent, number, epoch, timestamp, transactions = read_fields(content, read_document(content), 5)
    if not transactions.is_list:
        raise InvalidRlp("the transactions of a batch are not a list")
    return SingularBatch(
        parent_hash=to_bytes(content, parent, 32),
        epoch_number=to_int(content, number, 64),
        epoch_hash=to_bytes(content, epoch, 32),
        timestamp=to_int(content, timestamp, 64),
        transactions=tuple(to_bytes(content, item) for item in iterate_list(content, transactions)),
    )
