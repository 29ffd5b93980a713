"""The tiers of the machine, and revm, agree on random programs and transactions, at every fork; each failure that was
ever found stays fixed. `run.py` beside this does the same for as long as one likes."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from evm_fuzz import compare, generate, ours, revm
from evm_fuzz.case import Case, case_from_json, difference
from evm_fuzz.shrink import shrink

from openledger.genesis.hardforks import Hardfork

VECTORS = sorted((Path(__file__).parent / "vectors").glob("*.json"))
SEED = 20_261_120


def agree(case: Case) -> None:
    """Fails with a small case that can be put into vectors/ as it is."""
    found = next(compare.disagreements(case), None)
    if found is None:
        return
    small = shrink(case, compare.fails_likewise(found), seconds=10)
    pytest.fail(f"{found.runner} disagrees with the plain tier: {found.what[:400]}\n{json.dumps(small.to_json())}")


def cases(kind: str, fork: Hardfork, count: int) -> list[Case]:
    make = generate.transaction_case if kind == "transactions" else generate.program_case
    return [make(random.Random(f"{SEED} {kind} {fork.name} {number}"), fork) for number in range(count)]


@pytest.mark.parametrize("fork", list(Hardfork), ids=lambda fork: fork.name.lower())
def test_generated_code_does_what_the_plain_tier_does(fork: Hardfork) -> None:
    for case in cases("programs", fork, 12 if fork != Hardfork.CANCUN else 60):
        agree(case)


@pytest.mark.parametrize(
    "fork", [Hardfork.FRONTIER, Hardfork.BERLIN, Hardfork.LONDON, Hardfork.CANCUN, Hardfork.OSAKA], ids=lambda f: f.name
)
def test_transactions_of_every_type_do_the_same_in_every_tier(fork: Hardfork) -> None:
    for case in cases("transactions", fork, 25):
        agree(case)


@pytest.mark.parametrize("fork", [Hardfork.HOMESTEAD, Hardfork.ISTANBUL, Hardfork.PRAGUE], ids=lambda fork: fork.name)
def test_running_out_of_gas_at_any_point_is_the_same_in_every_tier(fork: Hardfork) -> None:
    chance = random.Random(SEED)
    swept = 0
    for case in cases("swept", fork, 60):
        expected = compare.plain(case)
        if swept == 4 or expected.refused or expected.gas_used < 21_200:
            continue
        swept += 1
        for found in compare.sweep(case, expected, 40, chance.randrange):
            agree(found.case)
    assert swept == 4


def test_revm_is_asked_about_a_good_part_of_the_cases() -> None:
    asked = sum(revm.can_run(case) for case in cases("programs", Hardfork.CANCUN, 60))
    assert asked > 20


def test_cases_survive_being_written_down() -> None:
    for kind in ("programs", "transactions"):
        for case in cases(kind, Hardfork.PRAGUE, 20):
            again = case_from_json(json.loads(json.dumps(case.to_json())))
            assert again == case
            assert again.transaction.raw == case.transaction.raw


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_what_once_failed_stays_fixed(path: Path) -> None:
    agree(case_from_json(json.loads(path.read_text())["case"]))


def test_a_difference_of_any_kind_is_seen_and_made_small() -> None:
    """The comparison itself: a machine with one wrong opcode is found out, down to that opcode."""
    add, sub = 0x01, 0x03

    def wrong(case: Case) -> Case:
        """The case as a machine sees it that takes ADD for SUB."""
        from dataclasses import replace

        accounts = {
            address: replace(account, code=account.code.replace(bytes([add]), bytes([sub])))
            for address, account in case.accounts.items()
        }
        return replace(case, accounts=accounts)

    def fails(case: Case) -> bool:
        mine, theirs = ours.run(case, "plain"), ours.run(wrong(case), "plain")
        return mine.output != theirs.output or mine.success != theirs.success

    found = next(case for case in cases("programs", Hardfork.SHANGHAI, 200) if fails(case))
    small = shrink(found, fails, seconds=2)
    assert sum(len(account.code) for account in small.accounts.values()) <= sum(
        len(account.code) for account in found.accounts.values()
    )
    assert any(bytes([add]) in account.code for account in small.accounts.values())
    assert difference(ours.run(small, "plain"), ours.run(wrong(small), "plain"))
