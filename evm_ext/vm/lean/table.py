"""From py-evm's opcode table of a fork to the machine's: lean where an opcode is known, py-evm's own elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType
from typing import Any

from eth.vm.logic.invalid import InvalidOpcode

from openledger.evm_ext.vm.lean.calls import call_opcode
from openledger.evm_ext.vm.lean.frame import FRAME_OPCODES
from openledger.evm_ext.vm.lean.names import logic_name
from openledger.evm_ext.vm.lean.stack import stack_opcodes
from openledger.evm_ext.vm.lean.written import Opcode, written_opcode

_STACK_OPCODES = stack_opcodes()


def opcode_table(opcodes: Mapping[int, Any]) -> tuple[Opcode, ...]:
    """The 256 functions of a machine with these opcodes; every byte without an opcode is invalid."""
    return tuple(_opcode(value, opcodes.get(value)) for value in range(256))


def _opcode(value: int, entry: Any) -> Opcode:
    if entry is None:
        invalid: Opcode = InvalidOpcode(value)
        return invalid
    name = logic_name(entry)
    lean = call_opcode(entry)
    if lean is None and name:
        if name.startswith(("logic.stack.", "logic.duplication.", "logic.swap.", "logic.flow.jumpdest")):
            lean = _STACK_OPCODES.get(value)
        elif name in FRAME_OPCODES:
            lean = FRAME_OPCODES[name](entry)
        else:
            lean = written_opcode(name, entry.gas_cost)
    # Py-evm warns at every SELFDESTRUCT that the opcode is deprecated.
    own: Opcode = getattr(entry, "__wrapped__", entry)
    return lean or _as_function(own)


def _as_function(entry: Any) -> Opcode:
    """A plain function: calling an object with `__call__` goes through C, of which Python 3.12 allows fewer levels
    than the machine has frames."""
    if isinstance(entry, FunctionType):
        return entry
    call = type(entry).__call__

    def run(computation: Any) -> None:
        call(entry, computation)

    return run
