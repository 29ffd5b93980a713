"""What a call pretends of accounts and of the block it runs in (geth's state and block overrides)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from openledger.evm_ext.errors import CallError
from openledger.evm_ext.payload import Withdrawal
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.vm.computation import Computation
from openledger.evm_ext.vm.environment import BlockEnvironment
from openledger.evm_ext.vm.rules import Rules


class PrecompileMoveError(CallError):
    """A precompile that cannot be moved as asked."""


class PrecompileMovedToItself(PrecompileMoveError):
    """`move_precompile_to` names the precompile's own address."""


@dataclass(frozen=True)
class StateOverride:
    """What to pretend about an account. `state` replaces its storage, `state_diff` changes some slots.

    An overridden precompile is none any more; with `move_precompile_to` it is one at that address instead."""

    balance: int | None = None
    nonce: int | None = None
    code: bytes | None = None
    state: Mapping[int, int] | None = None
    state_diff: Mapping[int, int] = field(default_factory=dict)
    move_precompile_to: bytes | None = None


@dataclass(frozen=True)
class BlockOverrides:
    """What to pretend about a block; None keeps what it would be. Fees are wei, the time seconds."""

    number: int | None = None
    difficulty: int | None = None
    timestamp: int | None = None
    gas_limit: int | None = None
    fee_recipient: bytes | None = None
    prev_randao: bytes | None = None
    base_fee_per_gas: int | None = None
    blob_base_fee: int | None = None
    parent_beacon_block_root: bytes | None = None
    withdrawals: tuple[Withdrawal, ...] | None = None


def apply_state_overrides(state: WorldState, overrides: Mapping[bytes, StateOverride] | None) -> None:
    """Change a throw-away state, and the machine that runs on it, as asked.

    Raises `PrecompileMoveError`."""
    if not overrides:
        return
    machine = overridden_machine(state.computation_class, overrides)
    if machine is not state.computation_class:
        state.enter_block(state.execution_context, machine)
    for address, override in overrides.items():
        state.touch_account(address)
        if override.nonce is not None:
            state.set_nonce(address, override.nonce)
        if override.code is not None:
            state.set_code(address, override.code)
        if override.balance is not None:
            state.set_balance(address, override.balance)
        if override.state is not None:
            state.delete_storage(address)
        for slot, value in {**(override.state or {}), **override.state_diff}.items():
            state.set_storage(address, slot, value)
    # An account that an override leaves empty is there all the same.
    state.end_transaction(keep_empty=True)


def overridden_machine(machine: type[Computation], overrides: Mapping[bytes, StateOverride]) -> type[Computation]:
    """The machine without the precompiles that are overridden, and with those that are moved."""
    before = machine.get_precompiles()
    moved: dict[bytes, bytes] = {}
    for address, override in overrides.items():
        target = override.move_precompile_to
        if target is None:
            continue
        if address not in before:
            raise PrecompileMoveError(f"account 0x{address.hex()} is not a precompile")
        if target == address:
            raise PrecompileMovedToItself(f"account 0x{address.hex()} is moved to itself")
        if target in overrides:
            raise PrecompileMoveError(f"account 0x{target.hex()} is already overridden")
        moved[target] = address
    if not moved and not any(address in before for address in overrides):
        return machine
    precompiles = {address: run for address, run in before.items() if address not in overrides}
    precompiles |= {target: before[address] for target, address in moved.items()}
    return type(f"Overridden{machine.__name__}", (machine,), {"_precompiles": precompiles})


def overridden_environment(
    environment: BlockEnvironment, overrides: BlockOverrides | None, rules: Rules
) -> BlockEnvironment:
    """The environment of a call in a block that is pretended to be another; the fork follows its number and time."""
    if overrides is None:
        return environment
    number = _or(overrides.number, environment.block_number)
    timestamp = _or(overrides.timestamp, environment.timestamp)
    changed = replace(
        environment,
        rules=rules.at(number, timestamp, merged=environment.rules.is_proof_of_stake),
        block_number=number,
        timestamp=timestamp,
        difficulty=_or(overrides.difficulty, environment.difficulty),
        gas_limit=_or(overrides.gas_limit, environment.gas_limit),
        coinbase=_or(overrides.fee_recipient, environment.coinbase),
        mix_hash=_or(overrides.prev_randao, environment.mix_hash),
        base_fee_per_gas=_or(overrides.base_fee_per_gas, environment.base_fee_per_gas),
    )
    return with_blob_base_fee(changed, overrides.blob_base_fee)


def with_blob_base_fee(environment: BlockEnvironment, blob_base_fee: int | None) -> BlockEnvironment:
    """The environment with another price of blob gas than its excess gives."""
    if blob_base_fee is not None:
        # It is worked out of the excess when it is first asked for; what is there already is taken as it is.
        environment.__dict__["blob_base_fee"] = blob_base_fee
    return environment


T = TypeVar("T")


def _or(wanted: T | None, otherwise: T) -> T:
    return otherwise if wanted is None else wanted
