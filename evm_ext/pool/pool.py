"""`TransactionPool`: admission, what builders and callers see, and following the chain.

A transaction is *pending* when its sender's nonces lead up to it without a gap, else *queued*. What the pool
has acknowledged is on disk before `add` returns and is read back at the next start. Error texts begin as
geth's do: wallets and libraries match on them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from openledger.evm_ext import errors
from openledger.evm_ext.blobs import BlobSidecar, decode_network, encode_network
from openledger.evm_ext.chain import Chain, HeadChange
from openledger.evm_ext.fees import GAS_PER_BLOB, L1FeeParameters
from openledger.evm_ext.journal import Journal
from openledger.evm_ext.pool.admission import (
    validate_alone,
    validate_delegations,
    validate_funds,
    validate_replacement,
    validate_sender,
)
from openledger.evm_ext.pool.contents import Account, Contents
from openledger.evm_ext.pool.eviction import Eviction
from openledger.evm_ext.pool.limits import PoolLimits
from openledger.evm_ext.pool.ordering import best_first
from openledger.evm_ext.pool.sidecars import Sidecars
from openledger.evm_ext.state.view import StateView
from openledger.evm_ext.transactions import BLOB, Transaction, recover_senders
from openledger.evm_ext.vm.executor import read_l1_fee_parameters
from openledger.genesis.counted import counted
from openledger.genesis.hardforks import Hardfork

_log = structlog.get_logger(__name__)

_SENDERS_RECHECKED_PER_HEAD = 256
_EXPIRY_INTERVAL_S = 60.0

PoolContent = dict[bytes, dict[int, Transaction]]


@dataclass(frozen=True)
class PoolStatus:
    """How many transactions are pending and queued."""

    pending: int
    queued: int


class TransactionPool:
    """Transactions waiting for a block, safe from any thread.

    Follows the chain's unsafe head by itself. `listeners` are called with the hash of every transaction
    that is taken, from the thread that added it. What must not be seen before its block (private order flow,
    forced inclusion) does not come here: a builder takes any candidates, these before or among `pending`."""

    def __init__(
        self,
        chain: Chain,
        limits: PoolLimits | None = None,
        journal: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`journal` is the file that acknowledged transactions are kept in; None keeps them in memory.
        `clock` gives seconds."""
        self.limits = limits or PoolLimits()
        self.listeners: list[Callable[[bytes], None]] = []
        self._chain = chain
        self._clock = clock
        self._lock = threading.RLock()
        self._contents = Contents(self.limits.account_slots)
        self._eviction = Eviction(self._contents, self.limits)
        self._sidecars = Sidecars(self.limits.blob_bytes, self._contents.by_hash.__contains__)
        self._recheck: list[bytes] = []
        self._expired_at = clock()
        self._follow_head()
        self._journal = None if journal is None else Journal(journal)
        if self._journal is not None:
            self._reload(self._journal)
        chain.listeners.append(self.on_head)

    def close(self) -> None:
        """Stop following the chain and release the journal, which then holds exactly what the pool does."""
        if self.on_head in self._chain.listeners:
            self._chain.listeners.remove(self.on_head)
        with self._lock:
            if self._journal is not None:
                try:
                    self._rewrite(self._journal)
                except OSError as error:  # as it is, it holds more than is needed
                    _log.warning("journal_not_shortened", reason=str(error))
                self._journal.close()

    # --- adding ---------------------------------------------------------------------------------------

    def add(self, raw: bytes) -> bytes:
        """Take a transaction and give its hash; when this returns, kill -9 cannot lose it. One of type 3 comes with
        its blobs, in the network form.

        Raises the `InvalidTransaction` that says why it is not taken."""
        has_blobs = raw[:1] == bytes((BLOB,))
        if has_blobs and BLOB not in self._rules.transaction_types:
            raise errors.UnsupportedTransactionType(f"transaction type not supported: 0x{BLOB:02x} (no blobs here)")
        if len(raw) > self.limits.transaction_bytes and not has_blobs:
            raise errors.OversizedData(
                f"oversized data: transaction size {len(raw)}, limit {self.limits.transaction_bytes}"
            )
        return self.add_transaction(*decode_network(raw))

    def add_transaction(self, transaction: Transaction, sidecar: BlobSidecar | None = None) -> bytes:
        """As `add`, for a decoded transaction."""
        if transaction.hash in self._contents.by_hash:
            raise errors.AlreadyKnown(f"already known: 0x{transaction.hash.hex()}")
        self._validate_alone(transaction)  # outside the lock: recovers the sender
        if transaction.type == BLOB:
            sidecar = self._proven(transaction, sidecar)
        gone: list[Transaction] = []
        try:
            with self._lock:
                gone = self._take(transaction, sidecar)
                position = None if self._journal is None else self._journal.append(self._entry(transaction))
            if self._journal is not None and position is not None:
                self._journal.sync(position)
        except OSError as error:
            self._undo(transaction, gone)
            raise errors.NotKept(
                f"transactions cannot be kept now, the node's disk says: {error.strerror}; try again later"
            ) from error
        for listener in tuple(self.listeners):
            listener(transaction.hash)
        return transaction.hash

    def _validate_alone(self, transaction: Transaction) -> None:
        validate_alone(transaction, self._rules, self._gas_limit, self.limits)

    def _proven(self, transaction: Transaction, sidecar: BlobSidecar | None) -> BlobSidecar:
        """The blobs, which are found to be the transaction's, in the form of the next block's fork."""
        if sidecar is None:
            raise errors.InvalidBlobTransaction("missing sidecar in blob transaction")
        has_cells = self._rules.fork >= Hardfork.OSAKA
        if sidecar.has_cells and not has_cells:
            raise errors.InvalidBlobTransaction("proofs of a blob's cells come with Osaka; send a proof of each blob")
        sidecar.check(transaction)
        return sidecar.with_cells() if has_cells else sidecar

    def _take(self, transaction: Transaction, sidecar: BlobSidecar | None = None) -> list[Transaction]:
        """Put in a transaction that is valid alone. Gives what had to leave for it, which is more than what it
        replaced only when a limit is reached. Raises `InvalidTransaction`; nothing has changed then."""
        contents = self._contents
        if transaction.hash in contents.by_hash:
            raise errors.AlreadyKnown(f"already known: 0x{transaction.hash.hex()}")
        self._expire_sometimes()
        sender = transaction.sender
        account = contents.accounts.get(sender)
        nonce = self._state.nonce(sender) if account is None else account.nonce
        validate_sender(transaction, nonce, self._state)
        replaced = contents.at(sender, transaction.nonce)
        if replaced is not None:
            validate_replacement(transaction, replaced, self.limits)
        validate_funds(
            transaction,
            self.cost(transaction),
            0 if account is None else self._pending_cost(account, replaced),
            self._state.balance(sender),
        )
        validate_delegations(transaction, nonce, self._state, contents)
        gapped = transaction.nonce > (nonce if account is None else account.end)
        if gapped and replaced is None:
            self._require_queue_room(transaction, account)
        if transaction.type == BLOB:
            self._keep_blobs(transaction, sidecar, nonce if account is None else account.end, gapped=gapped)
        gone = self._eviction.make_room(transaction, replaced, gapped=gapped)
        if contents.insert(transaction, nonce, self._clock()) is not None and replaced is not None:
            gone.append(replaced)
        self._eviction.taken(transaction)
        gone += self._eviction.cap_queue(sender)
        gone += self._eviction.level()
        if transaction.hash not in contents.by_hash:
            gone.remove(transaction)
            self._put_in(gone)
            raise errors.PoolFull(
                f"txpool is full: {contents.pending} executable and {contents.queued} queued transactions, "
                f"and 0x{sender.hex()} has its share of them"
            )
        return gone

    def _keep_blobs(
        self, transaction: Transaction, sidecar: BlobSidecar | None, next_nonce: int, *, gapped: bool
    ) -> None:
        """Blobs are large: what carries them does not wait for a missing nonce."""
        if gapped:
            raise errors.NonceTooHigh(f"nonce too high: tx nonce {transaction.nonce}, gapped nonce {next_nonce}")
        if sidecar is not None:
            self._sidecars.put(transaction.hash, sidecar)
        elif self._sidecars.get(transaction.hash) is None:
            raise errors.InvalidBlobTransaction("missing sidecar in blob transaction")

    def _require_queue_room(self, transaction: Transaction, account: Account | None) -> None:
        if (
            account is not None
            and account.queued >= self.limits.account_queue
            and transaction.nonce > account.last().nonce
        ):
            raise errors.AccountLimitExceeded(
                f"account limit exceeded: {counted(account.queued, 'transaction')} of 0x{account.address.hex()} cannot "
                f"run before nonce {account.end}, send that one first"
            )

    def _pending_cost(self, account: Account, replaced: Transaction | None) -> int:
        """What the account's executable transactions cost, without the one that is replaced."""
        cost = account.executable_cost(self.cost, self._state)  # fees for L1 change with the head only
        if replaced is not None and replaced.nonce < account.end:
            cost -= self.cost(replaced)
        return cost

    def cost(self, transaction: Transaction) -> int:
        """Wei a sender needs for a transaction; on an OP chain with the L1 and operator fees."""
        cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
        cost += len(transaction.blob_versioned_hashes) * GAS_PER_BLOB * transaction.max_fee_per_blob_gas
        if self._l1_fees is not None:
            cost += self._l1_fees.l1_fee(transaction.flz_size) + self._l1_fees.operator_fee(transaction.gas)
        return cost

    # --- looking ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._contents)

    def __contains__(self, tx_hash: bytes) -> bool:
        return tx_hash in self._contents.by_hash

    def get(self, tx_hash: bytes) -> Transaction | None:
        return self._contents.by_hash.get(tx_hash)

    def sidecar(self, tx_hash: bytes) -> BlobSidecar | None:
        """The blobs of a transaction that is here, or that was and may come back."""
        return self._sidecars.get(tx_hash)

    def blob(self, versioned_hash: bytes) -> tuple[BlobSidecar, int] | None:
        """The sidecar that has a blob, and the blob's index in it."""
        return self._sidecars.blob(versioned_hash)

    def pending(self, base_fee: int | None = None) -> Iterator[Transaction]:
        """Executable transactions, best tip first, each sender's in order of nonce.

        Works on a copy made at the first step. A sender's sequence ends where a fee cap is below
        `base_fee` (wei; None: that of the next block)."""
        if base_fee is None:
            base_fee = self._next_base_fee
        with self._lock:
            sequences = [account.executable() for account in self._contents.accounts.values()]
            arrival = dict(self._contents.arrival)
        yield from best_first(sequences, base_fee, arrival)

    def pending_nonce(self, sender: bytes) -> int:
        """The nonce the sender's next transaction needs, those in the pool counted."""
        with self._lock:
            account = self._contents.accounts.get(sender)
            return self._state.nonce(sender) if account is None else account.end

    def content(self) -> tuple[PoolContent, PoolContent]:
        """(pending, queued): transactions by sender and nonce, senders and nonces ascending."""
        pending: PoolContent = {}
        queued: PoolContent = {}
        with self._lock:
            for sender in sorted(self._contents.accounts):
                account = self._contents.accounts[sender]
                _put(pending, sender, account.executable())
                _put(queued, sender, account.waiting())
        return pending, queued

    def content_of(self, sender: bytes) -> tuple[dict[int, Transaction], dict[int, Transaction]]:
        """(pending, queued) of one sender, by nonce."""
        with self._lock:
            account = self._contents.accounts.get(sender)
            if account is None:
                return {}, {}
            return (
                {item.nonce: item for item in account.executable()},
                {item.nonce: item for item in account.waiting()},
            )

    def status(self) -> PoolStatus:
        """Counts, as txpool_status answers them."""
        with self._lock:
            return PoolStatus(self._contents.pending, self._contents.queued)

    # --- following the chain --------------------------------------------------------------------------

    def on_head(self, change: HeadChange) -> None:
        """Take out what blocks have included and put back what a reorganisation took out of the chain."""
        if change.label != "unsafe":
            return
        with self._lock:
            self._follow_head()
            added = [item for block_hash in change.added for item in self._transactions(block_hash)]
            included = {item.hash for item in added}
            returned = [
                item
                for block_hash in reversed(change.removed)
                for item in self._transactions(block_hash)
                if item.hash not in included
            ]
            senders = {item.sender for item in added} | {item.sender for item in returned}
            for sender in senders | self._next_rechecked():
                self._recheck_sender(sender)
            self._put_back(returned)
            self._eviction.level()
            self._expire_sometimes()
            self._shorten_journal()

    def _follow_head(self) -> None:
        head = self._chain.head()
        self._rules = self._chain.rules.after(head)
        self._gas_limit = head.gas_limit
        self._state: StateView = self._chain.state(head.hash)
        self._next_base_fee = self._chain.next_base_fee(head.hash)
        self._eviction.reprice(self._next_base_fee)
        self._l1_fees: L1FeeParameters | None = None
        if self._chain.rules.is_op:
            self._l1_fees = read_l1_fee_parameters(self._state)

    def _transactions(self, block_hash: bytes) -> list[Transaction]:
        block = self._chain.block_by_hash(block_hash)
        if block is None:  # rolled back further than the chain keeps states, and forgotten
            return []
        return [item for item in block.transactions if item.deposit is None]

    def _next_rechecked(self) -> set[bytes]:
        """Some senders to look at again, in turns: balances change by other people's transactions too."""
        if not self._recheck:
            self._recheck = list(self._contents.accounts)
        chosen = set(self._recheck[:_SENDERS_RECHECKED_PER_HEAD])
        del self._recheck[:_SENDERS_RECHECKED_PER_HEAD]
        return chosen

    def _recheck_sender(self, sender: bytes) -> None:
        """What is past goes, what can no longer be paid goes, and what came after it is queued."""
        contents = self._contents
        contents.move(sender, self._state.nonce(sender))
        account = contents.accounts.get(sender)
        if account is None:
            return
        balance = self._state.balance(sender)
        for item in list(account.by_nonce.values()):
            if self.cost(item) > balance or item.gas > self._gas_limit:
                contents.remove(item)
        self._eviction.cap_queue(sender)

    def _expire_sometimes(self) -> None:
        now = self._clock()
        if now - self._expired_at >= _EXPIRY_INTERVAL_S:
            self._expired_at = now
            self._eviction.expire(now)

    def _put_back(self, transactions: list[Transaction]) -> None:
        recover_senders(transactions)
        for item in transactions:
            try:
                self._validate_alone(item)
                self._take(item)
            except errors.InvalidTransaction as error:
                _log.debug("transaction_not_put_back", tx="0x" + item.hash.hex(), reason=str(error))
                continue
            if self._journal is not None:
                self._journal.append(self._entry(item))

    def _undo(self, transaction: Transaction, gone: list[Transaction]) -> None:
        """As if it had never been added: its sender was told so."""
        with self._lock:
            if transaction.hash in self._contents.by_hash:
                self._contents.remove(transaction)
            self._put_in(gone)

    def _put_in(self, transactions: list[Transaction]) -> None:
        """Put back what had to leave for a transaction that was not taken after all."""
        for item in transactions:
            nonce = self._state.nonce(item.sender)
            if item.nonce >= nonce and self._contents.at(item.sender, item.nonce) is None:
                self._contents.insert(item, nonce, self._clock())
                self._eviction.taken(item)

    # --- the journal ------------------------------------------------------------------------------------

    def _reload(self, journal: Journal) -> None:
        entries = journal.read()
        found: list[tuple[Transaction, BlobSidecar | None]] = []
        for raw in entries:
            try:
                found.append(decode_network(raw))
            except errors.InvalidTransaction as error:
                _log.warning("journalled_transaction_unreadable", reason=str(error))
        recover_senders([item for item, _ in found])
        for item, sidecar in found:
            try:
                self._restore(item, sidecar)
            except errors.InvalidTransaction as error:
                _log.debug("journalled_transaction_dropped", tx="0x" + item.hash.hex(), reason=str(error))
        for sender in list(self._contents.accounts):
            self._recheck_sender(sender)
        self._eviction.level()
        if entries:
            _log.info("transactions_reloaded", taken=len(self._contents), of=len(entries))
            self._rewrite(journal)

    def _restore(self, transaction: Transaction, sidecar: BlobSidecar | None) -> None:
        """Put in what was taken before: what depended on the order of arrival then is not asked again."""
        self._validate_alone(transaction)
        nonce = self._state.nonce(transaction.sender)
        validate_sender(transaction, nonce, self._state)
        replaced = self._contents.at(transaction.sender, transaction.nonce)
        if replaced is not None:
            validate_replacement(transaction, replaced, self.limits)
        if transaction.type == BLOB:
            self._keep_blobs(transaction, sidecar, nonce, gapped=False)
        self._contents.insert(transaction, nonce, self._clock())
        self._eviction.taken(transaction)

    def _shorten_journal(self) -> None:
        if self._journal is not None and self._journal.entries > 2 * len(self._contents) + 256:
            self._rewrite(self._journal)

    def _rewrite(self, journal: Journal) -> None:
        journal.rewrite([self._entry(item) for item in self._contents.in_order()])

    def _entry(self, transaction: Transaction) -> bytes:
        """What the journal keeps of a transaction."""
        sidecar = self._sidecars.get(transaction.hash)
        return transaction.raw if sidecar is None else encode_network(transaction, sidecar)


def _put(content: PoolContent, sender: bytes, transactions: list[Transaction]) -> None:
    if transactions:
        content[sender] = {item.nonce: item for item in transactions}
