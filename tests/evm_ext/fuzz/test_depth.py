"""Calls and creations as deep as gas and the limit of 1,024 allow, in every tier: Python's own limits are not met first."""

from __future__ import annotations

import threading

import pytest
from evm_fuzz import ours
from evm_fuzz.case import SENDER, Case, Outcome, difference

from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hardforks import Hardfork

CONTRACT = b"\xc0" * 20
GAS = 15_000_000


def calls_itself(opcode: int, fork: Hardfork) -> Case:
    """Adds 1 to slot 0 and calls itself with all gas but what is needed here, until it cannot."""
    count = b"\x60\x01\x60\x00\x54\x01\x60\x00\x55"
    words = b"\x60\x00" * (5 if opcode in (0xF1, 0xF2) else 4)
    # Before the rule of 63/64 a call that asks for more than there is fails.
    gas = b"\x60\x64\x5a\x03" if fork < Hardfork.TANGERINE_WHISTLE else b"\x5a"
    code = count + words + b"\x30" + gas + bytes([opcode]) + b"\x50\x00"
    accounts = {SENDER: GenesisAccount(balance=10**20), CONTRACT: GenesisAccount(nonce=1, code=code)}
    return Case(fork, accounts, CONTRACT, GAS if fork >= Hardfork.TANGERINE_WHISTLE else 29_000_000)


def creates_itself(fork: Hardfork) -> Case:
    """Creation code that creates a contract with the same creation code."""
    code = bytes.fromhex("3860006000393860006000f05000")
    return Case(fork, {SENDER: GenesisAccount(balance=10**20)}, None, GAS, code)


def in_every_tier(case: Case) -> Outcome:
    expected = ours.run(case, "plain")
    for tier in ours.TIERS[1:]:
        assert difference(expected, ours.run(case, tier)) is None, tier
    return expected


@pytest.mark.parametrize("opcode", [0xF1, 0xF2, 0xF4], ids=["call", "callcode", "delegatecall"])
@pytest.mark.parametrize(
    ("fork", "least"), [(Hardfork.HOMESTEAD, 1_025), (Hardfork.BERLIN, 250), (Hardfork.PRAGUE, 250)], ids=str
)
def test_a_contract_calls_itself_as_deep_as_it_can(opcode: int, fork: Hardfork, least: int) -> None:
    outcome = in_every_tier(calls_itself(opcode, fork))
    assert outcome.success
    assert outcome.accounts[CONTRACT].storage[0] >= least


@pytest.mark.parametrize("fork", [Hardfork.TANGERINE_WHISTLE, Hardfork.PRAGUE], ids=str)
def test_creation_code_creates_itself_as_deep_as_it_can(fork: Hardfork) -> None:
    assert in_every_tier(creates_itself(fork)).success


def test_depth_is_the_same_in_another_thread() -> None:
    """Where blocks are executed, with the smaller stack that threads have."""
    found: list[Outcome] = []
    thread = threading.Thread(target=lambda: found.append(in_every_tier(calls_itself(0xF1, Hardfork.HOMESTEAD))))
    thread.start()
    thread.join()
    assert found[0].success
