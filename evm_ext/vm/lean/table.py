"""From py-evm's opcode table of a fork to the machine's: lean where an opcode is known, py-evm's own elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eth.vm.logic.invalid import InvalidOpcode

from openledger.evm_ext.vm.lean.names import gas_schedule, is_guarded, logic_name
from openledger.evm_ext.vm.lean.stack import stack_opcodes
from openledger.evm_ext.vm.lean.storage import Load, Store, load_at, load_warm_or_cold, store_warm_or_cold

Opcode = Callable[[Any], None]
"""Runs on a computation whose program counter is already past the opcode's byte."""

_STACK_OPCODES = stack_opcodes()


def opcode_table(opcodes: Mapping[int, Any]) -> tuple[Opcode, ...]:
    """The 256 functions of a machine with these opcodes; every byte without an opcode is invalid."""
    return tuple(_opcode(value, opcodes.get(value)) for value in range(256))


def _opcode(value: int, entry: Any) -> Opcode:
    if entry is None:
        invalid: Opcode = InvalidOpcode(value)
        return invalid
    own: Opcode = entry
    return _STACK_OPCODES.get(value) or own


def load_function(entry: Any) -> Load | None:
    """SLOAD of a fork as a lean function, None if it is not known."""
    name = logic_name(entry)
    if name == "forks.berlin.logic.sload_eip2929":
        return load_warm_or_cold
    return load_at(entry.gas_cost) if name == "logic.storage.sload" else None


def store_function(entry: Any) -> Store | None:
    """SSTORE of a fork as a lean function, None if it is not known."""
    schedule = gas_schedule(entry)
    if logic_name(entry) == "forks.berlin.logic.sstore_eip2929_generic" and schedule is not None and is_guarded(entry):
        return store_warm_or_cold(schedule)
    return None
