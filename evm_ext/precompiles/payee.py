"""A payee's slot in RewardsDistributor: what is claimable and what ripens in the next three epochs.

    word = epoch u32 | claimable u56 | pending0 u56 | pending1 u56 | pending2 u56      from the left, micro-OPEN

pendingI ripens at epoch + 1 + I. Credits of epoch e go to pending2 of a slot brought to e, so they can be
claimed from epoch e + 3.
"""

from dataclasses import dataclass

AMOUNT_BITS = 56
MAX_AMOUNT = (1 << AMOUNT_BITS) - 1


@dataclass(frozen=True, slots=True)
class PayeeAccount:
    """Amounts in micro-OPEN as of `epoch`; `pending` are three."""

    epoch: int = 0
    claimable: int = 0
    pending: tuple[int, int, int] = (0, 0, 0)

    @property
    def total(self) -> int:
        return self.claimable + sum(self.pending)

    @classmethod
    def decode(cls, word: int) -> "PayeeAccount":
        return cls(
            word >> 224,
            word >> 168 & MAX_AMOUNT,
            (word >> 112 & MAX_AMOUNT, word >> 56 & MAX_AMOUNT, word & MAX_AMOUNT),
        )

    def encode(self) -> int:
        first, second, third = self.pending
        return self.epoch << 224 | self.claimable << 168 | first << 112 | second << 56 | third

    def at(self, epoch: int) -> "PayeeAccount":
        """The account brought forward to `epoch`, which is not before its own."""
        passed = epoch - self.epoch
        amounts = (*self.pending, 0, 0, 0)
        ripe = min(passed, 3)
        return PayeeAccount(
            epoch,
            self.claimable + sum(self.pending[:ripe]),
            (amounts[ripe], amounts[ripe + 1], amounts[ripe + 2]),
        )

    def credited(self, epoch: int, amount: int) -> "PayeeAccount":
        """The account after a credit in `epoch`; raises OverflowError beyond 56 bits (72 billion OPEN)."""
        now = self.at(epoch)
        account = PayeeAccount(epoch, now.claimable, (now.pending[0], now.pending[1], now.pending[2] + amount))
        if max(account.claimable, *account.pending) > MAX_AMOUNT:
            raise OverflowError(f"a payee's amount exceeds {AMOUNT_BITS} bits")
        return account
