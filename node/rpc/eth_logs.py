"""eth: logs by query, and filters that are polled."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from openledger.evm_ext.chain import HeadChange
from openledger.evm_ext.errors import TooManyResults, UnknownBlock
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.errors import InvalidParams, LimitExceeded, ServerError
from openledger.node.rpc.formats import Json, hex_bytes, located_log_json, transaction_json
from openledger.node.rpc.log_filter import (
    LogQuery,
    decode_log_query,
)
from openledger.node.rpc.methods import Parameter, rpc_method
from openledger.node.rpc.parameters import BOOLEAN, TEXT, BlockReference

LOG_QUERY = Parameter(decode_log_query)


class EthLogs:
    """Holds the polled filters of all callers; `on_head` and `on_transaction` feed them, from any thread."""

    def __init__(self, backend: RpcBackend, clock: Callable[[], float] = time.monotonic) -> None:
        self._backend = backend
        self._chain = backend.chain
        self._filters: dict[str, _Filter] = {}
        self._lock = Lock()
        self._clock = clock

    @rpc_method("eth_getLogs", LOG_QUERY, slow=True)
    def logs(self, query: LogQuery) -> list[Json]:
        return self._search(query)

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
    def filter_logs(self, identifier: str) -> list[Json]:
        with self._lock:
            query = self._find(identifier).query
        if query is None:
            raise ServerError("filter not found")
        return self._search(query)

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

    def _changed_logs(self, query: LogQuery, changes: list[tuple[bytes, bool]]) -> list[Json]:
        first = query.first.number if query.first is not None else None
        last = query.last.number if query.last is not None else None
        result: list[Json] = []
        for block_hash, removed in changes:
            for located in query.criteria.in_block(self._chain, block_hash):
                if (first is None or located.block_number >= first) and (last is None or located.block_number <= last):
                    result.append(located_log_json(located, removed))
            if len(result) > self._backend.limits.log_results:
                raise self._too_many()
        return result

    def _search(self, query: LogQuery) -> list[Json]:
        limits, criteria = self._backend.limits, query.criteria
        if query.block_hash is not None:
            try:
                return [located_log_json(item) for item in criteria.in_block(self._chain, query.block_hash)]
            except UnknownBlock as error:
                raise ServerError("unknown block") from error
        first, last = self._range(query)
        if last - first >= limits.log_blocks:
            raise LimitExceeded(
                f"exceed maximum block range: {limits.log_blocks}; "
                f"ask for blocks {first:#x} to {first + limits.log_blocks - 1:#x} first"
            )
        try:
            found = self._chain.logs(first, last, criteria.addresses, criteria.topics, limit=limits.log_results)
        except TooManyResults as error:
            raise self._too_many() from error
        return [located_log_json(item) for item in found]

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
