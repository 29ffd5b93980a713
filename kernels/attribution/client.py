"""The node's side of attribution: trio calls into the attribution process. Imports neither torch nor numba."""

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import structlog
import trio

from openledger.evm_ext.proofs.policy import DEFAULT_POLICY, AttributionPolicy
from openledger.kernels.attribution import messages as m
from openledger.kernels.attribution.errors import (
    AttributionError,
    AttributionUnavailable,
    BadRequest,
    error_of,
)
from openledger.kernels.child import Child, open_child
from openledger.kernels.framing import ChannelClosed, FrameError

log = structlog.get_logger(__name__)

WORKER: Final = "openledger.kernels.attribution.worker"
_RESTART_DELAYS_S: Final = (0.1, 0.5, 2.0, 5.0)

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class AttributionConfig:
    """`threads`: for the numeric library of each attribution process. `build_nice`: priority of index builds.
    `model_file`, `cache_folder`: the model whose tokens are indexed, as in `EngineConfig`; "" is the default one."""

    threads: int = 1
    build_nice: int = 10
    model_file: str = ""
    cache_folder: str = ""

    @property
    def environment(self) -> dict[str, str]:
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        return {name: str(self.threads) for name in names} | {"TOKENIZERS_PARALLELISM": "false"}


@dataclass
class _Pending:
    done: trio.Event = field(default_factory=trio.Event)
    answer: m.Reply | None = None
    error: AttributionError | None = None


class AttributionClient:
    """Requests to one attribution process, any number at a time; it answers them in order.

    Every call may be cancelled. Every call raises an `AttributionError`: `AttributionUnavailable` if the process
    ended meanwhile (it is restarted, so asking again is right), else the named error of what was wrong.
    """

    def __init__(self, config: AttributionConfig) -> None:
        self._config = config
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._outbox: trio.MemorySendChannel[m.Request] | None = None
        self._ready = trio.Event()

    async def embed(self, texts: Sequence[str]) -> list[bytes]:
        """The int8 vector (384 bytes) of every text."""
        return (await self.embed_counted(texts)).vectors

    async def embed_counted(self, texts: Sequence[str]) -> m.Embedded:
        """The same, with the number of tokens of every text."""
        return await self._ask(m.Embed(self._next_id(), list(texts)), m.Embedded)

    async def retrieve(
        self,
        folders: Sequence[str],
        query: str,
        k: int = 4,
        minimum_score: int = DEFAULT_POLICY.retrieval_minimum_score,
    ) -> m.Retrieval:
        """The k chunks of these indexes that are nearest to the query. Ties: by folder, then by chunk."""
        request = m.Retrieve(self._next_id(), list(folders), query, k, minimum_score)
        return (await self._ask(request, m.Retrieved)).retrieval

    async def attribute(
        self,
        folders: Sequence[str],
        output_tokens: Sequence[int],
        retrieval: m.Retrieval | None = None,
        policy: AttributionPolicy = DEFAULT_POLICY,
    ) -> m.Attributed:
        """Attribute an answer to the contributions of these indexes."""
        request = m.Attribute(self._next_id(), list(folders), list(output_tokens), retrieval, policy)
        return await self._ask(request, m.Attributed)

    async def prove_spans(self, folder: str, output_tokens: Sequence[int], start: int, end: int) -> bytes:
        """A `SPANS` input: the leaves that show where output_tokens[start:end] stands in this index."""
        request = m.ProveSpans(self._next_id(), folder, list(output_tokens), start, end)
        return (await self._ask(request, m.Proved)).proof

    async def prove_scores(self, folder: str, query_vector: bytes, chunks: Sequence[int]) -> bytes:
        """A `SCORES` input: the vectors of these chunks under the index's retrieval root."""
        request = m.ProveScores(self._next_id(), folder, query_vector, list(chunks))
        return (await self._ask(request, m.Proved)).proof

    async def build_index(
        self,
        datanet: int,
        version: int,
        documents: Sequence[m.IndexDocument],
        folder: str,
        on_progress: Callable[[m.BuildProgress], None] | None = None,
    ) -> m.IndexSummary:
        """Build an index in a process of its own, so that answers do not wait for it.

        Cancelling kills that process and leaves nothing but a temporary folder, which the next build removes.
        If `folder` already holds the index of exactly these documents, it is kept.
        """
        request = m.BuildIndex(self._next_id(), datanet, version, list(documents), folder)
        async with self._child(nice=self._config.build_nice) as child:
            try:
                await child.channel.send(request)
                while True:
                    reply = await child.channel.receive()
                    if isinstance(reply, m.BuildProgress):
                        if on_progress is not None:
                            on_progress(reply)
                    elif isinstance(reply, m.Failed):
                        raise error_of(reply.code, reply.message)
                    elif isinstance(reply, m.IndexSummary):
                        return reply
            except FrameError as error:
                raise BadRequest(str(error)) from error
            except ChannelClosed as error:
                raise await _gone(child) from error

    def _next_id(self) -> int:
        return next(self._ids)

    def _child(self, nice: int = 0) -> contextlib.AbstractAsyncContextManager[Child[m.Reply]]:
        config = self._config
        model = ("--model-file", config.model_file, "--cache-folder", config.cache_folder)
        return open_child(WORKER, m.Reply, arguments=model, environment=config.environment, nice=nice)

    async def _ask(self, request: m.Request, kind: type[Answer]) -> Answer:
        await self._ready.wait()
        assert self._outbox is not None
        pending = self._pending[request.request_id] = _Pending()
        try:
            try:
                await self._outbox.send(request)
            except trio.BrokenResourceError as error:
                raise AttributionUnavailable("the attribution process just ended: ask again") from error
            await pending.done.wait()
        finally:
            del self._pending[request.request_id]
        if pending.error is not None:
            raise pending.error
        if not isinstance(pending.answer, kind):
            raise AttributionError(f"the attribution process answered with {type(pending.answer).__name__}")
        return pending.answer

    async def _serve(self) -> None:
        """Keep a process running; fail what was in flight when one ends."""
        failures = 0
        while True:
            outbox, inbox = trio.open_memory_channel[m.Request](0)
            self._outbox = outbox
            async with self._child() as child:
                self._ready.set()
                started = trio.current_time()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, child, inbox)
                    await self._read(child)
                    nursery.cancel_scope.cancel()
                error = await _gone(child)
            self._ready = trio.Event()
            inbox.close()
            failures = 0 if trio.current_time() - started > 30 else failures + 1
            log.error("attribution process ended", how=str(error), in_flight=len(self._pending))
            for pending in self._pending.values():
                if not pending.done.is_set():
                    pending.error = error
                    pending.done.set()
            await trio.sleep(_RESTART_DELAYS_S[min(failures, len(_RESTART_DELAYS_S) - 1)])

    async def _write(self, child: Child[m.Reply], inbox: trio.MemoryReceiveChannel[m.Request]) -> None:
        async for request in inbox:
            try:
                await child.channel.send(request)
            except FrameError as error:
                self._finish(m.Failed(request.request_id, BadRequest.code, str(error)))
            except ChannelClosed:
                return

    async def _read(self, child: Child[m.Reply]) -> None:
        while True:
            try:
                reply = await child.channel.receive()
            except ChannelClosed:
                return
            except FrameError as error:
                log.error("attribution process sent nonsense", error=str(error))
                return
            self._finish(reply)

    def _finish(self, reply: m.Reply) -> None:
        pending = self._pending.get(reply.request_id)
        if pending is None or isinstance(reply, m.BuildProgress):
            return  # the caller was cancelled
        if isinstance(reply, m.Failed):
            pending.error = error_of(reply.code, reply.message)
        else:
            pending.answer = reply
        pending.done.set()


@contextlib.asynccontextmanager
async def open_attribution(config: AttributionConfig | None = None) -> AsyncIterator[AttributionClient]:
    """Run an attribution process for as long as the scope lasts; it is restarted when it dies."""
    client = AttributionClient(config or AttributionConfig())
    raised: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client._serve)
        try:
            yield client
        except Exception as error:
            raised = error  # the caller's own error, not to be wrapped in a group
        nursery.cancel_scope.cancel()
    if raised is not None:
        raise raised


async def _gone(child: Child[Any]) -> AttributionUnavailable:
    """The error of a process whose channel closed."""
    with trio.move_on_after(1):
        await child.process.wait()
    return AttributionUnavailable(
        f"the attribution process ended during the request ({child.how_it_ended()}): ask again"
    )
