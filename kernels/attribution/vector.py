"""From evidence to the attribution vector: integers only, re-run by every verifier.

    score(c) = Σ over kinds of weight_kind · share_kind(c)        share_kind(c) = amount_kind(c) / Σ amount_kind

Scores are compared and divided as exact fractions over one common denominator, so nothing is rounded before the
last step. A kind without amounts drops out, which leaves the others in their proportion.
"""

from collections.abc import Mapping
from math import prod

from openledger.evm_ext.proofs.policy import WEIGHT_SUM, AttributionPolicy
from openledger.evm_ext.proofs.split import largest_remainder

Amounts = Mapping[int, int]
"""contribution -> amount of evidence, in whatever unit its kind has"""
Vector = tuple[tuple[int, int], ...]
"""(contribution, weight) by ascending contribution; weights are positive and sum to 10,000; empty: nothing found"""


def attribution_vector(
    kinds: Mapping[str, Amounts], contributor_of: Mapping[int, int], policy: AttributionPolicy
) -> Vector:
    """The vector of an answer from its evidence by kind (`spans`, `retrieval`, `influence`).

    1. Scores as above; contributions without a positive score are left out.
    2. The `top` best are kept, ties to the lower contribution id.
    3. 10,000 is split among their contributors in proportion, none above `contributor_cap`, and each contributor's
       part among its contributions in proportion; both by largest remainder, ties to the lower id.
    4. A contribution whose weight came to 0 is left out.
    """
    scores = _scores(kinds, policy)
    best = sorted(scores, key=lambda c: (-scores[c], c))[: policy.top]
    if not best:
        return ()
    by_contributor: dict[int, int] = {}
    for contribution in best:
        contributor = contributor_of[contribution]
        by_contributor[contributor] = by_contributor.get(contributor, 0) + scores[contribution]
    weights: dict[int, int] = {}
    for contributor, part in _capped(by_contributor, policy.contributor_cap).items():
        own = sorted(c for c in best if contributor_of[c] == contributor)
        weights.update(largest_remainder(part, [(c, scores[c]) for c in own]))
    return tuple((c, w) for c, w in sorted(weights.items()) if w)


def present_kinds(kinds: Mapping[str, Amounts], policy: AttributionPolicy) -> dict[str, int]:
    """The weight in ppm of each kind that counts: those that found something."""
    weight_of = {
        "spans": policy.spans_ppm,
        "retrieval": policy.retrieval_ppm,
        "influence": policy.influence_ppm,
    }
    return {kind: weight_of[kind] for kind, amounts in kinds.items() if weight_of[kind] and sum(amounts.values()) > 0}


def _scores(kinds: Mapping[str, Amounts], policy: AttributionPolicy) -> dict[int, int]:
    """Positive scores over the common denominator, the product of all kinds' totals."""
    weight_of = present_kinds(kinds, policy)
    totals = {kind: sum(kinds[kind].values()) for kind in weight_of}
    scores: dict[int, int] = {}
    for kind, weight in weight_of.items():
        factor = weight * prod(t for other, t in totals.items() if other != kind)
        for contribution, amount in kinds[kind].items():
            if amount < 0:
                raise ValueError(f"contribution {contribution} has a negative amount of {kind}")
            if amount:
                scores[contribution] = scores.get(contribution, 0) + factor * amount
    return scores


def _capped(scores: Mapping[int, int], cap: int) -> dict[int, int]:
    """10,000 split by score with nobody above the cap; what is cut goes to the others, again by score.

    With too few contributors to reach 10,000 under the cap, it rises to the least whole number that allows it.
    """
    cap = max(cap, -(-WEIGHT_SUM // len(scores)))
    parts: dict[int, int] = {}
    while True:
        rest = {c: s for c, s in sorted(scores.items()) if c not in parts}
        split = largest_remainder(WEIGHT_SUM - sum(parts.values()), rest.items())
        above = [c for c, part in split if part > cap]
        if not above:
            return parts | dict(split)
        parts |= dict.fromkeys(above, cap)
