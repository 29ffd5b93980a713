"""Runs a case on our machine, in the tier of one's choice."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache

from openledger.evm_ext import errors
from openledger.evm_ext.index_recorder import OperationRecorder, recording
from openledger.evm_ext.state.account import EMPTY_CODE_HASH, Account
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.tracing.hooks import Budget
from openledger.evm_ext.tracing.machine import TraceSession, traced
from openledger.evm_ext.tracing.struct_logger import StructLogger, StructLogOptions
from openledger.evm_ext.transactions import decode_transaction
from openledger.evm_ext.trie import EMPTY_ROOT
from openledger.evm_ext.vm.computation import Computation, with_tier
from openledger.evm_ext.vm.environment import BlockEnvironment
from openledger.evm_ext.vm.executor import Executor
from openledger.evm_ext.vm.generated import run as interpreter
from openledger.evm_ext.vm.machines import machine
from openledger.evm_ext.vm.rules import BlockRules
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.hardforks import DEFAULT_BLOB_SCHEDULE, BlobParameters, Hardfork
from openledger.genesis.hashing import keccak256

from .case import CHAIN_ID, AccountAfter, Case, Outcome

TIERS = ("plain", "generated", "auto", "clocked", "traced", "recorded")
"""The interpreter's tiers, and: `clocked`, generated code under a deadline that never comes, which looks at the clock all the
time; `traced`, each step told to a tracer; `recorded`, generated code that tells of messages, as blocks run for the index."""
_GAS_BETWEEN_CLOCK_LOOKS = 250
_TRACE_BYTES = 1 << 40
_SOME_ROOT = keccak256(b"the root of an account with storage")


@lru_cache(maxsize=64)
def rules_of(fork: Hardfork, is_op: bool = False) -> BlockRules:
    """The rules of every block at a fork."""
    blobs = DEFAULT_BLOB_SCHEDULE.get(fork.name.lower(), BlobParameters(0, 0, 1))
    return BlockRules(
        fork=fork,
        is_op=is_op,
        chain_id=CHAIN_ID,
        denominator=8,
        elasticity=2,
        own_precompiles=(),
        has_replay_protection=fork >= Hardfork.SPURIOUS_DRAGON,
        blobs=blobs,
        deposit_contract=bytes(20),
    )


class _Accounts:
    """The state of a case as a `StateReader`, without tries: what execution reads of it, not more."""

    def __init__(self, accounts: Mapping[bytes, GenesisAccount]) -> None:
        self._accounts = accounts
        self._codes = {keccak256(account.code): account.code for account in accounts.values()}

    def account(self, address: bytes) -> Account | None:
        found = self._accounts.get(address)
        if found is None:
            return None
        root = _SOME_ROOT if any(found.storage.values()) else EMPTY_ROOT
        code_hash = keccak256(found.code) if found.code else EMPTY_CODE_HASH
        return Account(found.nonce, found.balance, root, code_hash)

    def storage(self, address: bytes, storage_root: bytes, slot: int) -> int:
        return 0 if storage_root == EMPTY_ROOT else self._accounts[address].storage.get(slot, 0)

    def code(self, code_hash: bytes) -> bytes:
        return self._codes[code_hash]


def run(case: Case, tier: str = "auto") -> Outcome:
    """What our machine makes of a case."""
    rules = rules_of(case.fork, case.is_op)
    block = case.block
    environment = BlockEnvironment(
        rules=rules,
        chain_id=CHAIN_ID,
        coinbase=block.coinbase,
        timestamp=block.timestamp,
        block_number=block.number,
        difficulty=block.difficulty,
        mix_hash=block.prev_randao,
        gas_limit=block.gas_limit,
        base_fee_per_gas=block.base_fee,
        excess_blob_gas=block.excess_blob_gas,
        ancestor_hash=block.ancestor_hash,
    )
    is_clocked = tier == "clocked"
    machine_class = _machine_of(rules, tier)
    state = WorldState(_Accounts(case.accounts), environment, machine_class)  # type: ignore[arg-type]
    executor = Executor(state, environment)
    if tier == "recorded":
        state.observer = OperationRecorder()
    usual = interpreter.GAS_BETWEEN_CLOCK_LOOKS
    try:
        if is_clocked:
            state.deadline = time.monotonic() + 3_600
            interpreter.GAS_BETWEEN_CLOCK_LOOKS = _GAS_BETWEEN_CLOCK_LOOKS
        available = block.gas_limit
        for raw in case.before:
            with suppress(errors.InvalidTransaction):
                available -= executor.execute(decode_transaction(raw), available).gas_used
        outcome = executor.execute(case.transaction, available)
    except errors.InvalidTransaction as refusal:
        return Outcome(True, error=f"{type(refusal).__name__}: {refusal}")
    finally:
        interpreter.GAS_BETWEEN_CLOCK_LOOKS = usual
    return Outcome(
        refused=False,
        success=outcome.success,
        gas_used=outcome.gas_used,
        output=outcome.output,
        logs=tuple((log.address, log.topics, log.data) for log in outcome.logs),
        accounts=_after(state, case),
        error=outcome.error or "",
    )


def _machine_of(rules: BlockRules, tier: str) -> type[Computation]:
    plain = machine(rules)
    if tier == "traced":
        options = StructLogOptions(enable_memory=True, enable_return_data=True, limit=50)
        return traced(plain, TraceSession(StructLogger(Budget(_TRACE_BYTES), options)))
    if tier == "recorded":
        return recording(with_tier(plain, "generated"))
    return with_tier(plain, "generated" if tier == "clocked" else tier)  # type: ignore[arg-type]


def _after(state: WorldState, case: Case) -> dict[bytes, AccountAfter]:
    found: dict[bytes, AccountAfter] = {}
    for address in {*state._accounts, *case.accounts}:
        slots = {*state._storage.get(address, ()), *_slots_before(case, address)}
        exists = state.account_exists(address)
        account = AccountAfter(
            balance=state.get_balance(address),
            nonce=state.get_nonce(address),
            code=state.get_code(address),
            storage={slot: value for slot in slots if exists and (value := state.get_storage(address, slot))},
        )
        if not account.is_nothing:
            found[address] = account
    return found


def _slots_before(case: Case, address: bytes) -> Mapping[int, int]:
    account = case.accounts.get(address)
    return account.storage if account else {}
