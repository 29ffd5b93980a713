"""What rank 0 tells the other ranks, in frames over a socket pair each. They answer nothing: what they compute goes back
by what the ranks do together, and a rank that cannot go on ends."""

from typing import Any

import msgspec
import numpy as np

from openledger.kernels.engine.adapters import ModuleWeights
from openledger.kernels.model.transformer import Batch, Lora, Segment


class Join(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first message: load the model and meet the others. `store` is a file that all of them may write."""

    rank: int
    ranks: int
    store: str
    cache_folder: str
    model_file: str | None
    threads: int
    linear: str
    backend: str


class Array(msgspec.Struct, frozen=True):
    """A numpy array."""

    kind: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array: Any) -> "Array":
        array = np.asarray(array)
        return cls(array.dtype.str, array.shape, array.tobytes())

    def array(self) -> Any:
        return np.frombuffer(self.data, np.dtype(self.kind)).reshape(self.shape)


class Module(msgspec.Struct, frozen=True, tag=True):
    """This rank's share of one module of an adapter, which is known by a number."""

    adapter: int
    layer: int
    name: str
    a: Array
    a_scales: Array
    b: Array
    b_scales: Array
    alpha: Array

    @classmethod
    def of(cls, adapter: int, layer: int, name: str, weights: ModuleWeights) -> "Module":
        parts = (weights.a, weights.a_scales, weights.b, weights.b_scales, weights.alpha)
        return cls(adapter, layer, name, *(Array.of(part) for part in parts))

    def weights(self) -> ModuleWeights:
        parts = (self.a, self.a_scales, self.b, self.b_scales, self.alpha)
        a, a_scales, b, b_scales, alpha = (part.array() for part in parts)
        return ModuleWeights(a, a_scales, b, b_scales, np.float32(alpha))


class Placed(msgspec.Struct, frozen=True, tag=True):
    """All modules of an adapter have been sent."""

    adapter: int


class Drop(msgspec.Struct, frozen=True, tag=True):
    """No request uses this adapter any more, and rank 0 does not keep it."""

    adapter: int


class Rows(msgspec.Struct, frozen=True, tag=True):
    """One step: a `transformer.Batch`, with adapters by their numbers, over cache number `cache` of `pages` pages."""

    cache: int
    pages: int
    page_tokens: int
    parts: tuple[Array, Array, Array, Array, Array, Array, Array]
    segments: list[tuple[int, int, list[int]]]

    @classmethod
    def of(cls, batch: Batch, cache: int, pages: int, page_tokens: int, adapters: list[list[int]]) -> "Rows":
        arrays = (
            batch.tokens, batch.positions, batch.slots, batch.previous, batch.sequences, batch.tables, batch.logit_rows,
        )  # fmt: skip
        parts = tuple(Array.of(np.asarray(part, np.int64)) for part in arrays)
        segments = [(s.first, s.last, numbers) for s, numbers in zip(batch.segments, adapters, strict=True)]
        return cls(cache, pages, page_tokens, parts, segments)  # type: ignore[arg-type]

    def batch(self, adapters: dict[int, Lora]) -> Batch:
        segments = [Segment(first, last, tuple(adapters[n] for n in numbers)) for first, last, numbers in self.segments]
        tokens, positions, slots, previous, sequences, tables, logit_rows = (part.array() for part in self.parts)
        return Batch(tokens, positions, slots, previous, sequences, tables, logit_rows, segments)


ToRank = Join | Module | Placed | Drop | Rows
