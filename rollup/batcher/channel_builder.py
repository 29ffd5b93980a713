"""From L2 blocks to one compressed channel, and from a channel to frames that fit where they go."""

from dataclasses import dataclass

from openledger.evm_ext.encoding import encode
from openledger.genesis.hashing import keccak256
from openledger.rollup.batcher.settings import BatcherSettings
from openledger.rollup.blocks import BlockId
from openledger.rollup.codec.batcher_transaction import encode_frames_data
from openledger.rollup.codec.batches import SPAN_BATCH, SingularBatch, encode_singular_batch
from openledger.rollup.codec.channels import compress_channel
from openledger.rollup.codec.frames import CHANNEL_ID_SIZE, FRAME_OVERHEAD, MAX_FRAME_DATA, Frame
from openledger.rollup.codec.span_batches import CHECK_SIZE, encode_span_batch
from openledger.rollup.engine import Engine


@dataclass(frozen=True)
class BuiltChannel:
    """A closed channel of the blocks `first` to `newest.number`. `raw_bytes` is its size before compression."""

    channel_id: bytes
    data: bytes
    first: int
    newest: BlockId
    raw_bytes: int

    @property
    def block_count(self) -> int:
        return self.newest.number - self.first + 1


class ChannelBuilder:
    """Builds channels for one chain; remembers how well its blocks compress to meet the target size."""

    def __init__(self, engine: Engine, settings: BatcherSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._ratio = 1.0

    def build(self, first: int, last: int) -> BuiltChannel | None:
        """The channel of blocks `first` to at most `last`; None if the chain was reorganised while it was read.

        Takes milliseconds a block: call it in a worker thread.
        """
        limit = min(self._settings.max_batch_bytes, int(self._settings.target_channel_bytes / self._ratio))
        batches: list[SingularBatch] = []
        newest: BlockId | None = None
        size = 0
        for number in range(first, last + 1):
            header = self._engine.chain.header_by_number(number)
            if header is None or (newest is not None and header.parent_hash != newest.hash):
                return None
            batch = self._engine.batch(header)
            size += sum(map(len, batch.transactions)) + 64
            if batches and size > limit:
                break
            batches.append(batch)
            newest = BlockId(header.hash, header.number)
        if newest is None:
            return None
        encoded = self._encode(first, batches)
        data = compress_channel(encoded, self._settings.compression)
        raw_bytes = sum(len(encode(batch)) for batch in encoded)
        self._ratio = max(0.05, 0.5 * self._ratio + 0.5 * min(1.0, len(data) / max(1, size)))
        # Named after what it holds: the same blocks, posted again, are the same channel.
        channel_id = keccak256(encoded[0] + newest.hash)[:CHANNEL_ID_SIZE]
        return BuiltChannel(channel_id, data, first, newest, raw_bytes)

    def _encode(self, first: int, batches: list[SingularBatch]) -> list[bytes]:
        if self._settings.batch_kind == "singular":
            return [encode_singular_batch(batch) for batch in batches]
        parent = self._engine.ref_by_number(first - 1)
        parent_epoch = -1 if parent is None else parent.l1_origin.number
        span = encode_span_batch(
            relative_timestamp=batches[0].timestamp - self._engine.config.l2_genesis_time,
            parent_check=batches[0].parent_hash[:CHECK_SIZE],
            l1_origin_check=batches[-1].epoch_hash[:CHECK_SIZE],
            first_changes_origin=batches[0].epoch_number != parent_epoch,
            blocks=[(batch.epoch_number, batch.transactions) for batch in batches],
        )
        return [bytes((SPAN_BATCH,)) + span]


def cut_payloads(channel: BuiltChannel, max_frame_bytes: int, max_payload_bytes: int) -> list[bytes]:
    """The channel as frames, and the frames packed into batcher data (version byte first) of at most that size."""
    size = min(max_frame_bytes - FRAME_OVERHEAD, max_payload_bytes - 1 - FRAME_OVERHEAD, MAX_FRAME_DATA)
    data = channel.data
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    groups: list[list[Frame]] = []
    filled = 0
    for number, piece in enumerate(pieces):
        frame = Frame(channel.channel_id, number, piece, is_last=number == len(pieces) - 1)
        frame_bytes = FRAME_OVERHEAD + len(piece)
        if not groups or filled + frame_bytes > max_payload_bytes - 1:
            groups.append([])
            filled = 0
        groups[-1].append(frame)
        filled += frame_bytes
    return [encode_frames_data(group) for group in groups]
