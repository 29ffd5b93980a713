"""Names of blocks: what the rollup needs to reason about heads of two chains."""

from collections.abc import Iterable
from dataclasses import dataclass

from openledger.evm_ext.block import Header
from openledger.evm_ext.receipts import Log, Receipt


@dataclass(frozen=True)
class BlockId:
    """A block by hash and number."""

    hash: bytes
    number: int


@dataclass(frozen=True)
class L2BlockRef:
    """An L2 block with its place in the rollup: its L1 origin and how many blocks of that epoch precede it."""

    hash: bytes
    number: int
    parent_hash: bytes
    timestamp: int
    l1_origin: BlockId
    sequence_number: int

    @property
    def id(self) -> BlockId:
        """Hash and number."""
        return BlockId(self.hash, self.number)


def header_id(header: Header) -> BlockId:
    """Hash and number of a header."""
    return BlockId(header.hash, header.number)


def successful_logs(receipts: Iterable[Receipt]) -> tuple[tuple[int, Log], ...]:
    """(block-wide log index, log) of every log of a transaction that succeeded, in order."""
    found: list[tuple[int, Log]] = []
    index = 0
    for receipt in receipts:
        for log in receipt.logs:
            if receipt.status == 1:
                found.append((index, log))
            index += 1
    return tuple(found)
