"""Brings the sequencer's blocks to DA and L1: unsafe blocks become batches, batches a channel, a channel frames, frames a
DA payload, and its commitment the calldata of an L1 transaction (OP-Stack batcher.md, alt-da.md).

Nothing is remembered across restarts but what L1 and the safe head say: whatever is not safe yet is posted again, and
batches that arrive twice are skipped by derivation as past ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from openledger.evm_ext.encoding import encode
from openledger.genesis.hashing import keccak256
from openledger.rollup.blocks import BlockId, L2BlockRef
from openledger.rollup.clock import Clock, WallClock
from openledger.rollup.codec.batcher_transaction import encode_commitment_data, encode_frames_data
from openledger.rollup.codec.batches import encode_singular_batch
from openledger.rollup.codec.channels import Compression, compress_channel
from openledger.rollup.codec.frames import CHANNEL_ID_SIZE, FRAME_OVERHEAD, MAX_FRAME_DATA, Frame
from openledger.rollup.da.client import DAError
from openledger.rollup.engine import Engine
from openledger.rollup.l1.source import L1Error, L1Submitter
from openledger.rollup.l1.transactions import L1Sender, L1TransactionLost

log = structlog.get_logger(__name__)


class DASink(Protocol):
    """Where payloads go."""

    async def put(self, payload: bytes) -> bytes:
        """Store a payload; its commitment, type byte first. Raises `DAError`."""
        ...


@dataclass(frozen=True)
class BatcherSettings:
    """When a channel is closed and how it is cut. Sizes in bytes.

    A channel closes when it holds `max_channel_blocks` blocks, or `max_channel_duration_s` after its first block was
    seen. `max_batch_bytes` bounds it when many blocks wait, for example after the DA layer was down.
    """

    max_channel_blocks: int = 10
    max_channel_duration_s: float = 5.0
    max_batch_bytes: int = 4_000_000
    max_frame_bytes: int = 120_000
    max_payload_bytes: int = 1_000_000
    compression: Compression = Compression.BROTLI
    poll_interval_s: float = 0.5
    max_backoff_s: float = 16.0
    # How many L1 blocks derivation may pass beyond a channel's inclusion without the safe head taking it up.
    safe_head_patience: int = 3


class Batcher:
    """Posts for one sequencer. `current_l1` tells how far this node's own derivation has read L1."""

    def __init__(
        self,
        engine: Engine,
        l1: L1Submitter,
        da: DASink,
        private_key: bytes,
        *,
        current_l1: Callable[[], int | None] = lambda: None,
        settings: BatcherSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.problem: str | None = None
        self._engine = engine
        self._da = da
        self._settings = settings or BatcherSettings()
        self._clock = clock or WallClock()
        self._sender = L1Sender(l1, engine.config.l1_chain_id, private_key, self._clock)
        self._current_l1 = current_l1
        self._submitted: BlockId | None = None
        self._included_at: int | None = None
        self._waiting_since: float | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Post until cancelled. Trouble with L1 or DA is logged, shown in `problem`, and waited out."""
        task_status.started()
        failures = 0
        while True:
            try:
                posted = await self.step()
            except (L1Error, L1TransactionLost, DAError) as error:
                failures += 1
                problem = f"{type(error).__name__}: {error}"
                if problem != self.problem:
                    log.warning("batcher waits", problem=problem)
                    self.problem = problem
                await self._clock.sleep(min(self._settings.max_backoff_s, 0.5 * 2 ** min(failures - 1, 8)))
                continue
            failures = 0
            if self.problem is not None:
                log.info("batcher goes on", after=self.problem)
                self.problem = None
            if not posted:
                await self._clock.sleep(self._settings.poll_interval_s)

    async def step(self, *, flush: bool = False) -> bool:
        """Close and post one channel if one is due (or `flush` asks for it); whether anything was posted.

        Returns once L1 has included it. Raises `L1Error`, `L1TransactionLost` and `DAError`; nothing is lost by that.
        """
        last = self._resume_point()
        head = self._engine.chain.head("unsafe")
        waiting = head.number - last.number
        if waiting <= 0:
            self._waiting_since = None
            return False
        if self._waiting_since is None:
            self._waiting_since = self._clock.now()
        age = self._clock.now() - self._waiting_since
        if not flush and waiting < self._settings.max_channel_blocks and age < self._settings.max_channel_duration_s:
            return False
        built = await trio.to_thread.run_sync(self._build_channel, last.number + 1, head.number)
        if built is None:
            self._submitted = None  # the chain was reorganised while it was read
            return False
        newest, frames = built
        payloads = _payloads(frames, self._settings.max_payload_bytes)
        for payload in payloads:
            await self._post(payload)
        self._submitted = newest
        self._waiting_since = None
        log.info("channel posted", first=last.number + 1, last=newest.number, bytes=sum(map(len, payloads)))
        return True

    async def _post(self, payload: bytes) -> None:
        commitment = await self._da.put(payload)
        included = await self._sender.send(self._engine.config.batch_inbox, encode_commitment_data(commitment))
        self._included_at = included.block_number

    def _resume_point(self) -> BlockId:
        """The last block that need not be posted: the safe head, or what was posted beyond it and still stands."""
        safe: L2BlockRef = self._engine.ref(self._engine.chain.head("safe"))
        submitted = self._submitted
        if submitted is None or submitted.number <= safe.number:
            self._submitted = None
            return safe.id
        canonical = self._engine.chain.header_by_number(submitted.number)
        current_l1 = self._current_l1()
        if canonical is None or canonical.hash != submitted.hash:
            reason = "the unsafe chain was reorganised"
        elif (
            current_l1 is not None
            and self._included_at is not None
            and current_l1 > self._included_at + self._settings.safe_head_patience
        ):
            reason = "derivation passed the channel without taking it up"
        else:
            return submitted
        log.warning("posting again from the safe head", reason=reason, safe=safe.number, posted=submitted.number)
        self._submitted = None
        return safe.id

    def _build_channel(self, first: int, last: int) -> tuple[BlockId, list[Frame]] | None:
        """The channel of blocks `first` to at most `last`, and the newest block in it; None after a reorg."""
        batches: list[bytes] = []
        size = 0
        newest: BlockId | None = None
        for number in range(first, last + 1):
            header = self._engine.chain.header_by_number(number)
            if header is None or (newest is not None and header.parent_hash != newest.hash):
                return None
            batch = encode_singular_batch(self._engine.batch(header))
            size += len(encode(batch))
            if batches and size > self._settings.max_batch_bytes:
                break
            batches.append(batch)
            newest = BlockId(header.hash, header.number)
        if newest is None:
            return None
        channel = compress_channel(batches, self._settings.compression)
        # Named after what it holds: the same blocks, posted again, are the same channel.
        channel_id = keccak256(batches[0] + newest.hash)[:CHANNEL_ID_SIZE]
        return newest, _frames(channel, channel_id, self._settings.max_frame_bytes)


def _frames(channel: bytes, channel_id: bytes, max_frame_bytes: int) -> list[Frame]:
    size = min(max_frame_bytes - FRAME_OVERHEAD, MAX_FRAME_DATA)
    pieces = [channel[start : start + size] for start in range(0, len(channel), size)]
    return [Frame(channel_id, number, piece, is_last=number == len(pieces) - 1) for number, piece in enumerate(pieces)]


def _payloads(frames: list[Frame], max_payload_bytes: int) -> list[bytes]:
    """Frames packed into DA payloads, in order."""
    groups: list[list[Frame]] = []
    size = 0
    for frame in frames:
        frame_size = FRAME_OVERHEAD + len(frame.data)
        if not groups or size + frame_size > max_payload_bytes - 1:
            groups.append([])
            size = 0
        groups[-1].append(frame)
        size += frame_size
    return [encode_frames_data(group) for group in groups]
