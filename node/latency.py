"""Lets answers be quick while blocks are executed in other threads of the process.

Two things of Python would make them wait:

- A thread runs for its switch interval before another may. A call that arrives while a block is executed waits for the
  interpreter once or more, so with the standard 5 ms it would wait 5 to 20 ms. Of a hundred calls the slowest waits
  1.6 ms with an interval of 0.5 ms, 0.8 with 0.2; but the shorter, the more of their time do threads that compute beside
  each other (calls that take long) spend on handing over.
- A full garbage collection looks at every object while everything stands still: 200 ms beside a few hundred
  thousand cached transactions. What cycles leave behind is nearly always young, so the young are collected often,
  and everything only once in a while.

Execution loses little by either; benchmarks/rpc.py measures both. To execute in a process of its own would do without
either, but the database belongs to one process: every read of a caller would have to cross over.
"""

from __future__ import annotations

import gc
import sys
import time

import structlog
import trio

log = structlog.get_logger(__name__)

SWITCH_INTERVAL_S = 0.0005
YOUNG_OBJECTS = 2_000
YOUNG_COLLECTIONS = 2
NEVER = 1_000_000_000
FULL_COLLECTION_INTERVAL_S = 600.0


def prefer_latency() -> None:
    """For the whole process, before it serves. Whoever calls this runs `collect_garbage` too."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()  # modules and their classes stay anyway
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_COLLECTIONS, NEVER)


async def collect_garbage(
    interval_s: float = FULL_COLLECTION_INTERVAL_S, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Collect everything now and then, until cancelled."""
    task_status.started()
    while True:
        await trio.sleep(interval_s)
        started = time.perf_counter()
        found = gc.collect()
        log.debug("garbage_collected", objects=found, ms=round((time.perf_counter() - started) * 1000))
