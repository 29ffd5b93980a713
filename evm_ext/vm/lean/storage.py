"""Storage, transient storage and logs, lean. Each function takes the gas that is left and gives what is left after.

Shared by the plain tier and generated code. Sources: EIP-1153, 2200, 2929, 3529.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eth.exceptions import OutOfGas, WriteProtection
from eth.vm.logic.storage import NetSStoreGasSchedule

from openledger.evm_ext.vm.lean.memory import grow
from openledger.evm_ext.vm.lean.names import gas_schedule, is_guarded, logic_name

Load = Callable[[Any, int, int], tuple[int, int]]
"""(computation, slot, gas) -> (value, gas left)."""
Store = Callable[[Any, int, int, int], int]
"""(computation, slot, value, gas) -> gas left."""

COLD_SLOAD = 2100
WARM_READ = 100
SSTORE_SENTRY = 2300
GAS_LOG = 375
GAS_LOG_BYTE = 8


def static_violation() -> WriteProtection:
    return WriteProtection("Cannot modify state while inside of a STATICCALL context")


def load_at(gas_cost: int) -> Load:
    """SLOAD at one price (before Berlin)."""

    def load(computation: Any, slot: int, gas: int) -> tuple[int, int]:
        gas -= gas_cost
        if gas < 0:
            raise OutOfGas(f"out of gas: SLOAD, {-gas} missing")
        return computation.state.get_storage(computation.msg.storage_address, slot), gas

    return load


def load_warm_or_cold(computation: Any, slot: int, gas: int) -> tuple[int, int]:
    """SLOAD since Berlin (EIP-2929)."""
    state = computation.state
    address = computation.msg.storage_address
    gas -= COLD_SLOAD if state.warm_slot(address, slot) else WARM_READ
    if gas < 0:
        raise OutOfGas(f"out of gas: SLOAD, {-gas} missing")
    return state.get_storage(address, slot), gas


def store_warm_or_cold(schedule: NetSStoreGasSchedule) -> Store:
    """SSTORE since Berlin (EIP-2200 with the prices of EIP-2929 and 3529)."""
    read_gas, set_gas, reset_gas, clear_refund = schedule

    def store(computation: Any, slot: int, value: int, gas: int) -> int:
        message = computation.msg
        if message.is_static:
            raise static_violation()
        if gas <= SSTORE_SENTRY:
            raise OutOfGas(f"out of gas: SSTORE with {gas} left, more than {SSTORE_SENTRY} needed (EIP-2200)")
        state = computation.state
        address = message.storage_address
        current = state.get_storage(address, slot)
        refund = 0
        if current == value:
            gas -= read_gas
        else:
            original = state.original_storage(address, slot, current)
            if original == current:
                if not original:
                    gas -= set_gas
                else:
                    gas -= reset_gas
                    if not value:
                        refund = clear_refund
            else:
                gas -= read_gas
                if original:
                    if not current:
                        refund = -clear_refund
                    elif not value:
                        refund = clear_refund
                if original == value:
                    refund += (reset_gas if original else set_gas) - read_gas
        if state.warm_slot(address, slot):
            gas -= COLD_SLOAD
        if gas < 0:
            raise OutOfGas(f"out of gas: SSTORE, {-gas} missing")
        if current != value:
            if refund:
                computation._gas_meter.gas_refunded += refund
            state.replace_storage(address, slot, current, value)
        return gas

    return store


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


def store_transient(computation: Any, slot: int, value: int) -> None:
    """TSTORE (EIP-1153)."""
    message = computation.msg
    if message.is_static:
        raise static_violation()
    computation.state.set_transient_storage(message.storage_address, slot, value.to_bytes(32, "big"))


def log(computation: Any, memory: bytearray, start: int, size: int, topics: tuple[int, ...], gas: int) -> int:
    """LOG0 to LOG4, memory included; the check for static calls is the caller's where the fork has it."""
    gas -= GAS_LOG * (1 + len(topics)) + GAS_LOG_BYTE * size
    if gas < 0:
        raise OutOfGas(f"out of gas: LOG, {-gas} missing")
    if size and len(memory) < start + size:
        gas = grow(memory, start + size, gas)
    computation._log_entries.append(
        (
            computation.transaction_context.get_next_log_counter(),
            computation.msg.storage_address,
            topics,
            bytes(memory[start : start + size]) if size else b"",
        )
    )
    return gas


def log_unless_static(
    computation: Any, memory: bytearray, start: int, size: int, topics: tuple[int, ...], gas: int
) -> int:
    """LOG since Byzantium."""
    if computation.msg.is_static:
        raise static_violation()
    return log(computation, memory, start, size, topics, gas)
