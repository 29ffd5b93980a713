"""A child process that talks in frames: started with one end of a socket pair, killed when its scope ends.

The child learns its descriptor from the argument `--fd N`. It must end itself when the channel closes (its
parent died); the parent kills it in any case when the scope of `open_child` is left or cancelled.
"""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec
import trio

from openledger.kernels.framing import MAX_FRAME_BYTES, FrameChannel

In = TypeVar("In")


class MessageChannel(Protocol):
    """As `FrameChannel`."""

    async def send(self, message: msgspec.Struct) -> None: ...
    async def receive(self) -> Any: ...


class AnyChild(Protocol):
    """A child process, of this one or elsewhere."""

    @property
    def channel(self) -> MessageChannel: ...
    async def wait(self) -> None: ...
    def how_it_ended(self) -> str: ...


class OpenChild(Protocol):
    """`open_child`, or what starts children elsewhere."""

    def __call__(
        self, module: str, accepts: Any, *, environment: Mapping[str, str] | None = None, nice: int = 0
    ) -> AbstractAsyncContextManager[AnyChild]: ...


# A terminal sends Ctrl-C to every process in its foreground group. Ending is the parent's to order, and a child that
# is interrupted while it still imports would print a traceback; an ignored signal stays ignored across exec.
_DEAF_TO_INTERRUPT = ("/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh")


@dataclass(frozen=True)
class Child(Generic[In]):
    process: trio.Process
    channel: FrameChannel[In]

    async def wait(self) -> None:
        """Until the process has ended."""
        await self.process.wait()

    def how_it_ended(self) -> str:
        """For error messages: `exit status 1`, `killed by signal 9`, or `still running`."""
        status = self.process.returncode
        if status is None:
            return "still running"
        return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


@contextlib.asynccontextmanager
async def open_child(
    module: str,
    accepts: Any,
    *,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    nice: int = 0,
    limit: int = MAX_FRAME_BYTES,
) -> AsyncIterator[Child[Any]]:
    """Run `python -m module --fd N *arguments` and talk to it. `accepts`: the messages it may send.

    The child's standard output and error are the parent's. `nice` lowers its priority. On leaving the scope,
    for whatever reason, the child is killed and waited for, so no process outlives its owner's task.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    command = [sys.executable, "-m", module, "--fd", str(theirs.fileno()), *arguments]
    if nice:
        command = ["nice", "-n", str(nice), *command]
    environ = {**os.environ, "PYTHONSAFEPATH": "1", **(environment or {})}
    try:
        process = await trio.lowlevel.open_process(
            [*_DEAF_TO_INTERRUPT, *command], pass_fds=(theirs.fileno(),), env=environ, stdin=subprocess.DEVNULL
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    channel: FrameChannel[Any] = FrameChannel(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), accepts, limit)
    try:
        yield Child(process, channel)
    finally:
        with trio.CancelScope(shield=True):
            if process.poll() is None:
                process.kill()
            await process.wait()
            await channel.aclose()
