"""Who has to leave when a pool is full: the cheapest, the greedy, the oldest, in geth's way."""

from __future__ import annotations

from openledger.evm_ext import errors
from openledger.evm_ext.pool.contents import Account, Contents
from openledger.evm_ext.pool.limits import PoolLimits, slots_of
from openledger.evm_ext.pool.ordering import CheapestFirst, price
from openledger.evm_ext.transactions import Transaction


class Eviction:
    """Keeps `contents` within `limits`. Every method gives what it has removed."""

    def __init__(self, contents: Contents, limits: PoolLimits) -> None:
        self._contents = contents
        self._limits = limits
        self._cheapest = CheapestFirst(contents)
        self._base_fee = 0

    def reprice(self, base_fee: int) -> None:
        """The base fee, in wei, of the next block changed."""
        self._base_fee = base_fee
        self._cheapest.reprice(base_fee)

    def taken(self, transaction: Transaction) -> None:
        """Tell of a transaction that came into the pool."""
        self._cheapest.add(transaction)

    def make_room(self, transaction: Transaction, replaced: Transaction | None, *, gapped: bool) -> list[Transaction]:
        """Remove cheaper transactions until a new one fits.

        Raises `Underpriced` when it is not dearer than what would have to go, `FutureReplacesPending` when it
        is `gapped` (a nonce before it is missing) and an executable one would have to go for it, `PoolFull`
        when nothing is left that could; nothing has changed then."""
        contents = self._contents
        excess = contents.slots + slots_of(transaction) - self._limits.slots
        if replaced is not None:
            excess -= slots_of(replaced)
        seen: list[Transaction] = []
        chosen: list[Transaction] = []
        try:
            while excess > 0:
                worst = self._cheapest.pop()
                if worst is None:
                    raise errors.PoolFull(
                        f"txpool is full: {contents.slots} of {self._limits.slots} slots are taken and the "
                        f"transaction needs {slots_of(transaction)}"
                    )
                seen.append(worst)
                if worst is replaced or (worst.sender == transaction.sender and worst.nonce < transaction.nonce):
                    continue  # without it the new one could not be executed
                self._require_dearer(transaction, worst)
                if gapped and contents.is_pending(worst):
                    raise errors.FutureReplacesPending(
                        "future transaction tries to replace pending: the pool is full and a nonce before "
                        f"{transaction.nonce} is missing, send that one first"
                    )
                chosen.append(worst)
                excess -= slots_of(worst)
        except errors.PoolRejection:
            chosen.clear()
            raise
        finally:
            for item in seen:
                if item not in chosen:
                    self._cheapest.add(item)
        return self._remove(chosen)

    def _require_dearer(self, transaction: Transaction, worst: Transaction) -> None:
        if price(worst, self._base_fee) >= price(transaction, self._base_fee):
            raise errors.Underpriced(
                f"transaction underpriced: the pool is full, the lowest effective tip in it is "
                f"{worst.effective_tip(self._base_fee)} wei and that of the transaction is "
                f"{transaction.effective_tip(self._base_fee)} wei"
            )

    def _remove(self, chosen: list[Transaction]) -> list[Transaction]:
        removed: list[Transaction] = []
        for item in chosen:
            if item.hash in self._contents.by_hash:
                self._contents.remove(item)
                removed.append(item)
                removed += self.cap_queue(item.sender)
        return removed

    def cap_queue(self, sender: bytes) -> list[Transaction]:
        """An account keeps the lowest nonces of what is queued."""
        account = self._contents.accounts.get(sender)
        if account is None or account.queued <= self._limits.account_queue:
            return []
        removed = account.waiting()[self._limits.account_queue :]
        for item in reversed(removed):
            self._contents.remove(item)
        return removed

    def level(self) -> list[Transaction]:
        """Bring too many slots, executable and queued transactions down to their limits."""
        return self._level_slots() + self._level_pending() + self._level_queue()

    def _level_slots(self) -> list[Transaction]:
        removed: list[Transaction] = []
        while self._contents.slots > self._limits.slots and (worst := self._cheapest.pop()) is not None:
            removed += self._remove([worst])
        return removed

    def _level_pending(self) -> list[Transaction]:
        contents, removed = self._contents, []
        while contents.pending > self._limits.global_slots and contents.large:
            largest = max(contents.large, key=lambda account: (account.pending, account.beat))
            last = largest.by_nonce[largest.end - 1]
            contents.remove(last)
            removed.append(last)
        return removed

    def _level_queue(self) -> list[Transaction]:
        contents, removed = self._contents, []
        while contents.queued > self._limits.global_queue:
            oldest = min(contents.with_queue, key=lambda account: account.beat)
            last = oldest.last()
            contents.remove(last)
            removed.append(last)
        return removed

    def expire(self, now: float) -> list[Transaction]:
        """Remove what waits for a nonce of accounts that have been silent for too long."""
        silent: list[Account] = [
            account for account in self._contents.with_queue if now - account.beat > self._limits.lifetime_s
        ]
        removed = [item for account in silent for item in account.waiting()]
        for item in reversed(removed):
            self._contents.remove(item)
        return removed
