"""Blocks that were stored before the address index was switched on, indexed beside the node's work."""

from __future__ import annotations

import structlog
import trio

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.errors import DatabaseCorrupt, StatePruned

_REPORT_EVERY_S = 10.0
_LOOK_EVERY_S = 30.0
"""A reorganisation may bring back a block from before."""
_PAUSE_S = 0.005
"""After each block: new blocks come first."""

log = structlog.get_logger(__name__)


async def fill_index(chain: Chain, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Index the newest of those blocks first, until none is left or the state of one is not kept. Runs until
    cancelled. Searches meanwhile find what is indexed."""
    task_status.started()
    while True:
        if not await _fill(chain):
            await trio.sleep_forever()
        await trio.sleep(_LOOK_EVERY_S)


async def _fill(chain: Chain) -> bool:
    """Index all that is left; False when that is no longer possible."""
    left = chain.blocks_to_index
    if not left:
        return True
    log.info("address_index_filling", blocks=left)
    reported = trio.current_time()
    while left:
        try:
            left = await trio.to_thread.run_sync(chain.index_one_more)
        except (StatePruned, DatabaseCorrupt) as error:
            log.warning("address_index_incomplete", blocks=left, reason=str(error))
            return False
        if trio.current_time() - reported > _REPORT_EVERY_S:
            log.info("address_index_filling", blocks=left)
            reported = trio.current_time()
        await trio.sleep(_PAUSE_S)
    log.info("address_index_complete")
    return True
