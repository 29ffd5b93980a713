"""One block, executed from its parent's state: what comes before the transactions, they, what comes after.

Building and importing both go through `BlockProcessor`, so they cannot disagree.
Sources: EIP-2935, 4788, 4895, 6110, 7002, 7251, 7685; OP-Stack specification, exec-engine (Isthmus).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from openledger.evm_ext import errors
from openledger.evm_ext.block import Header, withdrawals_trie_root
from openledger.evm_ext.fees import (
    GAS_PER_BLOB,
    PRAGUE_MAX_BLOB_GAS,
    L1FeeParameters,
    l1_gas_used,
    next_base_fee,
    next_excess_blob_gas,
)
from openledger.evm_ext.payload import Withdrawal
from openledger.evm_ext.receipts import DEPOSIT_RECEIPT_VERSION, Log, Receipt
from openledger.evm_ext.state.changes import StateChanges
from openledger.evm_ext.state.reader import StateReader
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.transactions import BLOB, Transaction
from openledger.evm_ext.vm.computation import Computation, EthereumComputation, op_computation
from openledger.evm_ext.vm.environment import BlockEnvironment
from openledger.evm_ext.vm.executor import Executor, system_call
from openledger.evm_ext.vm.rules import Rules
from openledger.genesis import predeploys

DEPOSIT_CONTRACT = bytes.fromhex("00000000219ab540356cbb839cbe05303d7705fa")
DEPOSIT_EVENT_TOPIC = bytes.fromhex("649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5")
GWEI = 10**9


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
    index_entries: tuple[tuple[bytes, bytes], ...] = ()
    """Entries of the index of addresses and internal operations, stored in the block's own batch."""


def computation_class(rules: Rules, timestamp: int) -> type[Computation]:
    """The virtual machine of a block with this timestamp."""
    return op_computation(rules.forks, timestamp) if rules.is_op else EthereumComputation


def child_base_fee(rules: Rules, parent: Header) -> int:
    """The base fee of a block on `parent`: since Holocene by the parameters in the parent's extraData."""
    denominator, elasticity = rules.denominator, rules.elasticity
    if rules.is_op:
        denominator, elasticity = decode_fee_parameters(parent.extra_data[1:9])
    return next_base_fee(parent.base_fee_per_gas, parent.gas_used, parent.gas_limit, denominator, elasticity)


def child_excess_blob_gas(rules: Rules, parent: Header) -> int:
    """The excessBlobGas of a block on `parent`; always 0 on an OP chain."""
    return 0 if rules.is_op else next_excess_blob_gas(parent.excess_blob_gas, parent.blob_gas_used)


def decode_fee_parameters(encoded: bytes) -> tuple[int, int]:
    """(denominator, elasticity) of the eight bytes in eip1559Params and extraData (Holocene)."""
    return int.from_bytes(encoded[:4], "big"), int.from_bytes(encoded[4:8], "big")


class BlockProcessor:
    """Executes one block step by step: `start`, `apply` per transaction, `finish`."""

    def __init__(
        self, rules: Rules, reader: StateReader, header: Header, ancestor_hash: Callable[[int], bytes]
    ) -> None:
        """`header` gives what is known before execution: number, time, fee recipient, gas limit, base fee,
        randomness, beacon root, parent. `ancestor_hash` serves BLOCKHASH."""
        self.header = header
        self.rules = rules
        self.environment = BlockEnvironment(
            chain_id=rules.chain_id,
            coinbase=header.fee_recipient,
            timestamp=header.timestamp,
            block_number=header.number,
            mix_hash=header.prev_randao,
            gas_limit=header.gas_limit,
            base_fee_per_gas=header.base_fee_per_gas,
            excess_blob_gas=header.excess_blob_gas,
            ancestor_hash=ancestor_hash,
        )
        self.state = WorldState(reader, self.environment, computation_class(rules, header.timestamp))
        self.executor = Executor(self.state, self.environment, rules)
        self.gas_used = 0
        self.blob_gas_used = 0
        self.receipts: list[Receipt] = []

    @property
    def gas_left(self) -> int:
        return self.header.gas_limit - self.gas_used

    def start(self) -> None:
        """System calls at the top of the block: beacon root (EIP-4788), parent hash (EIP-2935)."""
        system_call(self.state, predeploys.BEACON_ROOTS, self.header.parent_beacon_block_root)
        system_call(self.state, predeploys.HISTORY_STORAGE, self.header.parent_hash)

    def apply(self, transaction: Transaction) -> Receipt:
        """Execute the next transaction. Raises `InvalidTransaction` and changes nothing if it may not be
        here."""
        blob_gas = len(transaction.blob_versioned_hashes) * GAS_PER_BLOB
        if self.blob_gas_used + blob_gas > PRAGUE_MAX_BLOB_GAS:
            raise errors.GasLimitReached(
                f"blob gas limit reached: the transaction uses {blob_gas}, "
                f"{PRAGUE_MAX_BLOB_GAS - self.blob_gas_used} are left in the block"
            )
        outcome = self.executor.execute(transaction, self.gas_left)
        self.gas_used += outcome.gas_used
        self.blob_gas_used += blob_gas
        is_deposit = transaction.deposit is not None
        parameters: L1FeeParameters | None = None
        if self.rules.is_op and not is_deposit:
            parameters = self.executor.l1_fee_parameters
        is_blob = transaction.type == BLOB
        receipt = Receipt(
            type=transaction.type,
            status=int(outcome.success),
            cumulative_gas_used=self.gas_used,
            logs=outcome.logs,
            deposit_nonce=outcome.deposit_nonce,
            deposit_version=DEPOSIT_RECEIPT_VERSION if is_deposit else None,
            gas_used=outcome.gas_used,
            effective_gas_price=outcome.effective_gas_price,
            contract_address=outcome.contract_address,
            l1_fee=outcome.l1_fee,
            l1_gas_used=l1_gas_used(transaction.flz_size) if parameters else None,
            l1_gas_price=parameters.base_fee if parameters else None,
            l1_blob_base_fee=parameters.blob_base_fee if parameters else None,
            l1_base_fee_scalar=parameters.base_fee_scalar if parameters else None,
            l1_blob_base_fee_scalar=parameters.blob_base_fee_scalar if parameters else None,
            operator_fee=outcome.operator_fee,
            operator_fee_scalar=parameters.operator_fee_scalar if parameters else None,
            operator_fee_constant=parameters.operator_fee_constant if parameters else None,
            blob_gas_used=blob_gas if is_blob else None,
            blob_gas_price=self.environment.blob_base_fee if is_blob else None,
        )
        self.receipts.append(receipt)
        return receipt

    def finish(self, withdrawals: tuple[Withdrawal, ...] = ()) -> ExecutedBlock:
        """What follows the transactions, and the state root. Call once."""
        for withdrawal in withdrawals:
            self.state.delta_balance(withdrawal.address, withdrawal.amount * GWEI)
        self.state.end_transaction()
        requests = () if self.rules.is_op else self._requests()
        changes = self.state.compute_changes()
        if self.rules.is_op:
            withdrawals_root = self.state.storage_root(predeploys.L2_TO_L1_MESSAGE_PASSER)
        else:
            withdrawals_root = withdrawals_trie_root(withdrawals)
        return ExecutedBlock(
            gas_used=self.gas_used,
            blob_gas_used=self.blob_gas_used,
            receipts=tuple(self.receipts),
            withdrawals_root=withdrawals_root,
            requests_hash=requests_hash(requests),
            changes=changes,
            requests=requests,
        )

    def _requests(self) -> tuple[bytes, ...]:
        """Deposits (EIP-6110), withdrawal (7002) and consolidation (7251) requests, those that there are."""
        requests = [b"\x00" + self._deposit_requests()]
        for kind, contract in (
            (b"\x01", predeploys.WITHDRAWAL_REQUESTS),
            (b"\x02", predeploys.CONSOLIDATION_REQUESTS),
        ):
            computation = system_call(self.state, contract, b"")
            if computation is None:
                raise errors.SystemContractFailed(
                    f"no code at system contract 0x{contract.hex()}: add it to the genesis alloc"
                )
            if computation.is_error:
                raise errors.SystemContractFailed(f"system contract 0x{contract.hex()} failed: {computation.error}")
            requests.append(kind + bytes(computation.output))
        return tuple(request for request in requests if len(request) > 1)

    def _deposit_requests(self) -> bytes:
        return b"".join(
            _deposit_request(log)
            for receipt in self.receipts
            for log in receipt.logs
            if log.address == DEPOSIT_CONTRACT and log.topics[:1] == (DEPOSIT_EVENT_TOPIC,)
        )


def requests_hash(requests: tuple[bytes, ...]) -> bytes:
    """The commitment to requests in a header (EIP-7685)."""
    return hashlib.sha256(b"".join(hashlib.sha256(request).digest() for request in requests)).digest()


def _deposit_request(log: Log) -> bytes:
    """The 192 bytes of a deposit event (EIP-6110). Raises `SystemContractFailed` for another layout."""
    layout = ((160, 48), (256, 32), (320, 8), (384, 96), (512, 8))
    words = [int.from_bytes(log.data[start : start + 32], "big") for start in range(0, 160, 32)]
    sizes = [int.from_bytes(log.data[offset : offset + 32], "big") for offset, _ in layout]
    if len(log.data) != 576 or words != [offset for offset, _ in layout] or sizes != [size for _, size in layout]:
        raise errors.SystemContractFailed(f"a deposit event has an unknown layout: 0x{log.data.hex()}")
    return b"".join(log.data[offset + 32 : offset + 32 + size] for offset, size in layout)
