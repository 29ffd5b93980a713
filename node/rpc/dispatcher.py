"""JSON-RPC 2.0, bytes to bytes: calls and batches to registered methods, whatever carried them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import msgspec
import orjson
import structlog
import trio

from openledger.evm_ext.errors import DatabaseCorrupt, StatePruned
from openledger.node.http.json_limits import require_modest_json
from openledger.node.rpc.errors import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    RESPONSE_TOO_LARGE,
    SERVER_ERROR,
    LimitExceeded,
    RpcError,
)
from openledger.node.rpc.methods import Method, Parameter, TakesLonger, methods_of

log = structlog.get_logger(__name__)


class _Call(msgspec.Struct):
    jsonrpc: str
    method: str
    params: Any = None
    id: msgspec.Raw = msgspec.Raw()


_decode_call = msgspec.json.Decoder(_Call).decode
_decode_calls = msgspec.json.Decoder(list[_Call]).decode
_decode_batch = msgspec.json.Decoder(list[msgspec.Raw]).decode

_json = orjson.dumps
_ANSWER_START = b'{"jsonrpc":"2.0","id":'
_RESULT_START = b',"result":'
NULL_ID = b"null"
_ID_STARTS = b'"-0123456789n'
_SMALL = 1_024
"""A body below this can be neither too deep nor too large once decoded."""
_LOOKUPS_PER_THREAD = 32
"""Lookups of one batch that share a thread: going there costs as much as a lookup."""
_TURN_S = 0.001
"""Seconds that the calls of one batch take before other connections get their turn."""


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


@dataclass(eq=False, slots=True)
class _Started:
    """A decoded call of a method that takes a thread or an await."""

    method: Method
    arguments: list[Any]
    identifier: bytes
    is_notification: bool

    @property
    def is_lookup(self) -> bool:
        return self.method.blocking and not self.method.slow


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A message that `Dispatcher.finish` answers: one call, or a batch as it came."""

    caller: Caller
    call: _Started | None
    batch: bytes = b""


class Dispatcher:
    """Holds the methods and answers calls. One per served port; several transports may share it."""

    def __init__(self, limits: DispatchLimits | None = None) -> None:
        self.limits = limits or DispatchLimits()
        self._methods: dict[str, Method] = {}
        self._quick: set[str] = set()
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

    def _add(self, method: Method) -> None:
        if method.name in self._methods:
            raise ValueError(f"the method {method.name} is registered already")
        self._methods[method.name] = method
        if not method.blocking and not method.is_async:
            self._quick.add(method.name)

    # --- messages ---------------------------------------------------------------------------------------

    async def handle(self, body: bytes, caller: Caller) -> bytes | None:
        """The answer to one message; None when it held only notifications. Never raises."""
        begun = self.begin(body, caller)
        return await self.finish(begun) if isinstance(begun, Unfinished) else begun

    def begin(self, body: bytes, caller: Caller) -> bytes | Unfinished | None:
        """As `handle` for one call of a quick method; anything else is for `finish`. Never raises."""
        if len(body) >= _SMALL:
            try:
                require_modest_json(body)
            except ValueError as error:
                return _error_answer(NULL_ID, RpcError(PARSE_ERROR, f"parse error: {error}"))
        if not body.startswith(b"{") and (stripped := body.lstrip()).startswith(b"["):
            return Unfinished(caller, None, stripped)
        begun = self._begin_call(body, caller, self.limits.response)
        return Unfinished(caller, begun) if isinstance(begun, _Started) else begun

    async def finish(self, message: Unfinished) -> bytes | None:
        """Answer what `begin` did not. Never raises."""
        if message.call is None:
            return await self._finish_batch(message.batch, message.caller)
        (answer,) = await self._finish_calls([message.call], self.limits.response)
        return answer

    async def _finish_batch(self, body: bytes, caller: Caller) -> bytes | None:
        try:
            calls = _batch_items(body)
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
        lookups: list[_Started] = []
        turn = perf_counter()
        for number, call in enumerate(calls, 1):
            room = self.limits.response - size
            if isinstance(call, _Call):
                begun = self._begin_decoded(call, caller, room)
            else:
                begun = self._begin_call(bytes(call), caller, room)
            finished: list[bytes | None] = []
            if lookups and (len(lookups) == _LOOKUPS_PER_THREAD or not _is_lookup(begun)):
                finished += await self._finish_calls(lookups, self.limits.response - size)
                lookups = []
            if isinstance(begun, _Started):
                if begun.is_lookup:
                    lookups.append(begun)
                else:
                    finished += await self._finish_calls([begun], self.limits.response - size)
            else:
                finished.append(begun)
            if number == len(calls) and lookups:
                finished += await self._finish_calls(lookups, self.limits.response - size)
            for answer in finished:
                if answer is not None:
                    answers.append(answer)
                    size += len(answer)
            if perf_counter() > turn + _TURN_S:
                await trio.lowlevel.checkpoint()
                turn = perf_counter()
        return b"[" + b",".join(answers) + b"]" if answers else None

    # --- calls ------------------------------------------------------------------------------------------

    def _begin_call(self, body: bytes, caller: Caller, room: int) -> bytes | _Started | None:
        """Decode a call, and answer it if its method is quick. `room`: bytes that the answer may have."""
        try:
            call = _decode_call(body)
        except msgspec.DecodeError as error:
            return _error_answer(NULL_ID, _undecodable(error))
        return self._begin_decoded(call, caller, room)

    def _begin_decoded(self, call: _Call, caller: Caller, room: int) -> bytes | _Started | None:
        answered = identifier = bytes(call.id)
        if not identifier:  # a notification
            identifier = NULL_ID
        elif identifier[0] not in _ID_STARTS:
            return _error_answer(NULL_ID, RpcError(INVALID_REQUEST, "invalid id: use a string or a number"))
        if call.jsonrpc != "2.0":
            return _error_answer(identifier, RpcError(INVALID_REQUEST, 'invalid request: "jsonrpc" is not "2.0"'))
        try:
            method = self._methods.get(call.method)
            if method is None or (method.trusted and not caller.trusted):
                raise RpcError(METHOD_NOT_FOUND, f"the method {call.method[:100]} does not exist/is not available")
            arguments = _arguments(method, call.params)
        except RpcError as error:
            return _error_answer(identifier, error) if answered else None
        if method.with_caller:
            arguments.insert(0, caller)
        if call.method in self._quick:
            answer = self._answer(method.name, method.function, arguments, identifier, room)
            return answer if answered else None
        if method.at_once is not None:
            try:
                answer = self._answer(method.name, method.at_once, arguments, identifier, room)
            except TakesLonger:
                pass
            else:
                return answer if answered else None
        return _Started(method, arguments, identifier, not answered)

    async def _finish_calls(self, calls: list[_Started], room: int) -> list[bytes | None]:
        """Answer lookups in one thread, or a single call of any kind. `room` is for all answers together."""
        method = calls[0].method
        if not method.blocking:
            return [await self._answer_awaited(calls[0], room)]
        limiter = self._slow_threads if method.slow else self._threads
        if limiter.statistics().tasks_waiting >= self.limits.waiting:
            busy = LimitExceeded("the node is busy; try again later")
            return [None if call.is_notification else _error_answer(call.identifier, busy) for call in calls]
        return await trio.to_thread.run_sync(self._answer_all, calls, room, limiter=limiter)

    def _answer_all(self, calls: list[_Started], room: int) -> list[bytes | None]:
        answers = []
        for call in calls:
            answer = self._answer(call.method.name, call.method.function, call.arguments, call.identifier, room)
            answers.append(None if call.is_notification else answer)
            room -= len(answer)
        return answers

    def _answer(
        self, name: str, function: Callable[..., Any], arguments: list[Any], identifier: bytes, room: int
    ) -> bytes:
        """Raises TakesLonger."""
        try:
            answer = _ANSWER_START + identifier + _RESULT_START + _json(function(*arguments)) + b"}"
            if len(answer) > room:
                raise self._too_large()
        except TakesLonger:
            raise
        except Exception as error:  # the outer edge of every method
            return _failed(name, identifier, error)
        return answer

    async def _answer_awaited(self, call: _Started, room: int) -> bytes | None:
        try:
            result = await call.method.function(*call.arguments)
            answer = _ANSWER_START + call.identifier + _RESULT_START + _json(result) + b"}"
            if len(answer) > room:
                raise self._too_large()
        except Exception as error:  # the outer edge of every method
            answer = _failed(call.method.name, call.identifier, error)
        return None if call.is_notification else answer

    def _too_large(self) -> RpcError:
        return RpcError(RESPONSE_TOO_LARGE, f"response too large: more than {self.limits.response} bytes; ask for less")


def _arguments(method: Method, params: Any) -> list[Any]:
    if params is None or params == []:
        return method.arguments(()) if method.parameters else []
    return method.arguments(params)


def _batch_items(body: bytes) -> Sequence[_Call | msgspec.Raw]:
    """Calls, or what the list holds where not all are calls. Raises DecodeError."""
    try:
        return _decode_calls(body)
    except msgspec.DecodeError:
        return _decode_batch(body)


def _is_lookup(begun: bytes | _Started | None) -> bool:
    return isinstance(begun, _Started) and begun.is_lookup


def _failed(name: str, identifier: bytes, error: Exception) -> bytes:
    if isinstance(error, RpcError):
        return _error_answer(identifier, error)
    if isinstance(error, StatePruned):  # geth's words and code, whatever method needed the state
        return _error_answer(identifier, RpcError(SERVER_ERROR, str(error)))
    if isinstance(error, DatabaseCorrupt):
        log.error("the database is damaged", method=name, problem=str(error))
        damaged = "the node's database is damaged; its log says where, and what its operator can do"
        return _error_answer(identifier, RpcError(INTERNAL_ERROR, damaged))
    log.error("rpc method failed", method=name, exc_info=error)
    return _error_answer(identifier, RpcError(INTERNAL_ERROR, f"{name} failed inside; the node's log says why"))


def _undecodable(error: msgspec.DecodeError) -> RpcError:
    if isinstance(error, msgspec.ValidationError):
        return RpcError(INVALID_REQUEST, f"invalid request: {error}")
    return RpcError(PARSE_ERROR, f"parse error: {error}")


def _error_answer(identifier: bytes, error: RpcError) -> bytes:
    body: dict[str, Any] = {"code": error.code, "message": error.message}
    if error.data is not None:
        body["data"] = error.data
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (identifier, orjson.dumps(body))
