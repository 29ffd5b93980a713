"""Random programs and transactions in anvil, which is revm at any fork: gas, status, logs and every account touched.

From London on: before, anvil prices gas by later rules.
"""

from __future__ import annotations

import json
import random

import pytest
from evm_fuzz import anvil, compare, generate

from openledger.genesis import predeploys
from openledger.genesis.hardforks import Hardfork

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not anvil.is_installed(), reason="anvil is not installed: run `npm ci` in tests/clients"),
]

FORKS = (Hardfork.LONDON, Hardfork.PARIS, Hardfork.SHANGHAI, Hardfork.CANCUN, Hardfork.PRAGUE, Hardfork.OSAKA)


def test_transactions_of_an_op_chain_pay_in_anvil_what_they_pay_here() -> None:
    """L1 and operator fees by random parameters, to the vaults; types 0, 1, 2 and 4."""
    charged = 0
    with anvil.Anvil(Hardfork.PRAGUE, "optimism") as chain:
        for number in range(40):
            case = generate.op_case(random.Random(f"anvil op {number}"))
            if not anvil.can_run(case):
                continue
            for found in anvil.disagreements(chain, case):
                pytest.fail(f"{found.what}\n{json.dumps(found.case.to_json())}")
            charged += predeploys.L1_FEE_VAULT in compare.plain(case).accounts
    assert charged > 8


@pytest.mark.parametrize("fork", FORKS, ids=lambda fork: fork.name.lower())
def test_programs_and_transactions_do_in_anvil_what_they_do_here(fork: Hardfork) -> None:
    asked = 0
    with anvil.Anvil(fork) as chain:
        for number in range(100):
            chance = random.Random(f"anvil {fork.name} {number}")
            make = generate.transaction_case if number % 2 else generate.program_case
            case = make(chance, fork)
            if asked == 20 or not anvil.can_run(case):
                continue
            asked += 1
            for found in anvil.disagreements(chain, case):
                pytest.fail(f"{found.what}\n{json.dumps(found.case.to_json())}")
    assert asked == 20
