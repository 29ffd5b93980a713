"""What a pool holds: transactions by hash and by account, and the counts that limits are about.

Only bookkeeping: nothing here judges a transaction or knows the chain. Not safe from several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

from openledger.evm_ext.pool.limits import slots_of
from openledger.evm_ext.transactions import Transaction


class Account:
    """One sender's transactions.

    Those with the nonces `nonce` (the chain's) up to `end` (excluded) are executable, the others queued: a
    nonce before them is missing. `beat` is when the sender last sent something.
    """

    __slots__ = ("_cost", "_costed", "_costs", "address", "beat", "by_nonce", "end", "nonce")

    def __init__(self, address: bytes, nonce: int, beat: float) -> None:
        self.address = address
        self.nonce = nonce
        self.end = nonce
        self.beat = beat
        self.by_nonce: dict[int, Transaction] = {}
        self._costs: object = None
        self._costed = 0
        self._cost = 0

    def executable_cost(self, cost: Callable[[Transaction], int], costs: object) -> int:
        """What `cost` gives for all executable transactions together. `costs` is another object whenever `cost`
        changes; in between only what is new is asked for."""
        if self._costs is not costs:
            self._costs, self._costed, self._cost = costs, self.nonce, 0
        while self._costed < self.end:
            self._cost += cost(self.by_nonce[self._costed])
            self._costed += 1
        return self._cost

    def forget_costs(self) -> None:
        """An executable transaction was replaced or has left."""
        self._costs = None

    @property
    def pending(self) -> int:
        """Number of executable transactions."""
        return self.end - self.nonce

    @property
    def queued(self) -> int:
        """Number of the others."""
        return len(self.by_nonce) - self.pending

    def executable(self) -> list[Transaction]:
        """In order of nonce."""
        return [self.by_nonce[nonce] for nonce in range(self.nonce, self.end)]

    def waiting(self) -> list[Transaction]:
        """The queued ones, in order of nonce."""
        return [self.by_nonce[nonce] for nonce in sorted(self.by_nonce) if nonce >= self.end]

    def last(self) -> Transaction:
        """The one with the highest nonce."""
        return self.by_nonce[max(self.by_nonce)]


class Contents:
    """The transactions of a pool. An account is here as long as it has one."""

    def __init__(self, account_slots: int) -> None:
        """`account_slots`: accounts with more executable transactions are in `large`."""
        self.by_hash: dict[bytes, Transaction] = {}
        self.accounts: dict[bytes, Account] = {}
        self.arrival: dict[bytes, int] = {}
        self.authorities: dict[bytes, int] = {}
        """How many transactions here carry an authorization (EIP-7702) of an account."""
        self.slots = 0
        self.pending = 0
        self.large: set[Account] = set()
        self.with_queue: set[Account] = set()
        self._account_slots = account_slots
        self._arrivals = count()

    def __len__(self) -> int:
        return len(self.by_hash)

    @property
    def queued(self) -> int:
        return len(self.by_hash) - self.pending

    def at(self, sender: bytes, nonce: int) -> Transaction | None:
        """The transaction with a sender's nonce."""
        account = self.accounts.get(sender)
        return None if account is None else account.by_nonce.get(nonce)

    def is_pending(self, transaction: Transaction) -> bool:
        """Whether a transaction that is here is executable."""
        return transaction.nonce < self.accounts[transaction.sender].end

    def insert(self, transaction: Transaction, nonce: int, now: float) -> Transaction | None:
        """Put a transaction in and give the one that had its place. `nonce` is the chain's for the sender."""
        account = self.accounts.get(transaction.sender)
        if account is None:
            account = self.accounts[transaction.sender] = Account(transaction.sender, nonce, now)
        account.beat = now
        replaced = account.by_nonce.get(transaction.nonce)
        if replaced is not None:
            self._forget(replaced)
            account.forget_costs()
        account.by_nonce[transaction.nonce] = transaction
        self.by_hash[transaction.hash] = transaction
        self.arrival[transaction.hash] = next(self._arrivals)
        self.slots += slots_of(transaction)
        for authority in authorities_of(transaction):
            self.authorities[authority] = self.authorities.get(authority, 0) + 1
        self._settle(account, account.nonce, account.end)
        return replaced

    def remove(self, transaction: Transaction) -> None:
        """Take a transaction out; executable ones after it become queued."""
        account = self.accounts[transaction.sender]
        del account.by_nonce[transaction.nonce]
        self._forget(transaction)
        self._settle(account, account.nonce, min(account.end, transaction.nonce))

    def move(self, sender: bytes, nonce: int) -> None:
        """The chain's nonce of a sender is now `nonce`, higher or lower; what is below it goes."""
        account = self.accounts.get(sender)
        if account is None:
            return
        for past in [key for key in account.by_nonce if key < nonce]:
            self._forget(account.by_nonce.pop(past))
        self._settle(account, nonce, nonce)

    def in_order(self) -> Iterator[Transaction]:
        """All, such that each sender's nonces come in order."""
        for account in self.accounts.values():
            for nonce in sorted(account.by_nonce):
                yield account.by_nonce[nonce]

    def _forget(self, transaction: Transaction) -> None:
        del self.by_hash[transaction.hash]
        del self.arrival[transaction.hash]
        self.slots -= slots_of(transaction)
        for authority in authorities_of(transaction):
            left = self.authorities[authority] - 1
            if left:
                self.authorities[authority] = left
            else:
                del self.authorities[authority]

    def _settle(self, account: Account, nonce: int, end: int) -> None:
        """Everything that is counted of an account, after its transactions or the chain's nonce changed."""
        before = account.pending
        if nonce != account.nonce or end < account.end:
            account.forget_costs()
        while end in account.by_nonce:
            end += 1
        account.nonce, account.end = nonce, end
        self.pending += account.pending - before
        if not account.by_nonce:
            del self.accounts[account.address]
        _keep(self.large, account, account.pending > self._account_slots)
        _keep(self.with_queue, account, account.queued > 0)


def authorities_of(transaction: Transaction) -> tuple[bytes, ...]:
    """The accounts whose authorizations (EIP-7702) a transaction carries, each once."""
    if not transaction.authorization_list:
        return ()
    found = (item.authority for item in transaction.authorization_list)
    return tuple(dict.fromkeys(authority for authority in found if authority is not None))


def _keep(accounts: set[Account], account: Account, belongs: bool) -> None:
    if belongs:
        accounts.add(account)
    else:
        accounts.discard(account)
