"""A deposit on L1 gets into L2 within the sequencing window, with a sequencer that keeps it out and with a dead one.

All parts are processes; only L1 is told when to make its blocks, so that the window is over at a block and not at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fault_network import FaultNetwork, open_fault_network
from fault_network.network import wait_until
from fault_network.proxy import frozen

from openledger.genesis.dev_accounts import USERS

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1800)]

WINDOW = 40
"""L1 blocks: more than a batch needs to L1 on the slowest machine."""
CENSORED, ORPHANED = b"\x7c" * 20, b"\x7d" * 20


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultNetwork]:
    with open_fault_network(tmp_path_factory.mktemp("forced"), {"seq_window_size": WINDOW}) as opened:
        yield opened


def has(network: FaultNetwork, address: bytes, amount: int) -> None:
    validator = network.validator
    wait_until(lambda: validator.balance(address) == amount, lambda: f"the deposit: {validator.log[-3000:]}")


def test_a_sequencer_cannot_keep_a_deposit_out_for_longer_than_the_window(network: FaultNetwork) -> None:
    sequencer, validator = network.sequencer, network.validator
    assert sequencer.l1 is not None
    # It builds and posts on, but on L1 blocks from before the deposit.
    sequencer.l1.fault = frozen(network.l1_height())
    deposited = network.deposit(USERS[0], CENSORED, 7)
    posted = validator.height("safe")
    wait_until(lambda: validator.height("safe") > posted + 3, lambda: f"its batches:\n{sequencer.log[-3000:]}")
    assert validator.balance(CENSORED) == 0
    network.mine_to(deposited + WINDOW)
    has(network, CENSORED, 7)
    assert "sequencing window expired" in validator.log
    assert sequencer.balance(CENSORED, "latest") == 0
    # Once it looks at L1 again it follows: its own blocks are replaced.
    sequencer.l1.heal()
    wait_until(lambda: sequencer.balance(CENSORED) == 7, lambda: f"the sequencer to follow:\n{sequencer.log[-3000:]}")
    assert "unsafe chain replaced" in sequencer.log
    network.agree(validator.height("safe"))


def test_without_a_sequencer_a_deposit_gets_in_all_the_same(network: FaultNetwork) -> None:
    network.sequencer.kill()
    network.l1.tell("go")
    deposited = network.deposit(USERS[0], ORPHANED, 9)
    assert network.validator.balance(ORPHANED) == 0
    network.mine_to(deposited + WINDOW)
    has(network, ORPHANED, 9)
    # Whoever starts it again has a sequencer that goes on from there.
    network.sequencer.start()
    wait_until(lambda: network.sequencer.balance(ORPHANED) == 9, lambda: network.sequencer.log[-3000:])
    network.agree(network.validator.height("safe"))
