"""What this node was given and has still to publish: on disk before it is acknowledged, one SQLite file.

An item is kept under the hash that the chain will name (a document's, a manifest's, an adapter folder's), with the
contents that go out in its bundles. Its life: kept → published (the DA layer has it) → announced (the chain says where).
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec

_SCHEMA = """
CREATE TABLE IF NOT EXISTS item (
    hash BLOB PRIMARY KEY, contents BLOB NOT NULL, size INTEGER NOT NULL, commitments BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS announced (
    hash BLOB NOT NULL, contribution INTEGER NOT NULL, PRIMARY KEY (hash, contribution)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class OutboxItem:
    """`contents` are the hashes of what is published under `hash`; `commitments` None until the DA layer has it."""

    hash: bytes
    contents: tuple[bytes, ...]
    size: int
    commitments: tuple[bytes, ...] | None


class Outbox:
    """Items by hash. Methods block for the disk: call them in a thread. Safe to use from several threads."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def add(self, item_hash: bytes, contents: tuple[bytes, ...], size: int) -> None:
        """Keep an item durably; one that is already there stays as it is, whatever its state."""
        with self._lock:
            self._database.execute(
                "INSERT OR IGNORE INTO item (hash, contents, size) VALUES (?, ?, ?)",
                (item_hash, b"".join(contents), size),
            )

    def get(self, item_hash: bytes) -> OutboxItem | None:
        with self._lock:
            row = self._database.execute(
                "SELECT hash, contents, size, commitments FROM item WHERE hash = ?", (item_hash,)
            ).fetchone()
        return None if row is None else _item(row)

    def unpublished_bytes(self) -> int:
        """The sizes of all items that are not on the DA layer yet, together."""
        with self._lock:
            row = self._database.execute("SELECT COALESCE(SUM(size), 0) FROM item WHERE commitments IS NULL").fetchone()
        return int(row[0])

    def set_published(self, item_hash: bytes, commitments: tuple[bytes, ...]) -> None:
        with self._lock:
            self._database.execute(
                "UPDATE item SET commitments = ? WHERE hash = ?", (msgspec.msgpack.encode(commitments), item_hash)
            )

    def is_announced(self, item_hash: bytes, contribution: int) -> bool:
        """Whether it was announced for this contribution (0: as content of its own)."""
        with self._lock:
            row = self._database.execute(
                "SELECT 1 FROM announced WHERE hash = ? AND contribution = ?", (item_hash, contribution)
            ).fetchone()
        return row is not None

    def set_announced(self, item_hash: bytes, contribution: int) -> None:
        with self._lock:
            self._database.execute("INSERT OR IGNORE INTO announced VALUES (?, ?)", (item_hash, contribution))


def _item(row: tuple[bytes, bytes, int, bytes | None]) -> OutboxItem:
    item_hash, contents, size, commitments = row
    return OutboxItem(
        item_hash,
        tuple(contents[i : i + 32] for i in range(0, len(contents), 32)),
        size,
        None if commitments is None else msgspec.msgpack.decode(commitments, type=tuple[bytes, ...]),
    )
