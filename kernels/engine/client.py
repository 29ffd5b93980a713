"""The node's side of the engine: starts the worker process, restarts it when it dies, routes its answers.

Importing this module does not load torch. All requests in flight when the worker dies end with
`Failed(code="engine_died")`; later ones wait for the restarted worker.
"""

import contextlib
import math
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
import trio

from openledger.kernels.child import AnyChild, OpenChild, open_child
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.messages import (
    Cancel,
    Failed,
    Finished,
    FromWorker,
    Generate,
    Load,
    Progress,
    Ready,
    Start,
    Token,
    Unusable,
    Verified,
    Verify,
)
from openledger.kernels.framing import ChannelClosed, FrameError

WORKER: Final = "openledger.kernels.engine.worker"
_RESTART_DELAY_S: Final = (0.2, 1.0, 5.0, 15.0)

Event = Token | Finished | Failed
_Answer = Token | Finished | Failed | Verified

log = structlog.get_logger(__name__)


class EngineError(Exception):
    """The engine could not do what was asked. `code` is one of `messages.FailureCode`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class EngineUnusable(EngineError):
    """The engine cannot start (no model, damaged weights, …); the message says what to do."""


class EngineClient:
    """A running engine; made by `open_engine`."""

    def __init__(
        self,
        config: EngineConfig,
        on_progress: Callable[[Progress], None] | None = None,
        start_child: OpenChild = open_child,
    ) -> None:
        self.config = config
        self._info: Ready | None = None
        self._load: Load | None = None
        self._progress: Progress | None = None
        self._restarts = 0
        self._on_progress = on_progress
        self._start_child = start_child
        self._unusable: EngineUnusable | None = None
        self._changed = trio.Event()
        self._pending: dict[str, trio.MemorySendChannel[_Answer]] = {}
        self._outbox: trio.MemorySendChannel[msgspec.Struct] | None = None

    @property
    def info(self) -> Ready | None:
        """What is served; None while the worker is starting."""
        return self._info

    @property
    def load(self) -> Load | None:
        return self._load

    @property
    def progress(self) -> Progress | None:
        return self._progress

    @property
    def restarts(self) -> int:
        return self._restarts

    async def ready(self) -> Ready:
        """What is served, once the worker takes requests. Raises `EngineUnusable`."""
        while True:
            if self._unusable is not None:
                raise self._unusable
            if self.info is not None:
                return self.info
            await self._changed.wait()

    async def generate(self, request: Generate) -> AsyncGenerator[Event, None]:
        """The answer as it comes: `Token`s, then one `Finished` or `Failed`. Never raises for a request that
        cannot be served: that is a `Failed`. Leaving the iteration early cancels the request."""
        async with contextlib.aclosing(self._ask(request)) as answers:
            async for answer in answers:
                assert not isinstance(answer, Verified)
                yield answer

    def stop(self, request_id: str) -> None:
        """End an answer now: its iteration goes on to a last `Finished(stop_reason="cancelled")`, or to a `Failed`
        where it had not begun."""
        if request_id in self._pending:
            self._post(Cancel(request_id))

    async def verify(self, request: Verify) -> Verified:
        """Recompute an answer by one teacher-forced pass. Raises `EngineError` if it cannot be judged here
        (an adapter is missing, the engine died): that is not a verdict."""
        async with contextlib.aclosing(self._ask(request)) as answers:
            async for answer in answers:
                if isinstance(answer, Verified):
                    return answer
                if isinstance(answer, Failed):
                    raise EngineError(answer.code, answer.message)
        raise EngineError("engine_died", "the engine ended without a verdict")

    async def _ask(self, request: Generate | Verify) -> AsyncGenerator[_Answer, None]:
        identifier = request.request_id
        try:
            await self.ready()
        except EngineUnusable as error:
            yield Failed(identifier, "engine_unavailable", str(error))
            return
        if identifier in self._pending:
            yield Failed(identifier, "bad_request", f"a request with id {identifier!r} is already running")
            return
        send, receive = trio.open_memory_channel[_Answer](math.inf)
        self._pending[identifier] = send
        over = False
        try:
            if not self._post(request):
                over = True
                yield Failed(identifier, "engine_died", "the engine process is restarting: try again")
                return
            async for answer in receive:
                over = not isinstance(answer, Token)
                yield answer
                if over:
                    return
        finally:
            self._pending.pop(identifier, None)
            if not over:
                self._post(Cancel(identifier))

    def _post(self, message: msgspec.Struct) -> bool:
        if self._outbox is None:
            return False
        self._outbox.send_nowait(message)
        return True

    async def _supervise(self) -> None:
        failures = 0
        while self._unusable is None:
            try:
                async with self._start_child(WORKER, FromWorker, environment=_environment(self.config)) as child:
                    reason = await self._run_once(child)
                    # Killed or crashed: the exit status says which, once it has been reaped.
                    with trio.move_on_after(1):
                        await child.wait()
                    ended = child.how_it_ended()
            except OSError as error:
                reason, ended = f"cannot start the engine process: {error}", "not started"
            was_ready, self._info, self._outbox = self._info is not None, None, None
            failures = 0 if was_ready else failures + 1
            for identifier, channel in list(self._pending.items()):
                message = f"the engine process ended ({ended}) while it worked on this request: try again"
                channel.send_nowait(Failed(identifier, "engine_died", message))
            self._pending.clear()
            if self._unusable is not None:
                break
            if failures > len(_RESTART_DELAY_S):
                self._give_up("engine_died", f"the engine process does not start ({ended}): see its error output")
                break
            self._restarts += 1
            log.warning("engine.restart", reason=reason, ended=ended, restarts=self._restarts)
            await trio.sleep(_RESTART_DELAY_S[max(0, failures - 1)])

    async def _run_once(self, child: AnyChild) -> str:
        """Talk to one worker until it ends; returns why."""
        send, receive = trio.open_memory_channel[msgspec.Struct](math.inf)
        reason = "the engine process closed its channel"

        async def write() -> None:
            async for message in receive:
                try:
                    await child.channel.send(message)
                except ChannelClosed:
                    return
                except FrameError as error:
                    if isinstance(message, Generate | Verify):
                        self._deliver(Failed(message.request_id, "bad_request", str(error)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            send.send_nowait(Start(self.config))
            try:
                while True:
                    self._handle(await child.channel.receive(), send)
            except ChannelClosed as error:
                reason = str(error)
            except FrameError as error:
                reason = f"the engine process sent what is not a message: {error}"
            nursery.cancel_scope.cancel()
        return reason

    def _handle(self, message: Any, outbox: trio.MemorySendChannel[msgspec.Struct]) -> None:
        if isinstance(message, Token | Finished | Failed | Verified):
            self._deliver(message)
        elif isinstance(message, Load):
            self._load = message
        elif isinstance(message, Progress):
            self._progress = message
            if self._on_progress is not None:
                self._on_progress(message)
        elif isinstance(message, Ready):
            self._info, self._outbox = message, outbox
            self._notify()
            log.info("engine.ready", model=message.model, linear=message.linear, threads=message.threads)
        elif isinstance(message, Unusable):
            self._give_up(message.code, message.message)

    def _deliver(self, answer: _Answer) -> None:
        channel = self._pending.get(answer.request_id)
        if channel is not None:
            channel.send_nowait(answer)

    def _give_up(self, code: str, message: str) -> None:
        self._unusable = EngineUnusable(code, message)
        log.error("engine.unusable", code=code, message=message)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def _environment(config: EngineConfig) -> dict[str, str]:
    # Idle threads of one pool must sleep, not spin, or they take the cores from the other pool's.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"}
    if not os.access(Path(__file__).parent, os.W_OK):
        # Compiled kernels are kept beside the code; where that is read-only, in the folder we may write.
        environment["NUMBA_CACHE_DIR"] = str(Path(config.cache_folder) / "kernels")
    return environment


@contextlib.asynccontextmanager
async def open_engine(
    config: EngineConfig,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    start_child: OpenChild = open_child,
) -> AsyncIterator[EngineClient]:
    """Run an engine process for as long as the scope is open. Does not wait for it: see `EngineClient.ready`. `start_child`
    says where it runs.

    Raises `ValueError` for settings that make no sense.
    """
    config.check()
    engine = EngineClient(config, on_progress, start_child)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine._supervise)
        try:
            yield engine
        finally:
            nursery.cancel_scope.cancel()
