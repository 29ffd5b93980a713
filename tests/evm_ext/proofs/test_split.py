from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.evm_ext.proofs.split import largest_remainder, split_fee, token_price

WEIGHTS = st.dictionaries(st.integers(0, 2**32 - 1), st.integers(0, 2**40), min_size=1, max_size=16).filter(
    lambda weights: sum(weights.values()) > 0
)


@st.composite
def policies(draw):
    cuts = sorted(draw(st.lists(st.integers(0, 10_000), min_size=4, max_size=4)))
    return tuple(b - a for a, b in zip([0, *cuts], [*cuts, 10_000]))


@given(st.integers(0, 2**64), WEIGHTS)
def test_largest_remainder_sums_exactly_and_stays_within_one_of_the_share(total, weights):
    pairs = list(weights.items())
    amounts = largest_remainder(total, pairs)
    assert sum(amount for _, amount in amounts) == total
    assert [identity for identity, _ in amounts] == [identity for identity, _ in pairs]
    whole = sum(weights.values())
    for identity, amount in amounts:
        assert abs(amount - Fraction(total * weights[identity], whole)) < 1
    # who was rounded up had no smaller remainder than who was rounded down, ties to the lower id
    up, down = [], []
    for identity, amount in amounts:
        remainder = total * weights[identity] % whole
        key = (-remainder, identity)
        if amount > total * weights[identity] // whole:
            up.append(key)
        else:
            down.append(key)
    assert not up or not down or max(up) < min(down)


@given(st.integers(0, 2**64), WEIGHTS)
def test_order_of_the_pairs_changes_nothing(total, weights):
    pairs = list(weights.items())
    assert dict(largest_remainder(total, pairs)) == dict(largest_remainder(total, pairs[::-1]))


def test_ties_go_to_the_lower_id():
    assert largest_remainder(2, [(9, 1), (3, 1), (5, 1)]) == [(9, 0), (3, 1), (5, 1)]


@given(st.integers(0, 2**40 - 1), st.integers(0, 10_000), policies())
def test_a_fee_is_split_to_the_last_micro(fee, platform_bps, policy):
    parts = split_fee(fee, platform_bps, policy)
    assert parts.total == fee
    assert parts.platform == fee * platform_bps // 10_000
    assert min(parts) >= 0


def test_the_default_split_of_a_round_fee():
    parts = split_fee(10_000, 500, (1_500, 500, 2_000, 2_000, 4_000))
    assert parts._asdict() == {
        "platform": 500,
        "owner": 1_425,
        "trainer": 475,
        "stakers": 1_900,
        "provider": 1_900,
        "contributors": 3_800,
    }


@pytest.mark.parametrize("policy", [(1, 0, 0, 0, 0), (10_000, 0, 0, 0, 1)])
def test_shares_that_make_no_split_are_refused(policy):
    with pytest.raises(ValueError, match="no split"):
        split_fee(1, 0, policy)
    with pytest.raises(ValueError, match="more than zero"):
        largest_remainder(1, [(1, 0)])


@given(
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 9_999),
)
def test_after_the_platforms_part_exactly_the_releases_price_remains(prompt, output, price_in, price_out, bps):
    fee = token_price(prompt, output, price_in, price_out, bps)
    price = -(-(prompt * price_in + output * price_out) // 1_000)
    assert fee - fee * bps // 10_000 == price
    if fee:
        assert (fee - 1) - (fee - 1) * bps // 10_000 < price
