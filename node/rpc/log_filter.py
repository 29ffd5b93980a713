"""Which logs a caller asked for: the criteria of queries, filters and subscriptions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from openledger.evm_ext.chain import Chain, LocatedLog
from openledger.node.rpc.parameters import (
    BlockReference,
    decode_address,
    decode_block_number,
    decode_hash,
    decode_object,
)

MOST_TOPICS = 4
MOST_ALTERNATIVES = 1_000


@dataclass(frozen=True)
class LogCriteria:
    """Addresses (none: any) and per topic position the alternatives (none: any)."""

    addresses: frozenset[bytes] = frozenset()
    topics: tuple[frozenset[bytes], ...] = ()

    def in_block(self, chain: Chain, block_hash: bytes) -> Iterator[LocatedLog]:
        """The logs of a stored block that match. Raises UnknownBlock."""
        return chain.block_logs(block_hash, self.addresses, self.topics)


@dataclass(frozen=True)
class LogQuery:
    """Criteria over one block, or over a range of the canonical chain."""

    criteria: LogCriteria
    block_hash: bytes | None = None
    first: BlockReference | None = None
    last: BlockReference | None = None


def decode_log_query(value: Any) -> LogQuery:
    """eth_getLogs' and eth_newFilter's object. Raises ValueError."""
    fields = decode_object(value)
    block_hash = fields.get("blockHash")
    first, last = fields.get("fromBlock"), fields.get("toBlock")
    if block_hash is not None and (first is not None or last is not None):
        raise ValueError("cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other")
    return LogQuery(
        criteria=decode_log_criteria(fields),
        block_hash=None if block_hash is None else decode_hash(block_hash),
        first=None if first is None else decode_block_number(first),
        last=None if last is None else decode_block_number(last),
    )


def decode_log_criteria(value: Any) -> LogCriteria:
    """The `address` and `topics` of a filter object, others ignored. Raises ValueError."""
    fields = decode_object(value)
    topics = fields.get("topics")
    if topics is None:
        topics = []
    if not isinstance(topics, list):
        raise ValueError("topics must be a list")
    if len(topics) > MOST_TOPICS:
        raise ValueError(f"{len(topics)} topics, a log has at most {MOST_TOPICS}")
    return LogCriteria(
        addresses=_alternatives(fields.get("address"), decode_address, "address"),
        topics=tuple(_alternatives(topic, decode_hash, "topic") for topic in topics),
    )


def _alternatives(value: Any, decode: Any, what: str) -> frozenset[bytes]:
    if value is None:
        return frozenset()
    items = value if isinstance(value, list) else [value]
    if len(items) > MOST_ALTERNATIVES:
        raise ValueError(f"{len(items)} alternatives for one {what}, at most {MOST_ALTERNATIVES}")
    if what == "topic" and any(item is None for item in items):
        return frozenset()  # geth: null among alternatives means any
    return frozenset(decode(item) for item in items)
