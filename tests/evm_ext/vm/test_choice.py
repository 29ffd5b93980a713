"""Which tier runs, and that whatever runs can be stopped."""

from __future__ import annotations

import time

import pytest

from openledger.evm_ext.errors import CallTimeout

LOOP = "0 0 :loop 0 CALLDATALOAD DUP2 LT ISZERO @end JUMPI DUP1 DUP1 MUL DUP3 ADD SWAP2 POP 1 ADD @loop JUMP :end STOP"


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


@pytest.fixture
def machine(vm):
    """A machine of its own: nothing is hot in it."""
    return type("Fresh", (vm.machine,), {})


def test_code_runs_plain_until_it_has_paid_for_being_compiled(vm, machine):
    code = vm.assemble(LOOP)
    for _ in range(3):
        vm.run(machine, code, word(3))
        assert not machine._hot_codes.of(code).traces
    vm.run(machine, code, word(20_000), 10_000_000)
    assert machine._hot_codes.of(code).traces, "a loop gets hot within one call"


def test_code_that_is_called_often_gets_hot_without_a_loop(vm, machine):
    code = vm.assemble("CALLER 0 SSTORE " + "1 2 ADD POP " * 12 + "STOP")
    results = {repr(vm.run(machine, code)) for _ in range(250)}
    assert machine._hot_codes.of(code).traces
    assert len(results) == 1


def test_initialisation_code_is_not_kept(vm, machine):
    vm.run(machine, vm.assemble("0 0 0 CREATE 0x5b600056 0 MSTORE 4 28 0 CREATE STOP"), gas=200_000)
    assert bytes.fromhex("5b600056") not in machine._hot_codes._codes


@pytest.mark.parametrize("tier", ["plain", "auto", "generated"])
@pytest.mark.parametrize(
    "code",
    [
        ":loop @loop JUMP",
        "0 :loop 1 ADD DUP1 DUP1 MUL POP @loop JUMP",
        "0 :loop 1 ADD GAS POP @loop JUMP",
        ":loop @back @double JUMP :back POP @loop JUMP :double 7 SWAP1 JUMP",
    ],
)
def test_a_call_without_end_is_stopped_at_its_deadline(vm, tier, code):
    machine = vm.with_tier(vm.machine, tier)
    """The gas would last for days."""
    with pytest.raises(CallTimeout):
        vm.run(machine, vm.assemble(code), gas=1 << 50, deadline=time.monotonic() + 0.05)


def test_an_opcode_that_a_machine_replaced_is_the_one_that_runs(vm):
    """As the recording of internal operations does it: an entry of the table alone."""
    seen = []

    def add(computation):
        seen.append(computation.code)
        computation._stack.push_int(sum(computation._stack.pop_ints(2)) + 1000)

    table = list(vm.machine._opcode_table)
    table[0x01] = add
    machine = vm.with_tier(type("Replaced", (vm.machine,), {"_opcode_table": tuple(table)}), "generated")
    result = vm.run(machine, vm.assemble("1 2 ADD 5 SSTORE"))
    assert len(seen) == 1
    assert result.storage == {(vm.CONTRACT, 5): 1003}
