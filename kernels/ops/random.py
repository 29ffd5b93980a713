"""Philox4x32-10 (Salmon et al. 2011): a counter-based generator, so a draw depends on key and position alone."""

from typing import Any, Final

import numpy as np

_M0: Final = np.uint64(0xD2511F53)
_M1: Final = np.uint64(0xCD9E8D57)
_W0: Final = np.uint32(0x9E3779B9)
_W1: Final = np.uint32(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox(counters: Any, key: tuple[int, int]) -> Any:
    """`counters` [n, 4] uint32, `key` two 32-bit words -> [n, 4] uint32, ten rounds."""
    c0, c1, c2, c3 = (counters[:, i].astype(np.uint64) for i in range(4))
    k0, k1 = np.uint32(key[0]), np.uint32(key[1])
    with np.errstate(over="ignore"):
        for _ in range(10):
            p0, p1 = c0 * _M0, c2 * _M1
            c0, c1, c2, c3 = (
                (p1 >> _32) ^ c1 ^ np.uint64(k0),
                p1 & _LOW,
                (p0 >> _32) ^ c3 ^ np.uint64(k1),
                p0 & _LOW,
            )
            k0, k1 = k0 + _W0, k1 + _W1
    return np.stack((c0, c1, c2, c3), 1).astype(np.uint32)


def words(data: bytes) -> tuple[int, ...]:
    """Little-endian 32-bit words."""
    return tuple(int(word) for word in np.frombuffer(data, "<u4"))
