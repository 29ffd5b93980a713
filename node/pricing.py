"""What an answer costs, in micro-OPEN, from the release's prices and the platform's part."""

from __future__ import annotations

from openledger.genesis.parameters import BASIS_POINTS


def fee(prompt_tokens: int, output_tokens: int, price_in: int, price_out: int, platform_bps: int) -> int:
    """The fee of an answer: its tokens at the release's prices per 1,000, plus the platform's part, rounded up.

    The platform's part is taken from the fee first, so the fee is the price divided by what it leaves: the
    release's parties then share the whole price.
    """
    price_milli = prompt_tokens * price_in + output_tokens * price_out
    return -(-price_milli * BASIS_POINTS // (1000 * (BASIS_POINTS - platform_bps)))
