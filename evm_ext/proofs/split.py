"""Who gets what of a fee: integers in, integers out, the parts sum to the whole.

`CREDIT` pays by this code and the verifier checks by it. Amounts are micro-OPEN.
"""

from collections.abc import Iterable
from typing import NamedTuple

BASIS_POINTS = 10_000
PRICED_TOKENS = 1_000
"""Prices are per this many tokens."""


def largest_remainder(total: int, weights: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """`total` divided in proportion to `(id, weight)` pairs, as `(id, amount)` pairs in the given order.

    Each gets the floor of its share; what is left goes one by one to the largest remainders, ties to
    the lower id. Ids are distinct. Raises ValueError when the weights sum to nothing.
    """
    pairs = list(weights)
    whole = sum(weight for _, weight in pairs)
    if whole <= 0 or min(weight for _, weight in pairs) < 0:
        raise ValueError("weights must not be negative and must sum to more than zero")
    amounts: list[int] = []
    remainders: list[tuple[int, int, int]] = []
    left = total
    for place, (identity, weight) in enumerate(pairs):
        amount, remainder = divmod(total * weight, whole)
        amounts.append(amount)
        left -= amount
        remainders.append((-remainder, identity, place))
    if left:
        remainders.sort()
        for _, _, place in remainders[:left]:
            amounts[place] += 1
    return [(identity, amount) for (identity, _), amount in zip(pairs, amounts, strict=True)]


class FeeParts(NamedTuple):
    """A fee's parts in micro-OPEN; they sum to the fee."""

    platform: int
    owner: int
    trainer: int
    stakers: int
    provider: int
    contributors: int

    @property
    def total(self) -> int:
        return sum(self)


def split_fee(fee: int, platform_bps: int, policy_bps: tuple[int, int, int, int, int]) -> FeeParts:
    """The platform's part first (floor), the rest by the release's policy.

    `policy_bps` is (owner, trainer, stakers, provider, contributors), sum 10,000; on equal remainders
    the earlier of the five gains. Raises ValueError for shares that make no split.
    """
    if fee < 0 or not 0 <= platform_bps <= BASIS_POINTS or sum(policy_bps) != BASIS_POINTS:
        raise ValueError(f"no split: fee {fee}, platform {platform_bps} bps, policy {policy_bps}")
    platform = fee * platform_bps // BASIS_POINTS
    parts = largest_remainder(fee - platform, enumerate(policy_bps))
    return FeeParts(platform, *(amount for _, amount in parts))


def token_price(prompt_tokens: int, output_tokens: int, price_in: int, price_out: int, platform_bps: int) -> int:
    """The fee of one answer in micro-OPEN, prices in micro-OPEN per 1,000 tokens.

    The release's price, rounded up, plus the platform's part: the least fee of which exactly the
    release's price remains after the platform took its basis points. Raises ValueError for negative
    numbers or a platform that takes everything.
    """
    if min(prompt_tokens, output_tokens, price_in, price_out, platform_bps) < 0 or platform_bps >= BASIS_POINTS:
        raise ValueError("token counts, prices and the platform's part must not be negative, nor the part whole")
    net = -(-(prompt_tokens * price_in + output_tokens * price_out) // PRICED_TOKENS)
    if not net:
        return 0
    return (net - 1) * BASIS_POINTS // (BASIS_POINTS - platform_bps) + 1
