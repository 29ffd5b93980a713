"""How a release weighs its evidence. Part of the release hash, so integers only."""

import struct
from dataclasses import dataclass
from typing import Final

PPM: Final = 1_000_000
WEIGHT_SUM: Final = 10_000
MAX_VECTOR: Final = 16
LONGEST_SPAN: Final = 256

_ENCODING = struct.Struct(">BIIIHHHiH")
_ENCODING_VERSION = 1


class InvalidPolicy(ValueError):
    """A policy whose numbers make no sense; the message names the field."""


@dataclass(frozen=True)
class AttributionPolicy:
    """Weights of the three kinds of evidence in parts per million (sum 1,000,000), and the limits of attribution.

    Kinds that found nothing give their weight to the others in proportion. `shortest_span` is in tokens; a span held
    by more than `most_holders` distinct contributors is common language and pays nobody; `top` is the most entries of
    a vector. `retrieval_minimum_score` is a dot product of int8 vectors: 262,144 for equal directions, 65,536 for a
    cosine of 0.25. `contributor_cap` is the largest part of an answer, in 1/10,000, that one contributor may have
    where enough others were found to take the rest.
    """

    spans_ppm: int = 500_000
    retrieval_ppm: int = 350_000
    influence_ppm: int = 150_000
    shortest_span: int = 6
    most_holders: int = 64
    top: int = MAX_VECTOR
    retrieval_minimum_score: int = 65_536
    contributor_cap: int = WEIGHT_SUM

    def validate(self) -> None:
        """Raises InvalidPolicy naming the field that is out of its range."""
        ranges = {
            "spans_ppm": (0, PPM),
            "retrieval_ppm": (0, PPM),
            "influence_ppm": (0, PPM),
            "shortest_span": (1, LONGEST_SPAN),
            "most_holders": (1, 0xFFFF),
            "top": (1, MAX_VECTOR),
            "retrieval_minimum_score": (0, 2**31 - 1),
            "contributor_cap": (1, WEIGHT_SUM),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InvalidPolicy(f"{name} must be a whole number from {low} to {high}, not {value!r}")
        if self.spans_ppm + self.retrieval_ppm + self.influence_ppm != PPM:
            raise InvalidPolicy(f"spans_ppm, retrieval_ppm and influence_ppm must sum to {PPM}")

    def encode(self) -> bytes:
        """25 bytes, big-endian: u8 version = 1, then the fields in their order. What a release commits to.

        spans u32 | retrieval u32 | influence u32 | shortest span u16 | most holders u16 | top u16
        | retrieval minimum i32 | contributor cap u16. Raises InvalidPolicy.
        """
        self.validate()
        return _ENCODING.pack(
            _ENCODING_VERSION,
            self.spans_ppm,
            self.retrieval_ppm,
            self.influence_ppm,
            self.shortest_span,
            self.most_holders,
            self.top,
            self.retrieval_minimum_score,
            self.contributor_cap,
        )

    @classmethod
    def decode(cls, data: bytes) -> "AttributionPolicy":
        """The inverse of `encode`. Raises InvalidPolicy."""
        if len(data) != _ENCODING.size or data[0] != _ENCODING_VERSION:
            raise InvalidPolicy(f"a policy has {_ENCODING.size} bytes and begins with {_ENCODING_VERSION}")
        policy = cls(*_ENCODING.unpack(data)[1:])
        policy.validate()
        return policy


DEFAULT_POLICY: Final = AttributionPolicy()
