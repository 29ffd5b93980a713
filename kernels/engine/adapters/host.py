"""Adapters in the CPU's memory: limited by bytes, the longest unused let go, never one that somebody waits with."""

import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass

from openledger.kernels.ops.lora_layout import PackedLora


@dataclass
class Counts:
    """How often an adapter was found in each tier, and was let go of."""

    device_hits: int = 0
    device_loads: int = 0
    host_hits: int = 0
    disk_hits: int = 0
    source_loads: int = 0
    evictions: int = 0


class HostTier:
    """Adapters in the CPU's memory, by digest. Safe to use from any thread."""

    def __init__(self, max_bytes: int, counts: Counts) -> None:
        self._max_bytes = max_bytes
        self._counts = counts
        self._lock = threading.Lock()
        self._held: OrderedDict[bytes, PackedLora] = OrderedDict()
        self._pins: Counter[bytes] = Counter()
        self.bytes = self.pinned_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def pin(self, digest: bytes) -> PackedLora | None:
        """The adapter, which stays until it is unpinned as often."""
        with self._lock:
            packed = self._held.get(digest)
            if packed is not None:
                self._held.move_to_end(digest)
                self._counts.host_hits += 1
                self._pin(digest, packed)
            return packed

    def add(self, digest: bytes, packed: PackedLora, *, from_disk: bool) -> PackedLora:
        """Take an adapter, pinned once; the one that is here already where two threads brought it."""
        with self._lock:
            self._counts.disk_hits += from_disk
            self._counts.source_loads += not from_disk
            held = self._held.get(digest)
            if held is None:
                held = self._held[digest] = packed
                self.bytes += packed.bytes
            self._pin(digest, held)
            self._shrink()
            return held

    def unpin(self, digest: bytes) -> None:
        """One of those that hold it holds it no more."""
        with self._lock:
            self._pins[digest] -= 1
            if self._pins[digest] <= 0:
                del self._pins[digest]
                self.pinned_bytes -= self._held[digest].bytes
            self._shrink()

    def _pin(self, digest: bytes, packed: PackedLora) -> None:
        if not self._pins[digest]:
            self.pinned_bytes += packed.bytes
        self._pins[digest] += 1

    def _shrink(self) -> None:
        if self.bytes <= self._max_bytes:
            return
        for digest in [each for each in self._held if not self._pins[each]]:
            if self.bytes <= self._max_bytes:
                break
            self.bytes -= self._held.pop(digest).bytes
            self._counts.evictions += 1
