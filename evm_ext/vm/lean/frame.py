"""Opcodes on memory, storage, logs and the flow of a frame, lean. Each is made for the gas its fork asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eth.exceptions import Halt, InsufficientStack, InvalidJumpDestination, OutOfGas, Revert

from openledger.evm_ext.vm.lean.memory import copy_inside, copy_into, grow
from openledger.evm_ext.vm.lean.names import is_guarded, keywords
from openledger.evm_ext.vm.lean.storage import (
    Load,
    Store,
    load_function,
    log,
    log_unless_static,
    store_function,
    store_transient,
)
from openledger.evm_ext.vm.lean.words import MODULUS
from openledger.evm_ext.vm.lean.written import Opcode
from openledger.genesis.hashing import keccak256

_GAS_HASH_WORD = 6
_JUMPDEST = 0x5B


def _take(computation: Any, count: int, gas: int) -> tuple[Any, list[int]]:
    """Charge, and make sure that `count` words are there; the meter and the stack."""
    meter = computation._gas_meter
    remaining = meter.gas_remaining - gas
    if remaining < 0:
        raise OutOfGas(f"out of gas: {gas} needed, {meter.gas_remaining} left")
    meter.gas_remaining = remaining
    values: list[int] = computation._stack.values
    if len(values) < count:
        raise InsufficientStack(f"{count} stack items wanted, {len(values)} there")
    return meter, values


def _mload(entry: Any) -> Opcode:
    gas_cost = entry.gas_cost

    def mload(computation: Any) -> None:
        meter, values = _take(computation, 1, gas_cost)
        memory = computation._memory._bytes
        start = values[-1]
        if len(memory) < start + 32:
            meter.gas_remaining = grow(memory, start + 32, meter.gas_remaining)
        values[-1] = int.from_bytes(memory[start : start + 32], "big")

    return mload


def _mstore(entry: Any) -> Opcode:
    gas_cost = entry.gas_cost

    def mstore(computation: Any) -> None:
        meter, values = _take(computation, 2, gas_cost)
        memory = computation._memory._bytes
        start = values.pop()
        if len(memory) < start + 32:
            meter.gas_remaining = grow(memory, start + 32, meter.gas_remaining)
        memory[start : start + 32] = values.pop().to_bytes(32, "big")

    return mstore


def _mstore8(entry: Any) -> Opcode:
    gas_cost = entry.gas_cost

    def mstore8(computation: Any) -> None:
        meter, values = _take(computation, 2, gas_cost)
        memory = computation._memory._bytes
        start = values.pop()
        if len(memory) <= start:
            meter.gas_remaining = grow(memory, start + 1, meter.gas_remaining)
        memory[start] = values.pop() & 255

    return mstore8


def _keccak(entry: Any) -> Opcode:
    gas_cost = entry.gas_cost

    def keccak(computation: Any) -> None:
        meter, values = _take(computation, 2, gas_cost)
        memory = computation._memory._bytes
        start = values.pop()
        size = values[-1]
        gas = meter.gas_remaining
        if size and len(memory) < start + size:
            gas = grow(memory, start + size, gas)
        gas -= _GAS_HASH_WORD * ((size + 31) >> 5)
        if gas < 0:
            raise OutOfGas(f"out of gas: hash of {size} bytes, {-gas} missing")
        meter.gas_remaining = gas
        values[-1] = int.from_bytes(keccak256(bytes(memory[start : start + size])), "big")

    return keccak


def _copy(source: Callable[[Any], bytes]) -> Callable[[Any], Opcode]:
    def make(entry: Any) -> Opcode:
        gas_cost = entry.gas_cost

        def copy(computation: Any) -> None:
            meter, values = _take(computation, 3, gas_cost)
            start, position, size = values.pop(), values.pop(), values.pop()
            memory = computation._memory._bytes
            meter.gas_remaining = copy_into(memory, start, source(computation), position, size, meter.gas_remaining)

        return copy

    return make


def _mcopy(entry: Any) -> Opcode:
    gas_cost = entry.gas_cost

    def mcopy(computation: Any) -> None:
        meter, values = _take(computation, 3, gas_cost)
        destination, source, size = values.pop(), values.pop(), values.pop()
        memory = computation._memory._bytes
        meter.gas_remaining = copy_inside(memory, destination, source, size, meter.gas_remaining)

    return mcopy


def _output(computation: Any, gas_cost: int) -> bytes:
    meter, values = _take(computation, 2, gas_cost)
    start, size = values.pop(), values.pop()
    if not size:
        return b""
    memory = computation._memory._bytes
    if len(memory) < start + size:
        meter.gas_remaining = grow(memory, start + size, meter.gas_remaining)
    return bytes(memory[start : start + size])


def _return(entry: Any) -> Opcode:
    gas_cost = entry.gas_cost

    def return_(computation: Any) -> None:
        computation._output = _output(computation, gas_cost)
        raise Halt("RETURN")

    return return_


def _revert(entry: Any) -> Opcode:
    gas_cost = entry.gas_cost

    def revert(computation: Any) -> None:
        output = computation._output = _output(computation, gas_cost)
        raise Revert(output)

    return revert


def _exp(entry: Any) -> Opcode:
    gas_cost, gas_per_byte = entry.gas_cost, keywords(entry)["gas_per_byte"]

    def exp(computation: Any) -> None:
        meter, values = _take(computation, 2, gas_cost)
        base = values.pop()
        exponent = values[-1]
        gas = meter.gas_remaining - gas_per_byte * ((exponent.bit_length() + 7) >> 3)
        if gas < 0:
            raise OutOfGas(f"out of gas: EXP, {-gas} missing")
        meter.gas_remaining = gas
        values[-1] = pow(base, exponent, MODULUS)

    return exp


def _jump(entry: Any) -> Opcode:
    gas_cost = entry.gas_cost

    def jump(computation: Any) -> None:
        _, values = _take(computation, 1, gas_cost)
        go_to(computation.code, values.pop())

    return jump


def _jumpi(entry: Any) -> Opcode:
    gas_cost = entry.gas_cost

    def jumpi(computation: Any) -> None:
        _, values = _take(computation, 2, gas_cost)
        destination = values.pop()
        if values.pop():
            go_to(computation.code, destination)

    return jumpi


def go_to(code: Any, destination: int) -> None:
    """Raises InvalidJumpDestination, also for a JUMPDEST that is data of a PUSH."""
    raw = code._raw_code_bytes
    if destination >= len(raw) or raw[destination] != _JUMPDEST or not code.is_valid_opcode(destination):
        raise InvalidJumpDestination(f"no JUMPDEST at {destination}")
    code.program_counter = destination


def _sload(entry: Any) -> Opcode | None:
    load: Load | None = load_function(entry)
    if load is None:
        return None
    function = load

    def sload(computation: Any) -> None:
        meter, values = _take(computation, 1, 0)
        values[-1], meter.gas_remaining = function(computation, values[-1], meter.gas_remaining)

    return sload


def _sstore(entry: Any) -> Opcode | None:
    store: Store | None = store_function(entry)
    if store is None:
        return None
    function = store

    def sstore(computation: Any) -> None:
        meter, values = _take(computation, 2, 0)
        slot, value = values.pop(), values.pop()
        meter.gas_remaining = function(computation, slot, value, meter.gas_remaining)

    return sstore


def _tstore(entry: Any) -> Opcode:
    gas_cost = entry.gas_cost

    def tstore(computation: Any) -> None:
        _, values = _take(computation, 2, gas_cost)
        slot, value = values.pop(), values.pop()
        store_transient(computation, slot, value)

    return tstore


def _log(entry: Any) -> Opcode | None:
    if entry.gas_cost != 375:
        return None
    topics = keywords(entry)["topic_count"]
    function = log_unless_static if is_guarded(entry) else log

    def log_(computation: Any) -> None:
        meter, values = _take(computation, 2 + topics, 0)
        start, size = values.pop(), values.pop()
        taken = tuple([values.pop() for _ in range(topics)])
        memory = computation._memory._bytes
        meter.gas_remaining = function(computation, memory, start, size, taken, meter.gas_remaining)

    return log_


FRAME_OPCODES: Mapping[str, Callable[[Any], Opcode | None]] = {
    "logic.memory.mload": _mload,
    "logic.memory.mstore": _mstore,
    "logic.memory.mstore8": _mstore8,
    "logic.sha3.sha3": _keccak,
    "logic.context.calldatacopy": _copy(lambda computation: computation.msg.data_as_bytes),
    "logic.context.codecopy": _copy(lambda computation: computation.code._raw_code_bytes),
    "logic.memory.mcopy": _mcopy,
    "logic.system.return_op": _return,
    "logic.system.revert": _revert,
    "logic.arithmetic.exp": _exp,
    "logic.flow.jump": _jump,
    "logic.flow.jumpi": _jumpi,
    "logic.storage.sload": _sload,
    "forks.berlin.logic.sload_eip2929": _sload,
    "forks.berlin.logic.sstore_eip2929_generic": _sstore,
    "forks.cancun.logic.tstore": _tstore,
    "logic.logging.log_XX": _log,
}
"""By logic name, what makes the opcode for an entry of py-evm's table; None where the entry is another than known."""
