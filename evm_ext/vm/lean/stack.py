"""PUSH, DUP, SWAP, POP and JUMPDEST written lean: they are most of what contracts execute.

Same gas, same failures as py-evm's, which go through five calls each. A pushed constant is an integer here
(py-evm pushes bytes); py-evm's stack takes either.
"""

from __future__ import annotations

from typing import Any

from eth.exceptions import FullStack, InsufficientStack, OutOfGas

from openledger.evm_ext.vm.lean.written import Opcode
from openledger.evm_ext.vm.parts import STACK_LIMIT

_GAS_VERY_LOW = 3
_GAS_BASE = 2
_GAS_JUMPDEST = 1


def stack_opcodes() -> dict[int, Opcode]:
    """Opcode byte to function."""
    table: dict[int, Opcode] = {0x50: _pop, 0x5B: _jumpdest, 0x5F: _push0}
    for size in range(1, 33):
        table[0x5F + size] = _push(size)
    for depth in range(1, 17):
        table[0x7F + depth] = _dup(depth)
        table[0x8F + depth] = _swap(depth)
    return table


def _charge(computation: Any, gas: int) -> None:
    meter = computation._gas_meter
    if meter.gas_remaining < gas:
        raise OutOfGas(f"out of gas: needs {gas}, {meter.gas_remaining} remain")
    meter.gas_remaining -= gas


def _push(size: int) -> Opcode:
    def push(computation: Any) -> None:
        _charge(computation, _GAS_VERY_LOW)
        values = computation._stack.values
        if len(values) >= STACK_LIMIT:
            raise FullStack(f"stack limit of {STACK_LIMIT} reached")
        code = computation.code
        start = code.program_counter
        end = code.program_counter = start + size
        data = code._raw_code_bytes[start:end]
        # Code that ends inside the constant is followed by zeros.
        values.append(int.from_bytes(data, "big") << 8 * (size - len(data)))

    return push


def _push0(computation: Any) -> None:
    _charge(computation, _GAS_BASE)
    values = computation._stack.values
    if len(values) >= STACK_LIMIT:
        raise FullStack(f"stack limit of {STACK_LIMIT} reached")
    values.append(0)


def _dup(depth: int) -> Opcode:
    def dup(computation: Any) -> None:
        _charge(computation, _GAS_VERY_LOW)
        values = computation._stack.values
        if len(values) >= STACK_LIMIT:
            raise FullStack(f"stack limit of {STACK_LIMIT} reached")
        if len(values) < depth:
            raise InsufficientStack(f"DUP{depth} on a stack of {len(values)}")
        values.append(values[-depth])

    return dup


def _swap(depth: int) -> Opcode:
    other = -depth - 1

    def swap(computation: Any) -> None:
        _charge(computation, _GAS_VERY_LOW)
        values = computation._stack.values
        if len(values) <= depth:
            raise InsufficientStack(f"SWAP{depth} on a stack of {len(values)}")
        values[-1], values[other] = values[other], values[-1]

    return swap


def _pop(computation: Any) -> None:
    _charge(computation, _GAS_BASE)
    values = computation._stack.values
    if not values:
        raise InsufficientStack("POP on an empty stack")
    values.pop()


def _jumpdest(computation: Any) -> None:
    _charge(computation, _GAS_JUMPDEST)
