"""Lets every runner that can run a case run it, and says who disagrees."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from . import ours, revm
from .case import Case, Outcome, difference

CRASHED = -1


@dataclass(frozen=True)
class Disagreement:
    """`runner` does not say of the case what our plain tier says."""

    case: Case
    runner: str
    what: str


def attempt(runner: Callable[[], Outcome]) -> Outcome:
    """What a runner says; an exception in it is an outcome like no other."""
    try:
        return runner()
    except Exception:
        return Outcome(False, gas_used=CRASHED, error=traceback.format_exc(limit=-4))


def plain(case: Case) -> Outcome:
    return attempt(lambda: ours.run(case, "plain"))


def disagreements(
    case: Case, expected: Outcome | None = None, tiers: tuple[str, ...] = ours.TIERS[1:]
) -> Iterator[Disagreement]:
    """Of the tiers of our machine, and of revm where it knows the rules."""
    expected = plain(case) if expected is None else expected
    if expected.gas_used == CRASHED:
        yield Disagreement(case, "plain", expected.error)
        return
    for tier in tiers:
        found = difference(expected, attempt(lambda tier=tier: ours.run(case, tier)))  # type: ignore[misc]
        if found:
            yield Disagreement(case, tier, found)
    if revm.can_run(case):
        found = difference(expected, attempt(lambda: revm.run(case, expected)))
        if found:
            yield Disagreement(case, "revm", found)


def fails_likewise(disagreement: Disagreement) -> Callable[[Case], bool]:
    """Whether another case has the same runner disagree, for `shrink`."""

    def fails(case: Case) -> bool:
        return any(found.runner == disagreement.runner for found in disagreements(case))

    return fails


def gas_limits(case: Case, used: int, at_most: int, choose: Callable[[int, int], int]) -> list[int]:
    """Gas limits below what a case used: all of them if they are few, else some and the last few."""
    low = 21_000
    if used - low <= at_most:
        return list(range(low, used + 1))
    return sorted({choose(low, used) for _ in range(at_most - 8)} | set(range(used - 8, used)))


def sweep(case: Case, expected: Outcome, at_most: int, choose: Callable[[int, int], int]) -> Iterator[Disagreement]:
    """The tiers at every gas limit (or many) at which the case runs out of gas somewhere."""
    for gas in gas_limits(case, min(case.gas, expected.gas_used), at_most, choose):
        yield from disagreements(replace(case, gas=gas), tiers=("generated", "auto"))
