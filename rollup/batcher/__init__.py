"""The batcher: the sequencer's blocks become channels, and channels reach L1 by way of DA, blobs or calldata."""

from openledger.rollup.batcher.batcher import Batcher
from openledger.rollup.batcher.settings import BatcherSettings, BatchKind, Fallback

__all__ = ["BatchKind", "Batcher", "BatcherSettings", "Fallback"]
