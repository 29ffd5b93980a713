"""JSON-RPC 2.0, bytes to bytes: calls and batches to registered methods, whatever carried them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec
import orjson
import structlog
import trio

from openledger.node.http.json_limits import require_modest_json
from openledger.node.rpc.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    RESPONSE_TOO_LARGE,
    InvalidParams,
    LimitExceeded,
    RpcError,
)
from openledger.node.rpc.methods import Method, Parameter, methods_of

log = structlog.get_logger(__name__)


class _Call(msgspec.Struct):
    jsonrpc: str
    method: str
    params: msgspec.Raw = msgspec.Raw()
    id: msgspec.Raw = msgspec.Raw()


_decode_call = msgspec.json.Decoder(_Call).decode
_decode_batch = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_any = msgspec.json.Decoder().decode

NULL_ID = b"null"
_ID_STARTS = b'"-0123456789n'


@dataclass(frozen=True, slots=True)
class DispatchLimits:
    """batch: calls in one batch. response: bytes of one answer. threads and slow_threads: lookups and slow
    calls at once, for all callers together. waiting: how many of each may queue for a thread before callers
    are told "busy"."""

    batch: int = 1000
    response: int = 25 * 1024 * 1024
    threads: int = 4
    slow_threads: int = 4
    waiting: int = 256


class Notifier(Protocol):
    """A connection that can be pushed to (a WebSocket)."""

    def notify(self, message: bytes) -> None:
        """Queue a message; a connection that is over or too slow drops it silently."""


@dataclass(eq=False, slots=True)
class Caller:
    """Who calls: once per HTTP request, once per WebSocket.

    trusted: on this machine, and not a page in a browser.
    notifier: None where nothing can be pushed.
    after_answer: run once the answer is queued; so a notification never overtakes the answer that
        announces its subscription.
    """

    trusted: bool = False
    notifier: Notifier | None = None
    subscriptions: dict[str, Callable[[], None]] = field(default_factory=dict)
    after_answer: list[Callable[[], None]] = field(default_factory=list)


class Dispatcher:
    """Holds the methods and answers calls. One per served port; several transports may share it."""

    def __init__(self, limits: DispatchLimits | None = None) -> None:
        self.limits = limits or DispatchLimits()
        self._methods: dict[str, Method] = {}
        self._threads = trio.CapacityLimiter(self.limits.threads)
        self._slow_threads = trio.CapacityLimiter(self.limits.slow_threads)

    @property
    def method_names(self) -> tuple[str, ...]:
        return tuple(sorted(self._methods))

    def register(self, namespace: object) -> None:
        """Add the object's `rpc_method`s. Raises ValueError for a name that is taken."""
        for method in methods_of(namespace):
            self._add(method)

    def add(
        self,
        name: str,
        function: Callable[..., Any],
        *parameters: Parameter,
        blocking: bool = False,
        trusted: bool = False,
    ) -> None:
        """Add one function. Raises ValueError for a name that is taken."""
        self._add(Method(name, function, parameters, blocking, trusted=trusted))

    async def handle(self, body: bytes, caller: Caller) -> bytes | None:
        """The answer to one message; None when it held only notifications. Never raises."""
        try:
            require_modest_json(body)
        except ValueError as error:
            return _error_answer(NULL_ID, RpcError(PARSE_ERROR, f"parse error: {error}"))
        stripped = body.lstrip()
        if stripped[:1] == b"[":
            return await self._handle_batch(stripped, caller)
        return await self._handle_call(body, caller, self.limits.response)

    async def _handle_batch(self, body: bytes, caller: Caller) -> bytes | None:
        try:
            calls = _decode_batch(body)
        except msgspec.DecodeError as error:
            return _error_answer(NULL_ID, RpcError(PARSE_ERROR, f"parse error: {error}"))
        if not calls:
            return _error_answer(NULL_ID, RpcError(INVALID_REQUEST, "empty batch"))
        if len(calls) > self.limits.batch:
            return _error_answer(
                NULL_ID,
                RpcError(INVALID_REQUEST, f"batch too large: {len(calls)} calls, at most {self.limits.batch}"),
            )
        answers: list[bytes] = []
        size = 0
        for call in calls:
            answer = await self._handle_call(bytes(call), caller, self.limits.response - size)
            if answer is not None:
                answers.append(answer)
                size += len(answer)
            await trio.lowlevel.checkpoint()
        return b"[" + b",".join(answers) + b"]" if answers else None

    async def _handle_call(self, body: bytes, caller: Caller, room: int) -> bytes | None:
        try:
            call = _decode_call(body)
        except msgspec.DecodeError as error:
            return _error_answer(NULL_ID, _undecodable(error))
        identifier = bytes(call.id) or NULL_ID
        if identifier[0] not in _ID_STARTS:
            return _error_answer(NULL_ID, RpcError(INVALID_REQUEST, "invalid id: use a string or a number"))
        if call.jsonrpc != "2.0":
            return _error_answer(identifier, RpcError(INVALID_REQUEST, 'invalid request: "jsonrpc" is not "2.0"'))
        try:
            result = await self._call(call, caller)
            answer = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (identifier, _encode(result))
            if len(answer) > room:
                raise RpcError(
                    RESPONSE_TOO_LARGE, f"response too large: more than {self.limits.response} bytes; ask for less"
                )
        except RpcError as error:
            answer = _error_answer(identifier, error)
        except Exception:  # the outer edge of every method
            log.exception("rpc method failed", method=call.method)
            answer = _error_answer(
                identifier, RpcError(INTERNAL_ERROR, f"{call.method} failed inside; the node's log says why")
            )
        return answer if call.id else None

    async def _call(self, call: _Call, caller: Caller) -> Any:
        method = self._methods.get(call.method)
        if method is None or (method.trusted and not caller.trusted):
            raise RpcError(METHOD_NOT_FOUND, f"the method {call.method[:100]} does not exist/is not available")
        if call.params:
            try:
                values = _decode_any(call.params)
            except msgspec.DecodeError as error:
                raise InvalidParams(f"malformed params: {error}") from error
        else:
            values = ()
        arguments = method.arguments(values)
        if method.with_caller:
            arguments.insert(0, caller)
        if method.blocking:
            limiter = self._slow_threads if method.slow else self._threads
            if limiter.statistics().tasks_waiting >= self.limits.waiting:
                raise LimitExceeded("the node is busy; try again later")
            return await trio.to_thread.run_sync(method.function, *arguments, limiter=limiter)
        result = method.function(*arguments)
        return await result if method.is_async else result

    def _add(self, method: Method) -> None:
        if method.name in self._methods:
            raise ValueError(f"the method {method.name} is registered already")
        self._methods[method.name] = method


def _encode(result: Any) -> bytes:
    return orjson.dumps(result)


def _undecodable(error: msgspec.DecodeError) -> RpcError:
    if isinstance(error, msgspec.ValidationError):
        return RpcError(INVALID_REQUEST, f"invalid request: {error}")
    return RpcError(PARSE_ERROR, f"parse error: {error}")


def _error_answer(identifier: bytes, error: RpcError) -> bytes:
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (identifier, orjson.dumps(body))
