"""Words of memory that are known by name: while code is followed, storing one writes nothing.

What a path has stored at constant places waits in `Path.waiting` until something else may look at that memory, or the path
ends. A hash of such words, what a mapping's key is made by, then needs no memory at all; nor does a loop that stores again
what nobody has read: there the words of the last turn are carried in Python's locals (`Trace.carried`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from openledger.evm_ext.vm.generated.values import Value

MAX_WAITING = 4
"""Words that wait at most: every way out of a trace writes them."""


def to_bytes(value: Value) -> str:
    """The 32 bytes of a word, as Python."""
    if value.raw is not None:
        return value.raw
    if value.const is not None:
        return repr(value.const.to_bytes(32, "big"))
    return f"{value.text}.to_bytes(32,'big')"


def writes(words: Mapping[int, str]) -> list[str]:
    """Lines that write words to their places, those side by side at once. The words are Python for 32 bytes each."""
    lines: list[str] = []
    run: list[str] = []
    start = 0
    for place in sorted(words):
        if run and place != start + 32 * len(run):
            lines.append(_write(start, run))
            run = []
        if not run:
            start = place
        run.append(words[place])
    if run:
        lines.append(_write(start, run))
    return lines


def _write(start: int, run: list[str]) -> str:
    return f"B[{start}:{start + 32 * len(run)}]={'+'.join(run)}"


def meets(places: Iterable[int], start: int, end: int) -> bool:
    """Whether some word at these places has bytes from `start` to `end`."""
    return any(place < end and start < place + 32 for place in places)
