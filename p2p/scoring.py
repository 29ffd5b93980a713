"""Who is no longer spoken to: peers collect penalties, which fade; at the limit a peer is banned for a while."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import structlog

BAN_AT = 100.0
BAN_S = 600.0
_HALF_LIFE_S = 60.0
_PEERS_REMEMBERED = 10_000

log = structlog.get_logger(__name__)


class Penalty(IntEnum):
    """What a fault costs. An honest peer with a slow line or a wrong clock must not be banned by one of them."""

    UNRESPONSIVE = 5
    CLOCK = 10
    MALFORMED = 50
    INVALID = 100


@dataclass
class _Record:
    penalty: float = 0.0
    updated_at: float = 0.0
    banned_until: float = 0.0


class PeerScores:
    """Penalties by peer id (any hashable text). `clock` is monotonic seconds."""

    def __init__(
        self, on_ban: Callable[[str], None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._records: dict[str, _Record] = {}
        self._on_ban = on_ban
        self._clock = clock

    def penalise(self, peer: str, penalty: Penalty, reason: str) -> None:
        """Add a penalty; a peer that reaches the limit is banned and `on_ban` is called."""
        now = self._clock()
        record = self._records.get(peer)
        if record is None:
            self._forget_the_oldest()
            record = self._records[peer] = _Record(updated_at=now)
        record.penalty = self._faded(record, now) + penalty
        record.updated_at = now
        log.info("peer penalised", peer=peer, penalty=int(penalty), total=round(record.penalty), reason=reason)
        if record.penalty >= BAN_AT and record.banned_until <= now:
            record.banned_until = now + BAN_S
            log.warning("peer banned", peer=peer, reason=reason, seconds=BAN_S)
            if self._on_ban is not None:
                self._on_ban(peer)

    def is_banned(self, peer: str) -> bool:
        """Whether the peer is banned now."""
        record = self._records.get(peer)
        return record is not None and record.banned_until > self._clock()

    def penalty(self, peer: str) -> float:
        """The penalty still standing."""
        record = self._records.get(peer)
        return 0.0 if record is None else self._faded(record, self._clock())

    @staticmethod
    def _faded(record: _Record, now: float) -> float:
        faded: float = record.penalty * 0.5 ** ((now - record.updated_at) / _HALF_LIFE_S)
        return faded

    def _forget_the_oldest(self) -> None:
        if len(self._records) >= _PEERS_REMEMBERED:
            del self._records[min(self._records, key=lambda peer: self._records[peer].updated_at)]
