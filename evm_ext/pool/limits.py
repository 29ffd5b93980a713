"""How much a pool holds and what it asks of a transaction."""

from __future__ import annotations

from dataclasses import dataclass

from openledger.evm_ext.transactions import BLOB, Transaction

SLOT_BYTES = 32 * 1024
"""A transaction takes as many slots as its encoding begins of these."""


@dataclass(frozen=True)
class PoolLimits:
    """Bounds of a pool, with geth's names and defaults. Sizes in bytes, fees in wei, times in seconds.

    The pool holds `global_slots + global_queue` slots. While there is room nobody is limited in executable
    transactions; once more than `global_slots` of them wait, the accounts with the most lose their last ones
    down to `account_slots`, which every account may keep.
    """

    account_slots: int = 16
    """Executable transactions that an account keeps when too many wait."""
    global_slots: int = 5_120
    account_queue: int = 64
    """Transactions of one account that wait for a missing nonce."""
    global_queue: int = 1_024
    lifetime_s: float = 3 * 3600.0
    """An account that has sent nothing for so long loses what waits for a missing nonce."""
    transaction_bytes: int = 4 * SLOT_BYTES
    """Longest transaction, its blobs not counted."""
    blob_bytes: int = 512 * 1024 * 1024
    """Memory for blobs, with their proofs."""
    minimum_tip: int = 1
    """Least priority fee per gas (geth's price limit)."""
    price_bump_percent: int = 10
    """By how much both fees of a replacement must be higher."""
    blob_price_bump_percent: int = 100
    """The same for a transaction with blobs, its blob fee included."""
    maximum_fee: int | None = 100 * 10**18
    """Most a transaction may cost in gas, against slips of the decimal point; None for no bound."""

    @property
    def slots(self) -> int:
        """All the room there is."""
        return self.global_slots + self.global_queue

    def bump(self, transaction: Transaction) -> int:
        """Percent that a replacement of this transaction has to add."""
        return self.blob_price_bump_percent if transaction.type == BLOB else self.price_bump_percent


def slots_of(transaction: Transaction) -> int:
    """Slots that a transaction takes, at least one."""
    return -(-len(transaction.raw) // SLOT_BYTES)
