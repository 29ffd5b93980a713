"""Blobs on disk. A put that returned has been synced, and is there or not there as a whole after kill -9."""

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import plyvel

from openledger.evm_ext.batches import BatchWriter
from openledger.evm_ext.errors import DiskFull, WriteFailed
from openledger.rollup.da.stores.base import KeyExists, StoreError

_BLOB, _CHUNKS, _EXPIRY, _KECCAK, _SECRET = b"b", b"c", b"t", b"k", b"s"


class DiskStore:
    """A LevelDB folder. See BlobStore.

    Keys are a letter (b blob, c chunks, t time, k keccak, s secret) and the blob's key; that of chunks ends in the
    operator's number (2 bytes), that of times begins with nanoseconds (8 bytes).
    """

    def __init__(self, folder: Path) -> None:
        """Opens or creates the folder. Raises StoreError when another process holds it or it is damaged."""
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._db = plyvel.DB(str(folder), create_if_missing=True, paranoid_checks=True, write_buffer_size=8 << 20)
        except plyvel.IOError as error:
            raise StoreError(f"cannot open the DA store {folder} (is another node using it?): {error}") from error
        except plyvel.CorruptionError as error:
            raise StoreError(f"the DA store {folder} is damaged: {error}; restore it from a copy") from error
        self._writer = BatchWriter(self._db, folder)

    def close(self) -> None:
        """Closes the folder."""
        self._db.close()

    def put(self, key: bytes, value: bytes, chunks: Mapping[int, bytes] | None = None) -> None:
        """See BlobStore; durable once it returns."""
        if self._db.get(_BLOB + key) is not None:
            raise KeyExists(f"payload key already exists: {key.hex()}")
        with self._batch(sync=True) as batch:
            batch.put(_BLOB + key, value)
            for operator, kept in (chunks or {}).items():
                batch.put(_CHUNKS + key + operator.to_bytes(2, "big"), kept)
            batch.put(_EXPIRY + time.time_ns().to_bytes(8, "big") + key, b"")

    def get(self, key: bytes) -> bytes | None:
        """The value, or None. Raises StoreError when the disk gave back something else than was written."""
        return self._read(_BLOB + key)

    def drop(self, key: bytes) -> None:
        """See BlobStore."""
        with self._batch() as batch:
            batch.delete(_BLOB + key)

    def get_chunks(self, key: bytes, operator: int) -> bytes | None:
        """See BlobStore. Raises StoreError when the disk gave back something else than was written."""
        return self._read(_CHUNKS + key + operator.to_bytes(2, "big"))

    def put_keccak(self, digest: bytes, payload: bytes) -> None:
        """Stores a payload durably under its hash; the same again is no change."""
        with self._batch(sync=True) as batch:
            batch.put(_KECCAK + digest, payload)

    def get_keccak(self, digest: bytes) -> bytes | None:
        """The payload, or None. Raises StoreError."""
        return self._read(_KECCAK + digest)

    def secret(self, fresh: bytes) -> bytes:
        """The stored secret; the first call stores `fresh`."""
        stored = self._read(_SECRET)
        if stored is None:
            with self._batch(sync=True) as batch:
                batch.put(_SECRET, fresh)
            return fresh
        return stored

    def prune(self, expiration_ns: int) -> int:
        """Deletes blobs stored at least that long ago; how many."""
        latest = max(time.time_ns() - expiration_ns, 0).to_bytes(8, "big")
        pruned = 0
        with closing(self._db.iterator(start=_EXPIRY, stop=_EXPIRY + latest, include_value=False)) as entries:
            for entry in entries:
                key = entry[9:]
                with self._batch() as batch, closing(self._chunk_keys(key)) as chunk_keys:
                    batch.delete(entry)
                    batch.delete(_BLOB + key)
                    for chunk_key in chunk_keys:
                        batch.delete(chunk_key)
                pruned += 1
        return pruned

    def _chunk_keys(self, key: bytes) -> Any:
        return self._db.iterator(prefix=_CHUNKS + key, include_value=False)

    @contextmanager
    def _batch(self, *, sync: bool = False) -> Iterator[Any]:
        try:
            with self._writer.batch(sync=sync) as batch:
                yield batch
        except (DiskFull, WriteFailed) as error:
            raise StoreError(str(error)) from error

    def _read(self, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._db.get(key, verify_checksums=True)
        except plyvel.CorruptionError as error:
            raise StoreError(f"the DA store is damaged at {key.hex()}: {error}") from error
        return value
