"""The lean stack opcodes against py-evm's, at and beyond every edge."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from eth.exceptions import VMError
from eth.vm.code_stream import CodeStream
from eth.vm.forks.prague.computation import PragueComputation
from eth.vm.stack import Stack, to_int

from openledger.evm_ext.vm.lean.stack import stack_opcodes
from openledger.evm_ext.vm.parts import GasMeter as _GasMeter

OPCODES = stack_opcodes()
CODE = bytes(range(1, 34))


def _run(function, size, gas, start):
    """(error or None, gas left, stack as integers, program counter) after one opcode."""
    stack = Stack()
    for number in range(size):
        stack.push_int(number + 1000)
    meter = _GasMeter(gas)
    code = CodeStream(CODE)
    code.program_counter = start
    computation = SimpleNamespace(
        _stack=stack,
        _gas_meter=meter,
        code=code,
        consume_gas=meter.consume_gas,
        stack_pop1_any=stack.pop1_any,
        stack_push_bytes=stack.push_bytes,
        stack_dup=stack.dup,
        stack_swap=stack.swap,
    )
    try:
        function(computation)
    except VMError as error:
        return type(error)
    return meter.gas_remaining, [to_int(value) for value in stack.values], code.program_counter


@pytest.mark.parametrize("opcode", sorted(OPCODES))
def test_a_lean_opcode_does_what_py_evm_s_does(opcode):
    for size in (0, 1, 2, 3, 8, 15, 16, 17, 1023, 1024):
        for gas in (0, 1, 2, 3, 100):
            for start in (0, 1, 2, 30, 33, 40):
                expected = _run(PragueComputation.opcodes[opcode], size, gas, start)
                assert _run(OPCODES[opcode], size, gas, start) == expected
