"""Drawing the next token of every row, with integers only, in three kernels.

`_largest`: a row's maximum. `_count`: how many tokens have each table index e; integer atomics, which have no order.
`_draw`: one program per row. Tokens with one e have one p, so every cut is a sum over the table of how many tokens of each e
it keeps; the token drawn is found by its e, then among those by d (a search, as one e spans few d), then by its id.
Products with 10**6 are split, so that everything fits 64 bits.
"""

from typing import Final

import torch
import triton.language as tl
from torch import Tensor

from openledger.kernels.ops.triton.launch import INTERPRETED, kernel, launch, power_of_two

_TILE: Final = 2048
_INTERPRETER_TILE: Final = 1 << 17
PPM = tl.constexpr(1_000_000)


@kernel
def _largest(logits: tl.tensor, maxima: tl.tensor, vocabulary: tl.tensor, TILE: tl.constexpr) -> None:
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, TILE)
    highest = tl.full((TILE,), float("-inf"), tl.float32)
    for start in range(0, vocabulary, TILE):
        i = start + lane
        part = tl.load(logits + row * vocabulary + i, mask=i < vocabulary, other=float("-inf"))
        highest = tl.maximum(highest, part)
    tl.store(maxima + row, tl.max(highest, 0))


@kernel
def _exponents(
    logits: tl.tensor, highest: tl.tensor, i: tl.tensor, vocabulary: tl.tensor, temperature: tl.tensor
) -> tl.tensor:
    """d and e of tokens `i`; beyond every table outside the vocabulary."""
    there = i < vocabulary
    f = (highest - tl.load(logits + i, mask=there, other=highest)) * 4096.0
    f = tl.where(f < 1073741824.0, f, 1073741824.0)
    # As 2**23 and what is below it add up to less than 2**24, no bit below one is left; from 2**23 on there is none.
    whole = (tl.where(f < 8388608.0, f, 0.0) + 8388608.0) - 8388608.0
    d = tl.where(f < 8388608.0, whole, f).to(tl.int64)
    e = (2000 * d + temperature) // (2 * temperature)
    return d, tl.where(there, e, 1 << 60)


@kernel
def _count(
    logits: tl.tensor, maxima: tl.tensor, settings: tl.tensor, exp: tl.tensor, counts: tl.tensor,
    vocabulary: tl.tensor, entries: tl.tensor, TILE: tl.constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(1).to(tl.int64)
    temperature = tl.load(settings + row * 5)
    if temperature == 0:
        return
    i = tl.program_id(0) * TILE + tl.arange(0, TILE)
    _d, e = _exponents(logits + row * vocabulary, tl.load(maxima + row), i, vocabulary, temperature)
    inside = e < entries
    e = tl.where(inside, e, 0)
    # Entries that are 0 end the table; tokens there do not count.
    kept = inside & (tl.load(exp + e) > 0)
    tl.atomic_add(counts + row * entries + e, 1, mask=kept, sem="relaxed")


@kernel
def _ceil_share(part: tl.tensor, whole: tl.tensor) -> tl.tensor:
    """ceil(part * whole / 10**6) for part <= 10**6 and whole < 2**51."""
    return part * (whole // PPM) + (part * (whole % PPM) + PPM - 1) // PPM


@kernel
def _sum_of(counts: tl.tensor, exp: tl.tensor, keep: tl.tensor, entries: tl.tensor, TILE: tl.constexpr) -> tl.tensor:
    """The sum of p over the first `keep` tokens, and the p of the very first."""
    lane = tl.arange(0, TILE)
    before = tl.zeros((), tl.int64)
    total = tl.zeros((), tl.int64)
    first = tl.zeros((), tl.int64)
    for start in range(0, entries, TILE):
        e = start + lane
        c = tl.load(counts + e, mask=e < entries, other=0).to(tl.int64)
        w = tl.load(exp + e, mask=e < entries, other=0)
        mine = tl.minimum(tl.maximum(keep - (before + tl.cumsum(c, 0) - c), 0), c)
        total += tl.sum(mine * w, 0)
        first = tl.maximum(first, tl.max(tl.where(c > 0, w, 0), 0))
        before += tl.sum(c, 0)
    return total, first


@kernel
def _tokens_for(
    counts: tl.tensor, exp: tl.tensor, needed: tl.tensor, entries: tl.tensor, TILE: tl.constexpr
) -> tl.tensor:
    """The fewest first tokens whose p add up to at least `needed`."""
    lane = tl.arange(0, TILE)
    before = tl.zeros((), tl.int64)
    tokens = tl.zeros((), tl.int64)
    for start in range(0, entries, TILE):
        e = start + lane
        c = tl.load(counts + e, mask=e < entries, other=0).to(tl.int64)
        w = tl.maximum(tl.load(exp + e, mask=e < entries, other=0), 1)
        sums = c * w
        missing = tl.maximum(needed - (before + tl.cumsum(sums, 0) - sums), 0)
        tokens += tl.sum(tl.minimum((missing + w - 1) // w, c), 0)
        before += tl.sum(sums, 0)
    return tokens


@kernel
def _members_up_to(
    logits: tl.tensor, highest: tl.tensor, vocabulary: tl.tensor, temperature: tl.tensor, at: tl.tensor,
    limit: tl.tensor, TILE: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """How many tokens have this e and a d up to `limit`."""
    lane = tl.arange(0, TILE)
    total = tl.zeros((), tl.int64)
    for start in range(0, vocabulary, TILE):
        d, e = _exponents(logits, highest, start + lane, vocabulary, temperature)
        total += tl.sum(((e == at) & (d <= limit)).to(tl.int64), 0)
    return total


@kernel
def _draw(
    logits: tl.tensor, maxima: tl.tensor, settings: tl.tensor, words: tl.tensor, exp: tl.tensor, counts: tl.tensor,
    tokens: tl.tensor, vocabulary: tl.tensor, entries: tl.tensor, TILE: tl.constexpr,
) -> None:  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, TILE)
    logits += row * vocabulary
    highest = tl.load(maxima + row)
    temperature = tl.load(settings + row * 5)
    if temperature == 0:
        best = tl.zeros((), tl.int32) + vocabulary
        for start in range(0, vocabulary, TILE):
            i = start + lane
            part = tl.load(logits + i, mask=i < vocabulary, other=float("-inf"))
            best = tl.minimum(best, tl.min(tl.where((part == highest) & (i < vocabulary), i, vocabulary), 0))
        tl.store(tokens + row, best.to(tl.int64))
        return
    top_k = tl.load(settings + row * 5 + 1)
    top_p = tl.load(settings + row * 5 + 2)
    min_p = tl.load(settings + row * 5 + 3)
    position = tl.load(settings + row * 5 + 4)
    counts += row * entries
    everything = tl.zeros((), tl.int64) + (1 << 40)
    keep = tl.where(top_k > 0, top_k, everything)
    total, first = _sum_of(counts, exp, keep, entries, TILE)
    if top_p < PPM:
        keep = _tokens_for(counts, exp, _ceil_share(top_p, total), entries, TILE)
    if min_p > 0:
        enough = tl.zeros((), tl.int64)
        for start in range(0, entries, TILE):
            e = start + lane
            c = tl.load(counts + e, mask=e < entries, other=0).to(tl.int64)
            w = tl.load(exp + e, mask=e < entries, other=0)
            enough += tl.sum(tl.where(w * PPM >= min_p * first, c, 0), 0)
        keep = tl.minimum(keep, enough)
    total, first = _sum_of(counts, exp, keep, entries, TILE)
    nothing = tl.zeros((1,), tl.uint32)
    w0 = tl.load(words + row * 4).to(tl.uint32)
    w1 = tl.load(words + row * 4 + 1).to(tl.uint32)
    w2 = tl.load(words + row * 4 + 2).to(tl.uint32)
    w3 = tl.load(words + row * 4 + 3).to(tl.uint32)
    low, high, _c2, _c3 = tl.philox_impl(
        nothing + position.to(tl.uint32), nothing, nothing + w2, nothing + w3, w0, w1, 10
    )  # fmt: skip
    u = low.to(tl.uint64) | (high.to(tl.uint64) << 32)
    drawn = tl.umulhi(u, nothing.to(tl.uint64) + total.to(tl.uint64))
    r = tl.sum(drawn.to(tl.int64), 0)
    at = tl.zeros((), tl.int64)
    index = tl.zeros((), tl.int64)
    before = tl.zeros((), tl.int64)
    for start in range(0, entries, TILE):
        e = start + lane
        c = tl.load(counts + e, mask=e < entries, other=0).to(tl.int64)
        w = tl.maximum(tl.load(exp + e, mask=e < entries, other=0), 1)
        sums = c * w
        begin = before + tl.cumsum(sums, 0) - sums
        hit = (begin <= r) & (r < begin + sums)
        at += tl.sum(tl.where(hit, e, 0).to(tl.int64), 0)
        index += tl.sum(tl.where(hit, (r - begin) // w, 0), 0)
        before += tl.sum(sums, 0)
    # The d with this e: from ceil((2 e - 1) t / 2000) to below (2 e + 1) t / 2000.
    lowest = tl.maximum(((2 * at - 1) * temperature + 1999) // 2000, 0)
    last = ((2 * at + 1) * temperature - 1) // 2000
    left = lowest
    while left < last:
        middle = (left + last) // 2
        if _members_up_to(logits, highest, vocabulary, temperature, at, middle, TILE) > index:
            last = middle
        else:
            left = middle + 1
    if left > lowest:
        index -= _members_up_to(logits, highest, vocabulary, temperature, at, left - 1, TILE)
    token = tl.zeros((), tl.int64)
    seen = tl.zeros((), tl.int64)
    for start in range(0, vocabulary, TILE):
        i = start + lane
        d, e = _exponents(logits, highest, i, vocabulary, temperature)
        member = ((e == at) & (d == left)).to(tl.int64)
        rank = seen + tl.cumsum(member, 0) - member
        token += tl.sum(tl.where((member > 0) & (rank == index), i, 0).to(tl.int64), 0)
        seen += tl.sum(member, 0)
    tl.store(tokens + row, token)


def sample(logits: Tensor, settings: Tensor, words: Tensor, exp: Tensor) -> Tensor:
    """The token of each row. `logits` [R, V] finite binary32; `settings` [R, 5] int64: temperature in thousandths, top-k,
    top-p and min-p in millionths, position of the drawn token; `words` [R, 4] int64: the seed's first four 32-bit words;
    `exp` int64, the table. -> [R] int64."""
    # The head's residual columns may stand behind each row.
    logits = logits.contiguous()
    rows, vocabulary = logits.shape
    device, entries = logits.device, exp.shape[0]
    tile = _INTERPRETER_TILE if INTERPRETED else _TILE
    narrow = min(tile, power_of_two(vocabulary))
    maxima = torch.empty(rows, dtype=torch.float32, device=device)
    counts = torch.zeros((rows, entries), dtype=torch.int32, device=device)
    tokens = torch.empty(rows, dtype=torch.int64, device=device)
    launch(_largest, (rows,), logits, maxima, vocabulary, TILE=narrow)
    launch(
        _count, (-(-vocabulary // narrow), rows), logits, maxima, settings, exp, counts, vocabulary, entries,
        TILE=narrow,
    )  # fmt: skip
    launch(
        _draw, (rows,), logits, maxima, settings, words, exp, counts, tokens, vocabulary, entries,
        TILE=min(tile, power_of_two(max(vocabulary, entries))), warps=8,
    )  # fmt: skip
    return tokens
