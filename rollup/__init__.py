"""The rollup: L2 blocks to L1 and DA, and back from there to the same blocks.

The facade; names are imported when they are first used, so that a codec does not load the execution client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openledger.rollup.batcher import Batcher, BatcherSettings
    from openledger.rollup.blocks import BlockId, L2BlockRef
    from openledger.rollup.config import InvalidRollupConfig, RollupConfig
    from openledger.rollup.driver import Driver
    from openledger.rollup.engine import Engine, Heads
    from openledger.rollup.l1.client import L1Client, WrongL1Chain
    from openledger.rollup.l1.dev_chain import DevL1
    from openledger.rollup.l1.local import LocalL1
    from openledger.rollup.sequencer import Sequencer
    from openledger.rollup.sync_status import SyncStatus

_HOMES = {
    "Batcher": "batcher",
    "BatcherSettings": "batcher",
    "BlockId": "blocks",
    "DevL1": "l1.dev_chain",
    "Driver": "driver",
    "Engine": "engine",
    "Heads": "engine",
    "InvalidRollupConfig": "config",
    "L1Client": "l1.client",
    "L2BlockRef": "blocks",
    "LocalL1": "l1.local",
    "RollupConfig": "config",
    "Sequencer": "sequencer",
    "SyncStatus": "sync_status",
    "WrongL1Chain": "l1.client",
}

__all__ = [
    "Batcher",
    "BatcherSettings",
    "BlockId",
    "DevL1",
    "Driver",
    "Engine",
    "Heads",
    "InvalidRollupConfig",
    "L1Client",
    "L2BlockRef",
    "LocalL1",
    "RollupConfig",
    "Sequencer",
    "SyncStatus",
    "WrongL1Chain",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
