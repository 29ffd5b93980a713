"""Which replica answers a request, and what happens to it when that replica dies.

A request with adapters goes to the replica that its adapters hash to (rendezvous hashing, so losing one moves only what was
on it), where they are in memory already, unless that one has more than `SLACK` requests more than the least busy; any other
request goes to the least busy. A request whose replica dies before anything of the answer was given out is asked again of
another, at most `ATTEMPTS` times in all: one that kills every engine it meets must not be passed on for ever. An answer that
had begun ends with the error.
"""

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

import structlog
import trio

from openledger.kernels.engine.client import EngineClient, EngineError, EngineUnusable, Event, open_engine
from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.messages import Adapter, Failed, Generate, Load, Progress, Ready, Token, Verified, Verify

SLACK: Final = 4
ATTEMPTS: Final = 3

log = structlog.get_logger(__name__)

OpenEngine = Callable[[EngineConfig], AbstractAsyncContextManager[EngineClient]]


class ReplicatedEngine(EngineClient):
    """Several engines in the place of one."""

    def __init__(self, config: EngineConfig, replicas: Sequence[EngineClient]) -> None:
        super().__init__(config)
        self.replicas = tuple(replicas)
        self._busy = [0] * len(self.replicas)
        self._routes: dict[str, int] = {}
        self._stopped: set[str] = set()
        self._refused: set[int] = set()

    @property
    def info(self) -> Ready | None:
        return next((replica.info for _, replica in self._serving()), None)

    @property
    def load(self) -> Load | None:
        """All replicas' together."""
        loads = [replica.load for replica in self.replicas if replica.load is not None]
        if not loads:
            return None
        return Load(**{name: sum(getattr(load, name) for load in loads) for name in Load.__struct_fields__})

    @property
    def progress(self) -> Progress | None:
        return next((replica.progress for replica in self.replicas if replica.info is None), None)

    @property
    def restarts(self) -> int:
        return sum(replica.restarts for replica in self.replicas)

    async def ready(self) -> Ready:
        """As of one engine: when the first replica is. Raises `EngineUnusable` when none can start."""
        return await self._any_ready()

    async def generate(self, request: Generate) -> AsyncGenerator[Event, None]:
        identifier = request.request_id
        if identifier in self._routes:
            yield Failed(identifier, "bad_request", f"a request with id {identifier!r} is already running")
            return
        dead: set[int] = set()
        try:
            while True:
                try:
                    index = await self._choose(request.adapters, dead)
                except EngineUnusable as error:
                    yield Failed(identifier, "engine_unavailable", str(error))
                    return
                self._routes[identifier] = index
                if identifier in self._stopped:
                    yield Failed(identifier, "cancelled", "the request was cancelled")
                    return
                begun = again = False
                with self._busier(index):
                    async with contextlib.aclosing(self.replicas[index].generate(request)) as events:
                        async for event in events:
                            if isinstance(event, Failed) and not begun:
                                again = self._elsewhere(event.code, event.message, identifier, index, dead)
                                if again:
                                    break
                            begun = begun or isinstance(event, Token)
                            yield event
                if not again:
                    return
        finally:
            self._routes.pop(identifier, None)
            self._stopped.discard(identifier)

    def stop(self, request_id: str) -> None:
        index = self._routes.get(request_id)
        if index is not None:
            self._stopped.add(request_id)
            self.replicas[index].stop(request_id)

    async def verify(self, request: Verify) -> Verified:
        dead: set[int] = set()
        while True:
            index = await self._choose(request.adapters, dead)
            try:
                with self._busier(index):
                    return await self.replicas[index].verify(request)
            except EngineError as error:
                if not self._elsewhere(error.code, str(error), request.request_id, index, dead):
                    raise

    def _elsewhere(self, code: str, message: str, request: str, index: int, dead: set[int]) -> bool:
        """Whether this end is the replica's, not the request's, and another one is to be asked."""
        if code not in ("engine_died", "engine_unavailable"):
            return False
        dead.add(index)
        if len(dead) >= min(ATTEMPTS, len(self.replicas)):
            return False
        log.warning("engine.request_moved", request=request, replica=index, reason=message)
        return True

    @contextlib.contextmanager
    def _busier(self, index: int) -> Iterator[None]:
        self._busy[index] += 1
        try:
            yield
        finally:
            self._busy[index] -= 1

    async def _choose(self, adapters: Sequence[Adapter], dead: set[int]) -> int:
        """Raises `EngineUnusable` when no replica can start."""
        while True:
            serving = [index for index, _ in self._serving()]
            candidates = [index for index in serving if index not in dead] or serving
            if candidates:
                return choose(adapters, {index: self._busy[index] for index in candidates})
            await self._any_ready()

    def _serving(self) -> list[tuple[int, EngineClient]]:
        """The replicas that take requests, and serve what the first of them serves."""
        ready = [(index, replica) for index, replica in enumerate(self.replicas) if replica.info is not None]
        first = ready[0][1].info if ready else None
        serving = []
        for index, replica in ready:
            if first is not None and replica.info is not None and _same_model(first, replica.info):
                serving.append((index, replica))
            elif index not in self._refused:
                self._refused.add(index)
                log.error("engine.replica_differs", replica=index, why="it has another model, tokenizer or numerics")
        return serving

    async def _any_ready(self) -> Ready:
        send, receive = trio.open_memory_channel[Ready | EngineUnusable](len(self.replicas))

        async def wait(replica: EngineClient) -> None:
            try:
                send.send_nowait(await replica.ready())
            except EngineUnusable as error:
                send.send_nowait(error)

        problem = EngineUnusable("engine_unavailable", "there is no replica")
        async with trio.open_nursery() as nursery:
            for replica in self.replicas:
                nursery.start_soon(wait, replica)
            for _ in self.replicas:
                found = await receive.receive()
                if isinstance(found, Ready):
                    nursery.cancel_scope.cancel()
                    return found
                problem = found
        raise problem


def choose(adapters: Sequence[Adapter], busy: dict[int, int]) -> int:
    """One of the replicas in `busy`, which says how many requests each has."""
    least = min(busy, key=lambda index: (busy[index], index))
    if not adapters:
        return least
    key = b"".join(adapter.digest or adapter.path.encode() for adapter in adapters)
    preferred = max(busy, key=lambda index: hashlib.blake2b(key + index.to_bytes(4, "big"), digest_size=16).digest())
    return preferred if busy[preferred] <= busy[least] + SLACK else least


def _same_model(one: Ready, other: Ready) -> bool:
    names = ("weights_root", "tokenizer_hash", "template_hash", "tables_root", "numerics", "max_context")
    return all(getattr(one, name) == getattr(other, name) for name in names)


@contextlib.asynccontextmanager
async def open_replicas(
    config: EngineConfig, count: int, open_one: OpenEngine = open_engine
) -> AsyncIterator[EngineClient]:
    """`count` engines for as long as the scope is open, each of this configuration; one alone is that engine itself."""
    async with contextlib.AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(open_one(config)) for _ in range(count)]
        yield replicas[0] if count == 1 else ReplicatedEngine(config, replicas)
