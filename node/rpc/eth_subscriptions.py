"""eth_subscribe: pushes heads, logs and pending transactions to WebSockets as they come."""

import secrets
from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
import trio

from openledger.evm_ext.chain import HeadChange
from openledger.node.rpc.backend import RpcBackend, SyncProgress
from openledger.node.rpc.dispatcher import Caller, Notifier
from openledger.node.rpc.errors import INVALID_PARAMS, METHOD_NOT_FOUND, LimitExceeded, RpcError, ServerError
from openledger.node.rpc.formats import Json, header_json, hex_bytes, located_log_json, transaction_json
from openledger.node.rpc.log_filter import LogCriteria, decode_log_criteria
from openledger.node.rpc.methods import Parameter, rpc_method
from openledger.node.rpc.parameters import TEXT

log = structlog.get_logger(__name__)

_PUSHES_PER_TURN = 100
KINDS = ("newHeads", "logs", "newPendingTransactions", "syncing")


@dataclass(eq=False, slots=True)
class _Subscription:
    identifier: str
    kind: str
    notifier: Notifier
    criteria: LogCriteria | None = None
    full_transactions: bool = False
    active: bool = False

    def push(self, result: bytes) -> None:
        if self.active:
            self.notifier.notify(
                b'{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":"%b","result":%b}}'
                % (self.identifier.encode(), result)
            )


class EthSubscriptions:
    """The subscriptions of all connections. `run` delivers; `on_head` and `on_transaction` may be called
    from any thread once it runs."""

    def __init__(self, backend: RpcBackend) -> None:
        self._backend = backend
        self._chain = backend.chain
        self._subscriptions: dict[str, dict[str, _Subscription]] = {kind: {} for kind in KINDS}
        self._events: deque[HeadChange | bytes] = deque()
        self._wake = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None
        self._told_syncing: SyncProgress | None = None

    @rpc_method("eth_subscribe", TEXT, Parameter(lambda value: value).optional(), with_caller=True)
    def subscribe(self, caller: Caller, kind: str, options: Any) -> str:
        if caller.notifier is None:
            raise RpcError(METHOD_NOT_FOUND, "notifications not supported; use a WebSocket")
        if kind not in KINDS:
            raise RpcError(INVALID_PARAMS, f"no {kind[:40]!r} subscription in eth namespace")
        limit = self._backend.limits.subscriptions
        if len(caller.subscriptions) >= limit:
            raise LimitExceeded(f"too many subscriptions on this connection: {limit}")
        subscription = _Subscription(hex_bytes(secrets.token_bytes(16)), kind, caller.notifier)
        if kind == "logs":
            try:
                subscription.criteria = decode_log_criteria({} if options is None else options)
            except ValueError as error:
                raise RpcError(INVALID_PARAMS, f"invalid argument 1: {error}") from error
        elif kind == "newPendingTransactions":
            subscription.full_transactions = options is True
        identifier = subscription.identifier
        self._subscriptions[kind][identifier] = subscription
        caller.subscriptions[identifier] = lambda: self._remove(subscription)
        caller.after_answer.append(lambda: self._activate(subscription))
        return identifier

    @rpc_method("eth_unsubscribe", TEXT, with_caller=True)
    def unsubscribe(self, caller: Caller, identifier: str) -> bool:
        remove = caller.subscriptions.pop(identifier, None)
        if remove is None:
            raise ServerError("subscription not found")
        remove()
        return True

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Deliver until cancelled, in the order in which the chain moved."""
        self._token = trio.lowlevel.current_trio_token()
        task_status.started()
        try:
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                while self._events:
                    event = self._events.popleft()
                    if isinstance(event, HeadChange):
                        await self._deliver_head(event)
                    else:
                        await self._deliver_transaction(event)
                await self._deliver_syncing()
        finally:
            self._token = None

    def on_head(self, change: HeadChange) -> None:
        if change.label == "unsafe" and (
            self._subscriptions["newHeads"] or self._subscriptions["logs"] or self._subscriptions["syncing"]
        ):
            self._hand_over(change)

    def on_transaction(self, transaction_hash: bytes) -> None:
        if self._subscriptions["newPendingTransactions"]:
            self._hand_over(transaction_hash)

    def _hand_over(self, event: HeadChange | bytes) -> None:
        token = self._token
        if token is None:
            return
        try:
            token.run_sync_soon(self._take, event)
        except trio.RunFinishedError:
            pass

    def _take(self, event: HeadChange | bytes) -> None:
        self._events.append(event)
        self._wake.set()

    def _activate(self, subscription: _Subscription) -> None:
        subscription.active = True

    def _remove(self, subscription: _Subscription) -> None:
        self._subscriptions[subscription.kind].pop(subscription.identifier, None)

    def _active(self, kind: str) -> list[_Subscription]:
        return list(self._subscriptions[kind].values())

    async def _deliver_head(self, change: HeadChange) -> None:
        if heads := self._active("newHeads"):
            for block_hash in change.added:
                header = self._chain.header_by_hash(block_hash)
                if header is not None:
                    await _push_all(heads, header_json(header))
        if subscribers := self._active("logs"):
            pushes = await trio.to_thread.run_sync(self._log_pushes, change, subscribers)
            for number, (subscription, result) in enumerate(pushes, 1):
                subscription.push(result)
                if number % _PUSHES_PER_TURN == 0:
                    await trio.lowlevel.checkpoint()

    def _log_pushes(self, change: HeadChange, subscribers: list[_Subscription]) -> list[tuple[_Subscription, bytes]]:
        """What each log subscription is told of a change of head: removed logs first."""
        pushes: list[tuple[_Subscription, bytes]] = []
        for hashes, removed in ((change.removed, True), (change.added, False)):
            for block_hash in hashes:
                for subscription in subscribers:
                    assert subscription.criteria is not None
                    pushes += [
                        (subscription, orjson.dumps(located_log_json(item, removed)))
                        for item in subscription.criteria.in_block(self._chain, block_hash)
                    ]
        return pushes

    async def _deliver_transaction(self, transaction_hash: bytes) -> None:
        subscribers = self._active("newPendingTransactions")
        full = [item for item in subscribers if item.full_transactions]
        await _push_all([item for item in subscribers if not item.full_transactions], hex_bytes(transaction_hash))
        transaction = self._backend.pool.get(transaction_hash) if full else None
        if transaction is not None:
            await _push_all(full, transaction_json(transaction, None))

    async def _deliver_syncing(self) -> None:
        subscribers = self._active("syncing")
        if not subscribers:
            return
        progress = self._backend.syncing()
        if (progress is None) == (self._told_syncing is None):
            return
        self._told_syncing = progress
        if progress is None:
            await _push_all(subscribers, False)
            return
        status = {
            "startingBlock": hex(progress.starting_block),
            "currentBlock": hex(progress.current_block),
            "highestBlock": hex(progress.highest_block),
        }
        await _push_all(subscribers, {"syncing": True, "status": status})


async def _push_all(subscriptions: list[_Subscription], result: Json | str | bool) -> None:
    """Encoded once; other connections get their turn among thousands of subscribers."""
    if subscriptions:
        encoded = orjson.dumps(result)
        for number, subscription in enumerate(subscriptions, 1):
            subscription.push(encoded)
            if number % _PUSHES_PER_TURN == 0:
                await trio.lowlevel.checkpoint()
