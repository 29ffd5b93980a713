"""A disk that takes only a part of a write must not cost what is acknowledged after it."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import plyvel
import pytest

from openledger.evm_ext import batches
from openledger.evm_ext.batches import BatchWriter
from openledger.evm_ext.errors import DiskFull, WriteFailed
from openledger.evm_ext.journal import Journal


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process can grow beyond `size`: a write across it is done in part, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def open_db(folder: Path) -> plyvel.DB:
    return plyvel.DB(str(folder), create_if_missing=True)


def test_nothing_is_acknowledged_behind_a_torn_record(tmp_path: Path) -> None:
    db = open_db(tmp_path)
    writer = BatchWriter(db, tmp_path)
    with writer.batch(sync=True) as batch:
        batch.put(b"before", b"x")
    with files_up_to(3_000), pytest.raises(WriteFailed), writer.batch(sync=True) as batch:
        batch.put(b"torn", b"x" * 20_000)
    with pytest.raises(WriteFailed, match="start the node again"), writer.batch() as batch:
        batch.put(b"after", b"x")
    db.close()

    db = open_db(tmp_path)
    assert (db.get(b"before"), db.get(b"torn"), db.get(b"after")) == (b"x", None, None)
    with BatchWriter(db, tmp_path).batch(sync=True) as batch:
        batch.put(b"again", b"x")
    db.close()
    db = open_db(tmp_path)
    assert db.get(b"again") == b"x"
    db.close()


def test_a_nearly_full_disk_is_not_written_to_and_goes_on_with_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = open_db(tmp_path)
    writer = BatchWriter(db, tmp_path)
    disk = os.statvfs(tmp_path)
    monkeypatch.setattr(batches, "MIN_FREE_BYTES", 2 * disk.f_bavail * disk.f_frsize)
    with pytest.raises(DiskFull, match="make room"), writer.batch() as batch:
        batch.put(b"k", b"v")
    monkeypatch.undo()
    with writer.batch() as batch:
        batch.put(b"k", b"v")
    assert db.get(b"k") == b"v"
    db.close()


def test_a_batch_that_is_interrupted_writes_nothing(tmp_path: Path) -> None:
    db = open_db(tmp_path)
    writer = BatchWriter(db, tmp_path)

    def interrupted() -> None:
        with writer.batch() as batch:
            batch.put(b"k", b"v")
            raise KeyError("in the middle")

    with pytest.raises(KeyError):
        interrupted()
    assert db.get(b"k") is None
    with writer.batch() as batch:
        batch.put(b"l", b"v")
    assert db.get(b"l") == b"v"
    db.close()


def test_a_journal_entry_that_does_not_fit_does_not_hide_later_ones(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.sync(journal.append(b"first"))
    with files_up_to(40), pytest.raises(OSError) as refused:
        journal.append(b"x" * 100)
    assert refused.value.errno in (errno.ENOSPC, errno.EFBIG)
    journal.sync(journal.append(b"second"))
    journal.close()
    assert Journal(path).read() == [b"first", b"second"]
