"""What a batcher is told: when channels close, how they are cut, where they go when the DA layer cannot take them."""

from dataclasses import dataclass
from typing import Literal

from openledger.rollup.codec.channels import Compression

BatchKind = Literal["span", "singular"]
Fallback = Literal["calldata", "blobs", "none"]


@dataclass(frozen=True)
class BatcherSettings:
    """Sizes in bytes, times in seconds.

    A channel closes when it holds `max_channel_blocks` blocks, when it has about `target_channel_bytes` (compressed), or
    `max_channel_duration_s` after its first block was seen. `max_batch_bytes` bounds it before compression when many
    blocks wait, for example after the DA layer was down.

    With a `fallback` a channel goes to Ethereum itself as soon as the DA layer asks for it (status 503), or when it has
    failed otherwise for `failover_after_s`; after `failback_after_s` the DA layer is tried again. While it is L1 that
    does not take data, what the DA layer has stored is not given to it again for `keep_commitments_s`.

    Once `throttle_backlog_bytes` of transactions wait to be posted, the sequencer is asked to put at most
    `throttle_block_bytes` of them into a block, none longer than `throttle_transaction_bytes`; 0 never asks.
    """

    batch_kind: BatchKind = "span"
    max_channel_blocks: int = 10
    max_channel_duration_s: float = 5.0
    target_channel_bytes: int = 600_000
    max_batch_bytes: int = 4_000_000
    max_frame_bytes: int = 120_000
    max_payload_bytes: int = 1_000_000
    max_calldata_bytes: int = 120_000
    max_blobs_per_transaction: int = 6
    compression: Compression = Compression.BROTLI
    fallback: Fallback = "calldata"
    failover_after_s: float = 60.0
    failback_after_s: float = 60.0
    keep_commitments_s: float = 300.0
    throttle_backlog_bytes: int = 8_000_000
    throttle_block_bytes: int = 40_000
    throttle_transaction_bytes: int = 5_000
    dry_run: bool = False
    poll_interval_s: float = 0.5
    max_backoff_s: float = 16.0
    # How many L1 blocks derivation may pass beyond a channel's inclusion without the safe head taking it up.
    safe_head_patience: int = 3
