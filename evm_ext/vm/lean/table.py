"""From py-evm's opcode table of a fork to the machine's: lean where an opcode is known, py-evm's own elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eth.vm.logic.invalid import InvalidOpcode

from openledger.evm_ext.vm.lean.stack import stack_opcodes

Opcode = Callable[[Any], None]
"""Runs on a computation whose program counter is already past the opcode's byte."""

_STACK_OPCODES = stack_opcodes()


def opcode_table(opcodes: Mapping[int, Any]) -> tuple[Opcode, ...]:
    """The 256 functions of a machine with these opcodes; every byte without an opcode is invalid."""
    return tuple(_opcode(value, opcodes.get(value)) for value in range(256))


def _opcode(value: int, entry: Any) -> Opcode:
    if entry is None:
        return InvalidOpcode(value)
    return _STACK_OPCODES.get(value) or entry
