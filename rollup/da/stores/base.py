"""What every store of a DA server can do."""

from collections.abc import Mapping
from typing import Protocol


class StoreError(Exception):
    """The store cannot be opened, read or written; the message says what to do."""


class KeyExists(StoreError):
    """A blob is already stored under the key; it is never overwritten."""


class BlobStore(Protocol):
    """Blobs by certificate key with the chunks each operator keeps of them, payloads by keccak hash, and one secret.

    The methods block; call them from a worker thread. Several threads may at once. Every method may raise StoreError.
    """

    def put(self, key: bytes, value: bytes, chunks: Mapping[int, bytes] | None = None) -> None:
        """Stores a blob, and what each operator (by number) keeps of it, all or nothing. Raises KeyExists."""

    def get(self, key: bytes) -> bytes | None:
        """The blob, or None."""

    def drop(self, key: bytes) -> None:
        """Forgets the blob itself, not its chunks."""

    def get_chunks(self, key: bytes, operator: int) -> bytes | None:
        """What an operator keeps of a blob, or None."""

    def put_keccak(self, digest: bytes, payload: bytes) -> None:
        """Stores a payload under its hash; the same again is no change."""

    def get_keccak(self, digest: bytes) -> bytes | None:
        """The payload, or None."""

    def secret(self, fresh: bytes) -> bytes:
        """The stored secret; the first call stores `fresh`."""

    def prune(self, expiration_ns: int) -> int:
        """Deletes blobs, with their chunks, stored at least that long ago; how many."""

    def close(self) -> None:
        """Lets go of files and connections."""
