"""What the bytes of the rollup hold, as JSON for the operator who looks for a fault.

Field names are the specification's, numbers are numbers, bytes are 0x-hex. A channel or a batcher transaction that is
good up to some point is shown up to there, with the reason why reading stops as `error`: that is what derivation does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

from openledger.evm_ext.errors import InvalidTransaction
from openledger.evm_ext.transactions import DEPOSIT, DepositTransaction, decode_transaction
from openledger.rollup.codec.batcher_transaction import (
    COMMITMENT_VERSION,
    KECCAK_COMMITMENT,
    InvalidBatcherData,
    decode_commitment_data,
    decode_frames_data,
)
from openledger.rollup.codec.batches import SPAN_BATCH, InvalidBatch, SingularBatch, decode_batch
from openledger.rollup.codec.channels import decompress_channel, read_batches
from openledger.rollup.codec.frames import Frame, decode_frames
from openledger.rollup.codec.l1_info import BedrockL1Info, InvalidL1Info, L1Info, decode_any_l1_info
from openledger.rollup.codec.span_batches import SpanBatch
from openledger.rollup.codec.strict_rlp import InvalidRlp

Json = dict[str, Any]

_BLOCKS_SHOWN = 100_000  # of a span batch, which can claim ten million empty ones in a few bytes


class Unreadable(ValueError):
    """The bytes are not what they were said to be."""


@dataclass(frozen=True)
class ChainTimes:
    """What the bytes leave out: the L2's chain id and, if block times are to be shown, when it began and its block time
    in seconds."""

    chain_id: int
    genesis_time: int | None = None
    block_time: int = 2

    @classmethod
    def from_rollup_config(cls, document: Any) -> "ChainTimes":
        """From any chain's rollup.json, whatever its forks. Raises `Unreadable`."""
        try:
            values = (document["l2_chain_id"], document["genesis"]["l2_time"], document["block_time"])
        except (KeyError, TypeError, IndexError) as error:
            raise Unreadable(f"it lacks l2_chain_id, genesis.l2_time or block_time ({error})") from error
        if any(isinstance(value, bool) or not isinstance(value, int) for value in values):
            raise Unreadable(f"l2_chain_id, genesis.l2_time and block_time are numbers, got {values}")
        return cls(*values)


def batcher_transaction_json(data: bytes) -> Json:
    """A batcher transaction's calldata, or the whole signed transaction with it. Raises `Unreadable`."""
    if not data:
        raise Unreadable("the batcher transaction is empty")
    # A typed envelope goes on with a list; a commitment of such a type does not exist.
    if data[0] >= 0xC0 or (data[0] in (1, 2, 3, 4) and data[1:2] >= b"\xc0"):
        try:
            transaction = decode_transaction(data)
            sender = transaction.sender
        except InvalidTransaction as error:
            raise Unreadable(f"the signed transaction cannot be read: {error}") from error
        envelope: Json = {
            "hash": _hex(transaction.hash),
            "type": transaction.type,
            "from": _hex(sender),
            "to": None if transaction.to is None else _hex(transaction.to),
            "nonce": transaction.nonce,
        }
        if transaction.blob_versioned_hashes:
            hashes = [_hex(blob_hash) for blob_hash in transaction.blob_versioned_hashes]
            return {"transaction": envelope | {"blob_versioned_hashes": hashes}}
        return {"transaction": envelope} | _batcher_data_json(transaction.data)
    return _batcher_data_json(data)


def _batcher_data_json(data: bytes) -> Json:
    try:
        if data[:1] == bytes((COMMITMENT_VERSION,)):
            commitment = decode_commitment_data(data)
            if commitment is None:
                raise InvalidBatcherData("no commitment")
            keccak = commitment[0] == KECCAK_COMMITMENT
            shown: Json = {"version": COMMITMENT_VERSION, "commitment_type": "keccak256" if keccak else "generic"}
            if not keccak:
                shown["da_layer"] = commitment[1]
            return shown | {"commitment": _hex(commitment)}
        return {"version": data[0] if data else None, "frames": [_frame(frame) for frame in decode_frames_data(data)]}
    except InvalidBatcherData as error:
        raise Unreadable(str(error)) from error


def frames_json(data: bytes) -> Json:
    """One frame, or several that follow each other, without a version byte. Raises `InvalidFrame`."""
    return {"frames": [_frame(frame) for frame in decode_frames(data)]}


def channel_json(data: bytes, chain: ChainTimes) -> Json:
    """A whole channel, compressed. Raises `InvalidChannel` or `Unreadable` if nothing of it can be decompressed."""
    content = decompress_channel(data)
    shown: Json = {
        "compression": "brotli" if data[0] == 1 else "zlib",
        "compressed_bytes": len(data),
        "bytes": len(content),
        "batches": [],
    }
    try:
        for encoded in read_batches(content):
            shown["batches"].append(_batch(decode_batch(encoded, chain_id=chain.chain_id), chain))
    except (InvalidRlp, InvalidBatch) as error:
        shown["error"] = f"batch {len(shown['batches'])}: {error}"
    if not content:
        raise Unreadable("nothing of the channel can be decompressed")
    return shown


def span_batch_json(data: bytes, chain: ChainTimes) -> Json:
    """A span batch, with or without its version byte. Raises `Unreadable`."""
    failed: InvalidBatch | None = None
    for encoded in (data, bytes((SPAN_BATCH,)) + data):
        if encoded[:1] == bytes((SPAN_BATCH,)):
            try:
                return _batch(decode_batch(encoded, chain_id=chain.chain_id), chain)
            except InvalidBatch as error:
                failed = failed or error
    raise Unreadable(f"not a span batch: {failed}")


def deposit_json(data: bytes) -> Json:
    """A deposit transaction, type 0x7E; L1 attributes in it are shown too. Raises `Unreadable`."""
    try:
        deposit = DepositTransaction.decode(data)
        digest = decode_transaction(data).hash
    except InvalidTransaction as error:
        raise Unreadable(str(error)) from error
    shown: Json = {
        "type": DEPOSIT,
        "hash": _hex(digest),
        "source_hash": _hex(deposit.source_hash),
        "from": _hex(deposit.sender),
        "to": None if deposit.to is None else _hex(deposit.to),
        "mint": deposit.mint,
        "value": deposit.value,
        "gas": deposit.gas,
        "is_system_tx": deposit.is_system_transaction,
        "data": _hex(deposit.data),
    }
    try:
        return shown | {"l1_info": l1_info_json(deposit.data)}
    except InvalidL1Info:
        return shown


def l1_info_json(data: bytes) -> Json:
    """The L1 attributes in calldata, or in a whole deposit transaction. Raises `InvalidL1Info`, `Unreadable`."""
    if data[:1] == bytes((DEPOSIT,)):
        try:
            data = DepositTransaction.decode(data).data
        except InvalidTransaction as error:
            raise Unreadable(str(error)) from error
    info = decode_any_l1_info(data)
    form = "bedrock" if isinstance(info, BedrockL1Info) else "isthmus" if isinstance(info, L1Info) else "ecotone"
    values = ((field.name, getattr(info, field.name)) for field in fields(info))
    return {"form": form} | {name: _hex(value) if isinstance(value, bytes) else value for name, value in values}


DECODERS: Mapping[str, Callable[[bytes, ChainTimes], Json]] = {
    "batcher-tx": lambda data, chain: batcher_transaction_json(data),
    "channel": channel_json,
    "frame": lambda data, chain: frames_json(data),
    "span-batch": span_batch_json,
    "deposit": lambda data, chain: deposit_json(data),
    "l1-info": lambda data, chain: l1_info_json(data),
}
"""By the kind's name. Each raises a ValueError that says what is wrong with the bytes."""


def _frame(frame: Frame) -> Json:
    return {
        "channel_id": _hex(frame.channel_id),
        "frame_number": frame.frame_number,
        "frame_data_length": len(frame.data),
        "frame_data": _hex(frame.data),
        "is_last": frame.is_last,
    }


def _batch(batch: SingularBatch | SpanBatch, chain: ChainTimes) -> Json:
    if isinstance(batch, SingularBatch):
        return {
            "batch_type": "singular",
            "parent_hash": _hex(batch.parent_hash),
            "epoch_number": batch.epoch_number,
            "epoch_hash": _hex(batch.epoch_hash),
            "timestamp": batch.timestamp,
            "transactions": [_hex(raw) for raw in batch.transactions],
        }
    start = batch.relative_timestamp
    blocks: list[Json] = []
    for index, (epoch, transactions) in enumerate(islice(batch.blocks(), _BLOCKS_SHOWN)):
        relative = start + index * chain.block_time
        block: Json = {"epoch_number": epoch, "relative_timestamp": relative}
        if chain.genesis_time is not None:
            block["timestamp"] = chain.genesis_time + relative
        blocks.append(block | {"transactions": [_hex(raw) for raw in transactions]})
    shown: Json = {
        "batch_type": "span",
        "relative_timestamp": start,
        "l1_origin_number": batch.last_epoch_number,
        "parent_check": _hex(batch.parent_check),
        "l1_origin_check": _hex(batch.l1_origin_check),
        "first_block_changes_origin": batch.first_changes_origin,
        "block_count": batch.block_count,
        "blocks": blocks,
    }
    if batch.block_count > _BLOCKS_SHOWN:
        shown["blocks_not_shown"] = batch.block_count - _BLOCKS_SHOWN
    return shown


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
