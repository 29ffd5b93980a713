"""Which logs of a block match an eth_getLogs filter."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from openledger.evm_ext.block import Block, Header
from openledger.evm_ext.kept import quickly_made
from openledger.evm_ext.receipts import Log, Receipt, bloom_bits


@quickly_made
@dataclass(frozen=True)
class LocatedLog:
    """A log with its place. `log_index` counts through the block."""

    log: Log
    block_hash: bytes
    block_number: int
    block_timestamp: int
    transaction_hash: bytes
    transaction_index: int
    log_index: int


def may_match(header: Header, addresses: Collection[bytes], topics: Sequence[Collection[bytes] | None]) -> bool:
    """Whether a block's bloom lets any of its logs match."""
    bloom = int.from_bytes(header.logs_bloom, "big")
    for wanted in (addresses, *topics):
        if wanted and not any(bits & bloom == bits for bits in map(bloom_bits, wanted)):
            return False
    return True


def matching_logs(
    block: Block,
    receipts: Sequence[Receipt],
    addresses: Collection[bytes],
    topics: Sequence[Collection[bytes] | None],
) -> Iterator[LocatedLog]:
    """The logs of a block from any of `addresses` (none: all) with, at each place in `topics`, any of the given
    topics (None or empty: all)."""
    header, block_hash = block.header, block.hash
    number, timestamp = header.number, header.timestamp
    wanted = [(place, topic) for place, topic in enumerate(topics) if topic]
    fewest = len(topics)
    log_index = -1
    for index, receipt in enumerate(receipts):
        for log in receipt.logs:
            log_index += 1
            if (addresses and log.address not in addresses) or len(log.topics) < fewest:
                continue
            if wanted and any(log.topics[place] not in topic for place, topic in wanted):
                continue
            transaction_hash = block.transactions[index].hash
            yield LocatedLog(log, block_hash, number, timestamp, transaction_hash, index, log_index)
