"""Messages that change nothing: eth_call and eth_estimateGas.

They run on a throw-away state over a block's final state. As geth does it: the nonce is not checked, the L1
and operator fees are not charged, and without a gas price the base fee is 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from eth.exceptions import OutOfGas, VMError

from openledger.evm_ext import errors
from openledger.evm_ext.block import Header
from openledger.evm_ext.fees import GAS_PER_BLOB
from openledger.evm_ext.kept import kept, quickly_made
from openledger.evm_ext.overrides import (
    BlockOverrides,
    StateOverride,
    apply_state_overrides,
    overridden_environment,
    with_blob_base_fee,
)
from openledger.evm_ext.receipts import Log
from openledger.evm_ext.state.reader import StateReader
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.tracing.failure import failure_words
from openledger.evm_ext.transactions import (
    BLOB,
    DYNAMIC_FEE,
    LEGACY,
    MAX_UINT64,
    SET_CODE,
    AccessList,
    Authorization,
    Transaction,
    encode_transaction,
)
from openledger.evm_ext.vm.entry import apply_message, contract_address, describe_error
from openledger.evm_ext.vm.environment import BlockEnvironment
from openledger.evm_ext.vm.executor import Executor
from openledger.evm_ext.vm.intrinsic import GAS_TRANSACTION, floor_gas, intrinsic_gas
from openledger.evm_ext.vm.machines import MachineWrapper, machine
from openledger.evm_ext.vm.rules import MAX_INIT_CODE_BYTES, BlockRules, Rules
from openledger.evm_ext.vm.transaction_context import TransactionContext

DEFAULT_GAS_CAP = 50_000_000
DEFAULT_TIME_LIMIT_S = 5.0
ESTIMATE_TOLERANCE_PPM = 15_000
"""How far above the least sufficient gas an estimate may be; geth's 1.5 %."""

_CALL_STIPEND = 2_300


@quickly_made
@dataclass(frozen=True)
class CallRequest:
    """A message to try. `to` None creates a contract; `gas` None means as much as is allowed.

    `max_fee_per_gas` 0 makes gas free. With `is_legacy` both fees are the `gasPrice` of old. `nonce` None is the
    sender's; only a simulation looks at it."""

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
    max_fee_per_blob_gas: int = 0
    nonce: int | None = None
    is_legacy: bool = False


@quickly_made
@dataclass(frozen=True)
class CallResult:
    """What the message did. `output` is return data, or revert data if `error` is not None; `error` is in geth's
    words ("execution reverted", "out of gas", …), of which `call` gives the whole and `run_request` the beginning. `gas_used` is after refunds, `max_gas_used` before."""

    output: bytes
    gas_used: int
    error: str | None
    logs: tuple[Log, ...] = ()
    max_refund: int = 0
    starved: bool = False
    max_gas_used: int = 0

    @property
    def success(self) -> bool:
        return self.error is None

    @property
    def reverted(self) -> bool:
        return self.error is not None and self.error.startswith("execution reverted")


@quickly_made
@dataclass(frozen=True)
class CallBlock:
    """The block that calls run after: its header and ancestors, and what all calls need that is worked out of them."""

    rules: Rules
    header: Header
    ancestor_hash: Callable[[int], bytes]

    @kept
    def block_rules(self) -> BlockRules:
        return self.rules.of(self.header)

    @kept
    def environment(self) -> BlockEnvironment:
        return BlockEnvironment.of(self.header, self.block_rules, self.ancestor_hash)

    @kept
    def free_environment(self) -> BlockEnvironment:
        """The environment with a base fee of 0."""
        return replace(self.environment, base_fee_per_gas=0)


@quickly_made
@dataclass(frozen=True)
class CallContext:
    """A block, and its final state. `machine_wrapper` makes another machine of the block's own."""

    block: CallBlock
    reader: StateReader
    machine_wrapper: MachineWrapper | None = None

    @property
    def rules(self) -> Rules:
        return self.block.rules

    @property
    def header(self) -> Header:
        return self.block.header

    @property
    def ancestor_hash(self) -> Callable[[int], bytes]:
        return self.block.ancestor_hash


def call(
    context: CallContext,
    request: CallRequest,
    overrides: Mapping[bytes, StateOverride] | None = None,
    *,
    block_overrides: BlockOverrides | None = None,
    gas_cap: int = DEFAULT_GAS_CAP,
    time_limit_s: float = DEFAULT_TIME_LIMIT_S,
) -> CallResult:
    """Run a message. A failing message is a result, not an exception.

    Raises `CallTimeout`, and `CallError` or `InvalidTransaction` if the message could not start."""
    gas = gas_cap if request.gas is None else min(request.gas, gas_cap)
    attempt = _Attempt(context, request, overrides, block_overrides, time.monotonic() + time_limit_s)
    return attempt.explained(attempt.run(gas), gas)


def estimate_gas(
    context: CallContext,
    request: CallRequest,
    overrides: Mapping[bytes, StateOverride] | None = None,
    *,
    block_overrides: BlockOverrides | None = None,
    gas_cap: int = DEFAULT_GAS_CAP,
    time_limit_s: float = DEFAULT_TIME_LIMIT_S,
) -> int:
    """The least gas limit that lets the message succeed, up to `ESTIMATE_TOLERANCE_PPM` too much.

    A limit at which a call inside runs out of gas does not count as enough, unless that happens at any limit:
    contracts that swallow such failures would otherwise be estimated too low.

    Raises `EstimationFailed` with the revert data if no gas limit does, `CallError`, `CallTimeout`,
    `InvalidTransaction`."""
    attempt = _Attempt(context, request, overrides, block_overrides, time.monotonic() + time_limit_s)
    high = min(attempt.environment.gas_limit, gas_cap)
    if (most := attempt.environment.rules.max_transaction_gas) is not None:
        high = min(high, most)
    if request.gas is not None and request.gas >= GAS_TRANSACTION:
        high = min(high, request.gas)
    if request.max_fee_per_gas:
        high = min(high, _affordable_gas(context, request, overrides))
    result = attempt.explained(attempt.run(high), high)
    if result.error is not None:
        if result.error.startswith("out of gas"):
            raise errors.EstimationFailed(f"gas required exceeds allowance ({high})", result.output)
        raise errors.EstimationFailed(result.error, result.output)
    low = result.gas_used - 1
    # Enough for the 63/64 rule and the refund, if nothing in the call depends on the gas it has.
    optimistic = (result.gas_used + result.max_refund + _CALL_STIPEND) * 64 // 63

    def is_enough(gas: int) -> bool:
        try:
            tried = attempt.run(gas)
        except errors.IntrinsicGasTooLow:
            return False
        return tried.success and (result.starved or not tried.starved)

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


def new_state(
    context: CallContext,
    overrides: Mapping[bytes, StateOverride] | None = None,
    block_overrides: BlockOverrides | None = None,
    *,
    free_gas: bool,
    deadline: float | None,
) -> WorldState:
    """A throw-away state after the context's block, in the environment of that block, both changed as asked.

    With `free_gas` the base fee is 0, so that a message may offer nothing. Raises `PrecompileMoveError`."""
    block = context.block
    if block_overrides is None:
        environment = block.free_environment if free_gas else block.environment
    else:
        environment = overridden_environment(block.environment, block_overrides, block.rules)
        if free_gas:
            environment = with_blob_base_fee(replace(environment, base_fee_per_gas=0), block_overrides.blob_base_fee)
    computation = machine(environment.rules)
    if context.machine_wrapper is not None:
        computation = context.machine_wrapper(computation)
    state = WorldState(context.reader, environment, computation)
    state.deadline = deadline
    apply_state_overrides(state, overrides)
    return state


class _Attempt:
    """One request on one block, to be run with one gas limit or several."""

    def __init__(
        self,
        context: CallContext,
        request: CallRequest,
        overrides: Mapping[bytes, StateOverride] | None,
        block_overrides: BlockOverrides | None,
        deadline: float,
    ) -> None:
        self._request = request
        self._arguments = (context, overrides, block_overrides)
        self._deadline = deadline
        self._unused: WorldState | None = self._new_state()
        self.environment: BlockEnvironment = self._unused.execution_context

    def run(self, gas: int) -> CallResult:
        state, self._unused = self._unused or self._new_state(), None
        return run_request(state, self._request, gas)

    def explained(self, result: CallResult, gas: int) -> CallResult:
        """What `run` gave for this gas, with the whole of geth's words if it failed."""
        if result.error is None or result.reverted:
            return result
        words = failure_words(self._new_state(), lambda state: run_request(state, self._request, gas))
        return replace(result, error=words or result.error)

    def _new_state(self) -> WorldState:
        return new_state(*self._arguments, free_gas=not self._request.max_fee_per_gas, deadline=self._deadline)


def run_request(state: WorldState, request: CallRequest, gas: int) -> CallResult:
    """Run a message with a gas limit, on a state that it changes, as eth_call does: no fee is taken and no nonce
    checked, but what the message offers has to be there. Raises `CallError`, `CallTimeout`, `InvalidTransaction`."""
    environment: BlockEnvironment = state.execution_context
    rules = environment.rules
    needed = check_gas(request, gas, rules)
    gas_price = 0
    if request.max_fee_per_gas:
        if request.max_fee_per_gas < environment.base_fee_per_gas:
            raise errors.FeeCapTooLow(
                f"max fee per gas less than block base fee: address 0x{request.sender.hex()}, "
                f"maxFeePerGas: {request.max_fee_per_gas}, baseFee: {environment.base_fee_per_gas}"
            )
        gas_price = effective_gas_price(request, environment.base_fee_per_gas)
    balance = state.get_balance(request.sender)
    cost = request.value + gas * request.max_fee_per_gas
    cost += len(request.blob_versioned_hashes) * GAS_PER_BLOB * request.max_fee_per_blob_gas
    if balance < cost:
        raise errors.InsufficientFunds(
            f"insufficient funds for gas * price + value: address 0x{request.sender.hex()} have {balance} want {cost}"
        )
    return execute_request(state, request, gas, needed, gas_price)


def check_gas(request: CallRequest, gas: int, rules: BlockRules) -> int:
    """The gas before the first opcode. Raises `IntrinsicGasTooLow`, `FloorGasTooLow`, `InitCodeTooLarge`."""
    needed = intrinsic_gas(request, rules)
    if gas < needed:
        raise errors.IntrinsicGasTooLow(f"intrinsic gas too low: have {gas}, want {needed}")
    floor = floor_gas(request.data, rules)
    if gas < floor:
        raise errors.FloorGasTooLow(f"insufficient gas for floor data gas cost: have {gas}, want {floor}")
    if request.to is None and rules.limits_init_code and len(request.data) > MAX_INIT_CODE_BYTES:
        raise errors.InitCodeTooLarge(
            f"max initcode size exceeded: code size {len(request.data)} limit {MAX_INIT_CODE_BYTES}"
        )
    return needed


def effective_gas_price(request: CallRequest, base_fee_per_gas: int) -> int:
    """Wei per gas that the message pays."""
    return min(request.max_fee_per_gas, base_fee_per_gas + request.max_priority_fee_per_gas)


def execute_request(state: WorldState, request: CallRequest, gas: int, needed: int, gas_price: int) -> CallResult:
    """The message itself: delegations, the nonce, the code. `needed` is the gas before the first opcode."""
    environment: BlockEnvironment = state.execution_context
    rules = environment.rules
    nonce = state.get_nonce(request.sender)
    state.set_nonce(request.sender, (nonce + 1) & MAX_UINT64)
    refund = Executor(state, environment).apply_authorizations(request.authorization_list)
    try:
        computation = apply_message(
            state,
            TransactionContext(gas_price, request.sender, request.blob_versioned_hashes),
            sender=request.sender,
            to=request.to,
            created=contract_address(request.sender, nonce) if request.to is None else None,
            gas=gas - needed,
            value=request.value,
            data=request.data,
            access_list=request.access_list,
            refund=refund,
        )
    except VMError as error:
        return CallResult(b"", gas, describe_error(error), max_gas_used=gas)
    used = gas - computation.get_gas_remaining()
    destroyed = computation.get_accounts_for_deletion()
    owed = computation.get_gas_refund() + rules.self_destruct_refund * len(destroyed)
    refunded = min(owed, used // rules.refund_quotient)
    floor = floor_gas(request.data, rules)
    for address in destroyed:
        state.delete_account(address)
    return CallResult(
        output=bytes(computation.output),
        gas_used=max(used - refunded, floor),
        error=None if computation.is_success else describe_error(computation.error),
        logs=tuple(
            Log(address, tuple(topic.to_bytes(32, "big") for topic in topics), data)
            for address, topics, data in computation.get_log_entries()
        ),
        max_refund=refunded,
        starved=_is_starved(computation),
        max_gas_used=max(used, floor),
    )


def unsigned_transaction(request: CallRequest, *, chain_id: int, nonce: int, gas: int) -> Transaction:
    """The transaction that a message would be, without a signature: its type follows from what it has."""
    if request.authorization_list:
        kind = SET_CODE
    elif request.blob_versioned_hashes:
        kind = BLOB
    else:
        kind = LEGACY if request.is_legacy else DYNAMIC_FEE
    transaction = Transaction(
        raw=b"",
        type=kind,
        chain_id=None if kind == LEGACY else chain_id,
        nonce=nonce,
        max_priority_fee_per_gas=request.max_priority_fee_per_gas,
        max_fee_per_gas=request.max_fee_per_gas,
        gas=gas,
        to=request.to,
        value=request.value,
        data=request.data,
        access_list=request.access_list,
        max_fee_per_blob_gas=request.max_fee_per_blob_gas,
        blob_versioned_hashes=request.blob_versioned_hashes,
        authorization_list=request.authorization_list,
        y_parity=-27 if kind == LEGACY else 0,  # v is 0, as in all else that is not signed
    )
    transaction = replace(transaction, raw=encode_transaction(transaction))
    transaction.__dict__["sender"] = request.sender  # there is no signature to recover it from
    return transaction


def _is_starved(computation: Any) -> bool:
    return isinstance(computation._error, OutOfGas) or bool(computation.starved_below)
