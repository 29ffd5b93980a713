"""The provider's book: every receipt given and every voucher taken, on disk before the answer's last byte leaves.

One SQLite file (write-ahead log, full synchronisation). A receipt moves `open` → `sent` (in a settlement that may be
on its way) → `settled`; a settlement `sent` → `settled` → `published` (its receipts' bodies are on the DA layer). What a channel owes is a chain: each receipt begins where the one before it ended, so a receipt
can neither be lost nor counted twice. Amounts are micro-OPEN.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_SCHEMA = """
CREATE TABLE IF NOT EXISTS channel (
    id BLOB PRIMARY KEY, cumulative INTEGER NOT NULL, max_claimable INTEGER NOT NULL, signature BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS receipt (
    number INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB NOT NULL UNIQUE, channel BLOB NOT NULL, release INTEGER NOT NULL,
    before INTEGER NOT NULL, after INTEGER NOT NULL, vector BLOB NOT NULL, body BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'open', root BLOB, UNIQUE (channel, before)
);
CREATE INDEX IF NOT EXISTS receipt_state ON receipt (state, number);
CREATE TABLE IF NOT EXISTS settlement (
    root BLOB PRIMARY KEY, payload BLOB NOT NULL, nonce INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'sent'
) WITHOUT ROWID;
"""

State = Literal["open", "sent", "settled"]


class StaleChannel(Exception):
    """A receipt does not begin where its channel stands."""


@dataclass(frozen=True)
class BookedReceipt:
    """A receipt given. `vector` is the encoded attribution vector, `body` the content hash of the answer's body."""

    hash: bytes
    channel: bytes
    release: int
    before: int
    after: int
    vector: bytes
    body: bytes
    state: State = "open"
    root: bytes | None = None


@dataclass(frozen=True)
class ChannelBook:
    """What a channel owes in all, and the best voucher for it."""

    cumulative: int
    max_claimable: int
    signature: bytes


@dataclass(frozen=True)
class SentSettlement:
    """A settlement that may be on its way: its calldata and the nonce it was, or will be, sent with."""

    root: bytes
    payload: bytes
    nonce: int


class ReceiptBook:
    """Receipts, vouchers and settlements of one provider. Methods block for a disk write: call them in a thread.

    Safe to use from several threads.
    """

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def channel(self, channel: bytes) -> ChannelBook | None:
        """What is known of a channel; None before its first receipt."""
        with self._lock:
            row = self._db.execute(
                "SELECT cumulative, max_claimable, signature FROM channel WHERE id = ?", (channel,)
            ).fetchone()
        return ChannelBook(*row) if row else None

    def add(self, receipt: BookedReceipt, max_claimable: int, voucher_signature: bytes) -> None:
        """Book a receipt with the voucher that paid for it, durably.

        Raises StaleChannel where it does not begin at the channel's cumulative amount.
        """
        with self._transaction() as db:
            row = db.execute(
                "SELECT cumulative, max_claimable FROM channel WHERE id = ?", (receipt.channel,)
            ).fetchone()
            if row and row[0] != receipt.before:
                raise StaleChannel(f"the channel stands at {row[0]} micro-OPEN, the receipt begins at {receipt.before}")
            db.execute(
                "INSERT INTO receipt (hash, channel, release, before, after, vector, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    receipt.hash,
                    receipt.channel,
                    receipt.release,
                    receipt.before,
                    receipt.after,
                    receipt.vector,
                    receipt.body,
                ),
            )
            if not row or max_claimable >= row[1]:
                db.execute(
                    "INSERT INTO channel VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
                    "cumulative = excluded.cumulative, max_claimable = excluded.max_claimable, signature = excluded.signature",
                    (receipt.channel, receipt.after, max_claimable, voucher_signature),
                )
            else:
                db.execute("UPDATE channel SET cumulative = ? WHERE id = ?", (receipt.after, receipt.channel))

    def receipt(self, digest: bytes) -> BookedReceipt | None:
        """The receipt of that hash."""
        rows = self._select("WHERE hash = ?", (digest,))
        return rows[0] if rows else None

    def recent(self, limit: int = 50) -> list[BookedReceipt]:
        """The newest receipts, newest first."""
        return self._select("ORDER BY number DESC LIMIT ?", (limit,))

    def open_receipts(self, limit: int) -> list[BookedReceipt]:
        """Receipts in no settlement yet, in the order they were given."""
        return self._select("WHERE state = 'open' ORDER BY number LIMIT ?", (limit,))

    def count(self, state: State) -> int:
        """How many receipts are in a state."""
        with self._lock:
            (number,) = self._db.execute("SELECT count(*) FROM receipt WHERE state = ?", (state,)).fetchone()
        return int(number)

    def _select(self, where: str, arguments: tuple[object, ...]) -> list[BookedReceipt]:
        with self._lock:
            rows = self._db.execute(
                f"SELECT hash, channel, release, before, after, vector, body, state, root FROM receipt {where}",
                arguments,
            ).fetchall()
        return [BookedReceipt(*row) for row in rows]

    # settlements

    def begin_settlement(self, root: bytes, payload: bytes, nonce: int, receipts: list[bytes]) -> None:
        """Record, before it is sent, that these receipts go into the settlement with this root, calldata and nonce."""
        with self._transaction() as db:
            db.execute("INSERT INTO settlement (root, payload, nonce) VALUES (?, ?, ?)", (root, payload, nonce))
            db.executemany(
                "UPDATE receipt SET state = 'sent', root = ? WHERE hash = ?", [(root, digest) for digest in receipts]
            )

    def unfinished_settlement(self) -> SentSettlement | None:
        """A settlement whose fate is not known yet; there is at most one."""
        with self._lock:
            row = self._db.execute(
                "SELECT root, payload, nonce FROM settlement WHERE state = 'sent' LIMIT 1"
            ).fetchone()
        return SentSettlement(*row) if row else None

    def finish_settlement(self, root: bytes) -> None:
        """The settlement is in a block."""
        with self._transaction() as db:
            db.execute("UPDATE settlement SET state = 'settled' WHERE root = ?", (root,))
            db.execute("UPDATE receipt SET state = 'settled' WHERE root = ?", (root,))

    def abandon_settlement(self, root: bytes) -> None:
        """The settlement can never be in a block: its receipts are open again."""
        with self._transaction() as db:
            db.execute("DELETE FROM settlement WHERE root = ?", (root,))
            db.execute("UPDATE receipt SET state = 'open', root = NULL WHERE root = ?", (root,))

    def unpublished_settlements(self) -> list[bytes]:
        """The roots of settlements in blocks whose receipts' bodies are not on the DA layer yet."""
        with self._lock:
            rows = self._db.execute("SELECT root FROM settlement WHERE state = 'settled'").fetchall()
        return [row[0] for row in rows]

    def mark_published(self, root: bytes) -> None:
        """The bodies behind this root are on the DA layer and announced."""
        with self._transaction() as db:
            db.execute("UPDATE settlement SET state = 'published' WHERE root = ?", (root,))
