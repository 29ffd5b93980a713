"""Unsafe blocks that arrived before their parents: a bounded waiting room."""

from openledger.evm_ext.payload import ExecutionPayload

MAX_PAYLOADS = 1024
MAX_BYTES = 64 << 20


class UnsafeQueue:
    """Payloads by parent hash. When it is full the highest blocks leave first: the lowest are needed first."""

    def __init__(self, max_payloads: int = MAX_PAYLOADS, max_bytes: int = MAX_BYTES) -> None:
        self._by_parent: dict[bytes, ExecutionPayload] = {}
        self._max_payloads = max_payloads
        self._max_bytes = max_bytes
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._by_parent)

    def add(self, payload: ExecutionPayload) -> None:
        """Keep a payload; a sibling that is already there stays."""
        if payload.parent_hash in self._by_parent:
            return
        self._by_parent[payload.parent_hash] = payload
        self._bytes += _size(payload)
        while len(self._by_parent) > self._max_payloads or self._bytes > self._max_bytes:
            self._remove(max(self._by_parent.values(), key=lambda item: item.block_number))

    def take_child(self, parent_hash: bytes) -> ExecutionPayload | None:
        """The payload that builds on `parent_hash`, taken out."""
        payload = self._by_parent.get(parent_hash)
        if payload is not None:
            self._remove(payload)
        return payload

    def drop_up_to(self, number: int) -> None:
        """Forget payloads at or below a height."""
        for payload in [item for item in self._by_parent.values() if item.block_number <= number]:
            self._remove(payload)

    def lowest(self) -> ExecutionPayload | None:
        """The payload of the lowest height, left in place."""
        return min(self._by_parent.values(), key=lambda item: item.block_number, default=None)

    def _remove(self, payload: ExecutionPayload) -> None:
        del self._by_parent[payload.parent_hash]
        self._bytes -= _size(payload)


def _size(payload: ExecutionPayload) -> int:
    return 512 + sum(map(len, payload.transactions))
