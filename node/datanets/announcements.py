"""Where content was published on the DA layer, from the registry's `Announced` events.

An announcement is anybody's word and costs a transaction; what a commitment leads to is checked by hash. So hints
of blocks that a reorg removed may stay: they do no harm.
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from openledger.evm_ext.chain import Chain
from openledger.node.datanets.chain_watch import common_block
from openledger.node.predeploy_contracts import datanet_registry

MOST_PER_CONTENT = 512
"""Enough for the parts of 2 GiB; more announcements for one content are noise."""
MAX_COMMITMENT_BYTES = 64 << 10
_BLOCKS_AT_ONCE = 1_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS announcement (
    number INTEGER PRIMARY KEY AUTOINCREMENT, content BLOB NOT NULL, commitment BLOB NOT NULL,
    UNIQUE (content, commitment)
);
CREATE TABLE IF NOT EXISTS cursor (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL, hash BLOB NOT NULL);
"""


class Announcements:
    """The commitments announced for each content, in one SQLite file. Safe to use from several threads."""

    def __init__(self, file: Path, chain: Chain) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._chain = chain
        self._lock = threading.Lock()
        self._database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        # What is lost in a crash is read from the chain again, so nothing waits for the disk.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def update(self) -> None:
        """Read the events of the blocks since the last time, or since a reorg. Blocks; call it in a thread."""
        contract = datanet_registry()
        topic = contract.topic("Announced")
        with self._lock:
            first = self._first_unread()
            while first <= self._chain.head("unsafe").number:
                last = min(first + _BLOCKS_AT_ONCE - 1, self._chain.head("unsafe").number)
                end = self._chain.header_by_number(last)
                found = self._chain.logs(first, last, [contract.address], [[topic]])
                if end is None:
                    return  # a reorg is under way: the next time
                self._database.execute("BEGIN")
                for located in found:
                    event = contract.event(located.log.topics, located.log.data)
                    if event is not None and len(event.arguments["daCommitment"]) <= MAX_COMMITMENT_BYTES:
                        self._database.execute(
                            "INSERT OR IGNORE INTO announcement (content, commitment) VALUES (?, ?)",
                            (event.arguments["contentHash"], event.arguments["daCommitment"]),
                        )
                self._database.execute("REPLACE INTO cursor VALUES (1, ?, ?)", (end.number, end.hash))
                self._database.execute("COMMIT")
                first = last + 1

    def _first_unread(self) -> int:
        row = self._database.execute("SELECT number, hash FROM cursor").fetchone()
        return 0 if row is None else common_block(self._chain, row[1]) + 1

    def of(self, content: bytes) -> list[bytes]:
        """The commitments announced for this content hash, oldest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT commitment FROM announcement WHERE content = ? ORDER BY number LIMIT ?",
                (content, MOST_PER_CONTENT),
            ).fetchall()
        return [row[0] for row in rows]
