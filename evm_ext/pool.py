"""The transaction pool: what users have sent and no block has yet.

A transaction is *pending* when its sender's nonces lead up to it without a gap, else *queued*. What the pool
has acknowledged is on disk before `add` returns and is read back at the next start. Error texts begin as
geth's do: wallets and libraries match on them.
"""

from __future__ import annotations

import contextlib
import heapq
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import structlog

from openledger.evm_ext import errors
from openledger.evm_ext.chain import Chain, HeadChange
from openledger.evm_ext.fees import L1FeeParameters
from openledger.evm_ext.journal import Journal
from openledger.evm_ext.state.view import StateView
from openledger.evm_ext.transactions import BLOB, DEPOSIT, Transaction, decode_transaction
from openledger.evm_ext.vm.executor import is_delegation, read_l1_fee_parameters, validate_form

_log = structlog.get_logger(__name__)

_SENDERS_RECHECKED_PER_HEAD = 256


@dataclass(frozen=True)
class PoolLimits:
    """Bounds of a pool. Sizes in bytes, fees in wei."""

    transactions: int = 8_192
    transactions_per_account: int = 512
    transaction_bytes: int = 128 * 1024
    minimum_tip: int = 0
    price_bump_percent: int = 10
    maximum_fee: int | None = 100 * 10**18
    """Most a transaction may cost in gas, against slips of the decimal point; None for no bound."""


@dataclass(frozen=True)
class PoolStatus:
    """How many transactions are pending and queued."""

    pending: int
    queued: int


PoolContent = dict[bytes, dict[int, Transaction]]


class TransactionPool:
    """Transactions waiting for a block, safe from any thread.

    Follows the chain's unsafe head by itself. `listeners` are called with the hash of every transaction
    that is taken, from the thread that added it."""

    def __init__(self, chain: Chain, limits: PoolLimits | None = None, journal: Path | None = None) -> None:
        """`journal` is the file that acknowledged transactions are kept in; None keeps them in memory."""
        self.limits = limits or PoolLimits()
        self.listeners: list[Callable[[bytes], None]] = []
        self._chain = chain
        self._lock = threading.RLock()
        self._by_hash: dict[bytes, Transaction] = {}
        self._by_sender: dict[bytes, dict[int, Transaction]] = {}
        self._nonces: dict[bytes, int] = {}
        self._arrival: dict[bytes, int] = {}
        self._arrivals = count()
        self._recheck: list[bytes] = []
        self._follow_head()
        self._journal = None if journal is None else Journal(journal)
        if self._journal is not None:
            self._reload(self._journal)
        chain.listeners.append(self.on_head)

    def close(self) -> None:
        """Stop following the chain and release the journal."""
        if self.on_head in self._chain.listeners:
            self._chain.listeners.remove(self.on_head)
        with self._lock:
            if self._journal is not None:
                self._journal.close()

    # --- adding ---------------------------------------------------------------------------------------

    def add(self, raw: bytes) -> bytes:
        """Take a transaction and give its hash; when this returns, kill -9 cannot lose it.

        Raises the `InvalidTransaction` that says why it is not taken."""
        if len(raw) > self.limits.transaction_bytes:
            raise errors.OversizedData(
                f"oversized data: transaction size {len(raw)}, limit {self.limits.transaction_bytes}"
            )
        return self.add_transaction(decode_transaction(raw))

    def add_transaction(self, transaction: Transaction) -> bytes:
        """As `add`, for a decoded transaction."""
        if transaction.hash in self._by_hash:
            raise errors.AlreadyKnown(f"already known: 0x{transaction.hash.hex()}")
        self._validate_form(transaction)  # recovers the sender, outside the lock
        try:
            with self._lock:
                replaced = self._by_sender.get(transaction.sender, {}).get(transaction.nonce)
                self._insert(transaction)
                position = None if self._journal is None else self._journal.append(transaction.raw)
            if self._journal is not None and position is not None:
                self._journal.sync(position)
        except OSError as error:
            self._undo(transaction, replaced)
            raise errors.NotKept(
                f"transactions cannot be kept now, the node's disk says: {error.strerror}; try again later"
            ) from error
        for listener in tuple(self.listeners):
            listener(transaction.hash)
        return transaction.hash

    def _validate_form(self, transaction: Transaction) -> None:
        if transaction.type in (DEPOSIT, BLOB):
            what = "deposits come from L1" if transaction.type == DEPOSIT else "blobs are not taken"
            raise errors.UnsupportedTransactionType(
                f"transaction type not supported: 0x{transaction.type:02x} ({what})"
            )
        validate_form(transaction, self._chain.rules)
        gas_limit = self._chain.head().gas_limit
        if transaction.gas > gas_limit:
            raise errors.ExceedsBlockGasLimit(
                f"exceeds block gas limit: transaction gas {transaction.gas}, limit {gas_limit}"
            )
        if transaction.max_priority_fee_per_gas < self.limits.minimum_tip:
            raise errors.Underpriced(
                f"transaction underpriced: gas tip cap {transaction.max_priority_fee_per_gas}, "
                f"minimum needed {self.limits.minimum_tip}"
            )
        fee = transaction.gas * transaction.max_fee_per_gas
        if self.limits.maximum_fee is not None and fee > self.limits.maximum_fee:
            raise errors.PoolRejection(
                f"tx fee ({fee / 10**18:.2f} ether) exceeds the configured cap "
                f"({self.limits.maximum_fee / 10**18:.2f} ether)"
            )

    def _insert(self, transaction: Transaction) -> None:
        if transaction.hash in self._by_hash:
            raise errors.AlreadyKnown(f"already known: 0x{transaction.hash.hex()}")
        sender = transaction.sender
        nonce = self._nonce(sender)
        if transaction.nonce < nonce:
            raise errors.NonceTooLow(f"nonce too low: next nonce {nonce}, tx nonce {transaction.nonce}")
        code = self._state.code(sender)
        if code and not is_delegation(code):
            raise errors.SenderNotEOA(f"sender not an eoa: address 0x{sender.hex()}")
        own = self._by_sender.get(sender, {})
        replaced = own.get(transaction.nonce)
        if replaced is not None and not self._outbids(transaction, replaced):
            raise errors.ReplacementUnderpriced(
                "replacement transaction underpriced: both fees must be "
                f"{self.limits.price_bump_percent} % above those of 0x{replaced.hash.hex()}"
            )
        self._check_funds(transaction, own, replaced)
        if replaced is not None:
            self._drop(replaced)
        else:
            if len(own) >= self.limits.transactions_per_account:
                raise errors.AccountLimitExceeded(
                    f"account limit exceeded: 0x{sender.hex()} has {len(own)} transactions in the pool"
                )
            if len(self._by_hash) >= self.limits.transactions:
                self._make_room(transaction)
        self._by_sender.setdefault(sender, {})[transaction.nonce] = transaction
        self._by_hash[transaction.hash] = transaction
        self._arrival[transaction.hash] = next(self._arrivals)

    def _outbids(self, new: Transaction, old: Transaction) -> bool:
        percent = 100 + self.limits.price_bump_percent
        return (
            new.max_fee_per_gas * 100 >= old.max_fee_per_gas * percent
            and new.max_priority_fee_per_gas * 100 >= old.max_priority_fee_per_gas * percent
        )

    def _check_funds(self, transaction: Transaction, own: dict[int, Transaction], replaced: Transaction | None) -> None:
        """The balance has to cover all of the sender's transactions together."""
        balance = self._state.balance(transaction.sender)
        cost = self.cost(transaction)
        queued = sum(self.cost(other) for other in own.values() if other is not replaced)
        if balance < cost:
            raise errors.InsufficientFunds(
                f"insufficient funds for gas * price + value: balance {balance}, tx cost {cost}, "
                f"overshot {cost - balance}"
            )
        if balance < cost + queued:
            raise errors.InsufficientFunds(
                f"insufficient funds for gas * price + value: balance {balance}, queued cost {queued}, "
                f"tx cost {cost}, overshot {cost + queued - balance}"
            )

    def _make_room(self, transaction: Transaction) -> None:
        """Drop the last transaction of the sender whose last one pays least, if it pays less."""
        base_fee = self._next_base_fee
        last = [own[max(own)] for own in self._by_sender.values()]
        # Queued ones go first: nobody can include them.
        worst = min(
            last, key=lambda item: (self._is_pending(item), item.effective_tip(base_fee), -self._arrival[item.hash])
        )
        if self._is_pending(worst) and worst.effective_tip(base_fee) >= transaction.effective_tip(base_fee):
            raise errors.PoolFull(
                f"txpool is full: {len(self._by_hash)} transactions, none pays a lower tip than "
                f"{transaction.effective_tip(base_fee)} wei"
            )
        self._drop(worst)

    def cost(self, transaction: Transaction) -> int:
        """Wei a sender needs for a transaction; on an OP chain with the L1 and operator fees."""
        cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
        if self._l1_fees is not None:
            cost += self._l1_fees.l1_fee(transaction.flz_size) + self._l1_fees.operator_fee(transaction.gas)
        return cost

    # --- looking ----------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._by_hash)

    def __contains__(self, tx_hash: bytes) -> bool:
        return tx_hash in self._by_hash

    def get(self, tx_hash: bytes) -> Transaction | None:
        return self._by_hash.get(tx_hash)

    def pending(self, base_fee: int | None = None) -> Iterator[Transaction]:
        """Executable transactions, best tip first, each sender's in order of nonce.

        Works on a copy made at the first step. A sender's sequence ends where a fee cap is below
        `base_fee` (wei; None: that of the next block)."""
        if base_fee is None:
            base_fee = self._next_base_fee
        with self._lock:
            sequences = [self._executable(sender) for sender in self._by_sender]
            arrival = dict(self._arrival)
        heap: list[tuple[int, int, int]] = []
        places = [0] * len(sequences)
        for index, sequence in enumerate(sequences):
            if sequence:
                _push(heap, sequence[0], index, base_fee, arrival)
        while heap:
            _, _, index = heapq.heappop(heap)
            yield sequences[index][places[index]]
            places[index] += 1
            if places[index] < len(sequences[index]):
                _push(heap, sequences[index][places[index]], index, base_fee, arrival)

    def pending_nonce(self, sender: bytes) -> int:
        """The nonce the sender's next transaction needs, those in the pool counted."""
        with self._lock:
            return self._nonce(sender) + len(self._executable(sender))

    def content(self) -> tuple[PoolContent, PoolContent]:
        """(pending, queued): transactions by sender and nonce."""
        pending: PoolContent = {}
        queued: PoolContent = {}
        with self._lock:
            for sender, own in self._by_sender.items():
                executable = {transaction.nonce for transaction in self._executable(sender)}
                for nonce, transaction in sorted(own.items()):
                    part = pending if nonce in executable else queued
                    part.setdefault(sender, {})[nonce] = transaction
        return pending, queued

    def status(self) -> PoolStatus:
        """Counts, as txpool_status answers them."""
        with self._lock:
            pending = sum(len(self._executable(sender)) for sender in self._by_sender)
            return PoolStatus(pending, len(self._by_hash) - pending)

    def _executable(self, sender: bytes) -> list[Transaction]:
        own = self._by_sender.get(sender)
        if not own:
            return []
        sequence = []
        nonce = self._nonce(sender)
        while (transaction := own.get(nonce)) is not None:
            sequence.append(transaction)
            nonce += 1
        return sequence

    def _is_pending(self, transaction: Transaction) -> bool:
        own = self._by_sender[transaction.sender]
        first = self._nonce(transaction.sender)
        return all(nonce in own for nonce in range(first, transaction.nonce))

    def _nonce(self, sender: bytes) -> int:
        nonce = self._nonces.get(sender)
        if nonce is None:
            nonce = self._state.nonce(sender)
            if sender in self._by_sender:
                self._nonces[sender] = nonce
        return nonce

    # --- following the chain --------------------------------------------------------------------------

    def on_head(self, change: HeadChange) -> None:
        """Take out what blocks have included and put back what a reorganisation took out of the chain."""
        if change.label != "unsafe":
            return
        with self._lock:
            self._follow_head()
            senders: set[bytes] = set()
            included: set[bytes] = set()
            for block_hash in change.added:
                for transaction in self._transactions(block_hash):
                    included.add(transaction.hash)
                    senders.add(transaction.sender)
            returned = [
                transaction
                for block_hash in reversed(change.removed)
                for transaction in self._transactions(block_hash)
                if transaction.hash not in included
            ]
            senders.update(transaction.sender for transaction in returned)
            for sender in senders | self._next_rechecked():
                self._recheck_sender(sender)
            self._put_back(returned)
            self._shorten_journal()

    def _follow_head(self) -> None:
        head = self._chain.head()
        self._state: StateView = self._chain.state(head.hash)
        self._next_base_fee = self._chain.next_base_fee(head.hash)
        self._l1_fees: L1FeeParameters | None = None
        if self._chain.rules.is_op:
            self._l1_fees = read_l1_fee_parameters(self._state)

    def _transactions(self, block_hash: bytes) -> Iterable[Transaction]:
        block = self._chain.block_by_hash(block_hash)
        if block is None:
            raise errors.UnknownBlock(f"block 0x{block_hash.hex()} is not stored")
        return (item for item in block.transactions if item.deposit is None)

    def _next_rechecked(self) -> set[bytes]:
        """Some senders to look at again, in turns: balances change by other people's transactions too."""
        if not self._recheck:
            self._recheck = list(self._by_sender)
        chosen = set(self._recheck[:_SENDERS_RECHECKED_PER_HEAD])
        del self._recheck[:_SENDERS_RECHECKED_PER_HEAD]
        return chosen

    def _recheck_sender(self, sender: bytes) -> None:
        self._nonces.pop(sender, None)
        own = self._by_sender.get(sender)
        if not own:
            return
        nonce = self._nonce(sender)
        balance = self._state.balance(sender)
        gas_limit = self._chain.head().gas_limit
        for transaction in [own[key] for key in sorted(own)]:
            if transaction.nonce < nonce or self.cost(transaction) > balance or transaction.gas > gas_limit:
                self._drop(transaction)

    def _put_back(self, transactions: list[Transaction]) -> None:
        for transaction in transactions:
            try:
                self._validate_form(transaction)
                self._insert(transaction)
            except errors.InvalidTransaction as error:
                _log.debug("transaction_not_put_back", tx="0x" + transaction.hash.hex(), reason=str(error))
                continue
            if self._journal is not None:
                self._journal.append(transaction.raw)

    def _undo(self, transaction: Transaction, replaced: Transaction | None) -> None:
        """As if it had never been added: its sender was told so."""
        with self._lock:
            if transaction.hash in self._by_hash:
                self._drop(transaction)
            if replaced is not None:
                with contextlib.suppress(errors.InvalidTransaction):  # a block may have taken it meanwhile
                    self._insert(replaced)

    def _drop(self, transaction: Transaction) -> None:
        self._by_hash.pop(transaction.hash, None)
        self._arrival.pop(transaction.hash, None)
        own = self._by_sender[transaction.sender]
        del own[transaction.nonce]
        if not own:
            del self._by_sender[transaction.sender]
            self._nonces.pop(transaction.sender, None)

    # --- the journal ------------------------------------------------------------------------------------

    def _reload(self, journal: Journal) -> None:
        taken = 0
        entries = journal.read()
        for raw in entries:
            try:
                transaction = decode_transaction(raw)
                self._validate_form(transaction)
                self._insert(transaction)
                taken += 1
            except errors.InvalidTransaction as error:
                _log.debug("journalled_transaction_dropped", reason=str(error))
        if entries:
            _log.info("transactions_reloaded", taken=taken, of=len(entries))
            journal.rewrite(self._in_order())

    def _shorten_journal(self) -> None:
        if self._journal is not None and self._journal.entries > 2 * len(self._by_hash) + 256:
            self._journal.rewrite(self._in_order())

    def _in_order(self) -> list[bytes]:
        """All encodings such that each sender's nonces come in order."""
        return [own[nonce].raw for own in self._by_sender.values() for nonce in sorted(own)]


def _push(
    heap: list[tuple[int, int, int]],
    transaction: Transaction,
    index: int,
    base_fee: int,
    arrival: dict[bytes, int],
) -> None:
    if transaction.max_fee_per_gas >= base_fee:
        heapq.heappush(heap, (-transaction.effective_tip(base_fee), arrival[transaction.hash], index))
