"""When an OP-Stack chain's own rules change, beside those of Ethereum it takes over."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum


class OpFork(IntEnum):
    """The OP-Stack's forks that execution sees, from Ecotone on, in order; Ethereum's fork under each in brackets."""

    ECOTONE = 0
    """L1 fee with a blob base fee; parent beacon block root (Cancun)."""
    FJORD = 1
    """L1 fee by FastLZ; P256VERIFY."""
    GRANITE = 2
    """Input of BN254 pairings bounded."""
    HOLOCENE = 3
    """Base fee parameters in extraData."""
    ISTHMUS = 4
    """Operator fee; the message passer's storage root in the header (Prague)."""


@dataclass(frozen=True)
class OpForkSchedule:
    """From which timestamp (seconds) on each fork's rules hold, ascending; None is never. Ecotone holds always: blocks
    before it are not known here."""

    fjord: int | None = 0
    granite: int | None = 0
    holocene: int | None = 0
    isthmus: int | None = 0

    def at(self, timestamp: int) -> OpFork:
        """The fork whose rules a block with this timestamp follows."""
        found = OpFork.ECOTONE
        for fork, field in zip(list(OpFork)[1:], fields(self), strict=True):
            start: int | None = getattr(self, field.name)
            if start is not None and timestamp >= start:
                found = fork
        return found
