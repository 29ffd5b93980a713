"""The blobs of a pool's transactions.

They stay when their transaction has left the pool, as long as there is room: a block that is reorganised gives its
transactions back, without blobs. Not safe from several threads but for looking up.
"""

from __future__ import annotations

from collections.abc import Callable

from openledger.evm_ext import errors
from openledger.evm_ext.blobs import BlobSidecar


class Sidecars:
    def __init__(self, most_bytes: int, is_waiting: Callable[[bytes], bool]) -> None:
        """`is_waiting` says whether the pool has a transaction, by hash: what it has is not dropped."""
        self._most_bytes = most_bytes
        self._is_waiting = is_waiting
        self._by_transaction: dict[bytes, BlobSidecar] = {}
        self._by_blob: dict[bytes, tuple[bytes, int]] = {}
        self._bytes = 0

    def get(self, transaction_hash: bytes) -> BlobSidecar | None:
        return self._by_transaction.get(transaction_hash)

    def blob(self, versioned_hash: bytes) -> tuple[BlobSidecar, int] | None:
        """The sidecar that has a blob, and the blob's index in it."""
        found = self._by_blob.get(versioned_hash)
        sidecar = None if found is None else self._by_transaction.get(found[0])
        return None if found is None or sidecar is None else (sidecar, found[1])

    def put(self, transaction_hash: bytes, sidecar: BlobSidecar) -> None:
        """Raises `PoolFull` if there is no room beside what waits."""
        self.drop(transaction_hash)
        while self._bytes + sidecar.size > self._most_bytes:
            oldest = next((item for item in self._by_transaction if not self._is_waiting(item)), None)
            if oldest is None:
                raise errors.PoolFull(f"txpool is full: {self._bytes} bytes of blobs wait, at most {self._most_bytes}")
            self.drop(oldest)
        self._by_transaction[transaction_hash] = sidecar
        self._bytes += sidecar.size
        for index, versioned_hash in enumerate(sidecar.hashes):
            self._by_blob[versioned_hash] = (transaction_hash, index)

    def drop(self, transaction_hash: bytes) -> None:
        sidecar = self._by_transaction.pop(transaction_hash, None)
        if sidecar is not None:
            self._bytes -= sidecar.size
            for versioned_hash in sidecar.hashes:
                if self._by_blob.get(versioned_hash, (None,))[0] == transaction_hash:
                    del self._by_blob[versioned_hash]
