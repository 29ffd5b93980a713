"""eth_simulateV1: blocks of messages on top of a block, as they would be, and never stored.

Source: execution-apis, eth_simulateV1 with its notes and cases. The state goes on from block to block; each block gets
its header, so that BLOCKHASH, fees and system contracts are those of a real chain.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from openledger.evm_ext import errors
from openledger.evm_ext.block import (
    EMPTY_UNCLES_HASH,
    Block,
    Header,
    HeaderForm,
    transactions_root,
    withdrawals_trie_root,
)
from openledger.evm_ext.calls import (
    DEFAULT_GAS_CAP,
    DEFAULT_TIME_LIMIT_S,
    CallContext,
    CallRequest,
    CallResult,
    check_gas,
    effective_gas_price,
    execute_request,
    unsigned_transaction,
)
from openledger.evm_ext.fees import GAS_PER_BLOB
from openledger.evm_ext.header_rules import child_base_fee, child_excess_blob_gas
from openledger.evm_ext.overrides import BlockOverrides, StateOverride, apply_state_overrides, with_blob_base_fee
from openledger.evm_ext.payload import Withdrawal
from openledger.evm_ext.processing import GWEI
from openledger.evm_ext.proof_of_work import rewards
from openledger.evm_ext.receipts import BLOOM_BYTES, Log, Receipt, receipts_root, union_bloom
from openledger.evm_ext.requests import collect_requests, requests_hash
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.tracing.hooks import Budget, Frame, FrameEnd, Tracer
from openledger.evm_ext.tracing.machine import TraceSession, traced
from openledger.evm_ext.transactions import MAX_UINT64, Transaction
from openledger.evm_ext.trie import EMPTY_ROOT
from openledger.evm_ext.vm.computation import Computation
from openledger.evm_ext.vm.entry import system_call
from openledger.evm_ext.vm.environment import BlockEnvironment
from openledger.evm_ext.vm.machines import machine
from openledger.evm_ext.vm.rules import BlockRules
from openledger.genesis import predeploys

MOST_BLOCKS = 256
"""Blocks above the one that a simulation starts from, gaps included."""
SECONDS_PER_BLOCK = 12
TRANSFER_EMITTER = b"\xee" * 20
"""Who emits the events that stand for transfers of ether (ERC-7528)."""
TRANSFER_TOPIC = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")


class SimulationError(errors.CallError):
    """A simulation that cannot be made as asked."""


class BlocksOutOfOrder(SimulationError):
    """A block number is not above the one before."""


class TimesOutOfOrder(SimulationError):
    """A timestamp is not after the one before."""


class TooManyBlocks(SimulationError):
    """More blocks than `MOST_BLOCKS`."""


class BlockGasExceeded(SimulationError):
    """A message asks for more gas than its block has left."""


class InvalidCall(SimulationError):
    """A message that no block could hold: `reason` says why, `gas` is what it was given."""

    def __init__(self, reason: errors.InvalidTransaction, gas: int) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.gas = gas


@dataclass(frozen=True)
class SimulatedCalls:
    """One block to simulate: what to pretend, and the messages in their order."""

    calls: tuple[CallRequest, ...] = ()
    block: BlockOverrides = field(default_factory=BlockOverrides)
    state: Mapping[bytes, StateOverride] = field(default_factory=dict)


@dataclass(frozen=True)
class SimulatedBlock:
    """A block as it would be, with what each message did. The results' logs have the transfers among them if they were
    asked for; the block's receipts and bloom never do. `first_log_indexes` count through the results' logs."""

    block: Block
    results: tuple[CallResult, ...]
    first_log_indexes: tuple[int, ...]


def simulate(
    context: CallContext,
    blocks: Sequence[SimulatedCalls],
    *,
    validation: bool = False,
    trace_transfers: bool = False,
    gas_cap: int = DEFAULT_GAS_CAP,
    time_limit_s: float = DEFAULT_TIME_LIMIT_S,
) -> list[SimulatedBlock]:
    """Simulate blocks after the context's. `gas_cap` is what all messages together may use.

    Without `validation` nonces are not checked and gas may be free, as in a call; the sender may have code either way.
    Raises `SimulationError`, `PrecompileMoveError`, `CallTimeout`."""
    simulator = _Simulator(context, validation, trace_transfers, gas_cap, time.monotonic() + time_limit_s)
    return [simulator.run(block) for block in _in_order(context.header, blocks)]


def _in_order(base: Header, blocks: Sequence[SimulatedCalls]) -> Iterator[SimulatedCalls]:
    """The blocks with their numbers and times, and empty ones in the gaps. Raises before the first is given."""
    filled: list[SimulatedCalls] = []
    number, timestamp = base.number, base.timestamp
    for block in blocks:
        wanted = number + 1 if block.block.number is None else block.block.number
        if wanted <= number:
            raise BlocksOutOfOrder(f"block numbers must be in order: {wanted} <= {number}")
        if wanted - base.number > MOST_BLOCKS:
            raise TooManyBlocks("too many blocks")
        while number + 1 < wanted:
            number, timestamp = number + 1, timestamp + SECONDS_PER_BLOCK
            filled.append(SimulatedCalls(block=BlockOverrides(number=number, timestamp=timestamp)))
        number = wanted
        then = timestamp + SECONDS_PER_BLOCK if block.block.timestamp is None else block.block.timestamp
        if then <= timestamp:
            raise TimesOutOfOrder(f"block timestamps must be in order: {then} <= {timestamp}")
        timestamp = then
        filled.append(replace(block, block=replace(block.block, number=number, timestamp=timestamp)))
    return iter(filled)


class _Simulator:
    """The state that goes on from block to block, and the headers so far."""

    def __init__(
        self, context: CallContext, validation: bool, trace_transfers: bool, gas_cap: int, deadline: float
    ) -> None:
        self._context = context
        self._rules = context.rules
        self.validation = validation
        self.trace_transfers = trace_transfers
        self.gas_left = gas_cap
        self._deadline = deadline
        self._parent = context.header
        self._hashes: dict[int, bytes] = {context.header.number: context.header.hash}
        rules = self._rules.of(context.header)
        environment = BlockEnvironment.of(context.header, rules, self._ancestor_hash)
        self.state = WorldState(context.reader, environment, machine(rules))
        self.state.deadline = deadline

    def run(self, wanted: SimulatedCalls) -> SimulatedBlock:
        """Simulate the next block."""
        if time.monotonic() > self._deadline:
            raise errors.CallTimeout("execution aborted: the simulation took longer than its time limit")
        overrides, state = wanted.block, self.state
        rules = self._block_rules(overrides)
        header = self._header(overrides, rules)
        environment = BlockEnvironment.of(header, rules, self._ancestor_hash)
        environment = with_blob_base_fee(environment, overrides.blob_base_fee)
        state.enter_block(environment, machine(rules))
        apply_state_overrides(state, wanted.state)
        machine_class = state.computation_class
        if rules.has_beacon_root:
            system_call(state, predeploys.BEACON_ROOTS, header.parent_beacon_block_root)
        if rules.stores_parent_hash:
            system_call(state, predeploys.HISTORY_STORAGE, header.parent_hash)
        run = _BlockRun(self, environment, machine_class)
        for request in wanted.calls:
            run.apply(request)
        state.enter_block(environment, machine_class)
        withdrawals = overrides.withdrawals or ()
        for address, reward in rewards(rules, header, ()):
            state.delta_balance(address, reward)
        for withdrawal in withdrawals:
            state.delta_balance(withdrawal.address, withdrawal.amount * GWEI)
        state.end_transaction()
        requests = collect_requests(state, run.receipts, rules.deposit_contract) if rules.has_requests else ()
        block = Block(self._sealed(header, rules, run, withdrawals, requests), tuple(run.transactions), withdrawals)
        self._parent = block.header
        self._hashes[block.number] = block.hash
        return SimulatedBlock(block, tuple(run.results), tuple(run.first_log_indexes))

    def _block_rules(self, overrides: BlockOverrides) -> BlockRules:
        assert overrides.number is not None
        assert overrides.timestamp is not None
        merged = self._parent.number > 0 and self._parent.difficulty == 0
        return self._rules.at(overrides.number, overrides.timestamp, merged=merged)

    def _header(self, overrides: BlockOverrides, rules: BlockRules) -> Header:
        """What is known of a block before its messages run."""
        parent = self._parent
        base_fee = overrides.base_fee_per_gas
        if base_fee is None:
            base_fee = child_base_fee(self._rules, parent, rules) if self.validation else 0
        return Header(
            parent_hash=parent.hash,
            uncles_hash=EMPTY_UNCLES_HASH,
            fee_recipient=parent.fee_recipient if overrides.fee_recipient is None else overrides.fee_recipient,
            state_root=EMPTY_ROOT,
            transactions_root=EMPTY_ROOT,
            receipts_root=EMPTY_ROOT,
            logs_bloom=bytes(BLOOM_BYTES),
            difficulty=parent.difficulty if overrides.difficulty is None else overrides.difficulty,
            number=overrides.number or 0,
            gas_limit=parent.gas_limit if overrides.gas_limit is None else overrides.gas_limit,
            gas_used=0,
            timestamp=overrides.timestamp or 0,
            extra_data=parent.extra_data if rules.is_op else b"",
            prev_randao=overrides.prev_randao or bytes(32),
            nonce=bytes(8),
            base_fee_per_gas=base_fee if rules.has_base_fee else 0,
            excess_blob_gas=child_excess_blob_gas(self._rules, parent, rules),
            parent_beacon_block_root=overrides.parent_beacon_block_root or bytes(32),
            form=rules.header_form,
        )

    def _sealed(
        self,
        header: Header,
        rules: BlockRules,
        run: _BlockRun,
        withdrawals: tuple[Withdrawal, ...],
        requests: tuple[bytes, ...],
    ) -> Header:
        """The header with what its messages did."""
        withdrawals_root = committed = bytes(32)
        state_root = self.state.intermediate_root()
        if rules.is_op:
            withdrawals_root = self.state.intermediate_storage_root(predeploys.L2_TO_L1_MESSAGE_PASSER)
        elif rules.has_withdrawals:
            withdrawals_root = withdrawals_trie_root(withdrawals)
        if header.form >= HeaderForm.PRAGUE:
            committed = requests_hash(requests)
        return replace(
            header,
            transactions_root=transactions_root(tuple(run.transactions)),
            receipts_root=receipts_root(run.receipts),
            logs_bloom=union_bloom(run.receipts),
            gas_used=run.gas_used,
            blob_gas_used=run.blob_gas_used,
            state_root=state_root,
            withdrawals_root=withdrawals_root,
            requests_hash=committed,
        )

    def _ancestor_hash(self, number: int) -> bytes:
        known = self._hashes.get(number)
        return self._context.ancestor_hash(number) if known is None else known


class _BlockRun:
    """The messages of one block: what each did, and what they used together."""

    def __init__(self, simulator: _Simulator, environment: BlockEnvironment, machine_class: type[Computation]) -> None:
        self.transactions: list[Transaction] = []
        self.receipts: list[Receipt] = []
        self.results: list[CallResult] = []
        self.first_log_indexes: list[int] = []
        self.gas_used = 0
        self.blob_gas_used = 0
        self._simulator = simulator
        self._environment = environment
        self._machine_class = machine_class
        self._next_log_index = 0

    def apply(self, request: CallRequest) -> None:
        """Run the next message. Raises `BlockGasExceeded`, `InvalidCall`, `CallTimeout`."""
        simulator, environment = self._simulator, self._environment
        state, rules = simulator.state, environment.rules
        gas = environment.gas_limit - self.gas_used if request.gas is None else request.gas
        if self.gas_used + gas > environment.gas_limit:
            raise BlockGasExceeded(f"block gas limit reached: {self.gas_used} >= {environment.gas_limit}")
        gas = min(gas, simulator.gas_left)
        nonce = state.get_nonce(request.sender) if request.nonce is None else request.nonce
        if not rules.has_base_fee:
            request = replace(request, is_legacy=True)
        transaction = unsigned_transaction(request, chain_id=rules.chain_id, nonce=nonce, gas=gas)
        is_free = not request.max_fee_per_gas and not request.max_priority_fee_per_gas and not simulator.validation
        try:
            if simulator.validation:
                _check_nonce(request.sender, nonce, state.get_nonce(request.sender))
            if not is_free:
                _check_fees(request, environment)
            price = 0 if is_free else effective_gas_price(request, environment.base_fee_per_gas)
            blob_gas = len(request.blob_versioned_hashes) * GAS_PER_BLOB
            _check_funds(state, request, gas, blob_gas)
            needed = check_gas(request, gas, rules)
        except errors.InvalidTransaction as error:
            raise InvalidCall(error, gas) from error
        state.delta_balance(request.sender, -(gas * price + blob_gas * environment.blob_base_fee * (not is_free)))
        seen = environment
        if is_free:  # a message that pays nothing sees a block in which that is enough
            seen = with_blob_base_fee(replace(environment, base_fee_per_gas=0), environment.blob_base_fee)
        logs = _LogCollector(simulator.trace_transfers)
        state.enter_block(seen, traced(self._machine_class, TraceSession(logs)))
        result = execute_request(state, request, gas, needed, price)
        result = replace(
            result,
            logs=logs.logs if result.success else (),
            error=None if result.success else logs.error or result.error,
        )
        state.delta_balance(request.sender, (gas - result.gas_used) * price)
        tip = 0 if is_free else price - environment.base_fee_per_gas
        state.delta_balance(environment.coinbase, result.gas_used * tip)
        if rules.is_op and not is_free:
            state.delta_balance(predeploys.BASE_FEE_VAULT, result.gas_used * environment.base_fee_per_gas)
        state.end_transaction()
        simulator.gas_left -= result.gas_used
        self._keep(transaction, result, blob_gas)

    def _keep(self, transaction: Transaction, result: CallResult, blob_gas: int) -> None:
        self.gas_used += result.gas_used
        self.blob_gas_used += blob_gas
        rules = self._environment.rules
        self.transactions.append(transaction)
        self.results.append(result)
        self.receipts.append(
            Receipt(
                type=transaction.type,
                status=int(result.success),
                cumulative_gas_used=self.gas_used,
                logs=tuple(log for log in result.logs if log.address != TRANSFER_EMITTER),
                gas_used=result.gas_used,
                state_root=self._simulator.state.intermediate_root() if rules.receipts_have_state_root else b"",
            )
        )
        self.first_log_indexes.append(self._next_log_index)
        self._next_log_index += len(result.logs)


class _LogCollector(Tracer):
    """The events of the messages that were not undone, and transfers of ether as events where they are wanted."""

    def __init__(self, with_transfers: bool) -> None:
        super().__init__(Budget(0))
        self._with_transfers = with_transfers
        self._open: list[list[Log]] = [[]]
        self.error: str | None = None
        """Why the message itself failed, in geth's words."""

    @property
    def logs(self) -> tuple[Log, ...]:
        return tuple(self._open[0])

    def enter(self, frame: Frame) -> None:
        self._open.append([])
        if self._with_transfers and frame.value and frame.kind not in ("DELEGATECALL", "CALLCODE"):
            parties = (frame.sender, frame.to)
            topics = (TRANSFER_TOPIC, *(bytes(12) + address for address in parties))
            self._open[-1].append(Log(TRANSFER_EMITTER, topics, frame.value.to_bytes(32, "big")))

    def exit(self, end: FrameEnd) -> None:
        logs = self._open.pop()
        if end.depth == 0:
            self.error = end.error
        if not end.reverted:
            self._open[-1] += logs

    def log(self, address: bytes, topics: tuple[bytes, ...], data: bytes) -> None:
        self._open[-1].append(Log(address, topics, data))


def _check_nonce(sender: bytes, wanted: int, nonce: int) -> None:
    where = f"address 0x{sender.hex()}"
    if wanted < nonce:
        raise errors.NonceTooLow(f"nonce too low: {where}, tx: {wanted} state: {nonce}")
    if wanted > nonce:
        raise errors.NonceTooHigh(f"nonce too high: {where}, tx: {wanted} state: {nonce}")
    if nonce == MAX_UINT64:
        raise errors.NonceOverflow(f"nonce has max value: {where}, nonce: {nonce}")


def _check_fees(request: CallRequest, environment: BlockEnvironment) -> None:
    where = f"address 0x{request.sender.hex()}"
    if request.max_priority_fee_per_gas > request.max_fee_per_gas:
        raise errors.TipAboveFeeCap(
            f"max priority fee per gas higher than max fee per gas: {where}, "
            f"maxPriorityFeePerGas: {request.max_priority_fee_per_gas}, maxFeePerGas: {request.max_fee_per_gas}"
        )
    if request.max_fee_per_gas < environment.base_fee_per_gas:
        raise errors.FeeCapTooLow(
            f"max fee per gas less than block base fee: {where}, maxFeePerGas: {request.max_fee_per_gas}, "
            f"baseFee: {environment.base_fee_per_gas}"
        )
    if request.blob_versioned_hashes and request.max_fee_per_blob_gas < environment.blob_base_fee:
        raise errors.FeeCapTooLow(
            f"max fee per blob gas less than block blob gas fee: {where}, "
            f"blobGasFeeCap: {request.max_fee_per_blob_gas}, blobBaseFee: {environment.blob_base_fee}"
        )


def _check_funds(state: WorldState, request: CallRequest, gas: int, blob_gas: int) -> None:
    balance = state.get_balance(request.sender)
    cost = gas * request.max_fee_per_gas + request.value + blob_gas * request.max_fee_per_blob_gas
    if balance < cost:
        raise errors.InsufficientFunds(
            f"insufficient funds for gas * price + value: address 0x{request.sender.hex()} have {balance} want {cost}"
        )
