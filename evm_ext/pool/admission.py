"""Which transactions a pool takes: their form, their fees, and what their senders and authorities have waiting."""

from __future__ import annotations

from openledger.evm_ext import errors
from openledger.evm_ext.pool.contents import Contents, authorities_of
from openledger.evm_ext.pool.limits import PoolLimits
from openledger.evm_ext.state.view import StateView
from openledger.evm_ext.transactions import BLOB, DEPOSIT, Transaction
from openledger.evm_ext.vm.executor import is_delegation, validate_form
from openledger.evm_ext.vm.rules import BlockRules


def validate_alone(transaction: Transaction, rules: BlockRules, gas_limit: int, limits: PoolLimits) -> None:
    """Everything that can be said without the state, the signatures included, whose recovery releases the GIL.

    `rules` are those of the next block, `gas_limit` is the newest block's.
    Raises the `InvalidTransaction` that says why the pool does not take the transaction."""
    if len(transaction.raw) > limits.transaction_bytes:
        raise errors.OversizedData(
            f"oversized data: transaction size {len(transaction.raw)}, limit {limits.transaction_bytes}"
        )
    if transaction.type == DEPOSIT:
        raise errors.UnsupportedTransactionType(
            f"transaction type not supported: 0x{DEPOSIT:02x} (deposits come from L1)"
        )
    validate_form(transaction, rules)
    if transaction.gas > gas_limit:
        raise errors.ExceedsBlockGasLimit(
            f"exceeds block gas limit: transaction gas {transaction.gas}, limit {gas_limit}"
        )
    if transaction.max_priority_fee_per_gas < limits.minimum_tip:
        raise errors.Underpriced(
            f"transaction gas price below minimum: gas tip cap {transaction.max_priority_fee_per_gas}, "
            f"minimum needed {limits.minimum_tip}"
        )
    fee = transaction.gas * transaction.max_fee_per_gas
    if limits.maximum_fee is not None and fee > limits.maximum_fee:
        raise errors.PoolRejection(
            f"tx fee ({fee / 10**18:.2f} ether) exceeds the configured cap ({limits.maximum_fee / 10**18:.2f} ether)"
        )
    authorities_of(transaction)


def validate_sender(transaction: Transaction, nonce: int, state: StateView) -> None:
    """The sender may send and the nonce is not past. `nonce` is the chain's for the sender."""
    if transaction.nonce < nonce:
        raise errors.NonceTooLow(f"nonce too low: next nonce {nonce}, tx nonce {transaction.nonce}")
    code = state.code(transaction.sender)
    if code and not is_delegation(code):
        raise errors.SenderNotEOA(f"sender not an eoa: address 0x{transaction.sender.hex()}")


def validate_replacement(transaction: Transaction, replaced: Transaction, limits: PoolLimits) -> None:
    """Both fees are higher by the price bump; with blobs, the blob fee too."""
    if (transaction.type == BLOB) != (replaced.type == BLOB):
        raise errors.ReplacementUnderpriced(
            "replacement transaction underpriced: blob transactions and others do not replace each other"
        )
    bump = limits.bump(replaced)
    pairs = [
        (transaction.max_fee_per_gas, replaced.max_fee_per_gas),
        (transaction.max_priority_fee_per_gas, replaced.max_priority_fee_per_gas),
    ]
    if transaction.type == BLOB:
        pairs.append((transaction.max_fee_per_blob_gas, replaced.max_fee_per_blob_gas))
    # Always more, as in geth: a tip of nothing cannot be replaced by a tip of nothing.
    if any(new <= old or new * 100 < old * (100 + bump) for new, old in pairs):
        raise errors.ReplacementUnderpriced(
            f"replacement transaction underpriced: all fees must be {bump} % above those of 0x{replaced.hash.hex()}"
        )


def validate_funds(transaction: Transaction, cost: int, pending_cost: int, balance: int) -> None:
    """The balance covers the transaction together with the sender's executable ones. All in wei."""
    if balance < cost:
        raise errors.InsufficientFunds(
            f"insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, overshot {cost - balance}"
        )
    if balance < cost + pending_cost:
        raise errors.InsufficientFunds(
            f"insufficient funds for gas * price + value: balance {balance}, queued cost {pending_cost}, "
            f"tx cost {cost}, overshot {cost + pending_cost - balance}"
        )


def validate_delegations(transaction: Transaction, nonce: int, state: StateView, contents: Contents) -> None:
    """EIP-7702 lets others spend what an account's transactions count on, so little may hang on it: a
    delegated account, or one with an authorization in the pool, has one transaction in flight, and an
    authorization is not taken while its signer has several."""
    sender = transaction.sender
    account = contents.accounts.get(sender)
    if sender in contents.authorities or is_delegation(state.code(sender)):
        if account is None or not account.pending:
            if transaction.nonce != nonce:
                raise errors.GappedNonceOfDelegated(
                    f"gapped-nonce tx from delegated accounts: next nonce {nonce}, tx nonce {transaction.nonce}"
                )
        elif not account.nonce <= transaction.nonce < account.end:
            raise errors.InFlightLimitReached(
                "in-flight transaction limit reached for delegated accounts: wait until the transaction with "
                f"nonce {account.nonce} of 0x{sender.hex()} is in a block, or replace it"
            )
    for authority in authorities_of(transaction):
        waiting = contents.accounts.get(authority)
        if waiting is not None and len(waiting.by_nonce) > 1:
            raise errors.AuthorityReserved(
                f"authority already reserved: 0x{authority.hex()} has {len(waiting.by_nonce)} transactions in the pool"
            )
