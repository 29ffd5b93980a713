"""eth_createAccessList: what a message touches, as the list that it could have declared (EIP-2930)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from openledger.evm_ext.calls import (
    DEFAULT_GAS_CAP,
    DEFAULT_TIME_LIMIT_S,
    CallContext,
    CallRequest,
    new_state,
    run_request,
)
from openledger.evm_ext.overrides import BlockOverrides, StateOverride
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.tracing.hooks import Budget, FrameEnd, Tracer
from openledger.evm_ext.tracing.machine import TraceSession, traced
from openledger.evm_ext.transactions import AccessList
from openledger.evm_ext.vm.entry import contract_address

_MOST_ROUNDS = 32
_NO_BUDGET = Budget(0)

_SLOAD, _SSTORE = 0x54, 0x55
_ADDRESS_ON_TOP = frozenset({0x31, 0x3B, 0x3C, 0x3F, 0xFF})  # BALANCE, EXTCODE*, SELFDESTRUCT
_ADDRESS_SECOND = frozenset({0xF1, 0xF2, 0xF4, 0xFA})  # CALL, CALLCODE, DELEGATECALL, STATICCALL


@dataclass(frozen=True)
class AccessListResult:
    """The list, the gas that the message uses with it, and what failed if it failed."""

    access_list: AccessList
    gas_used: int
    error: str | None


class _TouchTracer(Tracer):
    """Collects accounts and slots in the order in which they are touched, failed messages included."""

    wants_steps = True

    def __init__(self, excluded: frozenset[bytes], known: AccessList) -> None:
        super().__init__(_NO_BUDGET)
        self._excluded = excluded
        self._touched: dict[bytes, dict[int, None]] = {address: dict.fromkeys(slots) for address, slots in known}
        self.error: str | None = None
        """Why the message itself failed, in geth's words."""

    @property
    def access_list(self) -> AccessList:
        return tuple(
            (address, tuple(slots))
            for address, slots in self._touched.items()
            if slots or address not in self._excluded
        )

    def step(self, computation: Any, position: int, opcode: int, gas: int, refund: int) -> None:
        stack = computation._stack.values
        if opcode in (_SLOAD, _SSTORE):
            if stack:
                self._touched.setdefault(computation.msg.storage_address, {}).setdefault(_word(stack[-1]))
        elif opcode in _ADDRESS_ON_TOP:
            if stack:
                self._touch(stack[-1])
        elif opcode in _ADDRESS_SECOND and len(stack) >= 2:
            self._touch(stack[-2])

    def exit(self, end: FrameEnd) -> None:
        if end.depth == 0:
            self.error = end.error

    def _touch(self, item: Any) -> None:
        address = (_word(item) & (1 << 160) - 1).to_bytes(20, "big")
        if address not in self._excluded:
            self._touched.setdefault(address, {})


def create_access_list(
    context: CallContext,
    request: CallRequest,
    overrides: Mapping[bytes, StateOverride] | None = None,
    *,
    block_overrides: BlockOverrides | None = None,
    gas_cap: int = DEFAULT_GAS_CAP,
    time_limit_s: float = DEFAULT_TIME_LIMIT_S,
) -> AccessListResult:
    """Run a message with the list of what it touched before until it touches nothing else.

    Sender, recipient, created contract, authorities and precompiles are listed only with slots: they are warm anyway.
    Raises `CallTimeout`, and `CallError` or `InvalidTransaction` if the message could not start."""
    deadline = time.monotonic() + time_limit_s
    gas = gas_cap if request.gas is None else min(request.gas, gas_cap)
    declared = request.access_list
    for _ in range(_MOST_ROUNDS):
        state = new_state(context, overrides, block_overrides, free_gas=not request.max_fee_per_gas, deadline=deadline)
        tracer = _TouchTracer(_warm_anyway(state, request), declared)
        state.enter_block(state.execution_context, traced(state.computation_class, TraceSession(tracer)))
        result = run_request(state, replace(request, access_list=declared), gas)
        if _same(tracer.access_list, declared):
            break
        declared = tracer.access_list
    return AccessListResult(declared, result.gas_used, None if result.success else tracer.error or result.error)


def _warm_anyway(state: WorldState, request: CallRequest) -> frozenset[bytes]:
    target = request.to
    if target is None:
        target = contract_address(request.sender, state.get_nonce(request.sender))
    authorities = (item.authority for item in request.authorization_list)
    return frozenset(
        {request.sender, target, *state.computation_class.get_precompiles()}
        | {authority for authority in authorities if authority is not None}
    )


def _same(left: AccessList, right: AccessList) -> bool:
    return {address: frozenset(slots) for address, slots in left} == {
        address: frozenset(slots) for address, slots in right
    }


def _word(item: Any) -> int:
    return item if isinstance(item, int) else int.from_bytes(item, "big")
