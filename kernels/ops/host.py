"""How host kernels are compiled: numba, strict IEEE arithmetic (no fast-math, so nothing is fused or reordered).

Each kernel stands beside the torch definition of the same step and gives the same bits; tests compare them.
Compiled code is kept in the package's `__pycache__`, or in the user's cache folder where that is read-only.
"""

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

PARALLEL_ROWS: Final = 64
"""From this many rows on, a step is shared between threads. Below, waiting for a second thread on a busy machine
costs more than it brings."""

ROW_BLOCK: Final = 8
"""Rows a thread takes at a time."""


def kernel(function: F) -> F:
    """Compile for one thread; callable from other kernels."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def parallel_kernel(function: F) -> F:
    """Compile with `numba.prange` loops shared between threads."""
    return cast(F, numba.njit(cache=True, nogil=True, parallel=True, error_model="numpy")(function))


def set_threads(threads: int) -> None:
    """How many threads parallel kernels may use in this process."""
    numba.set_num_threads(max(1, min(threads, int(numba.config.NUMBA_NUM_THREADS))))
