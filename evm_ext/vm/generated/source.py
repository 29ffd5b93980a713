"""A trace as a Python function.

`def at_N(S, c, B, g, mark)`: the stack's list, the computation, its memory's bytearray, the gas that is left, and the gas
at which a loop must come out to let its runner look at the clock. Gives (place, gas): a program counter to go on from;
its complement to go on from in the plain tier; or HALTED. What is left of the gas is with the meter only when the machine's
own functions run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from openledger.evm_ext.vm.generated.memory import to_bytes, writes
from openledger.evm_ext.vm.generated.path import Charge, Item, Leave, Line, Repeat, Trace
from openledger.evm_ext.vm.generated.values import Value
from openledger.evm_ext.vm.parts import STACK_LIMIT

_GAS = re.compile(r"\bg\b")
_INPUTS = {
    "M": "len(B)",
    "address": "word(c.msg.storage_address,'big')",
    "origin": "word(c.transaction_context.origin,'big')",
    "caller": "word(c.msg.sender,'big')",
    "value": "c.msg.value",
    "data": "c.msg.data_as_bytes",
    "size": "len(c.msg.data)",
    "gas_price": "c.transaction_context.gas_price",
    "coinbase": "word(c.state.coinbase,'big')",
    "timestamp": "c.state.timestamp",
    "number": "c.state.block_number",
    "gas_limit": "c.state.gas_limit",
    "chain_id": "c.state.execution_context.chain_id",
    "base_fee": "c.state.base_fee",
}


def function_name(start: int) -> str:
    return f"at_{start}"


def write(trace: Trace) -> str:
    """The source of the trace's function."""
    return _Writer(trace).write()


class _Writer:
    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._lines: list[str] = []
        # Entry words that a turn of the loop changes: on leaving, they are written back.
        self._changed = {
            len(item.stack) - 1 - index
            for item in trace.repeats()
            for index, value in enumerate(item.stack)
            if not self._is_entry(value, len(item.stack) - 1 - index)
        }
        # Words of memory that are carried through the turns: None, until one is stored.
        self._carried = trace.carried() if trace.loops else ()
        repeats = trace.repeats()
        self._carried_as_bytes = {
            place for place in self._carried if all(repeat.waiting[place].raw is not None for repeat in repeats)
        }

    def write(self) -> str:
        trace = self._trace
        self._add(0, f"def {function_name(trace.start)}(S,c,B,g,mark):")
        low, high = trace.needs, STACK_LIMIT - trace.grows
        if low or high < STACK_LIMIT:
            self._add(1, f"if not {low}<=len(S)<={high}: return {~trace.start},g")
        if low == 1:
            self._add(1, "e0=S[-1]")
        elif low:
            self._add(1, f"{','.join(f'e{index}' for index in reversed(range(low)))}=S[-{low}:]")
        for depth in sorted(trace.hashes):
            self._add(1, f"r{depth}=e{depth}.to_bytes(32,'big')")
        for name in sorted(trace.inputs):
            if name in _INPUTS:
                self._add(1, f"{name}={_INPUTS[name]}")
            else:
                start = int(name.removeprefix("data_"))
                self._add(1, f"{name}=word(data[{start}:{start + 32}].ljust(32,b'\\0'),'big')")
        first = trace.items[0]
        shift = 0
        rest = trace.items
        if trace.loops and isinstance(first, Charge):
            shift = 1
            ahead = self._charged_ahead()
            gas = first.segment.gas + sum(item.segment.gas for item in ahead if isinstance(item, Charge))
            if self._carried:
                self._add(1, f"{'='.join(f'w{place}' for place in self._carried)}=None")
            self._add(1, f"L={gas} if {gas}>mark else mark")
            self._add(1, "while True:")
            self._add(2, "if g<L:")
            self._flush(3, first)
            self._add(3, f"return ({trace.start} if g>={gas} else {~trace.start}),g")
            self._add(2, f"g-={gas}")
            too_much = gas - first.segment.gas
            for item in ahead:
                if isinstance(item, Charge):
                    too_much -= item.segment.gas
                else:
                    self._item(item, shift, too_much)
            rest = trace.items[1 + len(ahead) :]
        for item in rest:
            self._item(item, shift)
        return "\n".join(self._lines) + "\n"

    def _charged_ahead(self) -> list[Item]:
        """What follows a loop's first segment as long as its gas can be taken together with that: segments on the way
        around, with nothing between that looks at gas. Who leaves between gets back what is too much."""
        ahead = 0
        items = self._trace.items[1:]
        for count, item in enumerate(items, 1):
            if isinstance(item, Charge):
                if item.indent != 1:
                    break
                ahead = count
            elif isinstance(item, Repeat) or (isinstance(item, Line) and _GAS.search(item.text)):
                break
        return items[:ahead]

    def _add(self, indent: int, text: str) -> None:
        self._lines.append(" " * indent + text)

    def _item(self, item: Item, shift: int, too_much: int = 0) -> None:
        indent = item.indent + shift
        if isinstance(item, Line):
            self._add(indent, item.text)
        elif isinstance(item, Charge):
            gas = item.segment.gas
            if gas:
                self._add(indent, f"if g<{gas}:")
                self._flush(indent + 1, item)
                self._add(indent + 1, f"return {~item.position},g")
                self._add(indent, f"g-={gas}")
        elif isinstance(item, Leave):
            self._flush(indent, item)
            self._add(indent, f"return {item.position},g+{too_much}" if too_much else f"return {item.position},g")
        else:
            self._repeat(indent, item)

    def _repeat(self, indent: int, item: Repeat) -> None:
        names, values = [], []
        for index, value in enumerate(item.stack):
            depth = len(item.stack) - 1 - index
            if not self._is_entry(value, depth):
                is_hash = depth in self._trace.hashes
                names.append(f"r{depth}" if is_hash else f"e{depth}")
                values.append(to_bytes(value) if is_hash else value.text)
        for place in self._carried:
            value = item.waiting[place]
            names.append(f"w{place}")
            values.append(to_bytes(value) if place in self._carried_as_bytes else value.text)
        if not self._carried:
            self._write_memory(indent, item.waiting)
        if names:
            self._add(indent, f"{','.join(names)}={','.join(values)}")
        self._add(indent, "continue")

    def _entry(self, depth: int) -> str:
        return f"word(r{depth},'big')" if depth in self._trace.hashes else f"e{depth}"

    def _is_entry(self, value: Value, depth: int) -> bool:
        """Whether the word is the one that was there at the start of the turn."""
        return value.raw == f"r{depth}" if depth in self._trace.hashes else value.text == f"e{depth}"

    def _write_memory(self, indent: int, waiting: Mapping[int, Value]) -> None:
        for line in writes({place: to_bytes(value) for place, value in waiting.items()}):
            self._add(indent, line)

    def _flush(self, indent: int, item: Charge | Leave) -> None:
        """Bring memory and the real stack to what they should be: `taken` words replaced by `stack`."""
        stack, taken = item.stack, item.taken
        left = [place for place in self._carried if place not in item.waiting]
        if left:
            self._add(indent, f"if w{left[0]} is not None:")
            words = {place: f"w{place}" for place in left}
            for place in left:
                if place not in self._carried_as_bytes:
                    words[place] += ".to_bytes(32,'big')"
            for line in writes(words):
                self._add(indent + 1, line)
        self._write_memory(indent, item.waiting)
        depth = max([taken, *(index + 1 for index in self._changed)])
        texts = [self._entry(index) for index in range(depth - 1, taken - 1, -1)] + [value.text for value in stack]
        self._bring_stack(indent, texts, depth)

    def _bring_stack(self, indent: int, words: list[str], depth: int) -> None:
        """Replace the topmost `depth` words by these."""
        same = 0
        while same < min(depth, len(words)):
            index = depth - 1 - same
            if words[same] != self._entry(index) or index in self._changed:
                break
            same += 1
        words, depth = words[same:], depth - same
        if not depth and not words:
            return
        if not depth:
            self._add(indent, f"S.append({words[0]})" if len(words) == 1 else f"S+=({','.join(words)})")
        elif not words:
            self._add(indent, f"del S[-{depth}:]")
        elif depth == 1 and len(words) == 1:
            self._add(indent, f"S[-1]={words[0]}")
        else:
            self._add(indent, f"S[-{depth}:]=({','.join(words)},)")
