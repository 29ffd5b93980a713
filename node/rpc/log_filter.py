"""Which logs a caller asked for: the criteria of queries, filters and subscriptions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from openledger.evm_ext.chain import Chain, LocatedLog
from openledger.node.rpc.fields import field
from openledger.node.rpc.parameters import (
    BlockReference,
    decode_address,
    decode_block_number,
    decode_hash,
    decode_object,
    list_of,
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
    block_hash = field(fields, "blockHash", decode_hash, None)
    first = field(fields, "fromBlock", decode_block_number, None)
    last = field(fields, "toBlock", decode_block_number, None)
    if block_hash is not None and (first is not None or last is not None):
        raise ValueError("cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other")
    return LogQuery(
        criteria=decode_log_criteria(fields),
        block_hash=block_hash,
        first=first,
        last=last,
    )


def decode_log_criteria(value: Any) -> LogCriteria:
    """The `address` and `topics` of a filter object, others ignored. Raises ValueError."""
    fields = decode_object(value)
    return LogCriteria(
        addresses=field(fields, "address", _decode_addresses, frozenset()),
        topics=tuple(field(fields, "topics", _decode_topics, ())),
    )


def _decode_addresses(value: Any) -> frozenset[bytes]:
    return frozenset(_alternatives(value, decode_address))


def _decode_topics(value: Any) -> list[frozenset[bytes]]:
    if isinstance(value, list) and len(value) > MOST_TOPICS:
        raise ValueError(f"{len(value)} topics, a log has at most {MOST_TOPICS}")
    topics: list[frozenset[bytes]] = list_of(_decode_topic, MOST_TOPICS)(value)
    return topics


def _decode_topic(value: Any) -> frozenset[bytes]:
    if value is None or (isinstance(value, list) and any(item is None for item in value)):
        return frozenset()  # geth: null among alternatives means any
    return frozenset(_alternatives(value, decode_hash))


def _alternatives(value: Any, decode: Callable[[Any], bytes]) -> list[bytes]:
    if not isinstance(value, list):
        return [decode(value)]
    alternatives: list[bytes] = list_of(decode, MOST_ALTERNATIVES)(value)
    return alternatives
