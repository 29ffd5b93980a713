"""Version-1 span proofs: what an answer shares with a corpus, wholly, and what convicts a false account of it.

    u8 version = 1 | u8 kind | statement | openings (openings.py)

A statement is about one segment of a corpus. Where a corpus has several, the same spans are stated of each, and a span
that does not stand in one of them is stated there with lo = hi.

| kind | statement | it holds if |
|---|---|---|
| 0 | output, spans, absences | the spans stand at exactly these ranks; and no other match of `shortest` tokens or more does |
| 1 | output, spans, match | a match of `shortest` tokens or more stands at a position, and lies in no span |
| 2 | output, span, owners, position | the span stands at a position whose owner is not among those named |
| 3 | rank | no position of the segment is at this rank, or one that does not come after the one before it |
| 4 | rank, position | the position belongs between this rank and the one before it, where nothing is |
| 5 | rank | the owner at this rank is not the owner of the text there |
| 6 | chunk | the text breaks a rule: tokens below the vocabulary or sentinels, owners ascending, a sentinel before the next owner |

Kind 0 is an account of an answer, 1 and 2 convict a false one, 3 to 6 a false index. n sorted entries, all different and all
in range, are a permutation: so an index that nobody can convict by 3 and 4 is the corpus's own.

Complete: a match that no span contains would begin at some token a and have at least b − a tokens, where b is the larger of
a + shortest and one more than the end of the last span that begins at a or before. So for every a whose b is inside the output,
some absent window [x, y) with a ≤ x and y ≤ b is enough; a longer absent one is not needed. Spans of `depth` tokens, the most
that the order tells apart, may be parts of longer matches.
"""

import struct
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Final

from openledger.evm_ext.proofs.merkle import InvalidProof
from openledger.evm_ext.proofs.openings import Openings
from openledger.evm_ext.proofs.receipt import tokens_hash
from openledger.evm_ext.proofs.spans import CHUNK_TOKENS, SENTINEL
from openledger.genesis.hashing import keccak256

VERSION: Final = 1
MAX_OUTPUT_TOKENS: Final = 0xFFFF
MAX_STATED: Final = 4_096
"""Spans, absences and owners that one statement may name of each kind."""
HASH_OF_NO_TOKENS: Final = bytes(32)


@dataclass(frozen=True)
class Work:
    """What checking a statement takes at most, for its price: texts compared with a pattern, tokens in them, ranks read for
    their owners, and tokens of output whose completeness is looked at."""

    comparisons: int = 0
    tokens: int = 0
    ranks: int = 0
    output: int = 0


@dataclass(frozen=True)
class StatedSpan:
    """output[start:end] begins exactly the suffixes of ranks [lo, hi). `named`: whether its owners are told as well, which
    takes all those ranks to be opened."""

    start: int
    end: int
    lo: int
    hi: int
    named: bool = True


@dataclass(frozen=True)
class Absence:
    """output[start:end] begins no suffix: it would stand before `rank`."""

    start: int
    end: int
    rank: int


@dataclass(frozen=True)
class FoundSpan:
    """A span that was checked: how often it stands in the segment, and the distinct owners where they were named."""

    count: int
    owners: tuple[int, ...]

    @property
    def owners_hash(self) -> bytes:
        """keccak of the owners ascending, u32 big-endian."""
        return keccak256(struct.pack(f">{len(self.owners)}I", *self.owners))


@dataclass(frozen=True)
class Account:
    """Kind 0. `shortest`: the least length of a span, in tokens."""

    kind: ClassVar[int] = 0
    shortest: int
    output: tuple[int, ...]
    spans: tuple[StatedSpan, ...]
    absences: tuple[Absence, ...]

    def encode(self) -> bytes:
        """u16 shortest | u16 n | n x token u32 | u16 spans x (start u16 | end u16 | lo u32 | hi u32 | named u8)
        | u16 absences x (start u16 | end u16 | rank u32)"""
        return b"".join(
            (
                struct.pack(">H", self.shortest),
                _encode_output(self.output),
                struct.pack(">H", len(self.spans)),
                *(_SPAN.pack(s.start, s.end, s.lo, s.hi, s.named) for s in self.spans),
                struct.pack(">H", len(self.absences)),
                *(_ABSENCE.pack(a.start, a.end, a.rank) for a in self.absences),
            )
        )

    @property
    def work(self) -> Work:
        # Beside a span four ranks are read, beside an absence two.
        lengths = 4 * sum(s.end - s.start for s in self.spans) + 2 * sum(a.end - a.start for a in self.absences)
        return Work(
            comparisons=4 * len(self.spans) + 2 * len(self.absences),
            tokens=lengths,
            ranks=sum(s.hi - s.lo for s in self.spans if s.named),
            output=len(self.output) + len(self.spans) + len(self.absences),
        )

    def found(self, openings: Openings) -> tuple[FoundSpan, ...]:
        """What stands where, span by span. Raises InvalidProof unless all of it was shown."""
        for absence in self.absences:
            _check_interval(openings, self.output, absence.start, absence.end, absence.rank, absence.rank)
        found = []
        for span in self.spans:
            _check_interval(openings, self.output, span.start, span.end, span.lo, span.hi)
            owners = {openings.entry(rank)[1] for rank in range(span.lo, span.hi)} if span.named else set()
            found.append(FoundSpan(span.hi - span.lo, tuple(sorted(owners))))
        return tuple(found)

    def is_complete(self, depth: int) -> bool:
        """Whether the absences leave room for no match of `shortest` tokens or more outside of the spans."""
        spans = sorted((s.start, s.end) for s in self.spans)
        if any(b[0] == a[0] or b[1] <= a[1] for a, b in pairwise(spans)):
            return False
        if self.shortest < 1 or any(end - start < self.shortest for start, end in spans):
            return False
        windows = sorted((a.start, a.end) for a in self.absences)
        least_end = [MAX_OUTPUT_TOKENS + 1] * (len(windows) + 1)  # of the windows from i on
        for i in range(len(windows) - 1, -1, -1):
            least_end[i] = min(least_end[i + 1], windows[i][1])
        covered = known = 0
        for first in range(len(self.output)):
            while known < len(spans) and spans[known][0] <= first:
                covered = spans[known][1]
                known += 1
            end = max(first + self.shortest, covered + 1)
            if end > len(self.output) or end - first > depth:
                continue
            if least_end[bisect_left(windows, (first, 0))] > end:
                return False
        return True

    def holds(self, openings: Openings) -> bool:
        self.found(openings)
        return self.is_complete(openings.segment.depth)


@dataclass(frozen=True)
class HiddenMatch:
    """Kind 1: output[start:end] stands at `position`, and none of `spans` (start, end) contains it."""

    kind: ClassVar[int] = 1
    shortest: int
    output: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    position: int
    start: int
    end: int

    def encode(self) -> bytes:
        """u16 shortest | u16 n | n x token u32 | u16 spans x (start u16 | end u16) | position u32 | start u16 | end u16"""
        return b"".join(
            (
                struct.pack(">H", self.shortest),
                _encode_output(self.output),
                struct.pack(">H", len(self.spans)),
                *(struct.pack(">HH", *span) for span in self.spans),
                _MATCH.pack(self.position, self.start, self.end),
            )
        )

    @property
    def work(self) -> Work:
        return Work(comparisons=1, tokens=self.end - self.start, output=len(self.spans) + len(self.output))

    def holds(self, openings: Openings) -> bool:
        pattern = _pattern(openings, self.output, self.start, self.end)
        if len(pattern) < self.shortest or any(s <= self.start and self.end <= e for s, e in self.spans):
            return False
        return openings.compare(self.position, pattern) == 0


@dataclass(frozen=True)
class HiddenHolder:
    """Kind 2: output[start:end] stands at `position`, in a text whose owner is none of `owners`."""

    kind: ClassVar[int] = 2
    output: tuple[int, ...]
    start: int
    end: int
    owners: tuple[int, ...]
    position: int

    def encode(self) -> bytes:
        """u16 n | n x token u32 | start u16 | end u16 | u16 owners x u32 | position u32"""
        owners = struct.pack(f">H{len(self.owners)}I", len(self.owners), *self.owners)
        return (
            _encode_output(self.output) + struct.pack(">HH", self.start, self.end) + owners + _U32.pack(self.position)
        )

    @property
    def work(self) -> Work:
        return Work(comparisons=1, tokens=self.end - self.start, output=len(self.owners) + len(self.output))

    def holds(self, openings: Openings) -> bool:
        pattern = _pattern(openings, self.output, self.start, self.end)
        owner = openings.chunk(self.position // CHUNK_TOKENS)[0]
        return openings.compare(self.position, pattern) == 0 and owner not in self.owners


@dataclass(frozen=True)
class Unsorted:
    """Kind 3: what stands at `rank` is no position of the segment, or does not come after what stands before it."""

    kind: ClassVar[int] = 3
    rank: int

    def encode(self) -> bytes:
        """rank u32"""
        return _U32.pack(self.rank)

    @property
    def work(self) -> Work:
        return Work(comparisons=2, tokens=2 * 256)

    def holds(self, openings: Openings) -> bool:
        n = openings.segment.n
        here = openings.entry(self.rank)[0]
        if here >= n:
            return True
        if not self.rank:
            return False
        before = openings.entry(self.rank - 1)[0]
        # One that is out of range convicts by its own rank.
        return before < n and (before == here or not openings.is_before(before, here))


@dataclass(frozen=True)
class Missing:
    """Kind 4: `position` comes after what stands before `rank` and before what stands there; so it is nowhere."""

    kind: ClassVar[int] = 4
    rank: int
    position: int

    def encode(self) -> bytes:
        """rank u32 | position u32"""
        return struct.pack(">II", self.rank, self.position)

    @property
    def work(self) -> Work:
        return Work(comparisons=4, tokens=4 * 256)

    def holds(self, openings: Openings) -> bool:
        n = openings.segment.n
        if self.position >= n or self.rank > n:
            return False
        after = not self.rank or _comes_before(openings, openings.entry(self.rank - 1)[0], self.position)
        return after and (self.rank == n or _comes_before(openings, self.position, openings.entry(self.rank)[0]))


@dataclass(frozen=True)
class WrongOwner:
    """Kind 5: the owner beside the position at `rank` is not the owner of the text there."""

    kind: ClassVar[int] = 5
    rank: int

    def encode(self) -> bytes:
        """rank u32"""
        return _U32.pack(self.rank)

    @property
    def work(self) -> Work:
        return Work(comparisons=1)

    def holds(self, openings: Openings) -> bool:
        position, owner = openings.entry(self.rank)
        return position < openings.segment.n and openings.chunk(position // CHUNK_TOKENS)[0] != owner


@dataclass(frozen=True)
class BadText:
    """Kind 6: a chunk that no honest corpus has."""

    kind: ClassVar[int] = 6
    chunk: int

    def encode(self) -> bytes:
        """chunk u32"""
        return _U32.pack(self.chunk)

    @property
    def work(self) -> Work:
        return Work(comparisons=2, tokens=2 * CHUNK_TOKENS)

    def holds(self, openings: Openings) -> bool:
        owner, tokens = openings.chunk(self.chunk)
        if any(token >= openings.segment.vocab and token != SENTINEL for token in tokens):
            return True
        if (self.chunk + 1) * CHUNK_TOKENS == openings.segment.n:
            return tokens[-1] != SENTINEL
        following = openings.chunk(self.chunk + 1)[0]
        return following < owner or (following != owner and tokens[-1] != SENTINEL)


Statement = Account | HiddenMatch | HiddenHolder | Unsorted | Missing | WrongOwner | BadText


@dataclass(frozen=True)
class SpanProof:
    """A statement about a segment and what shows it."""

    statement: Statement
    openings: Openings

    def encode(self) -> bytes:
        return bytes([VERSION, self.statement.kind]) + self.statement.encode() + self.openings.encode()

    @classmethod
    def decode(cls, data: bytes) -> "SpanProof":
        """The proof in these bytes, all of them. Raises InvalidProof for any malformed one."""
        if len(data) < 2 or data[0] != VERSION or data[1] not in _READ:
            raise InvalidProof(f"{data[:2].hex() or 'nothing'} begins no span proof of version {VERSION}")
        rows = _Rows(data, 2)
        statement = _READ[data[1]](rows)
        return cls(statement, Openings.decode(data[rows.at :]))

    def holds(self) -> bool:
        """Whether the chunks are under the corpus root and show the statement."""
        try:
            self.openings.verify()
            return self.statement.holds(self.openings)
        except InvalidProof:
            return False

    @property
    def tokens_hash(self) -> bytes:
        """The receipt's hash of the output that the statement is about; zero where it is about an index alone."""
        output = getattr(self.statement, "output", None)
        return HASH_OF_NO_TOKENS if output is None else tokens_hash(output)


_SPAN = struct.Struct(">HHIIB")
_ABSENCE = struct.Struct(">HHI")
_MATCH = struct.Struct(">IHH")
_U32 = struct.Struct(">I")


def _pattern(openings: Openings, output: Sequence[int], start: int, end: int) -> Sequence[int]:
    if not 0 <= start < end <= len(output):
        raise InvalidProof(f"[{start}, {end}) is no part of an output of {len(output)} tokens")
    pattern = output[start:end]
    if len(pattern) > openings.segment.depth or any(token >= openings.segment.vocab for token in pattern):
        raise InvalidProof("a pattern longer than the order is deep, or with a token that is not in the vocabulary")
    return pattern


def _check_interval(openings: Openings, output: Sequence[int], start: int, end: int, lo: int, hi: int) -> None:
    """Raises InvalidProof unless output[start:end] begins exactly the suffixes of ranks [lo, hi)."""
    pattern = _pattern(openings, output, start, end)
    n = openings.segment.n
    if not lo <= hi <= n:
        raise InvalidProof(f"[{lo}, {hi}) are no ranks of {n}")
    if lo and openings.compare(openings.entry(lo - 1)[0], pattern) >= 0:
        raise InvalidProof(f"an occurrence before rank {lo}")
    if hi < n and openings.compare(openings.entry(hi)[0], pattern) <= 0:
        raise InvalidProof(f"an occurrence at or after rank {hi}")
    for rank in {lo, hi - 1} if lo < hi else ():
        if openings.compare(openings.entry(rank)[0], pattern):
            raise InvalidProof(f"no occurrence at rank {rank}")


def _comes_before(openings: Openings, a: int, b: int) -> bool:
    return max(a, b) < openings.segment.n and a != b and openings.is_before(a, b)


def _encode_output(output: Sequence[int]) -> bytes:
    return struct.pack(f">H{len(output)}I", len(output), *output)


class _Rows:
    """Bytes read from a place on."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self.at = at

    def take(self, form: struct.Struct | str) -> tuple[int, ...]:
        form = form if isinstance(form, struct.Struct) else struct.Struct(form)
        if self.at + form.size > len(self._data):
            raise InvalidProof("a span proof that ends early")
        self.at += form.size
        return form.unpack_from(self._data, self.at - form.size)

    def one(self, form: str) -> int:
        return self.take(form)[0]

    def count(self) -> int:
        count = self.one(">H")
        if count > MAX_STATED:
            raise InvalidProof(f"{count} of one kind, a statement names at most {MAX_STATED}")
        return count

    def output(self) -> tuple[int, ...]:
        return self.take(f">{self.one('>H')}I")


def _read_account(rows: _Rows) -> Account:
    shortest, output = rows.one(">H"), rows.output()
    spans = []
    for _ in range(rows.count()):
        start, end, lo, hi, named = rows.take(_SPAN)
        if named > 1 or start >= end or lo > hi:
            raise InvalidProof("a span of no tokens, of ranks that end before they begin, or neither named nor not")
        spans.append(StatedSpan(start, end, lo, hi, bool(named)))
    absences = []
    for _ in range(rows.count()):
        absence = Absence(*rows.take(_ABSENCE))
        if absence.start >= absence.end:
            raise InvalidProof("an absence of no tokens")
        absences.append(absence)
    return Account(shortest, output, tuple(spans), tuple(absences))


def _read_hidden_match(rows: _Rows) -> HiddenMatch:
    shortest, output = rows.one(">H"), rows.output()
    spans = tuple((start, end) for start, end in (rows.take(">HH") for _ in range(rows.count())))
    return HiddenMatch(shortest, output, spans, *_forward(rows.take(_MATCH)))


def _forward(match: tuple[int, ...]) -> tuple[int, int, int]:
    position, start, end = match
    if start >= end:
        raise InvalidProof("a match of no tokens")
    return position, start, end


def _read_hidden_holder(rows: _Rows) -> HiddenHolder:
    output = rows.output()
    start, end = rows.take(">HH")
    if start >= end:
        raise InvalidProof("a span of no tokens")
    owners = rows.take(f">{rows.count()}I")
    return HiddenHolder(output, start, end, owners, rows.one(">I"))


_READ: Final[dict[int, Callable[[_Rows], Statement]]] = {
    Account.kind: _read_account,
    HiddenMatch.kind: _read_hidden_match,
    HiddenHolder.kind: _read_hidden_holder,
    Unsorted.kind: lambda rows: Unsorted(rows.one(">I")),
    Missing.kind: lambda rows: Missing(rows.one(">I"), rows.one(">I")),
    WrongOwner.kind: lambda rows: WrongOwner(rows.one(">I")),
    BadText.kind: lambda rows: BadText(rows.one(">I")),
}
