"""Integer dot products of many int8 rows with one, compiled: where there are too many rows for anything else.

Imported only when it is needed: compiling takes memory and, the first time on a machine, seconds.
"""

from typing import Any

import numpy as np

from openledger.kernels.ops.host import kernel


@kernel
def dots(rows: Any, query: Any, out: Any) -> None:
    """`rows` [n, D] int8, `query` [D] int8 -> `out` [n] int64; exact while D · 2¹⁴ < 2³¹."""
    for r in range(rows.shape[0]):
        total = np.int32(0)
        for d in range(query.shape[0]):
            total = np.int32(total + np.int32(np.int32(rows[r, d]) * np.int32(query[d])))
        out[r] = total
