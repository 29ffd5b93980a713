"""What a machine's opcodes let generated code do: written inline, through a lean function, or by the machine's own.

An opcode is only inlined where the machine's table has py-evm's well-known logic at the well-known price; so a fork, or
a machine with an opcode of its own, needs nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from openledger.evm_ext.vm.lean.names import is_guarded, keywords, logic_name
from openledger.evm_ext.vm.lean.storage import load_function, log, log_unless_static, store_function

# Logic and price, the same in every fork that has the opcode.
_INLINE: Mapping[int, tuple[str, int]] = {
    0x00: ("flow.stop", 0),
    0x01: ("arithmetic.add", 3),
    0x02: ("arithmetic.mul", 5),
    0x03: ("arithmetic.sub", 3),
    0x04: ("arithmetic.div", 5),
    0x05: ("arithmetic.sdiv", 5),
    0x06: ("arithmetic.mod", 5),
    0x07: ("arithmetic.smod", 5),
    0x08: ("arithmetic.addmod", 8),
    0x09: ("arithmetic.mulmod", 8),
    0x0A: ("arithmetic.exp", 10),
    0x0B: ("arithmetic.signextend", 5),
    0x10: ("comparison.lt", 3),
    0x11: ("comparison.gt", 3),
    0x12: ("comparison.slt", 3),
    0x13: ("comparison.sgt", 3),
    0x14: ("comparison.eq", 3),
    0x15: ("comparison.iszero", 3),
    0x16: ("comparison.and_op", 3),
    0x17: ("comparison.or_op", 3),
    0x18: ("comparison.xor", 3),
    0x19: ("comparison.not_op", 3),
    0x1A: ("comparison.byte_op", 3),
    0x1B: ("arithmetic.shl", 3),
    0x1C: ("arithmetic.shr", 3),
    0x1D: ("arithmetic.sar", 3),
    0x20: ("sha3.sha3", 30),
    0x30: ("context.address", 2),
    0x32: ("context.origin", 2),
    0x33: ("context.caller", 2),
    0x34: ("context.callvalue", 2),
    0x35: ("context.calldataload", 3),
    0x36: ("context.calldatasize", 2),
    0x37: ("context.calldatacopy", 3),
    0x38: ("context.codesize", 2),
    0x39: ("context.codecopy", 3),
    0x3A: ("context.gasprice", 2),
    0x3D: ("context.returndatasize", 2),
    0x41: ("block.coinbase", 2),
    0x42: ("block.timestamp", 2),
    0x43: ("block.number", 2),
    0x45: ("block.gaslimit", 2),
    0x46: ("context.chain_id", 2),
    0x47: ("context.selfbalance", 5),
    0x48: ("block.basefee", 2),
    0x50: ("stack.pop", 2),
    0x51: ("memory.mload", 3),
    0x52: ("memory.mstore", 3),
    0x53: ("memory.mstore8", 3),
    0x56: ("flow.jump", 8),
    0x57: ("flow.jumpi", 10),
    0x58: ("flow.program_counter", 2),
    0x59: ("memory.msize", 2),
    0x5A: ("flow.gas", 2),
    0x5B: ("flow.jumpdest", 1),
    0x5E: ("memory.mcopy", 3),
    0x5F: ("stack.push0", 2),
    **{0x5F + size: (f"stack.push{size}", 3) for size in range(1, 33)},
    **{0x7F + depth: (f"duplication.dup{depth}", 3) for depth in range(1, 17)},
    **{0x8F + depth: (f"swap.swap{depth}", 3) for depth in range(1, 17)},
    0xF3: ("system.return_op", 0),
    0xFD: ("system.revert", 0),
}

# Words taken and given by opcodes that end neither a block nor a frame; they run as the machine has them.
_ARITY: Mapping[int, tuple[int, int]] = {
    0x08: (3, 1),
    0x09: (3, 1),
    0x0A: (2, 1),
    0x1E: (1, 1),
    0x31: (1, 1),
    0x3B: (1, 1),
    0x3C: (4, 0),
    0x3E: (3, 0),
    0x3F: (1, 1),
    0x40: (1, 1),
    0x44: (0, 1),
    0x49: (1, 1),
    0x4A: (0, 1),
    0x54: (1, 1),
    0x55: (2, 0),
    0x5C: (1, 1),
    0x5D: (2, 0),
    **{0xA0 + topics: (2 + topics, 0) for topics in range(5)},
    0xF0: (3, 1),
    0xF1: (7, 1),
    0xF2: (7, 1),
    0xF4: (6, 1),
    0xF5: (4, 1),
    0xFA: (6, 1),
}


@dataclass(frozen=True)
class Profile:
    """Of each opcode byte: `gas` if it is written inline; `functions` the lean function it goes through; `calls` the
    words taken and given if the machine's own function runs. A byte in none of them ends a trace."""

    gas: Mapping[int, int]
    functions: Mapping[int, Callable[..., Any]]
    calls: Mapping[int, tuple[int, int]]
    exponent_byte_gas: int


def profile_of(opcodes: Mapping[int, Any], table: tuple[Any, ...], usual: tuple[Any, ...]) -> Profile:
    """`opcodes` is py-evm's table of the fork, `usual` what is made of it, `table` the machine's: where it has another
    function, that is what runs."""
    gas: dict[int, int] = {}
    functions: dict[int, Callable[..., Any]] = {}
    calls: dict[int, tuple[int, int]] = {}
    for opcode, entry in opcodes.items():
        if table[opcode] is usual[opcode]:
            name = logic_name(entry)
            known = _INLINE.get(opcode)
            if known and (name, entry.gas_cost) == (f"logic.{known[0]}", known[1]):
                gas[opcode] = known[1]
                continue
            function = _function(opcode, entry)
            if function is not None:
                functions[opcode] = function
                continue
        if opcode in _ARITY:
            calls[opcode] = _ARITY[opcode]
    exponent = opcodes.get(0x0A)
    return Profile(gas, functions, calls, keywords(exponent).get("gas_per_byte", 0) if exponent else 0)


def _function(opcode: int, entry: Any) -> Callable[..., Any] | None:
    if opcode == 0x54:
        return load_function(entry)
    if opcode == 0x55:
        return store_function(entry)
    if 0xA0 <= opcode <= 0xA4 and logic_name(entry) == "logic.logging.log_XX" and entry.gas_cost == 375:
        return log_unless_static if is_guarded(entry) else log
    return None
