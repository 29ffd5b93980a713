"""BN254 compiled by numba: sums over an SRS about twice as fast as by the library, point for point the same.

numba comes with the package's `serve` extra. Without it everything here stays unused and the library (`curve.py`) does
the same sums. Importing this package imports neither numba nor numpy.
"""

from functools import cache
from importlib.util import find_spec


@cache
def is_available() -> bool:
    """Whether numba is installed."""
    return find_spec("numba") is not None
