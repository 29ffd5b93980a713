"""A child process somewhere in a Ray cluster, spoken to as if it were this process's own.

An actor starts the child on its machine and carries bytes between the child's socket and whoever holds the actor. What the
frames say, who starts a dead engine again and what a killed trainer continues from stay where they are: in the clients of
those processes. Ray's own event loops stay on Ray's side; trio speaks to them through threads.

The machines of the cluster need the same packages, and the same paths to models, adapters and jobs (a shared folder).
"""

import contextlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import trio

from openledger.kernels.framing import MAX_FRAME_BYTES, ChannelClosed, FrameParser, encode_frame

RECEIVE_WAIT_S: Final = 2.0
_READ_BYTES: Final = 1 << 20
_THREADS: Final = trio.CapacityLimiter(256)
"""Each running child holds one thread, which waits for what it says."""


class RayUnavailable(Exception):
    """There is no Ray, or no cluster where it was said to be. The message says what to do."""


class Relay:
    """What runs as the actor."""

    def __init__(self, module: str, environment: Mapping[str, str], nice: int) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", module, "--fd", str(theirs.fileno())]
        if nice:
            command = ["nice", "-n", str(nice), *command]
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(),),
            env={**os.environ, "PYTHONSAFEPATH": "1", **environment},
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._socket = ours

    def pid(self) -> tuple[int, int]:
        """Of the actor, and of the child."""
        return os.getpid(), self._process.pid

    def send(self, data: bytes) -> bool:
        """False when the child is gone."""
        try:
            self._socket.sendall(data)
        except OSError:
            return False
        return True

    def receive(self, wait_s: float) -> bytes | None:
        """What the child said by now, or says within `wait_s`; None when it is gone."""
        import select

        ready, _, _ = select.select([self._socket], [], [], wait_s)
        if not ready:
            return b""
        try:
            return self._socket.recv(_READ_BYTES) or None
        except OSError:
            return None

    def wait(self, timeout_s: float) -> int | None:
        """The child's exit status, negative for a signal; None if it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def connect(address: str, cpus: int | None = None) -> None:
    """Join the Ray cluster at `address` (HOST:PORT), or start one on this machine alone where it is empty. Blocks; raises
    `RayUnavailable`. From the main thread, Ray would take over SIGTERM."""
    # Ray reports its use to its makers unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise RayUnavailable(f"{error}: run `pip install openledger-node[ray]`") from error
    if ray.is_initialized():
        return
    options: dict[str, Any] = {"address": address} if address else {
        "address": "local", "num_cpus": cpus, "include_dashboard": False, "object_store_memory": 80 << 20,
    }  # fmt: skip
    try:
        if address:
            # Ray tries for minutes where nobody listens, and ends the process when it gives up.
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), 10).close()
        ray.init(log_to_driver=True, logging_level=logging.WARNING, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
        raise RayUnavailable(f"{where} cannot be used: {error}") from error


def disconnect() -> None:
    """Leave the cluster; one that `connect` started ends."""
    import ray

    ray.shutdown()


@dataclass
class RelayedChild:
    """A child in the cluster; `channel` is itself. The same to its clients as `openledger.kernels.child.Child`."""

    actor: Any
    parser: FrameParser[Any]
    limit: int
    ended: str = "still running"

    @property
    def channel(self) -> "RelayedChild":
        return self

    async def send(self, message: msgspec.Struct) -> None:
        """Raises `ChannelClosed`, `FrameError`."""
        if not await self._ask("send", encode_frame(message, self.limit)):
            raise ChannelClosed("the process in the cluster is gone")

    async def receive(self) -> Any:
        """The next message. Raises `ChannelClosed`, `FrameError`."""
        while True:
            message = self.parser.take()
            if message is not None:
                await trio.lowlevel.checkpoint()
                return message
            data = await self._ask("receive", RECEIVE_WAIT_S)
            if data is None:
                raise ChannelClosed("the process in the cluster closed the channel")
            self.parser.feed(data)

    async def wait(self) -> None:
        """Until it has ended, as far as can be told."""
        with contextlib.suppress(ChannelClosed):
            status = None
            while status is None:
                status = await self._ask("wait", RECEIVE_WAIT_S)
            self.ended = f"killed by signal {-status}" if status < 0 else f"exit status {status}"

    def how_it_ended(self) -> str:
        """For error messages."""
        return self.ended

    async def _ask(self, method: str, *arguments: Any) -> Any:
        import ray

        def ask() -> Any:
            return ray.get(getattr(self.actor, method).remote(*arguments))

        try:
            return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=_THREADS)
        except ray.exceptions.RayError as error:
            self.ended = "its actor in the Ray cluster died"
            raise ChannelClosed(self.ended) from error


@contextlib.asynccontextmanager
async def open_relayed(
    module: str,
    accepts: Any,
    *,
    environment: Mapping[str, str] | None = None,
    nice: int = 0,
    cpus: float = 1,
    gpus: float = 0,
    limit: int = MAX_FRAME_BYTES,
) -> AsyncIterator[RelayedChild]:
    """As `openledger.kernels.child.open_child`, with the child where Ray finds `cpus` and `gpus` free: until it does, what
    is sent waits. Raises `OSError` if the actor cannot be made."""
    import ray

    def start() -> Any:
        # Sends and receives wait in threads of their own, each kind in its order.
        remote: Any = ray.remote
        kind = remote(concurrency_groups={"out": 1, "in": 1})(_grouped(ray))
        return kind.options(num_cpus=cpus, num_gpus=gpus, max_restarts=0).remote(module, dict(environment or {}), nice)

    try:
        actor = await trio.to_thread.run_sync(start, limiter=_THREADS)
    except ray.exceptions.RayError as error:
        raise OSError(f"Ray starts no actor: {error}") from error
    try:
        yield RelayedChild(actor, FrameParser(accepts, limit), limit)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(lambda: _end(ray, actor), limiter=_THREADS)


def _grouped(ray: Any) -> type[Relay]:
    class GroupedRelay(Relay):
        send = ray.method(concurrency_group="in")(Relay.send)
        receive = ray.method(concurrency_group="out")(Relay.receive)

    return GroupedRelay


def _end(ray: Any, actor: Any) -> None:
    # The child ends by itself when its socket closes, which it does with the actor.
    with contextlib.suppress(ray.exceptions.RayError):
        ray.kill(actor)
