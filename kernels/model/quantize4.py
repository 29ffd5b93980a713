"""Weights of 4 bits: how they are chosen at import. All sums are of integers, so every machine chooses the same.

Per row: sw = max|W| / 126 (1 for a zero row), u = rint((W / sw) * 256) clamped to +-32256, in binary32. Per group of 32 columns,
the multiplier m and the zero z (`ops/linear4.py`) with the least squared error:

    for m = 1 .. 15, for z = z0 - 2 .. z0 + 1 with z0 = floor((128 m - min(u, 0)) / 256 m), as far as 0 <= z <= 15 and
    m * max(z, 15 - z) <= 127:
        w = floor((u + 128 m) / 256 m) + z clamped to 0 .. 15;   error = sum of (u - 256 m (w - z))**2

The first of equals is taken. A zero of its own costs nothing, uses all 16 values, and is worth a fifth of the error.
"""

from typing import Any, Final

import numpy as np
from numba import prange

from openledger.kernels.ops.host import kernel, parallel_kernel
from openledger.kernels.ops.linear4 import BLOCK, GROUP

_UNIT: Final = 256
_TOP: Final = 126
_WIDEST: Final = 127


@kernel
def _value(u: Any, m: Any, z: Any, inverse: Any) -> Any:
    """floor((u + 128 m) / 256 m) + z clamped to 0 .. 15; `inverse` is 65536 / m rounded up."""
    # 256 divides by a shift; what is left is below 400, where a product with the inverse is the exact quotient.
    above = max(np.int32(np.int32(np.int32(u + np.int32(128) * m) >> np.int32(8)) + np.int32(z * m)), np.int32(0))
    return min(np.int32(np.int32(above * inverse) >> np.int32(16)), np.int32(15))


@kernel
def _choose_group(row: Any) -> tuple[int, int]:
    """The multiplier and the zero for a row of 32."""
    lowest = np.int32(0)
    for k in range(GROUP):
        lowest = min(lowest, row[k])
    best, multiplier, zero = np.int64(-1), 1, 0
    for m in range(1, 16):
        step, inverse = np.int32(_UNIT * m), np.int32((65536 + m - 1) // m)
        around = int((_UNIT // 2 * m - lowest) // step)
        for z in range(max(0, around - 2), min(15, around + 1) + 1):
            if m * max(z, 15 - z) > _WIDEST:
                continue
            error = np.int64(0)
            for k in range(GROUP):
                w = _value(row[k], np.int32(m), np.int32(z), inverse)
                rest = np.int32(row[k] - np.int32(np.int32(w - np.int32(z)) * step))
                error += np.int64(rest) * np.int64(rest)
            if best < 0 or error < best:
                best, multiplier, zero = error, m, z
    return multiplier, zero


@parallel_kernel
def _choose(u: Any, packed: Any, groups: Any) -> None:
    """`u` int32 [N, 64 * blocks] -> `packed` [N, 32 * blocks], zeros before, and `groups` [N, 2 * blocks]."""
    for n in prange(u.shape[0]):
        for group in range(groups.shape[1]):
            row = u[n, group * GROUP : group * GROUP + GROUP]
            m, z = _choose_group(row)
            groups[n, group] = np.uint8(m + 16 * z)
            inverse = np.int32((65536 + m - 1) // m)
            shift = 4 if group % 2 else 0
            for k in range(GROUP):
                w = _value(row[k], np.int32(m), np.int32(z), inverse)
                packed[n, group // 2 * GROUP + k] |= np.uint8(w << shift)


def quantize_rows(values: Any) -> tuple[Any, Any, Any]:
    """Of a finite float32 [N, K]: packed weights uint8 [N, 32 * blocks], groups uint8 [N, 2 * blocks], scales [N]."""
    rows, columns = values.shape
    blocks = -(-columns // BLOCK)
    scales = (np.abs(values).max(axis=1) / np.float32(_TOP)).astype(np.float32)
    # A row of subnormals has a scale of zero; its weights are zero for any activation.
    scales = np.where(scales > 0, scales, np.float32(1.0)).astype(np.float32)
    u = np.zeros((rows, blocks * BLOCK), np.int32)
    exact = np.rint((values / scales[:, None]) * np.float32(_UNIT))
    u[:, :columns] = np.clip(exact, -_UNIT * _TOP, _UNIT * _TOP)
    packed = np.zeros((rows, blocks * GROUP), np.uint8)
    groups = np.empty((rows, blocks * 2), np.uint8)
    _choose(u, packed, groups)
    return packed, groups, scales
