"""One block, executed from its parent's state: what comes before the transactions, they, what comes after.

Building and importing both go through `BlockProcessor`, so they cannot disagree.
Sources: execution-specs (block processing of every fork), EIP-658, 779, 2935, 4788, 4895, 7685; OP-Stack specification,
exec-engine (Isthmus).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from openledger.evm_ext import errors
from openledger.evm_ext.block import EMPTY_REQUESTS_HASH, Header, HeaderForm, withdrawals_trie_root
from openledger.evm_ext.dao_fork import move_dao_balances
from openledger.evm_ext.fees import GAS_PER_BLOB, l1_gas_used
from openledger.evm_ext.header_rules import child_base_fee, child_excess_blob_gas, decode_fee_parameters
from openledger.evm_ext.index_recorder import OperationRecorder, TransactionRecord, recording
from openledger.evm_ext.payload import Withdrawal
from openledger.evm_ext.proof_of_work import rewards
from openledger.evm_ext.receipts import DEPOSIT_RECEIPT_VERSION, Receipt
from openledger.evm_ext.requests import collect_requests, requests_hash
from openledger.evm_ext.state.changes import StateChanges
from openledger.evm_ext.state.reader import StateReader
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.transactions import Transaction
from openledger.evm_ext.vm.entry import system_call
from openledger.evm_ext.vm.environment import BlockEnvironment
from openledger.evm_ext.vm.executor import Executor
from openledger.evm_ext.vm.machines import MachineWrapper, machine
from openledger.evm_ext.vm.rules import BlockRules, Rules
from openledger.genesis import predeploys

GWEI = 10**9
_NO_HASH = bytes(32)


@dataclass(frozen=True)
class ExecutedBlock:
    """What execution gives: the header fields that follow from it, the receipts, the state to store."""

    gas_used: int
    blob_gas_used: int
    receipts: tuple[Receipt, ...]
    withdrawals_root: bytes
    requests_hash: bytes
    changes: StateChanges
    requests: tuple[bytes, ...] = ()
    """EIP-7685: a type byte and data each, without those that are empty."""
    records: tuple[TransactionRecord, ...] = ()
    """What the transactions did inside, if the block was executed with `index_recorder.recording`."""


class BlockProcessor:
    """Executes one block step by step: `start`, `apply` per transaction, `finish`."""

    def __init__(
        self,
        rules: Rules,
        reader: StateReader,
        header: Header,
        ancestor_hash: Callable[[int], bytes],
        machine_wrapper: MachineWrapper | None = None,
    ) -> None:
        """`header` gives what is known before execution: number, time, fee recipient, gas limit, base fee, difficulty,
        randomness, beacon root, parent. `ancestor_hash` serves BLOCKHASH."""
        self.header = header
        self.rules = rules
        self.block_rules: BlockRules = rules.of(header)
        self.environment = BlockEnvironment.of(header, self.block_rules, ancestor_hash)
        computation = machine(self.block_rules)
        if machine_wrapper is not None:
            computation = machine_wrapper(computation)
        self.state = WorldState(reader, self.environment, computation)
        self.executor = Executor(self.state, self.environment)
        self.gas_used = 0
        self.blob_gas_used = 0
        self.receipts: list[Receipt] = []
        self._recorder = OperationRecorder() if machine_wrapper is recording else None
        self.records: list[TransactionRecord] = []
        """Of each transaction so far, with `index_recorder.recording` as the wrapper."""
        self.state.observer = self._recorder

    @property
    def gas_left(self) -> int:
        return self.header.gas_limit - self.gas_used

    def start(self) -> None:
        """What comes before the transactions: the DAO's balances (EIP-779), and system calls with the beacon root
        (EIP-4788) and the parent's hash (EIP-2935)."""
        rules, header = self.block_rules, self.header
        schedule = self.rules.hardforks
        if schedule.dao_fork_support and header.number == schedule.dao_fork_block:
            move_dao_balances(self.state)
        if rules.has_beacon_root:
            system_call(self.state, predeploys.BEACON_ROOTS, header.parent_beacon_block_root)
        if rules.stores_parent_hash:
            system_call(self.state, predeploys.HISTORY_STORAGE, header.parent_hash)

    def apply(self, transaction: Transaction) -> Receipt:
        """Execute the next transaction. Raises `InvalidTransaction` and changes nothing if it may not be
        here."""
        rules = self.block_rules
        blob_gas = len(transaction.blob_versioned_hashes) * GAS_PER_BLOB
        if (
            blob_gas
            and self.blob_gas_used + blob_gas > rules.max_blob_gas
            and transaction.type in rules.transaction_types
        ):
            raise errors.GasLimitReached(
                f"blob gas limit reached: the transaction uses {blob_gas}, "
                f"{rules.max_blob_gas - self.blob_gas_used} are left in the block"
            )
        if self._recorder is not None:
            self._recorder.forget()
        outcome = self.executor.execute(transaction, self.gas_left)
        if self._recorder is not None:
            self.records.append(self._recorder.take())
        self.gas_used += outcome.gas_used
        self.blob_gas_used += blob_gas
        status, state_root = int(outcome.success), b""
        if rules.receipts_have_state_root:
            status, state_root = 1, self.state.intermediate_root()
        l1_fee = outcome.l1_fee
        parameters = None if l1_fee is None else self.executor.l1_fee_parameters
        # By position: this is done for every transaction, and names of twenty arguments take longer than the rest.
        if parameters is None:
            receipt = Receipt(
                transaction.type,
                status,
                self.gas_used,
                outcome.logs,
                outcome.deposit_nonce,
                None if transaction.deposit is None else DEPOSIT_RECEIPT_VERSION,
                outcome.gas_used,
                outcome.effective_gas_price,
                outcome.contract_address,
                blob_gas_used=blob_gas or None,
                blob_gas_price=self.environment.blob_base_fee if blob_gas else None,
                state_root=state_root,
            )
        else:
            receipt = Receipt(
                transaction.type,
                status,
                self.gas_used,
                outcome.logs,
                None,
                None,
                outcome.gas_used,
                outcome.effective_gas_price,
                outcome.contract_address,
                l1_fee,
                l1_gas_used(transaction.flz_size),
                parameters.base_fee,
                parameters.blob_base_fee,
                parameters.base_fee_scalar,
                parameters.blob_base_fee_scalar,
                outcome.operator_fee,
                parameters.operator_fee_scalar,
                parameters.operator_fee_constant,
            )
        self.receipts.append(receipt)
        return receipt

    def finish(self, withdrawals: tuple[Withdrawal, ...] = (), uncles: tuple[Header, ...] = ()) -> ExecutedBlock:
        """What follows the transactions: rewards, withdrawals, requests, and the state root. Call once."""
        rules, state = self.block_rules, self.state
        for address, reward in rewards(rules, self.header, uncles):
            state.delta_balance(address, reward)
        for withdrawal in withdrawals:
            state.delta_balance(withdrawal.address, withdrawal.amount * GWEI)
        state.end_transaction()
        requests: tuple[bytes, ...] = ()
        if rules.has_requests:
            requests = collect_requests(state, self.receipts, rules.deposit_contract)
        changes = state.compute_changes()
        withdrawals_root = _NO_HASH
        if rules.commits_to_message_passer:
            withdrawals_root = state.storage_root(predeploys.L2_TO_L1_MESSAGE_PASSER)
        elif rules.has_withdrawals:
            withdrawals_root = withdrawals_trie_root(withdrawals)
        committed = _NO_HASH
        if rules.has_requests:
            committed = requests_hash(requests)
        elif rules.header_form >= HeaderForm.PRAGUE:
            committed = EMPTY_REQUESTS_HASH
        return ExecutedBlock(
            gas_used=self.gas_used,
            blob_gas_used=self.blob_gas_used,
            receipts=tuple(self.receipts),
            withdrawals_root=withdrawals_root,
            requests_hash=committed,
            changes=changes,
            requests=requests,
            records=tuple(self.records),
        )


__all__ = [
    "BlockProcessor",
    "ExecutedBlock",
    "MachineWrapper",
    "child_base_fee",
    "child_excess_blob_gas",
    "decode_fee_parameters",
]
