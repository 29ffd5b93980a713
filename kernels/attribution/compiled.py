"""Loops over large indexes, compiled: the definitions stand beside them in `retrieval.py` and `spans.py`.

Imported only where an index is large: compiling takes memory and, the first time on a machine, seconds.
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


@kernel
def longest_matches(text: Any, array: Any, first: Any, output: Any, depth: Any, lengths: Any) -> None:
    """`SegmentIndex.longest_match` from every token of an output on: lengths alone.

    `text` [n] u32, `array` [n] u32, `first` [vocabulary + 1] int64, `output` [t] int64 -> `lengths` [t] int64.
    """
    for start in range(output.shape[0]):
        token = output[start]
        lengths[start] = 0
        if token < 0 or token >= first.shape[0] - 1:
            continue
        low, high = first[token], first[token + 1]
        limit = min(depth, output.shape[0] - start)
        before = after = 0
        while low < high:
            middle = (low + high) >> 1
            position = np.int64(array[middle])
            common = max(1, min(before, after))
            while common < limit and np.int64(text[position + common]) == output[start + common]:
                common += 1
            if common < limit and np.int64(text[position + common]) < output[start + common]:
                low, before = middle + 1, common
            else:
                high, after = middle, common
        lengths[start] = max(before, after)
