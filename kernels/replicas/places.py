"""Where engines and training jobs run: on this machine, or in a Ray cluster."""

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Literal

import trio

from openledger.kernels.child import OpenChild, open_child
from openledger.kernels.replicas.relay import connect, disconnect, open_relayed

Where = Literal["local", "ray"]


@contextlib.asynccontextmanager
async def open_place(
    where: Where, *, address: str = "", cpus: int = 1, gpus: float = 0, children: int = 1
) -> AsyncIterator[OpenChild]:
    """What starts a child process there, for as long as the scope is open.

    In a cluster each child asks for `cpus` and `gpus`. Where `address` is empty a cluster of this machine alone is started,
    with room for `children` of them, and ended with the scope. Raises `RayUnavailable`.
    """
    if where == "local":
        yield open_child
        return
    await trio.to_thread.run_sync(connect, address, cpus * children)
    try:
        yield partial(open_relayed, cpus=cpus, gpus=gpus)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(disconnect)
