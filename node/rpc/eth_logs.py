"""eth: logs by query, and filters that are polled."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import orjson

from openledger.evm_ext.chain import HeadChange, LocatedLog
from openledger.evm_ext.errors import TooManyResults, UnknownBlock
from openledger.node.rpc.attempts import Attempts
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.errors import InvalidParams, LimitExceeded, ServerError
from openledger.node.rpc.formats import hex_bytes, located_logs_json, transaction_json
from openledger.node.rpc.log_filter import (
    LogQuery,
    decode_log_query,
)
from openledger.node.rpc.methods import Parameter, TakesLonger, rpc_method
from openledger.node.rpc.parameters import BOOLEAN, TEXT, BlockReference

LOG_QUERY = Parameter(decode_log_query)
_MOST_AT_ONCE = 1_000
"""Logs that are written out in about a millisecond."""


class EthLogs:
    """Holds the polled filters of all callers; `on_head` and `on_transaction` feed them, from any thread."""

    def __init__(self, backend: RpcBackend, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._chain = backend.chain
        self._filters: dict[str, _Filter] = {}
        self._lock = Lock()
        self._clock = clock
        self._attempts = Attempts()

    @rpc_method("eth_getLogs", LOG_QUERY, slow=True, at_once="logs_at_once")
    def logs(self, query: LogQuery) -> list[orjson.Fragment]:
        return located_logs_json(self._search(query))

    def logs_at_once(self, query: LogQuery) -> list[orjson.Fragment]:
        """Raises TakesLonger."""
        if query.block_hash is not None:
            raise TakesLonger
        first, last = self._range(query)
        kind = ((last - first).bit_length(), query.criteria)
        with self._attempts.of(kind) as time_limit_s:
            try:
                limit = min(_MOST_AT_ONCE, self._backend.limits.log_results)
                found = self._in_range(query, limit, time.monotonic() + time_limit_s)
            except TooManyResults as error:
                raise TakesLonger from error
        return located_logs_json(found)

    @rpc_method("eth_newFilter", LOG_QUERY)
    def new_filter(self, query: LogQuery) -> str:
        if query.block_hash is not None:
            raise InvalidParams("a filter cannot be of one block; use eth_getLogs")
        first = None if query.first is None else query.first.number
        last = None if query.last is None else query.last.number
        if first is not None and last is not None and first > last:
            raise InvalidParams("invalid block range params")
        return self._install(_Filter("logs", query=query))

    @rpc_method("eth_newBlockFilter")
    def new_block_filter(self) -> str:
        return self._install(_Filter("blocks"))

    @rpc_method("eth_newPendingTransactionFilter", BOOLEAN.optional(False))
    def new_pending_transaction_filter(self, full: bool) -> str:
        """Polled for hashes, or with `full` for transactions."""
        return self._install(_Filter("transactions", full=full))

    @rpc_method("eth_uninstallFilter", TEXT)
    def uninstall_filter(self, identifier: str) -> bool:
        with self._lock:
            return self._filters.pop(identifier, None) is not None

    @rpc_method("eth_getFilterChanges", TEXT, slow=True)
    def filter_changes(self, identifier: str) -> list[Any]:
        with self._lock:
            found = self._find(identifier)
            changes, found.changes = found.changes, []
        if found.full:
            pending = (self._backend.pool.get(change) for change, _ in changes)
            return [transaction_json(transaction, None) for transaction in pending if transaction is not None]
        if found.kind != "logs" or found.query is None:
            return [hex_bytes(change) for change, _ in changes]
        return self._changed_logs(found.query, changes)

    @rpc_method("eth_getFilterLogs", TEXT, slow=True)
    def filter_logs(self, identifier: str) -> list[orjson.Fragment]:
        with self._lock:
            query = self._find(identifier).query
        if query is None:
            raise ServerError("filter not found")
        return located_logs_json(self._search(query))

    def on_head(self, change: HeadChange) -> None:
        """A listener of the chain: remembers what each filter has to tell at its next poll."""
        if change.label != "unsafe" or not self._filters:
            return
        added = [(block_hash, False) for block_hash in change.added]
        removed = [(block_hash, True) for block_hash in change.removed]
        with self._lock:
            self._expire()
            for item in self._filters.values():
                if item.kind == "blocks":
                    item.changes += added
                elif item.kind == "logs":
                    item.changes += removed + added
            self._bound()

    def on_transaction(self, transaction_hash: bytes) -> None:
        """A listener of the pool."""
        if not self._filters:
            return
        with self._lock:
            for item in self._filters.values():
                if item.kind == "transactions":
                    item.changes.append((transaction_hash, False))
            self._bound()

    def _install(self, item: "_Filter") -> str:
        item.polled = self._clock()
        with self._lock:
            self._expire()
            if len(self._filters) >= self._backend.limits.filters:
                raise LimitExceeded(
                    f"too many filters: {self._backend.limits.filters}; uninstall some, or use eth_subscribe"
                )
            identifier = hex_bytes(secrets.token_bytes(16))
            self._filters[identifier] = item
        return identifier

    def _find(self, identifier: str) -> "_Filter":
        found = self._filters.get(identifier)
        if found is None:
            raise ServerError("filter not found")
        found.polled = self._clock()
        return found

    def _expire(self) -> None:
        oldest = self._clock() - self._backend.limits.filter_idle_s
        for identifier in [key for key, item in self._filters.items() if item.polled < oldest]:
            del self._filters[identifier]

    def _bound(self) -> None:
        limit = self._backend.limits.filter_changes
        for identifier in [key for key, item in self._filters.items() if len(item.changes) > limit]:
            del self._filters[identifier]

    def _changed_logs(self, query: LogQuery, changes: list[tuple[bytes, bool]]) -> list[orjson.Fragment]:
        first = query.first.number if query.first is not None else None
        last = query.last.number if query.last is not None else None
        result: list[orjson.Fragment] = []
        for block_hash, removed in changes:
            found = query.criteria.in_block(self._chain, block_hash)
            inside = (
                item
                for item in found
                if (first is None or item.block_number >= first) and (last is None or item.block_number <= last)
            )
            result += located_logs_json(inside, removed)
            if len(result) > self._backend.limits.log_results:
                raise self._too_many()
        return result

    def _search(self, query: LogQuery) -> list[LocatedLog]:
        if query.block_hash is not None:
            try:
                return list(query.criteria.in_block(self._chain, query.block_hash))
            except UnknownBlock as error:
                raise ServerError("unknown block") from error
        try:
            return self._in_range(query, self._backend.limits.log_results)
        except TooManyResults as error:
            raise self._too_many() from error

    def _in_range(self, query: LogQuery, limit: int, deadline: float | None = None) -> list[LocatedLog]:
        """Raises TooManyResults, and CallTimeout after the deadline."""
        limits, criteria = self._backend.limits, query.criteria
        first, last = self._range(query)
        if last - first >= limits.log_blocks:
            raise LimitExceeded(
                f"exceed maximum block range: {limits.log_blocks}; "
                f"ask for blocks {first:#x} to {first + limits.log_blocks - 1:#x} first"
            )
        return self._chain.logs(first, last, criteria.addresses, criteria.topics, limit=limit, deadline=deadline)

    def _range(self, query: LogQuery) -> tuple[int, int]:
        """The first and last block of a query, by geth's rules of what may be ahead of the head."""
        head = self._chain.head().number
        first = head if query.first is None else self._number(query.first)
        last = head if query.last is None else self._number(query.last)
        if query.last is not None and query.last.number is not None and last > head:
            raise InvalidParams("block range extends beyond current head block")
        if first > last:
            raise InvalidParams("invalid block range params")
        return first, last

    def _number(self, reference: BlockReference) -> int:
        if reference.number is not None:
            return reference.number
        return self._backend.existing_header(reference).number

    def _too_many(self) -> LimitExceeded:
        limit = self._backend.limits.log_results
        return LimitExceeded(f"query returns more than {limit} results; ask for fewer blocks or narrower topics")


@dataclass(eq=False, slots=True)
class _Filter:
    kind: str
    query: LogQuery | None = None
    full: bool = False
    changes: list[tuple[bytes, bool]] = field(default_factory=list)
    polled: float = 0.0
