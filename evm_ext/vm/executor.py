"""One transaction: is it valid now, what does it cost, what does it do.

Sources: Yellow Paper 6, EIP-1559, 3529, 3607, 4844, 7623, 7702; OP-Stack specification, deposits and exec-engine (fees).
Invalid transactions raise and leave the state as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from openledger.evm_ext import errors
from openledger.evm_ext.fees import (
    GAS_PER_BLOB,
    L1_BASE_FEE_SLOT,
    L1_BLOB_BASE_FEE_SLOT,
    L1_SCALARS_SLOT,
    OPERATOR_FEE_SLOT,
    L1FeeParameters,
)
from openledger.evm_ext.kept import quickly_made
from openledger.evm_ext.receipts import Log
from openledger.evm_ext.state.account import EMPTY_CODE_HASH
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.transactions import BLOB, DYNAMIC_FEE, MAX_UINT64, Authorization, Transaction
from openledger.evm_ext.vm.entry import (
    DELEGATION_PREFIX,
    apply_message,
    contract_address,
    describe_error,
    is_delegation,
    system_call,
)
from openledger.evm_ext.vm.environment import BlockEnvironment
from openledger.evm_ext.vm.intrinsic import (
    GAS_PER_AUTHORIZATION,
    GAS_PER_EMPTY_ACCOUNT,
    GAS_TRANSACTION,
    floor_gas,
    intrinsic_gas,
    validate_intrinsic_gas,
)
from openledger.evm_ext.vm.rules import MAX_INIT_CODE_BYTES, BlockRules
from openledger.evm_ext.vm.transaction_context import TransactionContext
from openledger.evm_ext.vm.validity import validate_form
from openledger.genesis import predeploys


@quickly_made
@dataclass(frozen=True)
class Outcome:
    """What executing a transaction did. `error` is None for success, else the machine's words;
    `output` is the return or revert data,
    `contract_address` where a creation went or would have gone. Fee fields are None where the rules know no such fee."""

    success: bool
    gas_used: int
    logs: tuple[Log, ...]
    output: bytes
    error: str | None
    contract_address: bytes | None
    effective_gas_price: int
    deposit_nonce: int | None = None
    l1_fee: int | None = None
    operator_fee: int | None = None


def read_l1_fee_parameters(state: Any, *, with_operator: bool = True) -> L1FeeParameters:
    """From the L1Block predeploy. `state` has `get_storage(address, slot)`; without the operator's (before Isthmus) its
    slot is not even read."""
    return L1FeeParameters.from_slots(
        base_fee=state.get_storage(predeploys.L1_BLOCK, L1_BASE_FEE_SLOT),
        scalars=state.get_storage(predeploys.L1_BLOCK, L1_SCALARS_SLOT),
        blob_base_fee=state.get_storage(predeploys.L1_BLOCK, L1_BLOB_BASE_FEE_SLOT),
        operator=state.get_storage(predeploys.L1_BLOCK, OPERATOR_FEE_SLOT) if with_operator else 0,
    )


def gas_refund(computation: Any, rules: BlockRules) -> int:
    """What a finished top-level message earned back, not yet limited to a part of the gas used."""
    refund: int = computation.get_gas_refund()
    if rules.self_destruct_refund:
        refund += rules.self_destruct_refund * len(computation.get_accounts_for_deletion())
    return refund


class Executor:
    """Executes the transactions of one block on its state, in order."""

    def __init__(self, state: WorldState, environment: BlockEnvironment) -> None:
        self.state = state
        self.environment = environment
        self.rules = environment.rules
        self._l1_fee_parameters: L1FeeParameters | None = None

    @property
    def l1_fee_parameters(self) -> L1FeeParameters:
        """As they stand after the block's first deposit; nothing else can change them in the block."""
        if self._l1_fee_parameters is None:
            parameters = read_l1_fee_parameters(self.state, with_operator=self.rules.has_operator_fee)
            self._l1_fee_parameters = parameters
        return self._l1_fee_parameters

    def _l1_fee(self, transaction: Transaction) -> int:
        if self.rules.has_fastlz_l1_fee:
            return self.l1_fee_parameters.l1_fee(transaction.flz_size)
        return self.l1_fee_parameters.ecotone_l1_fee(transaction.raw)

    def execute(self, transaction: Transaction, gas_available: int) -> Outcome:
        """Execute one transaction. `gas_available` is what is left of the block's gas.

        Raises `InvalidTransaction`, with the state as it was before."""
        if transaction.gas > gas_available:
            raise errors.GasLimitReached(
                f"gas limit reached: the transaction may use {transaction.gas}, {gas_available} are left in the block"
            )
        if transaction.deposit is not None:
            return self._execute_deposit(transaction)
        return self._execute_signed(transaction)

    # --- transactions with a signature ----------------------------------------------------------------

    def _execute_signed(self, transaction: Transaction) -> Outcome:
        state, environment = self.state, self.environment
        needed = validate_form(transaction, self.rules)
        sender = transaction.sender
        base_fee = environment.base_fee_per_gas
        self._validate_against_state(transaction, sender)

        gas_price = transaction.effective_gas_price(base_fee)
        if self._is_payment(transaction):
            return self._pay(transaction, sender, needed, gas_price)
        upfront = transaction.gas * gas_price
        l1_fee: int | None = None
        parameters: L1FeeParameters | None = None
        if self.rules.is_op:
            parameters = self.l1_fee_parameters
            l1_fee = self._l1_fee(transaction)
            upfront += l1_fee + parameters.operator_fee(transaction.gas)
        elif transaction.type == BLOB:
            upfront += len(transaction.blob_versioned_hashes) * GAS_PER_BLOB * environment.blob_base_fee
        state.charge_sender(sender, upfront)
        refund = self.apply_authorizations(transaction.authorization_list) if transaction.authorization_list else 0

        gas = transaction.gas - needed
        computation, created = self._compute(transaction, sender, gas, gas_price, transaction.nonce, refund)
        gas_used = self._gas_used(transaction, computation)

        unused = transaction.gas - gas_used
        refunded = unused * gas_price
        operator_fee: int | None = None
        if parameters is not None:
            operator_fee = parameters.operator_fee(gas_used)
            refunded += parameters.operator_fee(transaction.gas) - operator_fee
        state.delta_balance(sender, refunded)
        state.delta_balance(environment.coinbase, gas_used * (gas_price - base_fee))
        if parameters is not None and l1_fee is not None and operator_fee is not None:
            state.delta_balance(predeploys.BASE_FEE_VAULT, gas_used * base_fee)
            state.delta_balance(predeploys.L1_FEE_VAULT, l1_fee)
            if self.rules.has_operator_fee:
                state.delta_balance(predeploys.OPERATOR_FEE_VAULT, operator_fee)
        self._destroy(computation)
        outcome = self._outcome(
            computation,
            gas_used=gas_used,
            contract_address=created,
            effective_gas_price=gas_price,
            l1_fee=l1_fee,
            operator_fee=operator_fee,
        )
        state.end_transaction()
        return outcome

    def _is_payment(self, transaction: Transaction) -> bool:
        """Whether the transaction only moves value: nothing runs, so nothing can fail and nothing is to be undone."""
        to, state = transaction.to, self.state
        return (
            to is not None
            and transaction.value > 0
            and transaction.type <= DYNAMIC_FEE
            and self.rules.clears_empty_accounts
            and not state.computation_class.is_traced
            and state.has_no_code(to)
        )

    def _pay(self, transaction: Transaction, sender: bytes, needed: int, gas_price: int) -> Outcome:
        environment = self.environment
        gas_used = max(needed, floor_gas(transaction.data, self.rules))
        base_fee = environment.base_fee_per_gas
        charge = gas_used * gas_price + transaction.value
        credits = [
            (transaction.to or b"", transaction.value),
            (environment.coinbase, gas_used * (gas_price - base_fee)),
        ]
        l1_fee = operator_fee = None
        if self.rules.is_op:
            parameters = self.l1_fee_parameters
            l1_fee = self._l1_fee(transaction)
            operator_fee = parameters.operator_fee(gas_used)
            charge += l1_fee + operator_fee
            credits += ((predeploys.BASE_FEE_VAULT, gas_used * base_fee), (predeploys.L1_FEE_VAULT, l1_fee))
            if self.rules.has_operator_fee:
                credits.append((predeploys.OPERATOR_FEE_VAULT, operator_fee))
        self.state.pay(sender, charge, credits)
        return Outcome(True, gas_used, (), b"", None, None, gas_price, None, l1_fee, operator_fee)

    def _validate_against_state(self, transaction: Transaction, sender: bytes) -> None:
        state, environment = self.state, self.environment
        nonce, balance, code_hash = state.nonce_balance_and_code_hash(sender)
        if transaction.nonce != nonce:
            where = f"address 0x{sender.hex()}, tx: {transaction.nonce} state: {nonce}"
            if transaction.nonce < nonce:
                raise errors.NonceTooLow(f"nonce too low: {where}")
            raise errors.NonceTooHigh(f"nonce too high: {where}")
        if code_hash != EMPTY_CODE_HASH and not (is_delegation(state.get_code(sender)) and self.rules.has_delegations):
            raise errors.SenderNotEOA(f"sender not an eoa: address 0x{sender.hex()}, codehash: 0x{code_hash.hex()}")
        if transaction.max_fee_per_gas < environment.base_fee_per_gas:
            raise errors.FeeCapTooLow(
                f"max fee per gas less than block base fee: address 0x{sender.hex()}, "
                f"maxFeePerGas: {transaction.max_fee_per_gas}, baseFee: {environment.base_fee_per_gas}"
            )
        cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
        if transaction.type == BLOB:
            if transaction.max_fee_per_blob_gas < environment.blob_base_fee:
                raise errors.FeeCapTooLow(
                    f"max fee per blob gas less than block blob gas fee: address 0x{sender.hex()}, "
                    f"blobGasFeeCap: {transaction.max_fee_per_blob_gas}, "
                    f"blobBaseFee: {environment.blob_base_fee}"
                )
            cost += len(transaction.blob_versioned_hashes) * GAS_PER_BLOB * transaction.max_fee_per_blob_gas
        if self.rules.is_op:
            parameters = self.l1_fee_parameters
            cost += self._l1_fee(transaction) + parameters.operator_fee(transaction.gas)
        if balance < cost:
            raise errors.InsufficientFunds(
                f"insufficient funds for gas * price + value: address 0x{sender.hex()} have {balance} want {cost}"
            )

    def apply_authorizations(self, authorizations: tuple[Authorization, ...]) -> int:
        """EIP-7702: set or clear delegations. Gives the gas refund; invalid entries are skipped."""
        state = self.state
        refund = 0
        for authorization in authorizations:
            if authorization.chain_id not in (0, self.rules.chain_id) or authorization.nonce >= MAX_UINT64:
                continue
            authority = authorization.authority
            if authority is None:
                continue
            state.mark_address_warm(authority)
            code = state.get_code(authority)
            if (code and not is_delegation(code)) or state.get_nonce(authority) != authorization.nonce:
                continue
            if state.account_exists(authority):
                refund += GAS_PER_EMPTY_ACCOUNT - GAS_PER_AUTHORIZATION
            delegation = b"" if not any(authorization.address) else DELEGATION_PREFIX + authorization.address
            state.set_code(authority, delegation)
            state.increment_nonce(authority)
        return refund

    # --- deposits ---------------------------------------------------------------------------------------

    def _execute_deposit(self, transaction: Transaction) -> Outcome:
        """A deposit never makes a block invalid by failing: the mint stays, the nonce goes up, and a
        deposit that could not even start uses all its gas (deposits.md, execution)."""
        deposit = transaction.deposit
        if deposit is None or not self.rules.is_op:
            raise errors.UnsupportedTransactionType("deposit transactions exist on OP chains only")
        if deposit.is_system_transaction:
            raise errors.UnsupportedTransactionType("system transactions are gone since Regolith")
        state = self.state
        sender = deposit.sender
        if deposit.mint:
            if state.get_balance(sender) + deposit.mint >= 1 << 256:
                raise errors.InvalidTransaction(f"mint of {deposit.mint} overflows 0x{sender.hex()}")
            state.delta_balance(sender, deposit.mint)
        nonce = state.get_nonce(sender)
        problem = self._deposit_problem(transaction, sender)
        if problem is not None:
            state.increment_nonce(sender)
            state.end_transaction()
            return Outcome(
                success=False,
                gas_used=transaction.gas,
                logs=(),
                output=b"",
                error=f"failed deposit: {problem}",
                contract_address=None,
                effective_gas_price=0,
                deposit_nonce=nonce,
            )
        state.increment_nonce(sender)
        gas = transaction.gas - intrinsic_gas(transaction, self.rules)
        computation, created = self._compute(transaction, sender, gas, 0, nonce, 0)
        gas_used = self._gas_used(transaction, computation)
        self._destroy(computation)
        outcome = self._outcome(
            computation,
            gas_used=gas_used,
            contract_address=created,
            effective_gas_price=0,
            deposit_nonce=nonce,
        )
        state.end_transaction()
        return outcome

    def _deposit_problem(self, transaction: Transaction, sender: bytes) -> str | None:
        try:
            validate_intrinsic_gas(transaction, self.rules)
        except errors.IntrinsicGasTooLow as error:
            return str(error)
        balance = self.state.get_balance(sender)
        if balance < transaction.value:
            return f"insufficient funds for transfer: have {balance} want {transaction.value}"
        if transaction.to is None and len(transaction.data) > MAX_INIT_CODE_BYTES:
            return f"max initcode size exceeded: {len(transaction.data)}"
        return None

    # --- what both share ----------------------------------------------------------------------------------

    def _compute(
        self, transaction: Transaction, sender: bytes, gas: int, gas_price: int, nonce: int, refund: int
    ) -> tuple[Any, bytes | None]:
        """Run the transaction's message. Gives the computation and the created contract's address."""
        context = TransactionContext(
            gas_price=gas_price, origin=sender, blob_versioned_hashes=transaction.blob_versioned_hashes
        )
        created = contract_address(sender, nonce) if transaction.to is None else None
        computation = apply_message(
            self.state,
            context,
            sender=sender,
            to=transaction.to,
            created=created,
            gas=gas,
            value=transaction.value,
            data=transaction.data,
            access_list=transaction.access_list,
            refund=refund,
        )
        return computation, created

    def _gas_used(self, transaction: Transaction, computation: Any) -> int:
        """After the refund (EIP-3529) and the calldata floor (EIP-7623)."""
        rules = self.rules
        gas_used: int = transaction.gas - computation.get_gas_remaining()
        gas_used -= min(gas_refund(computation, rules), gas_used // rules.refund_quotient)
        return max(gas_used, floor_gas(transaction.data, rules))

    def _destroy(self, computation: Any) -> None:
        for address in computation.get_accounts_for_deletion():
            self.state.delete_account(address)

    @staticmethod
    def _outcome(
        computation: Any,
        *,
        gas_used: int,
        contract_address: bytes | None,
        effective_gas_price: int,
        deposit_nonce: int | None = None,
        l1_fee: int | None = None,
        operator_fee: int | None = None,
    ) -> Outcome:
        error = computation._error
        entries = computation.get_raw_log_entries()
        logs = [
            Log(address, tuple([topic.to_bytes(32, "big") for topic in topics]), data)
            for _, address, topics, data in entries
        ]
        return Outcome(
            error is None,
            gas_used,
            tuple(logs),
            bytes(computation.output),
            None if error is None else describe_error(error),
            contract_address,
            effective_gas_price,
            deposit_nonce,
            l1_fee,
            operator_fee,
        )


__all__ = [
    "GAS_TRANSACTION",
    "Executor",
    "Outcome",
    "apply_message",
    "contract_address",
    "describe_error",
    "floor_gas",
    "gas_refund",
    "intrinsic_gas",
    "is_delegation",
    "read_l1_fee_parameters",
    "system_call",
    "validate_form",
    "validate_intrinsic_gas",
]
