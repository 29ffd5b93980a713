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
    tokens = _sample(logits.numpy(), settings.numpy(), words.numpy(), exp.numpy())
    return torch.tensor(tokens, dtype=torch.int64)


def _sample(logits: Any, settings: Any, words: Any, exp: Any) -> list[int]:
    tokens = []
    for row, (temperature, top_k, top_p, min_p, position), seed in zip(logits, settings.tolist(), words):
        if temperature == 0:
            tokens.append(greedy(row))
            continue
        limits = {"top_k": top_k, "top_p_ppm": top_p, "min_p_ppm": min_p}
        key = seed.astype("<u4").tobytes()
        tokens.append(draw(candidates(row, temperature, len(exp)), exp, **limits, seed=key, position=position))
    return tokens


def sample_host(logits: Any, settings: Any, words: Any, exp: Any) -> Any:
    """As `sample`, over numpy arrays."""
    tokens = np.empty(len(logits), np.int64)
    # numpy finds maxima with vector instructions, and the first of equals.
    first = logits.argmax(-1)
    # Entries that are 0 end the table; tokens there do not count.
    exp = exp[: np.count_nonzero(exp)]
    ds, counts = np.empty(logits.shape[-1], np.int32), np.empty(len(exp), np.int64)
    for row in range(len(tokens)):
        if settings[row, 0] == 0:
            tokens[row] = first[row]
        else:
            tokens[row] = _draw_row(logits[row], logits[row, first[row]], settings[row], words[row], exp, ds, counts)
    return tokens


@kernel
def _draw_row(logits: Any, highest: Any, settings: Any, words: Any, exp: Any, ds: Any, counts: Any) -> Any:
    """One row, as `candidates` and `draw` together. `ds` [V] and `counts` [entries] are scratch."""
    t, top_k, top_p, min_p = settings[0], settings[1], settings[2], settings[3]
    entries = exp.shape[0]
    # The largest d whose e is in the table, so that most tokens need no division.
    last = np.int32((2 * t * entries - t + 1999) // 2000 - 1)
    far = np.float32(_FAR)
    for i in range(logits.shape[0]):
        f = np.float32(np.float32(highest - logits[i]) * np.float32(STEPS))
        ds[i] = np.int32(np.rint(f if f < far else far))
    share = 1.0 / np.float64(2 * t)
    counts[:] = 0
    for i in range(logits.shape[0]):
        if ds[i] <= last:
            # Below 2**43, so the product is off by less than one: cheaper than an integer division.
            n = 2000 * np.int64(ds[i]) + t
            e = np.int64(np.float64(n) * share)
            rest = n - e * 2 * t
            counts[e + np.int64(rest >= 2 * t) - np.int64(rest < 0)] += 1
    found = np.int64(0)
    for entry in range(entries):
        found += counts[entry]
    if found == 0:
        # Only where a logit is not a number: such a row has a numeric fault, and nobody asks for its token.
        return np.int64(0)
    keep: Any = found
    if top_k:
        keep = min(keep, top_k)
    if top_p < 1_000_000:
        keep = _tokens_for(counts, exp, _ceil_share(top_p, _sum_of(counts, exp, keep)))
    if min_p:
        keep = min(keep, _at_least(counts, exp, min_p))
    r = _draw_below(settings[4], words, _sum_of(counts, exp, keep))
    at = 0
    while r >= counts[at] * exp[at]:
        r -= counts[at] * exp[at]
        at += 1
    return _member(ds, t, at, r // exp[at])


@kernel
def _sum_of(counts: Any, exp: Any, keep: Any) -> Any:
    """The sum of p over the first `keep` tokens."""
    total = np.int64(0)
    for e in range(counts.shape[0]):
        if keep <= 0:
            break
        taken = min(counts[e], keep)
        total += taken * exp[e]
        keep -= taken
    return total


@kernel
def _ceil_share(part: Any, whole: Any) -> Any:
    """ceil(part * whole / 10**6) for part <= 10**6 and whole < 2**51."""
    return part * (whole // 1_000_000) + (part * (whole % 1_000_000) + 999_999) // 1_000_000


@kernel
def _tokens_for(counts: Any, exp: Any, needed: Any) -> Any:
    """The fewest first tokens whose p add up to at least `needed`."""
    tokens = np.int64(0)
    for e in range(counts.shape[0]):
        if counts[e]:
            if counts[e] * exp[e] >= needed:
                return tokens + (needed + exp[e] - 1) // exp[e]
            needed -= counts[e] * exp[e]
            tokens += counts[e]
    return tokens


@kernel
def _at_least(counts: Any, exp: Any, min_p: Any) -> Any:
    """How many tokens have a p of at least `min_p` millionths of the first one's."""
    first = np.int64(0)
    tokens = np.int64(0)
    for e in range(counts.shape[0]):
        if counts[e]:
            if first == 0:
                first = exp[e]
            if exp[e] * 1_000_000 < min_p * first:
                break
            tokens += counts[e]
    return tokens


@kernel
def _draw_below(position: Any, words: Any, total: Any) -> Any:
    """(u * total) >> 64 with u the 64 bits of Philox4x32-10 for this position."""
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    c0, c1 = np.uint64(position) & low, np.uint64(0)
    c2, c3 = np.uint64(words[2]), np.uint64(words[3])
    k0, k1 = np.uint64(words[0]), np.uint64(words[1])
    for _ in range(10):
        p0 = c0 * np.uint64(0xD2511F53)
        p1 = c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & low, (p0 >> half) ^ c3 ^ k1, p0 & low
        k0 = (k0 + np.uint64(0x9E3779B9)) & low
        k1 = (k1 + np.uint64(0xBB67AE85)) & low
    b0, b1 = np.uint64(total) & low, np.uint64(total) >> half
    middle = c1 * b0 + ((c0 * b0) >> half)
    return np.int64(c1 * b1 + (middle >> half) + (((middle & low) + c0 * b1) >> half))


@kernel
def _member(ds: Any, t: Any, at: Any, index: Any) -> Any:
    """Of the tokens with e = `at`, ordered by d, then by id, the one at `index`."""
    lowest = np.int32(max((2 * at - 1) * t + 1999, 0) // 2000)
    last = np.int32(((2 * at + 1) * t - 1) // 2000)
    count: Any = 0
    for i in range(ds.shape[0]):
        count += np.int64(ds[i] >= lowest) & np.int64(ds[i] <= last)
    members = np.empty(count, np.int64)
    count = 0
    for i in range(ds.shape[0]):
        if lowest <= ds[i] <= last:
            members[count] = np.int64(ds[i]) * np.int64(ds.shape[0]) + i
            count += 1
    members.sort()
    return members[index] % np.int64(ds.shape[0])
