"""Stage 5: the batches of a channel, lazily, so that the rest of it can be thrown away (derivation.md, "Channel reader")."""

from collections.abc import Iterator

import structlog

from openledger.rollup.codec.batches import InvalidBatch, SingularBatch, decode_batch
from openledger.rollup.codec.channels import InvalidChannel, decompress_channel, read_batches
from openledger.rollup.codec.span_batches import SpanBatch
from openledger.rollup.codec.strict_rlp import InvalidRlp

log = structlog.get_logger(__name__)


class ChannelReader:
    """The batches of the channel at hand."""

    def __init__(self, chain_id: int) -> None:
        self._chain_id = chain_id
        self._batches: Iterator[bytes] = iter(())

    def open(self, channel: bytes) -> None:
        """Read this channel next; one that cannot be decompressed is logged and dropped."""
        try:
            self._batches = read_batches(decompress_channel(channel))
        except InvalidChannel as error:
            log.warning("channel dropped", reason=str(error), size=len(channel))

    def flush(self) -> None:
        """Forget the rest of the channel."""
        self._batches = iter(())

    def next_batch(self) -> SingularBatch | SpanBatch | None:
        """The next batch, None at the channel's end. What is not a batch ends the channel."""
        try:
            encoded = next(self._batches, None)
            return None if encoded is None else decode_batch(encoded, chain_id=self._chain_id)
        except (InvalidRlp, InvalidBatch) as error:
            log.warning("rest of the channel dropped", reason=str(error), kind=type(error).__name__)
            self.flush()
            return None
