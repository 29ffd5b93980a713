"""Write batches of a LevelDB folder on a disk that may be full.

A write that fails half-way leaves a torn record in LevelDB's log. LevelDB goes on behind it as if nothing had
happened, but whoever opens the folder next reads only as far as the torn record: everything acknowledged after it is
lost. So nothing is written while the disk is nearly full, and after a write that failed nothing more is written until
the folder is opened again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import plyvel

from openledger.evm_ext.errors import DiskFull, WriteFailed

MIN_FREE_BYTES = 32 << 20
"""Enough for LevelDB to write its buffer and to merge its files meanwhile."""

GIVEN_UP: dict[Path, str] = {}
"""The folders that this process writes to no more until they are opened again, and why."""


class BatchWriter:
    """Makes the batches of one open folder."""

    def __init__(self, db: Any, folder: Path) -> None:
        """`db` is the plyvel.DB of `folder`."""
        self._db = db
        self._folder = folder
        GIVEN_UP.pop(folder, None)
        self._failure: str | None = None

    @contextmanager
    def batch(self, *, sync: bool = False) -> Iterator[Any]:
        """A batch that is written when the scope ends, wholly or (also if it ends by an exception) not at all.

        With `sync` it, and so every earlier one, survives loss of power too. Raises DiskFull, WriteFailed.
        """
        if self._failure is not None:
            raise WriteFailed(
                f"a write to {self._folder} failed ({self._failure}), so nothing more is written there: "
                "see to the disk: a running node then starts itself anew, otherwise start the node again"
            )
        disk = os.statvfs(self._folder)
        if disk.f_bavail * disk.f_frsize < MIN_FREE_BYTES:
            raise DiskFull(
                f"the disk of {self._folder} has less than {MIN_FREE_BYTES >> 20} MiB left: make room and the node goes on"
            )
        batch = self._db.write_batch(sync=sync)
        yield batch
        try:
            batch.write()
        except plyvel.Error as error:
            self._failure = GIVEN_UP[self._folder] = str(error)
            raise WriteFailed(f"cannot write to {self._folder}: {error}") from error
