"""The sum of the difficulties of a block and all its ancestors, which decided about the merge."""

from __future__ import annotations

from collections.abc import Callable

from lru import LRU

from openledger.evm_ext.block import Header

_KEPT = 8_192


class TotalDifficulties:
    """Worked out from the headers when asked for, and kept: the next block needs one addition. Any thread."""

    def __init__(self, header: Callable[[bytes], Header]) -> None:
        """`header` gives stored headers by hash."""
        self._header = header
        self._known: LRU[bytes, int] = LRU(_KEPT)

    def of(self, block_hash: bytes) -> int:
        """The total difficulty of a stored block; the first time it reads the headers back to block 0."""
        missing: list[tuple[bytes, int]] = []
        total = 0
        while True:
            known = self._known.get(block_hash)
            if known is not None:
                total = known
                break
            header = self._header(block_hash)
            missing.append((block_hash, header.difficulty))
            if header.number == 0:
                break
            block_hash = header.parent_hash
        for member, difficulty in reversed(missing):
            total += difficulty
            self._known[member] = total
        return total
