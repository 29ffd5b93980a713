"""Stage 3: frames in order, with those that can never become part of a channel taken out (holocene/derivation.md)."""

from collections import deque
from collections.abc import Sequence

import structlog

from openledger.rollup.codec.batcher_transaction import InvalidBatcherData, decode_frames_data
from openledger.rollup.codec.frames import Frame

log = structlog.get_logger(__name__)


def prune(frames: Sequence[Frame]) -> list[Frame]:
    """Only contiguous frames of a channel stay: a new first frame discards an unfinished channel before it."""
    kept = list(frames)
    index = 0
    while index < len(kept) - 1:
        current, following = kept[index], kept[index + 1]
        if current.channel_id == following.channel_id:
            if current.is_last or following.frame_number != current.frame_number + 1:
                del kept[index + 1]
                continue
        elif following.frame_number == 0 and not current.is_last:
            del kept[index]
            index = max(0, index - 1)
            continue
        elif following.frame_number != 0:
            del kept[index + 1]
            continue
        index += 1
    return kept


class FrameQueue:
    """Frames that were read and not yet assembled."""

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()

    def add(self, data: bytes) -> None:
        """Queue the frames of one piece of batcher data; data that is not frames is logged and ignored."""
        try:
            frames = decode_frames_data(data)
        except InvalidBatcherData as error:
            log.warning("batcher data ignored", reason=str(error), size=len(data))
            return
        self._frames = deque(prune([*self._frames, *frames]))

    def next_frame(self) -> Frame | None:
        """The next frame, None if the queue is empty."""
        return self._frames.popleft() if self._frames else None
