"""How a message enters the machine from outside: as a transaction, a call, or a system call of the block.

Sources: Yellow Paper 8, EIP-684, 2929, 4788, 7610, 7702.
"""

from __future__ import annotations

from typing import Any

from eth.exceptions import ContractCreationCollision, VMError

from openledger.evm_ext.encoding import encode
from openledger.evm_ext.state.world import WorldState
from openledger.evm_ext.vm.message import Message
from openledger.evm_ext.vm.transaction_context import TransactionContext
from openledger.genesis import predeploys
from openledger.genesis.hashing import keccak256

DELEGATION_PREFIX = b"\xef\x01\x00"
SYSTEM_CALL_GAS = 30_000_000


def is_delegation(code: bytes) -> bool:
    """Whether an account's code only points to another's (EIP-7702)."""
    return len(code) == 23 and code[:3] == DELEGATION_PREFIX


def contract_address(sender: bytes, nonce: int) -> bytes:
    """Where a contract created with CREATE goes."""
    return keccak256(encode((sender, nonce)))[12:]


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
    for address, slots in access_list:
        state.mark_address_warm(address)
        for slot in slots:
            state.mark_storage_warm(address, slot)
    state.mark_address_warm(sender)
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
    delegated = is_delegation(code) and state.execution_context.rules.has_delegations
    if delegated:
        state.mark_address_warm(code[3:])
        code = state.get_code(code[3:])
    message = Message(
        gas=gas, to=to, sender=sender, value=value, data=data, code=code, is_delegation=delegated, refund=refund
    )
    return state.computation_class.apply_message(state, message, context)


def system_call(state: WorldState, contract: bytes, data: bytes) -> Any | None:
    """Call a system contract as block processing does (EIP-4788, 2935, 7002, 7251): its own gas, no fee.

    None if nothing is deployed there."""
    if not state.get_code(contract):
        return None
    context = TransactionContext(gas_price=0, origin=predeploys.SYSTEM_ADDRESS)
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


def describe_error(error: VMError) -> str:
    """geth's words for a failed computation's error, as far as the error alone tells: which opcode it was and how high
    the stack is left to `tracing.failure`."""
    name = type(error).__name__
    return _GETH_WORDS.get(name) or str(error) or name


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
