"""A file of byte strings that are on disk before anybody is told so.

Each entry is length 4 || CRC-32 4 || bytes. A torn last entry, which a crash leaves, ends the reading.
Appends that wait for the disk at the same time share one fsync.
"""

from __future__ import annotations

import errno
import os
import threading
import zlib
from collections.abc import Iterable
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)

_HEADER_BYTES = 8
MAX_ENTRY_BYTES = 1 << 20


class Journal:
    """An append-only file. Any thread may append; entries keep the order of `append`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._append_lock = threading.Lock()
        self._sync_lock = threading.Lock()
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (kept open)
        self._synced = 0
        self._position = 0
        self.entries = 0

    def close(self) -> None:
        with self._sync_lock, self._append_lock:
            self._file.close()

    def append(self, entry: bytes) -> int:
        """Write an entry; it is durable after `sync` with the position this gives.

        Raises OSError when the disk does not take it whole; the file is then as it was before.
        """
        with self._append_lock:
            header = len(entry).to_bytes(4, "big") + zlib.crc32(entry).to_bytes(4, "big")
            self._write_whole(header + entry)
            self.entries += 1
            self._position += 1
            return self._position

    def _write_whole(self, data: bytes) -> None:
        """A torn entry would hide every later one from `read`."""
        descriptor = self._file.fileno()
        before = os.fstat(descriptor).st_size
        try:
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, "the disk took only a part of the entry")
        except OSError:
            os.ftruncate(descriptor, before)
            raise

    def sync(self, position: int) -> None:
        """Return once every entry up to a position is on disk."""
        with self._sync_lock:
            if self._synced >= position:
                return
            with self._append_lock:
                covered = self._position
                descriptor = os.dup(self._file.fileno())
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._synced = covered

    def read(self) -> list[bytes]:
        """All whole entries, oldest first. What follows a damaged one is cut off."""
        data = self._path.read_bytes()
        entries = []
        position = 0
        while position + _HEADER_BYTES <= len(data):
            length = int.from_bytes(data[position : position + 4], "big")
            checksum = int.from_bytes(data[position + 4 : position + 8], "big")
            entry = data[position + _HEADER_BYTES : position + _HEADER_BYTES + length]
            if length > MAX_ENTRY_BYTES or len(entry) != length or zlib.crc32(entry) != checksum:
                break
            entries.append(entry)
            position += _HEADER_BYTES + length
        if position != len(data):
            _log.warning("journal_tail_dropped", path=str(self._path), bytes=len(data) - position)
            os.truncate(self._path, position)
        self.entries = len(entries)
        return entries

    def rewrite(self, entries: Iterable[bytes]) -> None:
        """Replace the contents, atomically and durably."""
        with self._sync_lock, self._append_lock:
            temporary = self._path.with_suffix(self._path.suffix + ".new")
            number = 0
            with open(temporary, "wb") as file:
                for entry in entries:
                    file.write(len(entry).to_bytes(4, "big") + zlib.crc32(entry).to_bytes(4, "big") + entry)
                    number += 1
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
            directory = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
            self._file.close()
            self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 (kept open)
            self.entries = number
            self._synced = self._position
