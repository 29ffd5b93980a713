"""CALL, CALLCODE, DELEGATECALL and STATICCALL since Berlin, lean (EIP-150, 161, 2929, 7702).

Earlier forks keep py-evm's: their prices differ in every one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eth.exceptions import InsufficientStack, OutOfGas
from eth.vm.forks.berlin.logic import (
    BaseCallEIP2929,
    CallCodeEIP2929,
    CallEIP2929,
    DelegateCallEIP2929,
    StaticCallEIP2929,
)
from eth.vm.forks.prague.logic import BaseCallEIP7702

from openledger.evm_ext.vm.lean.memory import grow
from openledger.evm_ext.vm.lean.storage import static_violation
from openledger.evm_ext.vm.lean.written import Opcode
from openledger.evm_ext.vm.message import Message

COLD_ACCOUNT = 2_600
WARM_READ = 100
GAS_VALUE = 9_000
GAS_NEW_ACCOUNT = 25_000
GAS_STIPEND = 2_300
DEPTH_LIMIT = 1024
_ADDRESS = (1 << 160) - 1


def call_opcode(entry: Any) -> Opcode | None:
    """The lean opcode for an entry of py-evm's table, None if it is not one of these."""
    if not isinstance(entry, BaseCallEIP2929):
        return None
    make = next((make for kind, make in _KINDS.items() if isinstance(entry, kind)), None)
    if make is None or entry.gas_cost:
        return None
    return make(isinstance(entry, BaseCallEIP7702))


def _call(delegates: bool) -> Opcode:
    def call(computation: Any) -> None:
        gas, address, value, *places = _pop(computation, 7)
        message = computation.msg
        if value and message.is_static:
            raise static_violation()
        to = address.to_bytes(20, "big")
        _run(computation, delegates, gas, places, to, to, message.storage_address, value, True, message.is_static)

    return call


def _call_code(delegates: bool) -> Opcode:
    def call_code(computation: Any) -> None:
        gas, address, value, *places = _pop(computation, 7)
        message = computation.msg
        own = message.storage_address
        source = address.to_bytes(20, "big")
        _run(computation, delegates, gas, places, own, source, own, value, True, message.is_static)

    return call_code


def _delegate_call(delegates: bool) -> Opcode:
    def delegate_call(computation: Any) -> None:
        gas, address, *places = _pop(computation, 6)
        message = computation.msg
        source = address.to_bytes(20, "big")
        _run(
            computation,
            delegates,
            gas,
            places,
            message.storage_address,
            source,
            message.sender,
            message.value,
            False,
            message.is_static,
        )

    return delegate_call


def _static_call(delegates: bool) -> Opcode:
    def static_call(computation: Any) -> None:
        gas, address, *places = _pop(computation, 6)
        to = address.to_bytes(20, "big")
        _run(computation, delegates, gas, places, to, to, computation.msg.storage_address, 0, False, True)

    return static_call


_KINDS: Mapping[type, Callable[[bool], Opcode]] = {
    StaticCallEIP2929: _static_call,
    DelegateCallEIP2929: _delegate_call,
    CallCodeEIP2929: _call_code,
    CallEIP2929: _call,
}


def _pop(computation: Any, count: int) -> list[int]:
    """The words taken, from the top; the second is cut to an address."""
    values = computation._stack.values
    if len(values) < count:
        raise InsufficientStack(f"{count} stack items wanted, {len(values)} there")
    taken = values[: -count - 1 : -1]
    del values[-count:]
    taken[1] &= _ADDRESS
    return taken  # type: ignore[no-any-return]


def _load_account(state: Any, address: bytes, gas: int) -> int:
    gas -= COLD_ACCOUNT if state.warm_address(address) else WARM_READ
    if gas < 0:
        raise OutOfGas(f"out of gas: call of 0x{address.hex()}, {-gas} missing")
    return gas


def _run(
    computation: Any,
    delegates: bool,
    asked_gas: int,
    places: list[int],
    to: bytes,
    source: bytes,
    sender: bytes,
    value: int,
    moves_value: bool,
    is_static: bool,
) -> None:
    """`places` are start and size of input and output in memory; `source` is where the code is."""
    state, meter = computation.state, computation._gas_meter
    memory = computation._memory._bytes
    input_start, input_size, output_start, output_size = places
    gas = meter.gas_remaining
    data = b""
    if input_size:
        if len(memory) < input_start + input_size:
            gas = grow(memory, input_start + input_size, gas)
        data = bytes(memory[input_start : input_start + input_size])
    if output_size and len(memory) < output_start + output_size:
        gas = grow(memory, output_start + output_size, gas)

    source_account = source
    gas = _load_account(state, source, gas)
    code = state.get_code(source)
    delegated = delegates and len(code) == 23 and code[:3] == b"\xef\x01\x00"
    if delegated:
        source = code[3:]
        gas = _load_account(state, source, gas)
        code = state.get_code(source)

    stipend = 0
    if value and moves_value:
        stipend = GAS_STIPEND
        gas -= GAS_VALUE
        # CALLCODE sends to the account itself, which is there.
        if to is source_account and state.account_is_empty(to):
            gas -= GAS_NEW_ACCOUNT
        if gas < 0:
            raise OutOfGas(f"out of gas: call with value, {-gas} missing")
    given = min(asked_gas, gas - gas // 64)
    meter.gas_remaining = gas - given
    given += stipend

    message = computation.msg
    depth = message.depth + 1
    if depth > DEPTH_LIMIT or (value and moves_value and state.get_balance(message.storage_address) < value):
        computation.return_data = b""
        computation.return_gas(given)
        computation._stack.values.append(0)
        return
    child = computation.apply_message(
        state,
        Message(
            given,
            to,
            sender,
            value,
            data,
            code,
            depth,
            None,
            source,
            moves_value,
            is_static,
            delegated,
        ),
        computation.transaction_context,
        computation,
    )
    error = child._error
    computation.absorb(child)
    output = computation.return_data
    computation._stack.values.append(1 if error is None else 0)
    if output and output_size:
        written = min(output_size, len(output))
        memory[output_start : output_start + written] = output[:written]
    if error is None or not error.burns_gas:
        computation.return_gas(child._gas_meter.gas_remaining)
