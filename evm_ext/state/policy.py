"""How much of the past a chain's store keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIN_KEEP_BLOCKS = 16
DEFAULT_KEEP_BLOCKS = 128
DEFAULT_KEEP_CHANGES = 90_000


@dataclass(frozen=True)
class StateHistory:
    """`archive` keeps every state. `pruned` keeps, counted back from the finalized head, `keep_blocks` whole states
    (with their tries: proofs, new blocks on top of them) and for `keep_changes` blocks what each replaced (balances,
    storage and calls at old blocks, rolling back). Blocks above the finalized head are always kept whole.

    Raises ValueError for fewer than `MIN_KEEP_BLOCKS` blocks, or fewer changes than blocks."""

    mode: Literal["archive", "pruned"] = "archive"
    keep_blocks: int = DEFAULT_KEEP_BLOCKS
    keep_changes: int = DEFAULT_KEEP_CHANGES

    def __post_init__(self) -> None:
        if self.keep_blocks < MIN_KEEP_BLOCKS:
            raise ValueError(f"a pruned chain keeps at least {MIN_KEEP_BLOCKS} blocks' state, not {self.keep_blocks}")
        if self.keep_changes < self.keep_blocks:
            raise ValueError(
                f"a pruned chain keeps the changes of at least as many blocks as states: {self.keep_changes} "
                f"is less than {self.keep_blocks}"
            )


ARCHIVE = StateHistory()
