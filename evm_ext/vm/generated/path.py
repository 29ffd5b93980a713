"""What following code gives: a trace, made of lines of Python and of what is only known when all of it is followed;
and a path, one way through the code with what is known on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from openledger.evm_ext.vm.generated.memory import meets
from openledger.evm_ext.vm.generated.values import Facts, Value


@dataclass
class Segment:
    """Gas that is charged at once."""

    gas: int = 0


@dataclass(frozen=True)
class Line:
    """A line of Python."""

    indent: int
    text: str


@dataclass(frozen=True)
class Charge:
    """Take a segment's gas, or go on at `position` in the plain tier."""

    indent: int
    segment: Segment
    position: int
    stack: tuple[Value, ...]
    taken: int
    waiting: Mapping[int, Value]


@dataclass(frozen=True)
class Leave:
    """Write the stack and memory back and give `position` (Python text) to whoever runs the frame."""

    indent: int
    position: str
    stack: tuple[Value, ...]
    taken: int
    waiting: Mapping[int, Value]


@dataclass(frozen=True)
class Repeat:
    """Back to where the trace began, with these values for the topmost words."""

    indent: int
    stack: tuple[Value, ...]
    waiting: Mapping[int, Value]


Item = Line | Charge | Leave | Repeat


@dataclass
class Trace:
    """What was found from one place: `items` in order; `needs` words of the stack are read, it grows by `grows`;
    `loops` if some path comes back to the start; `inputs` are the frame's values that are used; `steps` is how
    much was followed, the price of compiling. `hashes` are the words of the stack, by depth, that are kept as bytes;
    `touched` is what memory is read and written, `wild` if that is not known."""

    start: int
    items: list[Item] = field(default_factory=list)
    needs: int = 0
    grows: int = 0
    loops: bool = False
    inputs: set[str] = field(default_factory=set)
    calls: set[int] = field(default_factory=set)
    steps: int = 0
    hashes: frozenset[int] = frozenset()
    touched: list[tuple[int, int]] = field(default_factory=list)
    wild: bool = False

    def repeats(self) -> list[Repeat]:
        return [item for item in self.items if isinstance(item, Repeat)]

    def carried(self) -> tuple[int, ...]:
        """Places of words that need not be in memory from one turn of the loop to the next: each turn stores them
        anew, and nothing else looks there."""
        places = [frozenset(repeat.waiting) for repeat in self.repeats()]
        if self.wild or not places or any(other != places[0] for other in places):
            return ()
        if any(meets(places[0], start, end) for start, end in self.touched):
            return ()
        return tuple(sorted(places[0]))


@dataclass
class Path:
    """One way through the code. `stack` are the words above what was there at the start, of which `taken` are
    consumed; `covered` bytes of memory exist; `stored` are words at constant places of memory, of which those in `waiting`
    are not written yet; `seen` is the word at the place, computed, that was used last, by the place's text."""

    position: int
    indent: int
    items: list[Item]
    stack: list[Value] = field(default_factory=list)
    taken: int = 0
    visited: set[int] = field(default_factory=set)
    covered: int = 0
    stored: dict[int, Value] = field(default_factory=dict)
    waiting: dict[int, Value] = field(default_factory=dict)
    seen: tuple[str, Value] | None = None
    facts: Facts = field(default_factory=Facts)
    segment: Segment | None = None
    opcodes: int = 0

    def branch(self, position: int) -> Path:
        """The way taken inside an `if`."""
        return Path(
            position,
            self.indent + 1,
            [],
            list(self.stack),
            self.taken,
            set(self.visited),
            self.covered,
            dict(self.stored),
            dict(self.waiting),
            self.seen,
            self.facts.copy(),
            None,
            self.opcodes,
        )
