"""What the ranks do together, over torch.distributed: gloo between processes of a CPU, nccl between GPUs.

Only integers are added and only maxima are taken, so the order in which ranks come changes nothing.
"""

import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

PATIENCE: Final = timedelta(minutes=30)
"""How long a rank waits for the others: the first step of a large model compiles. One that has died is noticed at once."""


class Group:
    """All ranks of one model. Every rank makes the same calls in the same order."""

    def __init__(self, rank: int, ranks: int, store: Path, device: str) -> None:
        """Blocks until all ranks are there. `store`: a file that does not exist yet, the same for all, which only this
        user may read."""
        self.rank = rank
        self.ranks = ranks
        if sys.platform.startswith("linux"):
            # Else gloo asks for the machine's name, which need not resolve.
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        if device == "cuda":
            torch.cuda.set_device(rank)
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            init_method=store.absolute().as_uri(),
            rank=rank,
            world_size=ranks,
            timeout=PATIENCE,
        )

    def add(self, values: Tensor) -> None:
        """int64, in place: the sum over the ranks."""
        dist.all_reduce(values, dist.ReduceOp.SUM)

    def largest(self, values: Tensor) -> None:
        """In place: the maximum over the ranks of numbers that are no NaN."""
        dist.all_reduce(values, dist.ReduceOp.MAX)

    def join_columns(self, part: Tensor, widths: Sequence[int]) -> Tensor:
        """`part` [T, widths[rank]] -> [T, sum of widths], the ranks' parts side by side."""
        widest = max(widths)
        padded = functional.pad(part, (0, widest - part.shape[1])).contiguous()
        parts = [torch.empty_like(padded) for _ in widths]
        dist.all_gather(parts, padded)
        return torch.cat([piece[:, :width] for piece, width in zip(parts, widths)], dim=1)

    def close(self) -> None:
        dist.destroy_process_group()
