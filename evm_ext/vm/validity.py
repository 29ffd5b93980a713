"""What makes a transaction invalid whatever the state is: its type, chain, form, gas limit and signature.

Sources: Yellow Paper 6, EIP-2, 155, 1559, 2681, 3860, 4844, 7594, 7702, 7825. Error texts begin as geth's do.
"""

from __future__ import annotations

from openledger.evm_ext import errors
from openledger.evm_ext.signatures import SECP256K1_HALF_N
from openledger.evm_ext.transactions import BLOB, LEGACY, MAX_UINT64, SET_CODE, Transaction
from openledger.evm_ext.vm.intrinsic import validate_intrinsic_gas
from openledger.evm_ext.vm.rules import MAX_INIT_CODE_BYTES, BlockRules

BLOB_HASH_VERSION = b"\x01"


def validate_form(transaction: Transaction, rules: BlockRules) -> int:
    """Everything that makes a (non-deposit) transaction invalid in any block under these rules, its signature
    included. Gives its intrinsic gas; raises the `InvalidTransaction` that says why."""
    kind = transaction.type
    if kind not in rules.transaction_types:
        raise errors.UnsupportedTransactionType(
            f"transaction type not supported: 0x{kind:02x} on chain {rules.chain_id} under {rules.fork.name}"
        )
    _validate_chain(transaction, rules)
    if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
        raise errors.TipAboveFeeCap(
            "max priority fee per gas higher than max fee per gas: "
            f"maxPriorityFeePerGas: {transaction.max_priority_fee_per_gas}, "
            f"maxFeePerGas: {transaction.max_fee_per_gas}"
        )
    if transaction.nonce == MAX_UINT64:
        raise errors.NonceOverflow(f"nonce has max value: {transaction.nonce}")
    if transaction.to is None and rules.limits_init_code and len(transaction.data) > MAX_INIT_CODE_BYTES:
        raise errors.InitCodeTooLarge(
            f"max initcode size exceeded: code size {len(transaction.data)} limit {MAX_INIT_CODE_BYTES}"
        )
    if rules.max_transaction_gas is not None and transaction.gas > rules.max_transaction_gas:
        raise errors.TransactionGasTooHigh(
            f"transaction gas limit too high (cap: {rules.max_transaction_gas}, tx: {transaction.gas})"
        )
    if kind == BLOB:
        _validate_blobs(transaction, rules)
    elif kind == SET_CODE:
        if transaction.to is None:
            raise errors.InvalidSetCodeTransaction("EIP-7702 transaction cannot be used to create contract")
        if not transaction.authorization_list:
            raise errors.InvalidSetCodeTransaction("EIP-7702 transaction with empty auth list")
    needed = validate_intrinsic_gas(transaction, rules)
    if rules.requires_low_s and transaction.s > SECP256K1_HALF_N:
        raise errors.InvalidSignature(
            f"invalid sender: signature s is above half the curve order (EIP-2): {transaction.s:#x}"
        )
    _ = transaction.sender  # raises InvalidSignature
    return needed


def _validate_chain(transaction: Transaction, rules: BlockRules) -> None:
    if transaction.chain_id is None:
        return
    if transaction.type == LEGACY and not rules.has_replay_protection:
        raise errors.InvalidSignature(
            f"invalid sender: v must be 27 or 28 before EIP-155, got {transaction.v} under {rules.fork.name}"
        )
    if transaction.chain_id != rules.chain_id:
        raise errors.WrongChainId(f"invalid chain id for signer: have {transaction.chain_id} want {rules.chain_id}")


def _validate_blobs(transaction: Transaction, rules: BlockRules) -> None:
    if transaction.to is None:
        raise errors.InvalidBlobTransaction("blob transaction of type create")
    hashes = transaction.blob_versioned_hashes
    if not hashes:
        raise errors.InvalidBlobTransaction("blob transaction missing blob hashes")
    if len(hashes) > rules.max_transaction_blobs:
        raise errors.InvalidBlobTransaction(
            f"blob transaction has too many blobs: have {len(hashes)}, permitted {rules.max_transaction_blobs}"
        )
    for index, blob_hash in enumerate(hashes):
        if blob_hash[:1] != BLOB_HASH_VERSION:
            raise errors.InvalidBlobTransaction(f"blob {index} has invalid hash version: 0x{blob_hash.hex()}")
