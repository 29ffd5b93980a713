"""Stage 4: one channel at a time, its frames in strict order (holocene/derivation.md, "Channel bank")."""

from dataclasses import dataclass, field

import structlog

from openledger.rollup.codec.channels import FRAME_SIZE_ALLOWANCE, MAX_RLP_BYTES_PER_CHANNEL
from openledger.rollup.codec.frames import Frame

log = structlog.get_logger(__name__)


@dataclass
class _StagingChannel:
    channel_id: bytes
    open_block: int
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0


class ChannelAssembler:
    """Holds the single staging channel."""

    def __init__(self, channel_timeout: int) -> None:
        self._timeout = channel_timeout
        self._channel: _StagingChannel | None = None

    def expire(self, l1_number: int) -> None:
        """Drop the staging channel if L1 block `l1_number` is past its timeout."""
        if self._channel is not None and self._channel.open_block + self._timeout < l1_number:
            log.warning("channel timed out", channel=self._channel.channel_id.hex(), opened=self._channel.open_block)
            self._channel = None

    def add(self, frame: Frame, l1_number: int) -> bytes | None:
        """Add a frame that was included in L1 block `l1_number`; the whole channel's bytes if it was the last.

        A frame that is not the next one of the staging channel is dropped.
        """
        self.expire(l1_number)
        if frame.frame_number == 0:
            if self._channel is not None:
                log.warning("unfinished channel discarded", channel=self._channel.channel_id.hex())
            self._channel = _StagingChannel(frame.channel_id, l1_number)
        channel = self._channel
        if channel is None or channel.channel_id != frame.channel_id or len(channel.pieces) != frame.frame_number:
            log.warning("frame dropped", channel=frame.channel_id.hex(), frame=frame.frame_number)
            return None
        channel.pieces.append(frame.data)
        channel.size += len(frame.data) + FRAME_SIZE_ALLOWANCE
        if channel.size > MAX_RLP_BYTES_PER_CHANNEL:
            log.warning("channel too large, dropped", channel=frame.channel_id.hex(), size=channel.size)
            self._channel = None
            return None
        if not frame.is_last:
            return None
        self._channel = None
        return b"".join(channel.pieces)
