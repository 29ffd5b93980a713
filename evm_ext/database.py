"""A LevelDB folder: opened with errors that say what to do, read with checksums, written in batches."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import plyvel

from openledger.evm_ext.batches import BatchWriter
from openledger.evm_ext.errors import DatabaseCorrupt, DatabaseLocked

_WRITE_BUFFER_BYTES = 16 << 20
_BLOCK_CACHE_BYTES = 32 << 20
_BLOOM_BITS = 10

REPAIR_HINT = "`openledger db check --repair` mends what can be mended"
START_ANEW_HINT = (
    "write out the blocks that it still has by `openledger db export`, move the folder away, and sync again or import "
    "them by `openledger db import`"
)


class Database:
    """Ordered keys and values on disk. Any thread may read; one thread at a time may write.

    Every read raises `DatabaseCorrupt` where the disk gives back something else than was written."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Open, or create if that is wanted. Raises `DatabaseLocked` and `DatabaseCorrupt`."""
        self.path = path
        if not (path / "CURRENT").is_file():
            if any(path.glob("*.ldb")) or any(path.glob("MANIFEST-*")):
                # LevelDB would begin a new database here and remove the files of the old one.
                raise DatabaseCorrupt(f"the database in {path} has lost its file CURRENT: {REPAIR_HINT}")
            if not create:
                raise DatabaseCorrupt(f"{path} holds no database: check the path")
        path.mkdir(parents=True, exist_ok=True)
        try:
            self._db = plyvel.DB(
                str(path),
                create_if_missing=create,
                paranoid_checks=True,
                write_buffer_size=_WRITE_BUFFER_BYTES,
                lru_cache_size=_BLOCK_CACHE_BYTES,
                bloom_filter_bits=_BLOOM_BITS,
            )
        except plyvel.CorruptionError as error:
            raise DatabaseCorrupt(f"the database in {path} is damaged ({error}): {REPAIR_HINT}") from error
        except plyvel.IOError as error:
            if "lock" in str(error).lower():
                raise DatabaseLocked(f"the database in {path} is in use by another process: stop it") from error
            raise DatabaseCorrupt(f"the database in {path} cannot be opened ({error}): {REPAIR_HINT}") from error
        self._writer = BatchWriter(self._db, path)

    def close(self) -> None:
        self._db.close()

    def get(self, key: bytes, *, verify: bool = True) -> bytes | None:
        """A value. Without `verify` the disk is believed: for what its reader hashes anyway."""
        try:
            value: bytes | None = self._db.get(key, verify_checksums=verify)
        except plyvel.Error as error:
            raise self._unreadable(error) from error
        return value

    def items(self, start: bytes, stop: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Keys from `start` up to but without `stop`, with their values."""
        try:
            with self._db.iterator(start=start, stop=stop, reverse=reverse, verify_checksums=True) as iterator:
                yield from iterator
        except plyvel.Error as error:
            raise self._unreadable(error) from error

    def keys(self, start: bytes, stop: bytes) -> Iterator[bytes]:
        """As `items`, without the values."""
        try:
            with self._db.iterator(start=start, stop=stop, include_value=False, verify_checksums=True) as iterator:
                yield from iterator
        except plyvel.Error as error:
            raise self._unreadable(error) from error

    def batch(self, *, sync: bool = False) -> AbstractContextManager[Any]:
        """A batch that is written when the scope ends; see `BatchWriter.batch`."""
        return self._writer.batch(sync=sync)

    def snapshot(self) -> Snapshot:
        """The contents as they are now, for as long as the object lives."""
        return Snapshot(self._db.snapshot(), self)

    def compact(self) -> None:
        """Give the room of what was deleted back to the disk."""
        self._db.compact_range()

    def read_all(self) -> int:
        """Read everything once, to know that it can be read; how many keys there are."""
        return sum(1 for _ in self.keys(b"", b"\xff" * 80))

    def size_bytes(self) -> int:
        """What the folder takes on disk."""
        return sum(entry.stat().st_size for entry in os.scandir(self.path) if entry.is_file())

    def _unreadable(self, error: plyvel.Error) -> DatabaseCorrupt:
        return DatabaseCorrupt(f"the database in {self.path} cannot be read ({error}): {REPAIR_HINT}")


class Snapshot:
    """A database at one moment. Any thread may read; nothing that is written later is seen."""

    def __init__(self, snapshot: Any, database: Database) -> None:
        self._snapshot = snapshot
        self._database = database

    def get(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._snapshot.get(key, verify_checksums=True)
        except plyvel.Error as error:
            raise self._database._unreadable(error) from error
        return value

    def first(self, start: bytes) -> tuple[bytes, bytes] | None:
        """The first key from `start` on, with its value."""
        try:
            with self._snapshot.raw_iterator(verify_checksums=True) as iterator:
                iterator.seek(start)
                return iterator.item() if iterator.valid() else None
        except plyvel.Error as error:
            raise self._database._unreadable(error) from error


def repair_files(path: Path) -> None:
    """Rebuild LevelDB's own lists of files from what its tables and logs still hold; damaged pieces are left out.

    Not for a folder that this process has open. Raises `DatabaseLocked`, and `DatabaseCorrupt` if nothing can be
    read."""
    if not path.is_dir():
        raise DatabaseCorrupt(f"{path} holds no database: there is no such folder")
    # LevelDB takes its lock when it opens a folder, not when it repairs one.
    with open(path / "LOCK", "a+b") as lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DatabaseLocked(f"the database in {path} is in use by another process: stop it") from error
        try:
            plyvel.repair_db(str(path), paranoid_checks=True, bloom_filter_bits=_BLOOM_BITS)
        except plyvel.Error as error:
            raise DatabaseCorrupt(f"the database in {path} cannot be repaired: {error}") from error
