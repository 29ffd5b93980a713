"""Clocks, and what a figure was measured on."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class Clock:
    """Wall and CPU seconds of one piece of work; what was sent to a GPU is waited for."""

    def __enter__(self) -> "Clock":
        _wait()
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        _wait()
        self.wall = time.perf_counter() - self._start[0]
        self.cpu = time.process_time() - self._start[1]


def seconds(work: Callable[[], Any], rounds: int) -> float:
    """The median time of a kernel, after two runs that do not count. On a GPU the cache is overwritten before each."""
    for _ in range(2):
        work()
    if not torch.cuda.is_available():
        found = []
        for _ in range(rounds):
            with Clock() as clock:
                work()
            found.append(clock.wall)
        return statistics.median(found)
    flush = torch.empty(256 << 20, dtype=torch.int8, device="cuda")
    pairs = []
    for _ in range(rounds):
        flush.zero_()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in pairs) / 1e3


def machine() -> dict[str, Any]:
    """The device and the versions of what computes."""
    import triton

    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor(),
        "processors": len(os.sched_getaffinity(0)),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "triton": triton.__version__,
        },
    }


def processor() -> str:
    file = Path("/proc/cpuinfo")
    for line in file.read_text().splitlines() if file.exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
