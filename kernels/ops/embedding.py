"""Rows of the token table: x = f32(W[token]) * sw[token] + f32(R[token]) * sr[token], R the residual rows behind W's."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from openledger.kernels.ops.host import kernel


def embed(tokens: Tensor, weight: Tensor, scales: Tensor, residual: int, x: Tensor) -> None:
    """`tokens` [T] int64, `weight` [N, D] int8, `scales` [N] -> `x` [T, D]. `residual`: the first residual row; 0 for none.

    Each product and the sum is a torch operation of its own, so nothing fuses them, on a GPU neither.
    """
    torch.mul(weight[tokens].float(), scales[tokens][:, None], out=x)
    if residual:
        rest = tokens + residual
        x.add_(weight[rest].float() * scales[rest][:, None])


@kernel
def embed_host(tokens: Any, weight: Any, scales: Any, residual: int, x: Any) -> None:
    """As `embed`, over numpy arrays."""
    for row in range(tokens.shape[0]):
        token = tokens[row]
        main = scales[token]
        other = scales[token + residual]
        for k in range(x.shape[1]):
            value = np.float32(np.float32(weight[token, k]) * main)
            if residual:
                value = np.float32(value + np.float32(np.float32(weight[token + residual, k]) * other))
            x[row, k] = value
