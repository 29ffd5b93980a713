"""Drawing the next token with integers only.

    temperature 0: the token with the largest logit, the smallest id among equals. Otherwise, m = max logit:
    d = rint(min((m - logit) * 4096, 2**30));   e = (2000 * d + t) // (2 * t)   t = temperature_milli
    p = EXP[e], 0 beyond the table. Tokens with p > 0 are ordered by d, then by id, and cut in this order:
      top-k     the first k                                                (k = 0: all)
      top-p     the shortest beginning whose sum * 10**6 >= top_p_ppm * total    (at least one)
      min-p     those with p * 10**6 >= min_p_ppm * p of the first
    u = 64 bits of Philox4x32-10 keyed by words 0, 1 of the seed, counter (position, 0, word 2, word 3), first
    output word low, second high;   r = (u * total) >> 64;   the first token whose running sum exceeds r.

`position` is that of the drawn token in the sequence (the prompt's length for the first). p < 2**31 and a
vocabulary below 2**20 keep the products with 10**6 within 128 bits; Python integers carry them.
"""

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from openledger.kernels.ops.host import kernel
from openledger.kernels.ops.random import philox, words

STEPS: Final = 4096
_FAR: Final = 2.0**30


def exponents(logits: Any) -> Any:
    """`logits` [V] finite binary32 -> d, int64 [V]."""
    f = (logits.max() - logits) * np.float32(STEPS)
    return np.rint(np.minimum(f, np.float32(_FAR))).astype(np.int64)


def candidates(logits: Any, temperature_milli: int, entries: int) -> tuple[Any, Any, Any]:
    """The tokens whose table index e is below `entries`, by id: (ids, d, e), int64 each."""
    d = exponents(logits)
    e = (2000 * d + temperature_milli) // (2 * temperature_milli)
    ids = np.nonzero(e < entries)[0]
    return ids, d[ids], e[ids]


@kernel
def _candidates(logits: Any, t: int, entries: int, ids: Any, ds: Any, es: Any) -> Any:
    m = logits[0]
    for i in range(1, logits.shape[0]):
        m = max(m, logits[i])
    count = 0
    for i in range(logits.shape[0]):
        f = np.float32(np.float32(m - logits[i]) * np.float32(STEPS))
        if not f < np.float32(_FAR):
            f = np.float32(_FAR)
        d = np.int64(np.rint(f))
        e = (2000 * d + t) // (2 * t)
        if e < entries:
            ids[count] = i
            ds[count] = d
            es[count] = e
            count += 1
    return count


def candidates_host(logits: Any, temperature_milli: int, entries: int) -> tuple[Any, Any, Any]:
    """As `candidates`, in one pass."""
    buffers = np.empty((3, logits.shape[0]), np.int64)
    count = _candidates(logits, temperature_milli, entries, *buffers)
    return buffers[0, :count], buffers[1, :count], buffers[2, :count]


def draw(
    found: tuple[Any, Any, Any],
    exp: Any,
    *,
    top_k: int,
    top_p_ppm: int,
    min_p_ppm: int,
    seed: bytes,
    position: int,
) -> int:
    """The token drawn from what `candidates` found; `exp` the table as int64.

    All tokens with one e have one p, so cuts and sums are counted by e, and only the e that the draw falls into is
    put in order.
    """
    ids, d, e = found
    counts = np.bincount(e)
    weights = exp[: len(counts)]
    # Entries that are 0 end the table; tokens there do not count.
    counts[weights == 0] = 0
    numbers, sums = np.cumsum(counts), np.cumsum(counts * weights)

    def sum_of(keep: int) -> int:
        """Of the first `keep` tokens."""
        at = int(np.searchsorted(numbers, keep, "left"))
        return int(sums[at]) - (int(numbers[at]) - keep) * int(weights[at])

    keep = int(numbers[-1])
    if top_k:
        keep = min(keep, top_k)
    if top_p_ppm < 1_000_000:
        needed = -(-top_p_ppm * sum_of(keep) // 1_000_000)
        at = int(np.searchsorted(sums, needed, "left"))
        keep = int(numbers[at]) - (int(sums[at]) - needed) // int(weights[at])
    if min_p_ppm:
        first = int(weights[int(np.searchsorted(numbers, 1, "left"))])
        needed = -(-min_p_ppm * first // 1_000_000)
        keep = min(keep, int(numbers[int(np.searchsorted(-weights, -needed, "right")) - 1]))
    w = words(seed)
    out = philox(np.array([[position, 0, w[2], w[3]]], np.uint32), (w[0], w[1]))[0]
    u = int(out[0]) | int(out[1]) << 32
    r = (u * sum_of(keep)) >> 64
    at = int(np.searchsorted(sums, r, "right"))
    index = (r - (int(sums[at]) - int(counts[at]) * int(weights[at]))) // int(weights[at])
    members = np.nonzero(e == at)[0]
    order = np.argsort(d[members], kind="stable")
    return int(ids[members[order[index]]])


def greedy(logits: Any) -> int:
    """The token with the largest logit, the smallest id among equals."""
    return int(logits.argmax())


def sample(logits: Tensor, settings: Tensor, words: Tensor, exp: Tensor) -> Tensor:
    """The token of each row. `logits` [R, V] finite binary32; `settings` [R, 5] int64: temperature in thousandths, top-k,
    top-p and min-p in millionths, position of the drawn token; `words` [R, 4] int64: the seed's first four 32-bit words;
    `exp` int64, the table. -> [R] int64."""
    tokens = _sample(candidates, logits.numpy(), settings.numpy(), words.numpy(), exp.numpy())
    return torch.tensor(tokens, dtype=torch.int64)


def sample_host(logits: Any, settings: Any, words: Any, exp: Any) -> Any:
    """As `sample`, over numpy arrays."""
    return np.array(_sample(candidates_host, logits, settings, words, exp), np.int64)


def _sample(find: Any, logits: Any, settings: Any, words: Any, exp: Any) -> list[int]:
    tokens = []
    for row, (temperature, top_k, top_p, min_p, position), seed in zip(logits, settings.tolist(), words):
        if temperature == 0:
            tokens.append(greedy(row))
            continue
        limits = {"top_k": top_k, "top_p_ppm": top_p, "min_p_ppm": min_p}
        key = seed.astype("<u4").tobytes()
        tokens.append(draw(find(row, temperature, len(exp)), exp, **limits, seed=key, position=position))
    return tokens
