"""What an opcode would have cost that could not run: geth shows it in the row of the failure.

The gas meter cannot tell, since opcodes charge in parts and stop at the first that is too much. So the opcode is
run once more on a machine of its own, with plenty of gas, on the state as it was, and everything is undone.
"""

from __future__ import annotations

import copy
from typing import Any

from eth.exceptions import Halt, OutOfBoundsRead, OutOfGas, VMError, WriteProtection

from openledger.evm_ext.tracing import faults, opcodes

_PLENTY_OF_GAS = 1 << 62
_GAS_CREATE = 32_000
_GAS_INIT_CODE_WORD = 2
_GAS_LOG_BYTE = 8
_EXP = 0x0A
_MSTORE8 = 0x53
_RETURNDATACOPY = 0x3E
# KECCAK256, the copies, CREATE2: gas for each word they read.
_WORD_COSTS = {0x20: 6, 0x37: 3, 0x39: 3, 0x3C: 3, 0x3E: 3, 0x5E: 3, 0xF5: 6}


class Probed(Exception):
    """A probed opcode came as far as its child message, whose gas this is."""

    def __init__(self, gas: int) -> None:
        super().__init__(gas)
        self.gas = gas


def failed_cost(
    computation: Any,
    error: VMError,
    words: str,
    opcode: int,
    gas: int,
    before: list[Any],
    memory_size: int,
    snapshot: int,
) -> int:
    """The cost in the row of an opcode that failed.

    before: the stack, memory_size: the bytes of memory, snapshot: the state before it.
    """
    if words == faults.SENTRY:
        return 0
    is_found_first = words.startswith("stack ") or words == faults.WRITE_PROTECTION_FOUND_EARLY
    if is_found_first or faults.GAS_OVERFLOW in words:
        return _constant_cost(computation, opcode, snapshot)
    if isinstance(error, OutOfGas | WriteProtection | OutOfBoundsRead):
        return _probe(computation, opcode, before, memory_size, snapshot)
    return gas - int(computation._gas_meter.gas_remaining)


def _probe(computation: Any, opcode: int, before: list[Any], memory_size: int, snapshot: int) -> int:
    """Run with no memory at all, and add what memory would have cost: nothing large is ever allocated."""
    stack = [word(value) for value in before]
    size_cost = 0
    end = 0
    for offset_place, size_place in opcodes.MEMORY_OPERANDS.get(opcode, ()):
        size = (1 if opcode == _MSTORE8 else 32) if size_place is None else stack[-1 - size_place]
        if size:
            end = max(end, stack[-1 - offset_place] + size)
        stack[-1 - (offset_place if size_place is None else size_place)] = 0
        size_cost = _size_cost(computation, opcode, size)
    if opcode == _RETURNDATACOPY:
        stack[-2] = 0
    return _run_aside(computation, opcode, stack, snapshot) + size_cost + expansion_cost(memory_size, 0, end)


def _size_cost(computation: Any, opcode: int, size: int) -> int:
    """What an opcode pays for the bytes it reads, besides memory."""
    if opcode in opcodes.LOGS:
        return _GAS_LOG_BYTE * size
    cost = _WORD_COSTS.get(opcode, 0) * _words(size)
    if opcode in opcodes.CREATES and computation.max_init_code is not None:
        cost += _GAS_INIT_CODE_WORD * _words(size)
    return cost


def _run_aside(computation: Any, opcode: int, stack: list[int], snapshot: int) -> int:
    state = computation.state
    state.revert(snapshot)
    message = copy.copy(computation.msg)
    message.is_static = False
    aside = type(computation)(state, message, computation.transaction_context)
    aside._probing = True
    aside.contracts_created = computation.contracts_created
    aside.return_data = computation.return_data
    aside._memory.extend(0, 32)  # for the opcodes whose size is always a word
    aside._stack.values.extend(stack)
    aside.code.program_counter = computation.code.program_counter
    aside._gas_meter.gas_remaining = _PLENTY_OF_GAS
    forwarded = 0
    try:
        aside._opcode_table[opcode](aside)
    except Probed as reached:
        forwarded = reached.gas if opcode in opcodes.CREATES else 0
    except (Halt, VMError):
        pass
    cost = int(_PLENTY_OF_GAS - aside._gas_meter.gas_remaining + aside._given_back - forwarded)
    state.revert(snapshot)
    return cost


def _constant_cost(computation: Any, opcode: int, snapshot: int) -> int:
    """The part of the cost that depends on nothing: geth charges it first."""
    if opcode in opcodes.LOGS or opcode in (opcodes.SSTORE, _EXP):
        return 0
    inner = computation.state.snapshot()
    computation.state.mark_address_warm(bytes(20))
    cost = _run_aside(computation, opcode, [0] * opcodes.TAKEN[opcode], computation.state.snapshot())
    computation.state.revert(inner)
    return cost


def forwarded_at_most(create: Any, gas: int) -> int:
    """What a creation gives its message of the gas that is left: all but a 64th since EIP-150."""
    modifier = getattr(create, "max_child_gas_modifier", None)
    return int(modifier(gas)) if modifier is not None else gas - gas // 64


def collision_cost(computation: Any, opcode: int, offset: int, size: int, memory_size: int) -> int:
    """The cost of a CREATE* whose address was taken: its message's gas is gone too, so it is computed."""
    cost = _GAS_CREATE + expansion_cost(memory_size, offset, size)
    return cost + _size_cost(computation, opcode, size)


def expansion_cost(memory_size: int, offset: int, size: int) -> int:
    """Gas for memory that grows to hold `size` bytes at `offset` (Yellow Paper, C_mem)."""
    if not size or offset + size <= memory_size:
        return 0
    return _memory_cost(_words(offset + size)) - _memory_cost(_words(memory_size))


def _memory_cost(words: int) -> int:
    return 3 * words + words * words // 512


def _words(size: int) -> int:
    return (size + 31) // 32


def word(value: Any) -> int:
    """A stack item as an integer; py-evm keeps some as bytes."""
    return value if isinstance(value, int) else int.from_bytes(value, "big")
