"""A message that is in no block, traced: debug_traceCall."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from openledger.evm_ext.block import Header
from openledger.evm_ext.calls import CallRequest, effective_gas_price, run_request, unsigned_transaction
from openledger.evm_ext.overrides import (
    BlockOverrides,
    StateOverride,
    apply_state_overrides,
    overridden_environment,
)
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.tracing.hooks import TracedTransaction, Tracer, TransactionEnd
from openledger.evm_ext.tracing.machine import TraceSession, traced
from openledger.evm_ext.tracing.replay import BlockReplay
from openledger.evm_ext.vm.machines import machine
from openledger.evm_ext.vm.rules import Rules


def trace_call(
    state: WorldState, header: Header, rules: Rules, request: CallRequest, tracer: Tracer, *, gas_cap: int
) -> None:
    """Run a message on a state that it changes, under a tracer, whose result is the answer.

    Raises `CallTimeout` after the state's deadline, `TraceTooLarge`, and `CallError` or `InvalidTransaction` if the
    message could not start."""
    gas = gas_cap if request.gas is None else min(request.gas, gas_cap)
    nonce = state.get_nonce(request.sender)
    transaction = unsigned_transaction(request, chain_id=rules.chain_id, nonce=nonce, gas=gas)
    tracer.transaction_start(TracedTransaction(transaction, request.sender, header, state, rules.is_op))
    state.computation_class = traced(state.computation_class, TraceSession(tracer))
    result = run_request(state, request, gas)
    if request.max_fee_per_gas:
        price = effective_gas_price(request, state.base_fee)
        state.delta_balance(request.sender, -result.gas_used * price)
        state.delta_balance(state.coinbase, result.gas_used * (price - state.base_fee))
    state.end_transaction()
    tracer.transaction_end(TransactionEnd(result.success, result.gas_used))


def mid_block_state(
    replay: BlockReplay,
    overrides: Mapping[bytes, StateOverride] | None,
    block_overrides: BlockOverrides | None,
    *,
    free_gas: bool,
) -> WorldState:
    """The state before the transaction at which a replay stands, changed as asked; the replay is used up.

    With `free_gas` the base fee is 0, so that a message may offer nothing."""
    state = replay.processor.state
    environment = overridden_environment(replay.processor.environment, block_overrides, replay.rules)
    if free_gas:
        environment = replace(environment, base_fee_per_gas=0)
    state.enter_block(environment, machine(environment.rules))
    apply_state_overrides(state, overrides)
    return state
