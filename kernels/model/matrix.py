"""A matrix of weights and how it is rounded at import: int8 rows, packed 4 bits, or bf16."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from openledger.kernels.model.quantize4 import quantize_rows
from openledger.kernels.ops.linear4 import Int4, unpack_host

MAX_W: Final = 127
Bits = Literal[16, 8, 4]
"""16: bf16, for the mode of that name."""

RESIDUAL_PARTS: Final = ("attn_v", "token_embd", "output")
"""Matrices of the GGUF whose residual is kept too."""


@dataclass(frozen=True)
class Matrix:
    """`w` int8 [N + R, K], `scales` binary32 [N + R]: the last R rows are the residual of the R rows from
    `first`, R = `count`. With `groups` (uint8), `w` is packed as in `ops/linear4.py` and K is `columns`."""

    w: Any
    scales: Any
    first: int = 0
    count: int = 0
    groups: Any = None
    columns: int = 0

    @property
    def outputs(self) -> int:
        """N."""
        return int(self.w.shape[0]) - self.count


def quantize_matrix(values: Any) -> Matrix:
    """Per-row int8 of a finite float32 [N, K] array."""
    top = np.abs(values).max(axis=1)
    scales = np.where(top > 0, top / np.float32(MAX_W), np.float32(1.0)).astype(np.float32)
    # A row of subnormals has a scale of zero; its weights are zero for any activation.
    scales = np.where(scales > 0, scales, np.float32(1.0)).astype(np.float32)
    w = np.clip(np.rint(values / scales[:, None]), -MAX_W, MAX_W).astype(np.int8)
    return Matrix(np.ascontiguousarray(w), scales)


def round_to_bf16(values: Any) -> Any:
    """binary32 as the 16 bits of the nearest bf16, half to even; int16."""
    wide = np.ascontiguousarray(values, "<f4").view(np.uint32)
    return (
        ((wide + (np.uint32(0x7FFF) + ((wide >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16))
        .astype(np.uint16)
        .view(np.int16)
    )


def quantize_matrix4(values: Any) -> Matrix:
    """The same in 4 bits."""
    packed, groups, scales = quantize_rows(values)
    return Matrix(packed, scales, groups=groups, columns=values.shape[1])


def quantize_parts(parts: Mapping[str, Any], bits: Bits = 8) -> Matrix:
    """Matrices that share an input, stacked; at most one of them keeps its residual."""
    if bits == 16:
        whole = round_to_bf16(np.concatenate(list(parts.values())))
        return Matrix(whole, np.ones(len(whole), np.float32))
    quantize = quantize_matrix if bits == 8 else quantize_matrix4
    matrices = [quantize(values) for values in parts.values()]
    first = count = offset = 0
    for (part, values), matrix in zip(parts.items(), list(matrices)):
        if part.removesuffix(".weight").rpartition(".")[2] in RESIDUAL_PARTS:
            first, count = offset, len(values)
            matrices.append(quantize(values - _whole(matrix) * matrix.scales[:, None]))
        offset += len(values)
    groups = None if bits == 8 else np.concatenate([matrix.groups for matrix in matrices])
    return Matrix(
        np.concatenate([matrix.w for matrix in matrices]),
        np.concatenate([matrix.scales for matrix in matrices]),
        first,
        count,
        groups,
        matrices[0].columns,
    )


def _whole(matrix: Matrix) -> Any:
    """The integers of a matrix as binary32."""
    if matrix.groups is None:
        return matrix.w.astype(np.float32)
    whole = np.empty((len(matrix.w), matrix.columns), np.int8)
    unpack_host(Int4(matrix.w, matrix.groups, matrix.columns), whole)
    return whole.astype(np.float32)
