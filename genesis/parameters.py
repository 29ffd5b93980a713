"""Numbers that a preset fixes: the economy's rules and when precompiles and numerics activate."""

from dataclasses import dataclass, field

MICRO_OPEN_WEI = 10**12
"""One micro-OPEN, the unit of vouchers, receipts and credits, in wei."""

OPEN_WEI = 10**18
"""One OPEN in wei."""

TOTAL_SUPPLY_WEI = 1_000_000_000 * OPEN_WEI
"""All OPEN there is or will be, in wei; an ERC-20 on L1."""

BASIS_POINTS = 10_000


@dataclass(frozen=True)
class Split:
    """How what remains of a fee after the platform part is divided, in basis points (sum 10,000)."""

    owner_bps: int = 1_500
    trainer_bps: int = 500
    stakers_bps: int = 2_000
    provider_bps: int = 2_000
    contributors_bps: int = 4_000

    def __post_init__(self) -> None:
        """Raises ValueError when the parts do not sum to 10,000."""
        total = sum(self.parts)
        if total != BASIS_POINTS or min(self.parts) < 0:
            raise ValueError(f"a split's parts must sum to {BASIS_POINTS} basis points, got {total}: {self}")

    @property
    def parts(self) -> tuple[int, int, int, int, int]:
        """Owner, trainer, stakers, provider, contributors."""
        return (self.owner_bps, self.trainer_bps, self.stakers_bps, self.provider_bps, self.contributors_bps)


@dataclass(frozen=True)
class EconomyParameters:
    """Genesis values of what governance may later change. Lengths of time are in L2 blocks or epochs."""

    epoch_blocks: int
    dispute_window_epochs: int
    withdraw_delay_epochs: int
    """How long a payer waits for the unclaimed rest of a channel; longer than epoch + dispute window."""
    unbonding_epochs: int
    """How long a stake stays slashable after it was asked back; longer than the dispute window."""
    reveal_min_blocks: int
    """Fewest blocks between a contribution's commitment and its reveal."""
    reveal_max_blocks: int
    ripen_epochs: int = 3
    """Credits of epoch e can be claimed from epoch e + this; fixed by the layout of a payee's slot."""
    platform_bps: int = 500
    split: Split = field(default_factory=Split)
    min_provider_stake_wei: int = 1_000 * OPEN_WEI
    min_validator_stake_wei: int = 1_000 * OPEN_WEI
    min_contribution_stake_wei: int = 0
    max_vector_entries: int = 16
    max_document_bytes: int = 5_000_000
    chunk_bytes: int = 1 << 20
    royalty_bps: int = 500
    """Fixed part per ancestor, for adapters built on adapters and Datanets on Datanets."""
    max_royalty_depth: int = 4

    def __post_init__(self) -> None:
        """Raises ValueError when lengths of time contradict each other."""
        if min(self.epoch_blocks, self.dispute_window_epochs, self.reveal_min_blocks) < 1:
            raise ValueError("epoch_blocks, dispute_window_epochs and reveal_min_blocks must be at least 1")
        if self.dispute_window_epochs >= self.ripen_epochs:
            raise ValueError(
                f"credits would ripen after {self.ripen_epochs} epochs, "
                f"inside the dispute window of {self.dispute_window_epochs}"
            )
        if self.withdraw_delay_epochs <= 1 + self.dispute_window_epochs:
            raise ValueError("withdraw_delay_epochs must exceed one epoch plus the dispute window")
        if self.unbonding_epochs <= self.dispute_window_epochs:
            raise ValueError("unbonding_epochs must exceed the dispute window")
        if self.reveal_max_blocks <= self.reveal_min_blocks:
            raise ValueError("reveal_max_blocks must exceed reveal_min_blocks")


@dataclass(frozen=True)
class ForkSchedule:
    """When what is ours activates: an L2 timestamp in seconds, 0 from genesis on, None never."""

    credit: int | None = 0
    spans: int | None = 0
    scores: int | None = 0
    step: int | None = None
    bn254_kzg: int | None = 0
    exact_1: int | None = 0

    def active(self, name: str, timestamp: int) -> bool:
        """Whether the fork `name` (a field of this class) is active in a block with this timestamp."""
        start: int | None = getattr(self, name)
        return start is not None and timestamp >= start
