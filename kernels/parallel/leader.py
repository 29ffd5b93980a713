"""Rank 0: starts the other ranks, tells them of every step and adapter, and ends with them.

A rank that ends takes the whole process along, at once and with a line that says which and how: what the ranks do together
cannot go on without it, and whoever started this process starts it again.
"""

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import structlog
import torch
from torch import Tensor

from openledger.kernels.engine.adapters import ModuleWeights
from openledger.kernels.framing import BlockingFrameChannel, ChannelClosed
from openledger.kernels.model.config import ModelConfig
from openledger.kernels.model.steps import Steps
from openledger.kernels.model.transformer import Batch, KvCache, Lora, Transformer
from openledger.kernels.model.weights import Weights
from openledger.kernels.parallel.group import Group
from openledger.kernels.parallel.messages import Drop, Join, Module, Placed, Rows, ToRank
from openledger.kernels.parallel.slicing import share_of_adapter

log = structlog.get_logger(__name__)

RANK: Final = "openledger.kernels.parallel.rank"
RANK_ENDED: Final = 70
"""The exit status of a process whose other rank has ended."""
_DYING_S: Final = 5.0


class Ranks:
    """The other ranks of a model, as processes of this one. `close` ends them."""

    def __init__(self, ranks: int, join: Callable[[int, str], Join], device: str) -> None:
        """Starts them and waits until all have their weights. `join`: the first message to a rank, given the file where
        they meet."""
        self.ranks = ranks
        self._closing = threading.Event()
        self._numbers = itertools.count(1)
        self._adapters: dict[int, int] = {}
        self._caches: dict[int, int] = {}
        self._dropped: deque[int] = deque()
        self._folder = Path(tempfile.mkdtemp(prefix="openledger-ranks-"))
        self._channels: list[BlockingFrameChannel[Any]] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        store = self._folder / "store"
        try:
            for rank in range(1, ranks):
                self._start(rank, join(rank, str(store)))
            self.group = Group(0, ranks, store, device)
        except BaseException:
            self._kill()
            raise

    def _start(self, rank: int, join: Join) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", RANK, "--fd", str(theirs.fileno())]
        process = subprocess.Popen(
            command, pass_fds=(theirs.fileno(),), env={**os.environ, "PYTHONSAFEPATH": "1"}, stdin=subprocess.DEVNULL
        )
        theirs.close()
        self._processes.append(process)
        self._channels.append(BlockingFrameChannel.from_fd(ours.detach(), ToRank))
        threading.Thread(target=self._watch, args=(rank, process), name=f"rank-{rank}", daemon=True).start()
        self._tell(join, rank)

    def _watch(self, rank: int, process: "subprocess.Popen[bytes]") -> None:
        status = process.wait()
        if not self._closing.is_set():
            self._end(rank, _how(status))

    def _end(self, rank: int, how: str) -> NoReturn:
        log.error("engine.rank_ended", rank=rank, ranks=self.ranks, ended=how)
        print(f"tensor parallel rank {rank} of {self.ranks} ended ({how}): this process ends too", file=sys.stderr)
        sys.stderr.flush()
        self._kill()
        os._exit(RANK_ENDED)

    def end_with_the_dead(self) -> None:
        """End this process as a rank has ended; return if all are alive."""
        for rank, process in enumerate(self._processes, 1):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._end(rank, _how(process.wait(_DYING_S)))

    def _tell(self, message: Any, rank: int) -> None:
        try:
            self._channels[rank - 1].send(message)
        except ChannelClosed:
            self._end(rank, "its channel is closed")

    def announce(self, batch: Batch, cache: KvCache) -> None:
        """Have the other ranks run this step too."""
        if id(cache) not in self._caches:
            self._caches[id(cache)] = next(self._numbers)
            weakref.finalize(cache, self._caches.pop, id(cache), None)
        while self._dropped:
            number = self._dropped.popleft()
            for rank in range(1, self.ranks):
                self._tell(Drop(number), rank)
        adapters = [[self._adapters[id(lora)] for lora in segment.adapters] for segment in batch.segments]
        rows = Rows.of(batch, self._caches[id(cache)], cache.pages, cache.page_tokens, adapters)
        for rank in range(1, self.ranks):
            self._tell(rows, rank)

    def place(
        self,
        modules: Mapping[tuple[int, str], ModuleWeights],
        config: ModelConfig,
        stack: Callable[[Mapping[tuple[int, str], ModuleWeights]], Lora],
    ) -> Lora:
        """Give every rank its share of an adapter of the whole model; rank 0's, as `stack` makes it. From any thread."""
        number = next(self._numbers)
        for rank in range(1, self.ranks):
            for (layer, name), weights in share_of_adapter(modules, config, rank, self.ranks).items():
                self._tell(Module.of(number, layer, name, weights), rank)
            self._tell(Placed(number), rank)
        lora = stack(share_of_adapter(modules, config, 0, self.ranks))
        self._adapters[id(lora)] = number
        weakref.finalize(lora, self._forget, id(lora), number)
        return lora

    def _forget(self, identity: int, number: int) -> None:
        # Whoever drops the last reference may be in the middle of sending, so it is only noted here.
        self._adapters.pop(identity, None)
        self._dropped.append(number)

    def close(self) -> None:
        """End the other ranks. May be called twice."""
        if not self._closing.is_set():
            self._kill()
            self.group.close()

    def _kill(self) -> None:
        self._closing.set()
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for channel in self._channels:
            channel.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _how(status: int) -> str:
    return f"killed by signal {-status}" if status < 0 else f"exit status {status}"


class LeadingTransformer(Transformer):
    """Rank 0's share of a model; what it runs, the other ranks run."""

    def __init__(self, config: ModelConfig, weights: Weights, steps: Steps, ranks: Ranks) -> None:
        super().__init__(config, weights, steps)
        self.ranks = ranks

    @torch.inference_mode()
    def forward(self, batch: Batch, cache: KvCache) -> tuple[Tensor, Tensor]:
        self.ranks.announce(batch, cache)
        try:
            return super().forward(batch, cache)
        except RuntimeError:
            # A rank that dies in the middle of a step shows here first, as a broken connection.
            self.ranks.end_with_the_dead()
            raise
