"""How a release weighs its evidence. Part of the release hash, so integers only."""

import struct
from typing import Final

import msgspec

PPM: Final = 1_000_000
WEIGHT_SUM: Final = 10_000
MAX_VECTOR: Final = 16

_ENCODING = struct.Struct(">BIIIHHHiH")


class Policy(msgspec.Struct, frozen=True):
    """Weights of the kinds of evidence, and the limits of attribution.

    Kinds that found nothing give their weight to the others in proportion. `contributor_cap` is the largest part of
    an answer, in 1/10,000, that one contributor may have where enough others were found to take the rest.
    `retrieval_minimum_score` is a dot product of int8 vectors: 262,144 for equal directions, 65,536 for a cosine
    of 0.25.
    """

    spans_ppm: int = 500_000
    retrieval_ppm: int = 350_000
    influence_ppm: int = 0
    shortest_span: int = 6
    most_holders: int = 64
    top: int = MAX_VECTOR
    retrieval_minimum_score: int = 65_536
    contributor_cap: int = WEIGHT_SUM

    def validate(self) -> None:
        """Raises ValueError naming the field that is out of its range."""
        for name in ("spans_ppm", "retrieval_ppm", "influence_ppm"):
            if not 0 <= getattr(self, name) <= PPM:
                raise ValueError(f"{name} must be between 0 and {PPM}")
        if not self.spans_ppm + self.retrieval_ppm + self.influence_ppm:
            raise ValueError("at least one kind of evidence must have a weight")
        if not 1 <= self.shortest_span <= 256:
            raise ValueError("shortest_span must be between 1 and 256 tokens")
        if not 1 <= self.most_holders <= 0xFFFF:
            raise ValueError("most_holders must be between 1 and 65,535")
        if not 1 <= self.top <= MAX_VECTOR:
            raise ValueError(f"top must be between 1 and {MAX_VECTOR}")
        if not 0 <= self.retrieval_minimum_score < 2**31:
            raise ValueError("retrieval_minimum_score must be a non-negative i32")
        if not 1 <= self.contributor_cap <= WEIGHT_SUM:
            raise ValueError(f"contributor_cap must be between 1 and {WEIGHT_SUM}")

    def encode(self) -> bytes:
        """25 bytes, big-endian: u8 version = 1, then the fields in their order. What a release commits to."""
        self.validate()
        return _ENCODING.pack(
            1,
            self.spans_ppm,
            self.retrieval_ppm,
            self.influence_ppm,
            self.shortest_span,
            self.most_holders,
            self.top,
            self.retrieval_minimum_score,
            self.contributor_cap,
        )


DEFAULT_POLICY: Final = Policy()
