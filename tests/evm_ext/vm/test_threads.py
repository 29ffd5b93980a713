"""Calls in several threads share what is compiled of a code; none may see it half made."""

import sys
import threading
from collections.abc import Iterator

import pytest

from openledger.genesis.hardforks import Hardfork

# A loop whose jump goes where the calldata says, so that it is looked up among the code's destinations.
LOOP = "2000 :loop 1 SWAP1 SUB DUP1 ISZERO @end JUMPI 0 CALLDATALOAD JUMP :back @loop JUMP :end STOP"


@pytest.fixture
def restless() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("tier", ["auto", "generated"])
def test_threads_that_meet_at_a_code_that_gets_hot_all_give_the_plain_result(vm, restless, tier) -> None:
    prague = vm.machine_of(Hardfork.PRAGUE)
    code = vm.assemble(LOOP)
    data = code.index(b"\x5b\x61", code.index(b"\x35\x56")).to_bytes(32, "big")
    expected = vm.run(vm.with_tier(prague, "plain"), code, data)
    assert expected.error is None
    for turn in range(12):
        # Never seen before, and long, so that preparing takes a while.
        fresh = code + b"\x5b\x00" * 4_000 + turn.to_bytes(2, "big") + tier.encode()
        found, gate = [], threading.Barrier(5)

        def run(fresh: bytes = fresh, found: list = found, gate: threading.Barrier = gate) -> None:
            gate.wait()
            try:
                found.append(vm.run(vm.with_tier(prague, tier), fresh, data))
            except Exception as error:  # whatever it is, it must be seen
                found.append(error)

        threads = [threading.Thread(target=run) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [(item.error, item.gas) for item in found] == [(None, expected.gas)] * 5, found
