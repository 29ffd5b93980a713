"""A node that a full disk has stopped starts again by itself once the disk takes writes.

After a write that failed half-way a database folder is not written to until it is opened again (`evm_ext/batches.py`), which
is what a new process does. It takes the place of this one, under the same process id.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import structlog
import trio

from openledger.evm_ext.batches import GIVEN_UP, MIN_FREE_BYTES

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 2.0
PROBE_BYTES = 1 << 20


async def disk_is_back() -> None:
    """Returns once a write has failed and every folder that it happened in takes writes again."""
    while not GIVEN_UP:  # noqa: ASYNC110  # written by threads that know of no event
        await trio.sleep(LOOK_EVERY_S)
    for folder, reason in GIVEN_UP.items():
        log.error(
            "writing stopped: the node starts again when the disk takes writes", folder=str(folder), reason=reason
        )
    while not all([await trio.to_thread.run_sync(_takes_writes, folder) for folder in list(GIVEN_UP)]):  # noqa: ASYNC110
        await trio.sleep(LOOK_EVERY_S)


def start_again() -> NoReturn:
    """Replace this process by a new one with the same command line. Its services must have ended."""
    log.warning("the disk takes writes again, starting again")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _takes_writes(folder: Path) -> bool:
    """Tried out, as quotas and limits do not show in the free space."""
    probe = folder.parent / f"{folder.name}.probe"
    try:
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize < 2 * MIN_FREE_BYTES:
            return False
        with open(probe, "wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True
