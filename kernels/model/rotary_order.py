"""Rotary pairs of a head: Hugging Face and most GGUF architectures keep them half a head apart, exact-1 side by side."""

from typing import Any

import numpy as np


def interleave(values: Any, head_size: int) -> Any:
    """Rows (elements of a vector) of whole heads, (x0 … | x1 …) to (x0, x1, …): a copy."""
    heads = len(values) // head_size
    halves = values.reshape(heads, 2, head_size // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))
