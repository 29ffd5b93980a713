"""The multilinear hash of rows of logits. Keys are drawn where they are used, so nothing but the logits is read; a program
sums a tile of the vocabulary, and sums mod 2**64 have no order."""

from typing import Final

import torch
import triton.language as tl
from torch import Tensor

from openledger.kernels.ops.triton.launch import INTERPRETED, kernel, launch, power_of_two

_TILE: Final = 2048
_INTERPRETER_TILE: Final = 1 << 16


@kernel
def _hash(
    logits: tl.tensor, words: tl.tensor, sums: tl.tensor, vocabulary: tl.tensor, tiles: tl.tensor, TILE: tl.constexpr
) -> None:
    row = tl.program_id(1).to(tl.int64)
    tile = tl.program_id(0)
    i = tile * TILE + tl.arange(0, TILE)
    there = i < vocabulary
    bits = tl.load(logits + row * vocabulary + i, mask=there, other=0.0).to(tl.uint32, bitcast=True)
    nothing = tl.zeros((TILE,), tl.uint32)
    w0 = tl.load(words + row * 4).to(tl.uint32)
    w1 = tl.load(words + row * 4 + 1).to(tl.uint32)
    w2 = tl.load(words + row * 4 + 2).to(tl.uint32)
    w3 = tl.load(words + row * 4 + 3).to(tl.uint32)
    low, high, _c2, _c3 = tl.philox_impl(i.to(tl.uint32), nothing, nothing + w2, nothing + w3, w0, w1, 10)
    key = low.to(tl.uint64) | (high.to(tl.uint64) << 32)
    products = (key * bits.to(tl.uint64)).to(tl.int64, bitcast=True)
    tl.store(sums + row * tiles + tile, tl.sum(tl.where(there, products, 0), 0))


def hash_rows(logits: Tensor, words: Tensor) -> Tensor:
    """`logits` [R, V] binary32, `words` [R, 4] int64 (the first four 32-bit words of each request hash) -> the hashes [R],
    int64 with the bits of the unsigned number."""
    # The head's residual columns may stand behind each row.
    logits = logits.contiguous()
    rows, vocabulary = logits.shape
    tile = min(_INTERPRETER_TILE if INTERPRETED else _TILE, power_of_two(vocabulary))
    tiles = -(-vocabulary // tile)
    sums = torch.empty((rows, tiles), dtype=torch.int64, device=logits.device)
    launch(_hash, (tiles, rows), logits, words, sums, vocabulary, tiles, TILE=tile)
    return sums.sum(-1)
