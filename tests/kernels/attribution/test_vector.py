from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.evm_ext.proofs.policy import AttributionPolicy
from openledger.evm_ext.proofs.settlement import check_entries
from openledger.kernels.attribution.vector import attribution_vector

amounts = st.dictionaries(st.integers(0, 40), st.integers(0, 10**12), max_size=30)
contributor_of = {c: c // 3 for c in range(41)}


def test_a_kind_that_found_nothing_leaves_its_weight_to_the_others() -> None:
    people = {1: 1, 2: 2}
    assert attribution_vector({"spans": {1: 3, 2: 1}, "retrieval": {}}, people, AttributionPolicy()) == (
        (1, 7500),
        (2, 2500),
    )
    assert attribution_vector({"spans": {}, "retrieval": {2: 5}}, people, AttributionPolicy()) == ((2, 10_000),)
    assert attribution_vector({"spans": {1: 0}, "retrieval": {}}, people, AttributionPolicy()) == ()


def test_kinds_are_weighed_by_the_policy() -> None:
    # 500,000 : 350,000 is 10 : 7 of 17
    vector = attribution_vector({"spans": {1: 9}, "retrieval": {2: 1}}, {1: 1, 2: 2}, AttributionPolicy())
    assert vector == ((1, 5882), (2, 4118))


def test_only_the_best_are_kept_and_ties_go_to_the_lower_id() -> None:
    people = {c: c for c in range(30)}
    vector = attribution_vector({"spans": dict.fromkeys(range(30), 5)}, people, AttributionPolicy())
    assert [c for c, _ in vector] == list(range(16))
    assert [w for _, w in vector] == [625] * 16
    three = attribution_vector({"spans": dict.fromkeys(range(30), 5)}, people, AttributionPolicy(top=3))
    assert three == ((0, 3334), (1, 3333), (2, 3333))


def test_a_contributor_cannot_pass_the_cap_where_others_can_take_the_rest() -> None:
    people = {1: 7, 2: 7, 3: 8, 4: 9}
    found = {"spans": {1: 60, 2: 30, 3: 6, 4: 4}}
    assert attribution_vector(found, people, AttributionPolicy(contributor_cap=5000)) == (
        (1, 3333),
        (2, 1667),
        (3, 3000),
        (4, 2000),
    )
    alone = attribution_vector({"spans": {1: 2, 2: 1}}, people, AttributionPolicy(contributor_cap=5000))
    assert sum(w for _, w in alone) == 10_000


@given(amounts, amounts, st.integers(1, 16), st.integers(1, 10_000))
def test_every_vector_is_one_that_settlement_accepts_and_is_fair(
    spans: dict[int, int], retrieval: dict[int, int], top: int, cap: int
) -> None:
    policy = AttributionPolicy(top=top, contributor_cap=cap)
    vector = attribution_vector({"spans": spans, "retrieval": retrieval}, contributor_of, policy)
    check_entries(vector)
    paid = {c for c, a in [*spans.items(), *retrieval.items()] if a}
    assert {c for c, _ in vector} <= paid
    assert bool(vector) == bool(paid)
    people = {contributor_of[c] for c, _ in vector}
    by_person = {p: sum(w for c, w in vector if contributor_of[c] == p) for p in people}
    chosen = len(people)
    assert all(w <= max(cap, -(-10_000 // chosen)) + 1 for w in by_person.values())


@given(amounts, amounts)
def test_without_limits_each_weight_is_the_exact_share_to_within_two_units(
    spans: dict[int, int], retrieval: dict[int, int]
) -> None:
    spans = dict(list(spans.items())[:8])
    retrieval = dict(list(retrieval.items())[:8])
    vector = dict(attribution_vector({"spans": spans, "retrieval": retrieval}, contributor_of, AttributionPolicy()))
    kinds = [(w, a) for w, a in ((500, spans), (350, retrieval)) if sum(a.values())]
    for c in {*spans, *retrieval}:
        share = sum((Fraction(w * a.get(c, 0), sum(a.values())) for w, a in kinds), Fraction(0)) / (
            sum(w for w, _ in kinds) or 1
        )
        assert abs(vector.get(c, 0) - share * 10_000) <= 2


@pytest.mark.parametrize(
    "policy",
    [
        AttributionPolicy(spans_ppm=-1),
        AttributionPolicy(spans_ppm=0, retrieval_ppm=0),
        AttributionPolicy(top=17),
        AttributionPolicy(contributor_cap=0),
        AttributionPolicy(shortest_span=0),
        AttributionPolicy(most_holders=0),
        AttributionPolicy(retrieval_minimum_score=-1),
    ],
)
def test_a_policy_out_of_range_is_refused(policy: AttributionPolicy) -> None:
    with pytest.raises(ValueError, match="must"):
        policy.encode()


def test_the_default_policy_has_these_bytes() -> None:
    expected = "01 0007a120 00055730 000249f0 0006 0040 0010 00010000 2710"
    assert AttributionPolicy().encode() == bytes.fromhex(expected)
