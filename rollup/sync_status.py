"""Where a node stands, in the shape of `optimism_syncStatus`, with the trouble it has on top."""

from dataclasses import dataclass, field
from typing import Any

from openledger.evm_ext.block import Header
from openledger.rollup.blocks import L2BlockRef


@dataclass
class SyncStatus:
    """L1 and L2 heads as last seen. `problem` says what derivation is waiting for, None when nothing is wrong."""

    unsafe_l2: L2BlockRef
    safe_l2: L2BlockRef
    finalized_l2: L2BlockRef
    current_l1: Header | None = None
    head_l1: Header | None = None
    safe_l1: Header | None = None
    finalized_l1: Header | None = None
    queued_unsafe_l2: L2BlockRef | None = None
    problem: str | None = None
    resets: int = field(default=0)
    reorgs: int = field(default=0)

    def to_json(self) -> dict[str, Any]:
        """The document of `optimism_syncStatus`."""
        safe = l2_block_json(self.safe_l2)
        return {
            "current_l1": _l1(self.current_l1),
            "current_l1_finalized": _l1(self.finalized_l1),
            "head_l1": _l1(self.head_l1),
            "safe_l1": _l1(self.safe_l1),
            "finalized_l1": _l1(self.finalized_l1),
            "unsafe_l2": l2_block_json(self.unsafe_l2),
            "safe_l2": safe,
            "finalized_l2": l2_block_json(self.finalized_l2),
            "pending_safe_l2": safe,
            "cross_unsafe_l2": l2_block_json(self.unsafe_l2),
            "local_safe_l2": safe,
            "queued_unsafe_l2": l2_block_json(self.queued_unsafe_l2),
        }


def _l1(header: Header | None) -> dict[str, Any]:
    if header is None:
        zero = "0x" + bytes(32).hex()
        return {"hash": zero, "number": 0, "parentHash": zero, "timestamp": 0}
    return {
        "hash": "0x" + header.hash.hex(),
        "number": header.number,
        "parentHash": "0x" + header.parent_hash.hex(),
        "timestamp": header.timestamp,
    }


def l2_block_json(block: L2BlockRef | None) -> dict[str, Any]:
    if block is None:
        return {**_l1(None), "l1origin": {"hash": "0x" + bytes(32).hex(), "number": 0}, "sequenceNumber": 0}
    return {
        "hash": "0x" + block.hash.hex(),
        "number": block.number,
        "parentHash": "0x" + block.parent_hash.hex(),
        "timestamp": block.timestamp,
        "l1origin": {"hash": "0x" + block.l1_origin.hash.hex(), "number": block.l1_origin.number},
        "sequenceNumber": block.sequence_number,
    }
