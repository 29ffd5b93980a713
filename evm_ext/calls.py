"""Messages that change nothing: eth_call and eth_estimateGas.

They run on a throw-away state over a block's final state. As geth does it: the nonce is not checked, the L1
and operator fees are not charged, and without a gas price the base fee is 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eth.exceptions import OutOfGas, VMError
from eth.vm.forks.cancun.transaction_context import CancunTransactionContext

from openledger.evm_ext import errors
from openledger.evm_ext.block import Header
from openledger.evm_ext.processing import computation_class
from openledger.evm_ext.receipts import Log
from openledger.evm_ext.state.reader import StateReader
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.transactions import AccessList, Authorization, Transaction
from openledger.evm_ext.vm.environment import BlockEnvironment
from openledger.evm_ext.vm.executor import (
    GAS_TRANSACTION,
    MAX_INIT_CODE_BYTES,
    MAX_REFUND_QUOTIENT,
    Executor,
    apply_message,
    contract_address,
    describe_error,
    floor_gas,
    intrinsic_gas,
)
from openledger.evm_ext.vm.rules import Rules

DEFAULT_GAS_CAP = 50_000_000
DEFAULT_TIME_LIMIT_S = 5.0
ESTIMATE_TOLERANCE_PPM = 15_000
"""How far above the least sufficient gas an estimate may be; geth's 1.5 %."""

_CALL_STIPEND = 2_300


@dataclass(frozen=True)
class CallRequest:
    """A message to try. `to` None creates a contract; `gas` None means as much as is allowed.

    `max_fee_per_gas` 0 makes gas free. `gas_price` of old is max_fee == max_priority_fee."""

    sender: bytes = bytes(20)
    to: bytes | None = None
    gas: int | None = None
    max_fee_per_gas: int = 0
    max_priority_fee_per_gas: int = 0
    value: int = 0
    data: bytes = b""
    access_list: AccessList = ()
    authorization_list: tuple[Authorization, ...] = ()
    blob_versioned_hashes: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class StateOverride:
    """What to pretend about an account. `state` replaces its storage, `state_diff` changes some slots."""

    balance: int | None = None
    nonce: int | None = None
    code: bytes | None = None
    state: Mapping[int, int] | None = None
    state_diff: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CallResult:
    """What the message did. `output` is return data, or revert data if `error` is not None; `error` begins
    with geth's words ("execution reverted", "out of gas", …). `gas_used` is after refunds."""

    output: bytes
    gas_used: int
    error: str | None
    logs: tuple[Log, ...] = ()
    max_refund: int = 0
    starved: bool = False

    @property
    def success(self) -> bool:
        return self.error is None

    @property
    def reverted(self) -> bool:
        return self.error is not None and self.error.startswith("execution reverted")


@dataclass(frozen=True)
class CallContext:
    """The block a call runs after: its header, final state and ancestors."""

    rules: Rules
    header: Header
    reader: StateReader
    ancestor_hash: Callable[[int], bytes]


def call(
    context: CallContext,
    request: CallRequest,
    overrides: Mapping[bytes, StateOverride] | None = None,
    *,
    gas_cap: int = DEFAULT_GAS_CAP,
    time_limit_s: float = DEFAULT_TIME_LIMIT_S,
) -> CallResult:
    """Run a message. A failing message is a result, not an exception.

    Raises `CallTimeout`, and `CallError` if the message could not start (no funds, too little gas)."""
    gas = gas_cap if request.gas is None else min(request.gas, gas_cap)
    return _run(context, request, gas, overrides, time.monotonic() + time_limit_s)


def estimate_gas(
    context: CallContext,
    request: CallRequest,
    overrides: Mapping[bytes, StateOverride] | None = None,
    *,
    gas_cap: int = DEFAULT_GAS_CAP,
    time_limit_s: float = DEFAULT_TIME_LIMIT_S,
) -> int:
    """The least gas limit that lets the message succeed, up to `ESTIMATE_TOLERANCE_PPM` too much.

    A limit at which a call inside runs out of gas does not count as enough, unless that happens at any limit:
    contracts that swallow such failures would otherwise be estimated too low.

    Raises `EstimationFailed` with the revert data if no gas limit does, `CallError`, `CallTimeout`."""
    deadline = time.monotonic() + time_limit_s
    high = min(context.header.gas_limit, gas_cap)
    if request.gas is not None and request.gas >= GAS_TRANSACTION:
        high = min(high, request.gas)
    if request.max_fee_per_gas:
        high = min(high, _affordable_gas(context, request, overrides))
    result = _run(context, request, high, overrides, deadline)
    if result.error is not None:
        if result.error.startswith("out of gas"):
            raise errors.EstimationFailed(f"gas required exceeds allowance ({high})", result.output)
        raise errors.EstimationFailed(result.error, result.output)
    low = result.gas_used - 1
    # Enough for the 63/64 rule and the refund, if nothing in the call depends on the gas it has.
    optimistic = (result.gas_used + result.max_refund + _CALL_STIPEND) * 64 // 63

    def is_enough(gas: int) -> bool:
        try:
            attempt = _run(context, request, gas, overrides, deadline)
        except errors.IntrinsicGasTooLow:
            return False
        return attempt.success and (result.starved or not attempt.starved)

    if optimistic < high:
        if is_enough(optimistic):
            high = optimistic
        else:
            low = optimistic
    if high > low + 1 and is_enough(low + 1):
        return low + 1
    while low + 1 < high and (high - low) * 1_000_000 > ESTIMATE_TOLERANCE_PPM * high:
        middle = min((high + low) // 2, low * 2)
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return high


def _affordable_gas(context: CallContext, request: CallRequest, overrides: Mapping[bytes, StateOverride] | None) -> int:
    override = (overrides or {}).get(request.sender)
    if override is not None and override.balance is not None:
        balance = override.balance
    else:
        account = context.reader.account(request.sender)
        balance = account.balance if account else 0
    if balance < request.value:
        raise errors.CallError(
            f"insufficient funds for transfer: address 0x{request.sender.hex()} have {balance} want {request.value}"
        )
    affordable = (balance - request.value) // request.max_fee_per_gas
    if affordable < GAS_TRANSACTION:
        raise errors.CallError(f"gas required exceeds allowance ({affordable})")
    return affordable


def new_state(context: CallContext, *, free_gas: bool, deadline: float | None) -> tuple[WorldState, BlockEnvironment]:
    """A throw-away state after the context's block, in the environment of that block."""
    header = context.header
    environment = BlockEnvironment(
        chain_id=context.rules.chain_id,
        coinbase=header.fee_recipient,
        timestamp=header.timestamp,
        block_number=header.number,
        mix_hash=header.prev_randao,
        gas_limit=header.gas_limit,
        base_fee_per_gas=0 if free_gas else header.base_fee_per_gas,
        excess_blob_gas=header.excess_blob_gas,
        ancestor_hash=context.ancestor_hash,
    )
    state = WorldState(context.reader, environment, computation_class(context.rules, header.timestamp))
    state.deadline = deadline
    return state, environment


def apply_overrides(state: WorldState, overrides: Mapping[bytes, StateOverride] | None) -> None:
    """Change a throw-away state as asked."""
    for address, override in (overrides or {}).items():
        if override.balance is not None:
            state.set_balance(address, override.balance)
        if override.nonce is not None:
            state.set_nonce(address, override.nonce)
        if override.code is not None:
            state.set_code(address, override.code)
        if override.state is not None:
            state.delete_storage(address)
        for slot, value in {**(override.state or {}), **override.state_diff}.items():
            state.set_storage(address, slot, value)
    state.end_transaction()


def _run(
    context: CallContext,
    request: CallRequest,
    gas: int,
    overrides: Mapping[bytes, StateOverride] | None,
    deadline: float,
) -> CallResult:
    state, environment = new_state(context, free_gas=request.max_fee_per_gas == 0, deadline=deadline)
    apply_overrides(state, overrides)
    as_transaction = _as_transaction(request, gas)
    needed = max(intrinsic_gas(as_transaction), floor_gas(request.data))
    if gas < needed:
        raise errors.IntrinsicGasTooLow(f"intrinsic gas too low: have {gas}, want {needed}")
    if request.to is None and len(request.data) > MAX_INIT_CODE_BYTES:
        raise errors.CallError(f"max initcode size exceeded: code size {len(request.data)} limit {MAX_INIT_CODE_BYTES}")
    gas_price = 0
    if request.max_fee_per_gas:
        if request.max_fee_per_gas < environment.base_fee_per_gas:
            raise errors.CallError(
                f"max fee per gas less than block base fee: maxFeePerGas: {request.max_fee_per_gas}, "
                f"baseFee: {environment.base_fee_per_gas}"
            )
        gas_price = as_transaction.effective_gas_price(environment.base_fee_per_gas)
    balance = state.get_balance(request.sender)
    if balance < request.value + gas * request.max_fee_per_gas:
        raise errors.CallError(
            f"insufficient funds for gas * price + value: address 0x{request.sender.hex()} "
            f"have {balance} want {request.value + gas * request.max_fee_per_gas}"
        )
    nonce = state.get_nonce(request.sender)
    state.increment_nonce(request.sender)
    refund = Executor(state, environment, context.rules).apply_authorizations(request.authorization_list)
    try:
        computation = apply_message(
            state,
            CancunTransactionContext(
                gas_price=gas_price,
                origin=request.sender,
                blob_versioned_hashes=request.blob_versioned_hashes,
            ),
            sender=request.sender,
            to=request.to,
            created=contract_address(request.sender, nonce) if request.to is None else None,
            gas=gas - intrinsic_gas(as_transaction),
            value=request.value,
            data=request.data,
            access_list=request.access_list,
            refund=refund,
        )
    except VMError as error:
        return CallResult(b"", gas, describe_error(error))
    used = gas - computation.get_gas_remaining()
    refunded = min(computation.get_gas_refund(), used // MAX_REFUND_QUOTIENT)
    gas_used = max(used - refunded, floor_gas(request.data))
    return CallResult(
        output=bytes(computation.output),
        gas_used=gas_used,
        error=None if computation.is_success else describe_error(computation.error),
        logs=tuple(
            Log(address, tuple(topic.to_bytes(32, "big") for topic in topics), data)
            for address, topics, data in computation.get_log_entries()
        ),
        max_refund=refunded,
        starved=_is_starved(computation),
    )


def _is_starved(computation: Any) -> bool:
    error = computation._error
    return isinstance(error, OutOfGas) or any(_is_starved(child) for child in computation.children)


def _as_transaction(request: CallRequest, gas: int) -> Transaction:
    """The request in the form that gas rules read; never signed, never stored."""
    return Transaction(
        raw=b"",
        type=2,
        chain_id=None,
        nonce=0,
        max_priority_fee_per_gas=request.max_priority_fee_per_gas,
        max_fee_per_gas=request.max_fee_per_gas,
        gas=gas,
        to=request.to,
        value=request.value,
        data=request.data,
        access_list=request.access_list,
        authorization_list=request.authorization_list,
    )
