"""Where derivation starts after a restart or an L1 reorg (OP-Stack derivation.md, "Finding the sync starting point")."""

from dataclasses import dataclass

from openledger.evm_ext.block import Header
from openledger.rollup.blocks import L2BlockRef
from openledger.rollup.codec.system_config import SystemConfig
from openledger.rollup.derivation.errors import CriticalDerivationError
from openledger.rollup.engine import Engine
from openledger.rollup.l1.source import L1Source


@dataclass(frozen=True)
class SyncStart:
    """`unsafe` is the highest head whose L1 origins all are plausible; derivation goes on from `safe`, reading L1 from
    `l1_origin` with `system_config`."""

    unsafe: L2BlockRef
    safe: L2BlockRef
    l1_origin: Header
    system_config: SystemConfig


async def find_sync_start(engine: Engine, l1: L1Source) -> SyncStart:
    """Walk back from the unsafe head to a block that surely is part of the derived chain.

    That is the finalized head, or the first block of an epoch that lies a whole sequencing window back. Raises
    `CriticalDerivationError` if L1 no longer contains what L2 has finalized, and what the L1 source raises.
    """
    config = engine.config
    heads = engine.heads()
    unsafe: L2BlockRef | None = None
    highest_origin: int | None = None
    block = heads.unsafe
    checked: bytes | None = None
    canonical = True
    while True:
        if block.l1_origin.hash != checked:
            header = await l1.header_by_number(block.l1_origin.number)
            # An origin that L1 has not reached yet is plausible: L1's node may be behind.
            canonical = header is None or header.hash == block.l1_origin.hash
            checked = block.l1_origin.hash
        if canonical:
            if unsafe is None:
                unsafe, highest_origin = block, block.l1_origin.number
        else:
            unsafe = highest_origin = None
        bottom = block.number <= max(heads.finalized.number, config.l2_genesis.number)
        if bottom and not canonical:
            raise CriticalDerivationError(
                f"L1 block {block.l1_origin.number} 0x{block.l1_origin.hash.hex()}, origin of the finalized L2 block "
                f"{block.number}, is not on L1 any more: check that the L1 endpoint serves the chain this rollup "
                "started on"
            )
        window_passed = (
            highest_origin is not None
            and block.sequence_number == 0
            and block.number <= heads.safe.number
            and block.l1_origin.number + config.seq_window_size < highest_origin
        )
        if bottom or window_passed:
            break
        block = _parent(engine, block)
    safe, base = block, block
    while (
        base.number > config.l2_genesis.number
        and base.l1_origin.number + config.channel_timeout > safe.l1_origin.number
    ):
        base = _parent(engine, base)
    return SyncStart(
        unsafe=unsafe or safe,
        safe=safe,
        l1_origin=await l1.header_by_hash(base.l1_origin.hash),
        system_config=engine.system_config(base),
    )


def _parent(engine: Engine, block: L2BlockRef) -> L2BlockRef:
    parent = engine.ref_by_hash(block.parent_hash)
    if parent is None:
        raise CriticalDerivationError(f"L2 block {block.number - 1}, parent of a stored block, is not stored")
    return parent
