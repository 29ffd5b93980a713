"""One transaction: is it valid, what does it cost, what does it do.

Sources: Yellow Paper 6, EIP-1559, 2681, 2930, 3607, 3860, 4844, 7623, 7702; OP-Stack specification,
deposits and exec-engine (fees). Invalid transactions raise and leave the state as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth.exceptions import ContractCreationCollision, VMError
from eth.vm.forks.cancun.transaction_context import CancunTransactionContext
from eth.vm.message import Message

from openledger.evm_ext import errors
from openledger.evm_ext.encoding import encode
from openledger.evm_ext.fees import (
    GAS_PER_BLOB,
    L1_BASE_FEE_SLOT,
    L1_BLOB_BASE_FEE_SLOT,
    L1_SCALARS_SLOT,
    OPERATOR_FEE_SLOT,
    PRAGUE_MAX_BLOB_GAS,
    L1FeeParameters,
)
from openledger.evm_ext.receipts import Log
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.transactions import BLOB, DEPOSIT, MAX_UINT64, SET_CODE, Authorization, Transaction
from openledger.evm_ext.vm.environment import BlockEnvironment
from openledger.evm_ext.vm.rules import Rules
from openledger.genesis import predeploys
from openledger.genesis.hashing import keccak256

GAS_TRANSACTION = 21_000
GAS_CREATION = 32_000
GAS_ZERO_BYTE = 4
GAS_NONZERO_BYTE = 16
GAS_ACCESS_LIST_ADDRESS = 2_400
GAS_ACCESS_LIST_SLOT = 1_900
GAS_INIT_CODE_WORD = 2
GAS_PER_EMPTY_ACCOUNT = 25_000
GAS_PER_AUTHORIZATION = 12_500
GAS_FLOOR_PER_TOKEN = 10
MAX_INIT_CODE_BYTES = 49_152
MAX_REFUND_QUOTIENT = 5
BLOB_HASH_VERSION = b"\x01"
DELEGATION_PREFIX = b"\xef\x01\x00"


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


# --- what needs no state ------------------------------------------------------------------------------


def intrinsic_gas(transaction: Transaction) -> int:
    """Gas that is charged before the first opcode."""
    data = transaction.data
    zeros = data.count(0)
    gas = GAS_TRANSACTION + GAS_ZERO_BYTE * zeros + GAS_NONZERO_BYTE * (len(data) - zeros)
    if transaction.to is None:
        gas += GAS_CREATION + GAS_INIT_CODE_WORD * ((len(data) + 31) // 32)
    for _, slots in transaction.access_list:
        gas += GAS_ACCESS_LIST_ADDRESS + GAS_ACCESS_LIST_SLOT * len(slots)
    return gas + GAS_PER_EMPTY_ACCOUNT * len(transaction.authorization_list)


def floor_gas(data: bytes) -> int:
    """The least a transaction with this calldata pays for (EIP-7623)."""
    zeros = data.count(0)
    return GAS_TRANSACTION + GAS_FLOOR_PER_TOKEN * (zeros + 4 * (len(data) - zeros))


def validate_form(transaction: Transaction, rules: Rules) -> None:
    """Everything that makes a (non-deposit) transaction invalid in any block of the chain, its signature
    included. Raises the `InvalidTransaction` that says why; the texts begin as geth's do."""
    if transaction.type not in rules.transaction_types:
        raise errors.UnsupportedTransactionType(
            f"transaction type not supported: 0x{transaction.type:02x} on chain {rules.chain_id}"
        )
    if transaction.chain_id is not None and transaction.chain_id != rules.chain_id:
        raise errors.WrongChainId(f"invalid chain id for signer: have {transaction.chain_id} want {rules.chain_id}")
    if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
        raise errors.TipAboveFeeCap(
            "max priority fee per gas higher than max fee per gas: "
            f"maxPriorityFeePerGas: {transaction.max_priority_fee_per_gas}, "
            f"maxFeePerGas: {transaction.max_fee_per_gas}"
        )
    if transaction.nonce == MAX_UINT64:
        raise errors.NonceOverflow(f"nonce has max value: {transaction.nonce}")
    if transaction.to is None and len(transaction.data) > MAX_INIT_CODE_BYTES:
        raise errors.InitCodeTooLarge(
            f"max initcode size exceeded: code size {len(transaction.data)} limit {MAX_INIT_CODE_BYTES}"
        )
    if transaction.type == BLOB:
        _validate_blob_form(transaction)
    if transaction.type == SET_CODE:
        if transaction.to is None:
            raise errors.InvalidSetCodeTransaction("a set-code transaction cannot create a contract")
        if not transaction.authorization_list:
            raise errors.InvalidSetCodeTransaction("a set-code transaction needs an authorization")
    validate_intrinsic_gas(transaction)
    _ = transaction.sender  # raises InvalidSignature


def validate_intrinsic_gas(transaction: Transaction) -> int:
    """The intrinsic gas; raises if the gas limit is below it or below the calldata floor."""
    needed = intrinsic_gas(transaction)
    if transaction.gas < needed:
        raise errors.IntrinsicGasTooLow(f"intrinsic gas too low: have {transaction.gas}, want {needed}")
    floor = floor_gas(transaction.data)
    if transaction.gas < floor:
        raise errors.FloorGasTooLow(f"insufficient gas for floor data gas cost: have {transaction.gas}, want {floor}")
    return needed


def _validate_blob_form(transaction: Transaction) -> None:
    if transaction.to is None:
        raise errors.InvalidBlobTransaction("a blob transaction cannot create a contract")
    if not transaction.blob_versioned_hashes:
        raise errors.InvalidBlobTransaction("a blob transaction needs a blob hash")
    if len(transaction.blob_versioned_hashes) * GAS_PER_BLOB > PRAGUE_MAX_BLOB_GAS:
        raise errors.InvalidBlobTransaction(
            f"a block takes {PRAGUE_MAX_BLOB_GAS // GAS_PER_BLOB} blobs, "
            f"the transaction has {len(transaction.blob_versioned_hashes)}"
        )
    for blob_hash in transaction.blob_versioned_hashes:
        if blob_hash[:1] != BLOB_HASH_VERSION:
            raise errors.InvalidBlobTransaction(f"blob hash 0x{blob_hash.hex()} has an unknown version")


def contract_address(sender: bytes, nonce: int) -> bytes:
    """Where a contract created with CREATE goes."""
    return keccak256(encode((sender, nonce)))[12:]


def read_l1_fee_parameters(state: Any) -> L1FeeParameters:
    """From the L1Block predeploy. `state` has `get_storage(address, slot)`."""
    return L1FeeParameters.from_slots(
        base_fee=state.get_storage(predeploys.L1_BLOCK, L1_BASE_FEE_SLOT),
        scalars=state.get_storage(predeploys.L1_BLOCK, L1_SCALARS_SLOT),
        blob_base_fee=state.get_storage(predeploys.L1_BLOCK, L1_BLOB_BASE_FEE_SLOT),
        operator=state.get_storage(predeploys.L1_BLOCK, OPERATOR_FEE_SLOT),
    )


# --- execution ----------------------------------------------------------------------------------------


class Executor:
    """Executes the transactions of one block on its state, in order."""

    def __init__(self, state: WorldState, environment: BlockEnvironment, rules: Rules) -> None:
        self.state = state
        self.environment = environment
        self.rules = rules
        self._l1_fee_parameters: L1FeeParameters | None = None

    @property
    def l1_fee_parameters(self) -> L1FeeParameters:
        """As they stand after the block's first deposit; nothing else can change them in the block."""
        if self._l1_fee_parameters is None:
            self._l1_fee_parameters = read_l1_fee_parameters(self.state)
        return self._l1_fee_parameters

    def execute(self, transaction: Transaction, gas_available: int) -> Outcome:
        """Execute one transaction. `gas_available` is what is left of the block's gas.

        Raises `InvalidTransaction`, with the state as it was before."""
        if transaction.gas > gas_available:
            raise errors.GasLimitReached(
                f"gas limit reached: the transaction may use {transaction.gas}, {gas_available} are left in the block"
            )
        if transaction.deposit is not None:
            outcome = self._execute_deposit(transaction)
        else:
            outcome = self._execute_signed(transaction)
        self.state.end_transaction()
        return outcome

    # --- transactions with a signature ----------------------------------------------------------------

    def _execute_signed(self, transaction: Transaction) -> Outcome:
        state, environment = self.state, self.environment
        validate_form(transaction, self.rules)
        sender = transaction.sender
        base_fee = environment.base_fee_per_gas
        self._validate_against_state(transaction, sender)

        gas_price = transaction.effective_gas_price(base_fee)
        upfront = transaction.gas * gas_price
        l1_fee: int | None = None
        parameters: L1FeeParameters | None = None
        if self.rules.is_op:
            parameters = self.l1_fee_parameters
            l1_fee = parameters.l1_fee(transaction.flz_size)
            upfront += l1_fee + parameters.operator_fee(transaction.gas)
        elif transaction.type == BLOB:
            upfront += len(transaction.blob_versioned_hashes) * GAS_PER_BLOB * environment.blob_base_fee
        state.delta_balance(sender, -upfront)
        state.increment_nonce(sender)
        refund = self.apply_authorizations(transaction.authorization_list)

        gas = transaction.gas - intrinsic_gas(transaction)
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
            state.delta_balance(predeploys.OPERATOR_FEE_VAULT, operator_fee)
        self._destroy(computation)
        return self._outcome(
            computation,
            gas_used=gas_used,
            contract_address=created,
            effective_gas_price=gas_price,
            l1_fee=l1_fee,
            operator_fee=operator_fee,
        )

    def _validate_against_state(self, transaction: Transaction, sender: bytes) -> None:
        state, environment = self.state, self.environment
        where = f"address 0x{sender.hex()}"
        nonce = state.get_nonce(sender)
        if transaction.nonce < nonce:
            raise errors.NonceTooLow(f"nonce too low: {where}, tx: {transaction.nonce} state: {nonce}")
        if transaction.nonce > nonce:
            raise errors.NonceTooHigh(f"nonce too high: {where}, tx: {transaction.nonce} state: {nonce}")
        code = state.get_code(sender)
        if code and not is_delegation(code):
            raise errors.SenderNotEOA(f"sender not an eoa: {where}, codehash: 0x{keccak256(code).hex()}")
        if transaction.max_fee_per_gas < environment.base_fee_per_gas:
            raise errors.FeeCapTooLow(
                f"max fee per gas less than block base fee: {where}, "
                f"maxFeePerGas: {transaction.max_fee_per_gas}, baseFee: {environment.base_fee_per_gas}"
            )
        cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
        if transaction.type == BLOB:
            if transaction.max_fee_per_blob_gas < environment.blob_base_fee:
                raise errors.FeeCapTooLow(
                    f"max fee per blob gas less than block blob gas fee: {where}, "
                    f"blobGasFeeCap: {transaction.max_fee_per_blob_gas}, "
                    f"blobBaseFee: {environment.blob_base_fee}"
                )
            cost += len(transaction.blob_versioned_hashes) * GAS_PER_BLOB * transaction.max_fee_per_blob_gas
        if self.rules.is_op:
            parameters = self.l1_fee_parameters
            cost += parameters.l1_fee(transaction.flz_size) + parameters.operator_fee(transaction.gas)
        balance = state.get_balance(sender)
        if balance < cost:
            raise errors.InsufficientFunds(
                f"insufficient funds for gas * price + value: {where} have {balance} want {cost}"
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
        gas = transaction.gas - intrinsic_gas(transaction)
        computation, created = self._compute(transaction, sender, gas, 0, nonce, 0)
        gas_used = self._gas_used(transaction, computation)
        self._destroy(computation)
        return self._outcome(
            computation,
            gas_used=gas_used,
            contract_address=created,
            effective_gas_price=0,
            deposit_nonce=nonce,
        )

    def _deposit_problem(self, transaction: Transaction, sender: bytes) -> str | None:
        try:
            validate_intrinsic_gas(transaction)
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
        context = CancunTransactionContext(
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

    @staticmethod
    def _gas_used(transaction: Transaction, computation: Any) -> int:
        """After the refund (at most a fifth, EIP-3529) and the calldata floor (EIP-7623)."""
        gas_used: int = transaction.gas - computation.get_gas_remaining()
        gas_used -= min(computation.get_gas_refund(), gas_used // MAX_REFUND_QUOTIENT)
        return max(gas_used, floor_gas(transaction.data))

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
        return Outcome(
            success=computation.is_success,
            gas_used=gas_used,
            logs=tuple(
                Log(address, tuple(topic.to_bytes(32, "big") for topic in topics), data)
                for address, topics, data in computation.get_log_entries()
            ),
            output=bytes(computation.output),
            error=None if computation.is_success else describe_error(computation.error),
            contract_address=contract_address,
            effective_gas_price=effective_gas_price,
            deposit_nonce=deposit_nonce,
            l1_fee=l1_fee,
            operator_fee=operator_fee,
        )


def is_delegation(code: bytes) -> bool:
    """Whether an account's code only points to another's (EIP-7702)."""
    return len(code) == 23 and code[:3] == DELEGATION_PREFIX


def describe_error(error: VMError) -> str:
    """A failed computation's error in words, beginning with the kind."""
    text = str(error)
    kind = _GETH_WORDS.get(type(error).__name__, type(error).__name__)
    return kind if not text or kind == "execution reverted" else f"{kind}: {text}"


_GETH_WORDS = {
    "Revert": "execution reverted",
    "OutOfGas": "out of gas",
    "InvalidJumpDestination": "invalid jump destination",
    "InvalidInstruction": "invalid opcode",
    "InsufficientStack": "stack underflow",
    "FullStack": "stack limit reached 1024 (1023)",
    "WriteProtection": "write protection",
    "OutOfBoundsRead": "return data out of bounds",
    "ContractCreationCollision": "contract address collision",
    "StackDepthLimit": "max call depth exceeded",
    "InsufficientFunds": "insufficient balance for transfer",
    "ReservedBytesInCode": "invalid code: must not begin with 0xef",
}


def apply_message(
    state: WorldState,
    context: Any,
    *,
    sender: bytes,
    to: bytes | None,
    created: bytes | None,
    gas: int,
    value: int,
    data: bytes,
    access_list: Any = (),
    refund: int = 0,
) -> Any:
    """Run a top-level message on a state and give py-evm's computation. Warms what a transaction warms."""
    state.mark_address_warm(sender)
    for address, slots in access_list:
        state.mark_address_warm(address)
        for slot in slots:
            state.mark_storage_warm(address, slot)
    if to is None:
        if created is None:
            raise ValueError("a creation needs the address of the contract")
        state.mark_address_warm(created)
        message = Message(
            gas=gas, to=b"", sender=sender, value=value, data=b"", code=data, create_address=created, refund=refund
        )
        if state.has_code_or_nonce(created):
            computation = state.computation_class(state, message, context)
            computation.error = ContractCreationCollision(f"0x{created.hex()} is not empty")
            return computation
        return state.computation_class.apply_create_message(state, message, context)
    state.mark_address_warm(to)
    code = state.get_code(to)
    delegated = is_delegation(code)
    if delegated:
        state.mark_address_warm(code[3:])
        code = state.get_code(code[3:])
    message = Message(
        gas=gas, to=to, sender=sender, value=value, data=data, code=code, is_delegation=delegated, refund=refund
    )
    return state.computation_class.apply_message(state, message, context)


SYSTEM_CALL_GAS = 30_000_000


def system_call(state: WorldState, contract: bytes, data: bytes) -> Any | None:
    """Call a system contract as block processing does (EIP-4788, 2935, 7002, 7251): its own gas, no fee.

    None if nothing is deployed there."""
    if not state.get_code(contract):
        return None
    context = CancunTransactionContext(gas_price=0, origin=predeploys.SYSTEM_ADDRESS)
    computation = apply_message(
        state,
        context,
        sender=predeploys.SYSTEM_ADDRESS,
        to=contract,
        created=None,
        gas=SYSTEM_CALL_GAS,
        value=0,
        data=data,
    )
    state.end_transaction()
    return computation


__all__ = [
    "DEPOSIT",
    "Executor",
    "Outcome",
    "apply_message",
    "contract_address",
    "describe_error",
    "floor_gas",
    "intrinsic_gas",
    "is_delegation",
    "read_l1_fee_parameters",
    "system_call",
    "validate_form",
    "validate_intrinsic_gas",
]
