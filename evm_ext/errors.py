"""Every error the execution client raises on purpose, in one place, because callers branch on them.

Messages carry the offending value. Texts of transaction errors begin as geth writes them: wallets and
libraries match on those words.
"""

from __future__ import annotations


class ExecutionError(Exception):
    """Anything this package raises on purpose."""


# --- opening a data folder -------------------------------------------------------------------------


class GenesisMismatch(ExecutionError):
    """The data folder holds another chain than the one that was asked for."""


class GenesisInvalid(ExecutionError):
    """A genesis no chain can start from under its rules."""


class DatabaseLocked(ExecutionError):
    """Another process has the data folder open."""


class DatabaseCorrupt(ExecutionError):
    """What is on disk is not what this program wrote."""


class BeyondRepair(DatabaseCorrupt):
    """Mending leads nowhere: block 0 is damaged, or no state is whole."""


class DiskFull(ExecutionError):
    """Too little room on the disk to write safely; nothing was written."""


class WriteFailed(ExecutionError):
    """The disk did not take a write; nothing is written until the folder is opened again."""


# --- looking things up -----------------------------------------------------------------------------


class UnknownBlock(ExecutionError):
    """No block with this hash is stored."""


class StatePruned(ExecutionError):
    """The state of an old block, which a pruned store no longer has. The message begins with geth's words."""

    def __init__(self, number: int, block_hash: bytes, state_root: bytes) -> None:
        super().__init__(
            f"missing trie node {state_root.hex()} (path ) state 0x{state_root.hex()} is not available, not found: "
            f"the state of block {number} (0x{block_hash.hex()}) was pruned; ask an archive node"
        )
        self.number = number
        self.block_hash = block_hash


class UnknownParent(ExecutionError):
    """The parent of the block to build or import is not stored: fetch it first."""


class InconsistentHeads(ExecutionError):
    """Safe or finalized would not be on the canonical chain, or not in order."""


class TooManyResults(ExecutionError):
    """A query has more results than its limit."""


# --- transactions ----------------------------------------------------------------------------------


class InvalidTransaction(ExecutionError):
    """A transaction that no block may contain, or not now. `code` is a stable word for programs."""

    code = "invalid_transaction"


class UndecodableTransaction(InvalidTransaction):
    """Bytes that are not a transaction."""

    code = "undecodable"


class UnsupportedTransactionType(InvalidTransaction):
    """A transaction type that this chain's rules do not know or do not take from users."""

    code = "unsupported_type"


class InvalidSignature(InvalidTransaction):
    """A signature out of range, with a high s (EIP-2), or from which no sender can be recovered."""

    code = "invalid_signature"


class WrongChainId(InvalidTransaction):
    """Signed for another chain (EIP-155)."""

    code = "wrong_chain_id"


class NonceTooLow(InvalidTransaction):
    code = "nonce_too_low"


class NonceTooHigh(InvalidTransaction):
    code = "nonce_too_high"


class NonceOverflow(InvalidTransaction):
    """The sender's nonce has reached its end (EIP-2681)."""

    code = "nonce_overflow"


class SenderNotEOA(InvalidTransaction):
    """The sender has code that is not a delegation (EIP-3607, EIP-7702)."""

    code = "sender_not_eoa"


class InsufficientFunds(InvalidTransaction):
    """Balance below the most the transaction may cost, the L1 and operator fees included."""

    code = "insufficient_funds"


class IntrinsicGasTooLow(InvalidTransaction):
    """Gas limit below what the transaction costs before its first opcode (EIP-2028, 2930, 3860, 7702)."""

    code = "intrinsic_gas"


class FloorGasTooLow(IntrinsicGasTooLow):
    """Gas limit below the calldata floor (EIP-7623)."""

    code = "floor_gas"


class TransactionGasTooHigh(InvalidTransaction):
    """Gas limit above what one transaction may ask for (EIP-7825)."""

    code = "transaction_gas_too_high"


class FeeCapTooLow(InvalidTransaction):
    """maxFeePerGas below the block's base fee (EIP-1559)."""

    code = "fee_cap_too_low"


class TipAboveFeeCap(InvalidTransaction):
    """maxPriorityFeePerGas above maxFeePerGas (EIP-1559)."""

    code = "tip_above_fee_cap"


class InitCodeTooLarge(InvalidTransaction):
    """Creation code above 49,152 bytes (EIP-3860)."""

    code = "init_code_too_large"


class InvalidBlobTransaction(InvalidTransaction):
    """A blob transaction that breaks EIP-4844."""

    code = "invalid_blob_transaction"


class InvalidSetCodeTransaction(InvalidTransaction):
    """A set-code transaction that breaks EIP-7702: no recipient or no authorizations."""

    code = "invalid_set_code_transaction"


class GasLimitReached(InvalidTransaction):
    """The transaction's gas does not fit into what is left of the block's."""

    code = "gas_limit_reached"


# --- the transaction pool --------------------------------------------------------------------------


class PoolRejection(InvalidTransaction):
    """A transaction that may be valid but that this pool does not take."""

    code = "pool_rejection"


class AlreadyKnown(PoolRejection):
    code = "already_known"


class ReplacementUnderpriced(PoolRejection):
    code = "replacement_underpriced"


class Underpriced(PoolRejection):
    code = "underpriced"


class ExceedsBlockGasLimit(PoolRejection):
    code = "exceeds_block_gas_limit"


class OversizedData(PoolRejection):
    code = "oversized_data"


class AccountLimitExceeded(PoolRejection):
    code = "account_limit_exceeded"


class PoolFull(PoolRejection):
    code = "pool_full"


class FutureReplacesPending(PoolRejection):
    """The pool is full, and a transaction that cannot be executed yet would push out one that can."""

    code = "future_replaces_pending"


class InFlightLimitReached(PoolRejection):
    """A delegated account has one transaction in flight already (EIP-7702)."""

    code = "in_flight_limit_reached"


class GappedNonceOfDelegated(PoolRejection):
    """A delegated account's transaction has to carry its next nonce (EIP-7702)."""

    code = "gapped_nonce_of_delegated"


class AuthorityReserved(PoolRejection):
    """The signer of an authorization has several transactions in the pool (EIP-7702)."""

    code = "authority_reserved"


class NotKept(PoolRejection):
    """The disk did not take the transaction, so that it is not safe from a crash."""

    code = "not_kept"


# --- blocks ----------------------------------------------------------------------------------------


class InvalidBlock(ExecutionError):
    """A block that breaks a rule; the message names the rule and the value that broke it."""


class UndecodableBlock(InvalidBlock):
    """Bytes that are not a block."""


class InvalidAttributes(InvalidBlock):
    """Payload attributes no block can be built from."""


class InvalidBlockTransaction(InvalidBlock):
    """A block with a transaction that may not be there. `index` is its place, `reason` the error."""

    def __init__(self, index: int, tx_hash: bytes, reason: InvalidTransaction) -> None:
        super().__init__(f"transaction {index} (0x{tx_hash.hex()}): {reason}")
        self.index = index
        self.tx_hash = tx_hash
        self.reason = reason


class HeaderFieldMismatch(InvalidBlock):
    """A header field that differs from what the rules or the execution give."""

    def __init__(self, field: str, actual: object, expected: object) -> None:
        def show(value: object) -> object:
            return f"0x{value.hex()}" if isinstance(value, bytes) else value

        super().__init__(f"header field {field} is {show(actual)}, expected {show(expected)}")
        self.field = field
        self.actual = actual
        self.expected = expected


class InvalidUncle(InvalidBlock):
    """A block of proof of work that names an uncle it may not name."""


class BlockTooLarge(InvalidBlock):
    """A block whose encoding is longer than the rules allow (EIP-7934)."""


class SystemContractFailed(InvalidBlock):
    """A system contract is missing or its call failed (EIP-7002, EIP-7251)."""


# --- execution without a database ------------------------------------------------------------------


class UnsupportedRules(ExecutionError):
    """A chain or a block whose rules this program does not know, or whose description it cannot read."""


class InvalidWitness(ExecutionError):
    """A witness that cannot be read, or a preimage that is not that of its hash."""


class MissingWitness(ExecutionError):
    """Execution needs a preimage that the witness does not hold: it is incomplete, or of another block."""

    def __init__(self, digest: bytes) -> None:
        super().__init__(f"the witness lacks the preimage of 0x{digest.hex()}")
        self.digest = digest


# --- calls -----------------------------------------------------------------------------------------


class CallError(ExecutionError):
    """A call that could not be made at all."""


class TraceTooLarge(CallError):
    """The result of a trace grew beyond its limit; tracing stopped there."""


class UnknownTracer(CallError):
    """There is no tracer with this name, or it does not take these options."""


class CallTimeout(CallError):
    """The call took longer than its time limit."""


class EstimationFailed(CallError):
    """No gas limit lets the transaction succeed. `output` is the revert data, empty if there is none."""

    def __init__(self, message: str, output: bytes = b"") -> None:
        super().__init__(message)
        self.output = output
