"""The rules that decide whether a batch is the next L2 block (derivation.md, "Batch queue"; holocene/derivation.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from openledger.evm_ext.block import Header
from openledger.evm_ext.transactions import DEPOSIT, DYNAMIC_FEE, SET_CODE
from openledger.rollup.blocks import L2BlockRef
from openledger.rollup.codec.batches import SingularBatch
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
