"""Blobs in memory: gone when the process ends."""

import threading
import time
from collections.abc import Mapping

from openledger.rollup.da.stores.base import KeyExists


class MemoryStore:
    """See BlobStore."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blobs: dict[bytes, bytes] = {}
        self._chunks: dict[bytes, Mapping[int, bytes]] = {}
        self._stored_at: dict[bytes, int] = {}
        self._payloads: dict[bytes, bytes] = {}
        self._secret: bytes | None = None

    def put(self, key: bytes, value: bytes, chunks: Mapping[int, bytes] | None = None) -> None:
        """See BlobStore."""
        with self._lock:
            if key in self._stored_at:
                raise KeyExists(f"payload key already exists: {key.hex()}")
            self._blobs[key] = value
            self._chunks[key] = dict(chunks or {})
            self._stored_at[key] = time.monotonic_ns()

    def get(self, key: bytes) -> bytes | None:
        """See BlobStore."""
        return self._blobs.get(key)

    def drop(self, key: bytes) -> None:
        """See BlobStore."""
        with self._lock:
            self._blobs.pop(key, None)

    def get_chunks(self, key: bytes, operator: int) -> bytes | None:
        """See BlobStore."""
        return self._chunks.get(key, {}).get(operator)

    def put_keccak(self, digest: bytes, payload: bytes) -> None:
        """See BlobStore."""
        self._payloads[digest] = payload

    def get_keccak(self, digest: bytes) -> bytes | None:
        """See BlobStore."""
        return self._payloads.get(digest)

    def secret(self, fresh: bytes) -> bytes:
        """See BlobStore."""
        with self._lock:
            if self._secret is None:
                self._secret = fresh
            return self._secret

    def prune(self, expiration_ns: int) -> int:
        """See BlobStore."""
        latest = time.monotonic_ns() - expiration_ns
        with self._lock:
            old = [key for key, stored_at in self._stored_at.items() if stored_at <= latest]
            for key in old:
                del self._stored_at[key], self._chunks[key]
                self._blobs.pop(key, None)
        return len(old)

    def close(self) -> None:
        """See BlobStore."""
