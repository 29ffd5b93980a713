"""Hostile code cannot make the machine compile more than it executes, nor keep more than it may.

Work is counted, not timed: opcodes that the compiler looks at, against opcodes that were executed and paid for.
"""

from __future__ import annotations

import pytest
from evm_fuzz import ours
from evm_fuzz.case import SENDER, Case, difference

from openledger.evm_ext.vm.computation import with_tier
from openledger.evm_ext.vm.generated import cache, path, trace
from openledger.evm_ext.vm.machines import machine
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hardforks import Hardfork

CONTRACT = b"\xc0" * 20
GAS = 400_000
EXECUTED_PER_FOLLOWED = 15
"""At least so many opcodes are executed for each one that the compiler looks at, but for a few at the beginning."""
FREE = 10_000


def jump(position: int) -> bytes:
    return b"\x61" + position.to_bytes(2, "big")


def forward_branches(count: int) -> bytes:
    """`if (gas & 1)` again and again, both ways to the same place."""
    code = b"\x5b"
    for _ in range(count):
        code += b"\x5a\x60\x01\x16"
        code += jump(len(code) + 4) + b"\x57\x5b"
    return code + b"\x5f\x56"


def diamonds(count: int) -> bytes:
    """Branches whose two ways differ, and meet: 2^count paths."""
    code = b"\x5b"
    for _ in range(count):
        code += b"\x5a\x60\x01\x16"
        start = len(code)
        code += jump(start + 10) + b"\x57\x58\x50" + jump(start + 11) + b"\x56\x5b\x5b"
    return code + b"\x5f\x56"


def small_loops(count: int) -> bytes:
    code = b"\x5b"
    for _ in range(count):
        code += b"\x60\x06"
        start = len(code)
        code += b"\x5b\x60\x01\x90\x03\x80" + jump(start) + b"\x57\x50"
    return code + b"\x5f\x56"


def returns_to(count: int) -> bytes:
    """Jumps whose target is computed: no trace goes past them."""
    code = b"\x5b"
    for _ in range(count):
        code += jump(len(code) + 6) + b"\x5f\x01\x56\x5b"
    return code + b"\x5f\x56"


# a, b from calldata; then again and again (a < b, a > b) of the two before: what if each were written out?
COMPARISONS = b"\x5b\x5f\x35\x60\x20\x35" + b"\x81\x81\x10\x82\x82\x11" * 60 + b"\x50" * 122 + b"\x5f\x56"
EQUALITIES = b"\x5b\x5f\x35\x60\x20\x35" + b"\x81\x81\x14\x82\x82\x12" * 60 + b"\x50" * 122 + b"\x5f\x56"

BOMBS = {
    "comparisons of comparisons": COMPARISONS,
    "equality of comparisons": EQUALITIES,
    "nothing but jump destinations": b"\x5b" * 24_570 + b"\x5f\x56",
    "blocks of three": b"\x5b\x5f\x50" * 8_190 + b"\x5f\x56",
    "one huge block": b"\x5b\x5f" + b"\x80\x50" * 12_280 + b"\x50\x5f\x56",
    "a deep stack in one block": b"\x5b" + b"\x5f" * 1_000 + b"\x50" * 1_000 + b"\x5f\x56",
    "branches that go on": forward_branches(2_700),
    "branches back to the start": b"\x5b" + b"\x5a\x60\x01\x16\x15\x15\x5f\x57" * 2_700 + b"\x5f\x56",
    "branches within branches": diamonds(1_600),
    "many small loops": small_loops(1_850),
    "computed jumps": returns_to(3_400),
    "constants": b"\x5b" + (b"\x7f" + b"\xff" * 32 + b"\x50") * 700 + b"\x5f\x56",
    "products that grow": b"\x5b\x60\x03" + b"\x80\x02" * 12_000 + b"\x50\x5f\x56",
}


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many opcodes the compiler looked at, one entry each time."""
    seen: list[int] = []
    original = trace.Tracer.follow

    def follow(self: trace.Tracer, start: int) -> path.Trace | None:
        found = original(self, start)
        seen.append(1 if found is None else found.steps)
        return found

    monkeypatch.setattr(trace.Tracer, "follow", follow)
    return seen


@pytest.mark.parametrize("name", BOMBS)
def test_compiling_is_paid_for_by_executing(name: str, followed: list[int]) -> None:
    accounts = {SENDER: GenesisAccount(balance=10**20), CONTRACT: GenesisAccount(nonce=1, code=BOMBS[name])}
    case = Case(Hardfork.CANCUN, accounts, CONTRACT, GAS)
    expected = ours.run(case, "plain")
    assert expected.gas_used == GAS  # endless
    assert not followed
    assert difference(expected, ours.run(case, "auto")) is None
    executed = GAS - 21_000  # at most: an opcode costs one gas or more
    assert sum(followed) <= executed // EXECUTED_PER_FOLLOWED + FREE, (sum(followed), len(followed))


@pytest.mark.parametrize("name", BOMBS)
def test_compiled_eagerly_they_still_do_the_same(name: str) -> None:
    """The forced tier that tests use: bounded traces, the same outcome."""
    accounts = {SENDER: GenesisAccount(balance=10**20), CONTRACT: GenesisAccount(nonce=1, code=BOMBS[name])}
    case = Case(Hardfork.CANCUN, accounts, CONTRACT, 80_000)
    assert difference(ours.run(case, "plain"), ours.run(case, "generated")) is None


def test_what_is_kept_of_many_contracts_is_bounded() -> None:
    loop = b"\x60\x05\x5b" + b"\x5f\x50" * 110 + b"\x60\x01\x90\x03\x80\x60\x02\x57"
    count = 1_050
    generated = with_tier(machine(ours.rules_of(Hardfork.CANCUN)), "generated")
    for number in range(count):
        code = loop + jump(number) + b"\x00"
        accounts = {SENDER: GenesisAccount(balance=10**20), CONTRACT: GenesisAccount(nonce=1, code=code)}
        assert ours.run(Case(Hardfork.CANCUN, accounts, CONTRACT, 100_000), "generated").success
    kept = generated._hot_codes._codes
    assert 0 < len(kept) <= cache.CODES
    # Codes are dropped when one comes, so the last may be above it.
    assert sum(hot.compiled for hot in kept.values()) <= cache.MAX_KEPT_OPCODES + cache.MAX_OPCODES
    assert all(hot.compiled <= cache.MAX_OPCODES + trace.MAX_STEPS for hot in kept.values())


def test_code_that_creates_contracts_is_not_kept() -> None:
    generated = with_tier(machine(ours.rules_of(Hardfork.CANCUN)), "generated")
    code = b"\x60\x09\x5b\x60\x01\x90\x03\x80\x60\x02\x57\x00"
    accounts = {SENDER: GenesisAccount(balance=10**20)}
    assert ours.run(Case(Hardfork.CANCUN, accounts, None, 200_000, code), "generated").success
    assert code not in generated._hot_codes._codes
