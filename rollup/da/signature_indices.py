"""Where L1's registries keep the keys and stakes of a batch's operators: places that a certificate must name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class SignatureIndices:
    """Places in the registries' histories (OperatorStateRetriever, CheckSignaturesIndices).

    One per non-signer, one per quorum, one per quorum, and per quorum one per non-signer in it.
    """

    non_signer_quorum_bitmaps: tuple[int, ...]
    quorum_keys: tuple[int, ...]
    total_stakes: tuple[int, ...]
    non_signer_stakes: tuple[tuple[int, ...], ...]


class SignatureIndexReader(Protocol):
    """Who can ask L1."""

    async def indices(self, reference_block: int, quorums: bytes, non_signer_ids: Sequence[bytes]) -> SignatureIndices:
        """The places as of a block, for operator ids in the order given. Raises what L1 raises."""
        ...


def first_indices(quorums: bytes) -> SignatureIndices:
    """Where everything stands in a network whose operators never changed, for a batch that all of them signed."""
    zeros = (0,) * len(quorums)
    return SignatureIndices((), zeros, zeros, ((),) * len(quorums))
