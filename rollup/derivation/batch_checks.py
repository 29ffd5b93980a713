"""The rules that decide whether a batch is the next L2 block (derivation.md, "Batch queue"; holocene/derivation.md)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from openledger.evm_ext.block import Header
from openledger.evm_ext.transactions import DEPOSIT, DYNAMIC_FEE, SET_CODE
from openledger.rollup.blocks import L2BlockRef
from openledger.rollup.codec.batches import SingularBatch
from openledger.rollup.codec.span_batches import SpanBatch
from openledger.rollup.config import RollupConfig


class Validity(Enum):
    """What becomes of a batch."""

    ACCEPT = "accept"
    PAST = "past"  # silently skipped
    DROP = "drop"  # and the rest of its channel with it


@dataclass(frozen=True)
class Verdict:
    """A batch's validity and the rule that decided it."""

    validity: Validity
    reason: str = ""


ACCEPTED = Verdict(Validity.ACCEPT)


def _drop(reason: str) -> Verdict:
    return Verdict(Validity.DROP, reason)


def check_span_batch(
    config: RollupConfig,
    epochs: Sequence[Header],
    parent: L2BlockRef,
    batch: SpanBatch,
    inclusion_number: int,
    safe_block: Callable[[int], L2BlockRef | None],
) -> Verdict:
    """Whether the blocks of `batch` after `parent` may be tried one by one (holocene/derivation.md, "Span batches").

    Only the span as a whole is checked: that it joins the safe chain without a gap, by its parent's hash, and that
    its last L1 origin is the one it says. `safe_block` finds safe blocks by height.
    """
    next_timestamp = parent.timestamp + config.block_time
    start = config.l2_genesis_time + batch.relative_timestamp
    end = start + (batch.block_count - 1) * config.block_time
    if start > next_timestamp:
        return _drop(f"span starts at {start}, after the next block's time {next_timestamp}")
    if end < next_timestamp:
        return Verdict(Validity.PAST, f"span ends at {end}, before the next block's time {next_timestamp}")
    before: L2BlockRef | None = parent
    if start < next_timestamp:
        if start > parent.timestamp or (parent.timestamp - start) % config.block_time:
            return _drop(f"span starts at {start}, between two blocks")
        number = parent.number - (parent.timestamp - start) // config.block_time - 1
        before = safe_block(number) if number >= 0 else None
    if before is None:
        return Verdict(Validity.PAST, f"span starts at {start}, before the chain")
    if before.hash[: len(batch.parent_check)] != batch.parent_check:
        return _drop(f"parent check 0x{batch.parent_check.hex()} is not of L2 block {before.number}")
    if batch.first_epoch_number + config.seq_window_size < inclusion_number:
        return _drop(f"included at L1 block {inclusion_number}, after the window of epoch {batch.first_epoch_number}")
    if batch.first_epoch_number > before.l1_origin.number + 1:
        return _drop(f"span starts at epoch {batch.first_epoch_number}, after {before.l1_origin.number} and its next")
    last = next((epoch for epoch in epochs if epoch.number == batch.last_epoch_number), None)
    if last is None:
        return Verdict(Validity.PAST, f"span ends at epoch {batch.last_epoch_number}, which is not buffered")
    if last.hash[: len(batch.l1_origin_check)] != batch.l1_origin_check:
        return _drop(f"L1 origin check 0x{batch.l1_origin_check.hex()} is not of L1 block {last.number}")
    if batch.first_epoch_number < before.l1_origin.number:
        return _drop(f"span starts at epoch {batch.first_epoch_number}, before {before.l1_origin.number}")
    return ACCEPTED


def check_singular_batch(
    config: RollupConfig,
    epochs: Sequence[Header],
    parent: L2BlockRef,
    batch: SingularBatch,
    inclusion_number: int,
) -> Verdict:
    """Whether `batch`, read at L1 block `inclusion_number`, is the block after `parent`.

    `epochs` are L1 blocks from the current epoch on, at least two of them.
    """
    epoch, next_epoch = epochs[0], epochs[1]
    next_timestamp = parent.timestamp + config.block_time
    if batch.timestamp > next_timestamp:
        return _drop(f"timestamp {batch.timestamp} is after the next block's {next_timestamp}")
    if batch.timestamp < next_timestamp:
        return Verdict(Validity.PAST, f"timestamp {batch.timestamp} is before the next block's {next_timestamp}")
    if batch.parent_hash != parent.hash:
        return _drop(f"parent 0x{batch.parent_hash.hex()} is not the safe head 0x{parent.hash.hex()}")
    if batch.epoch_number + config.seq_window_size < inclusion_number:
        return _drop(f"included at L1 block {inclusion_number}, after the window of epoch {batch.epoch_number}")
    if batch.epoch_number == epoch.number:
        origin = epoch
    elif batch.epoch_number == epoch.number + 1:
        origin = next_epoch
    else:
        return _drop(f"epoch {batch.epoch_number} is neither {epoch.number} nor the one after it")
    if batch.epoch_hash != origin.hash:
        return _drop(f"epoch hash 0x{batch.epoch_hash.hex()} is not L1 block {origin.number}")
    if batch.timestamp < origin.timestamp:
        return _drop(f"timestamp {batch.timestamp} is before its L1 origin's {origin.timestamp}")
    if batch.timestamp > origin.timestamp + config.max_sequencer_drift:
        if batch.transactions:
            return _drop("sequencer drift exceeded by a batch with transactions")
        if origin is epoch and batch.timestamp >= next_epoch.timestamp:
            return _drop("sequencer drift exceeded although the next epoch could have been adopted")
    for index, transaction in enumerate(batch.transactions):
        if not transaction:
            return _drop(f"transaction {index} is empty")
        if transaction[0] == DEPOSIT:
            return _drop(f"transaction {index} is a deposit")
        if DYNAMIC_FEE < transaction[0] < 0x80 and transaction[0] != SET_CODE:
            return _drop(f"transaction {index} is of type {transaction[0]}")
    return ACCEPTED
