"""Which safe L2 blocks are final: those derived from L1 blocks that L1 has finalized (derivation.md, "Finality")."""

from collections import deque
from dataclasses import dataclass

from openledger.rollup.blocks import BlockId, L2BlockRef

# A little more than L1 takes to finalize, so that nothing is forgotten before it is needed.
LOOKBACK = 4 * 32 + 1


@dataclass(frozen=True)
class _Derived:
    l1: BlockId
    l2: L2BlockRef


class FinalityTracker:
    """Remembers the last L2 block derived from each recent L1 block."""

    def __init__(self, lookback: int = LOOKBACK) -> None:
        self._derived: deque[_Derived] = deque(maxlen=lookback)

    def reset(self) -> None:
        """Forget everything: what was derived may have come from another L1 chain."""
        self._derived.clear()

    def derived(self, l1: BlockId, l2: L2BlockRef) -> None:
        """Note that all of L1 up to `l1` makes `l2` the safe head."""
        if self._derived and self._derived[-1].l1.number == l1.number:
            self._derived.pop()
        self._derived.append(_Derived(l1, l2))

    def finalized(self, l1_finalized_number: int) -> L2BlockRef | None:
        """The newest L2 block derived from no more than the finalized L1, None if none is remembered."""
        found: L2BlockRef | None = None
        while self._derived and self._derived[0].l1.number <= l1_finalized_number:
            found = self._derived.popleft().l2
        return found
