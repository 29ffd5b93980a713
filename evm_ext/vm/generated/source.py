"""A trace as a Python function.

`def at_N(S, c, B, g, mark)`: the stack's list, the computation, its memory's bytearray, the gas that is left, and the gas
at which a loop must come out to let its runner look at the clock. Gives (place, gas): a program counter to go on from;
its complement to go on from in the plain tier; or HALTED. What is left of the gas is with the meter only when the machine's
own functions run.
"""

from __future__ import annotations

from openledger.evm_ext.vm.generated.path import Charge, Leave, Line, Repeat, Trace
from openledger.evm_ext.vm.generated.values import Value
from openledger.evm_ext.vm.parts import STACK_LIMIT

_INPUTS = {
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
        # Names of entry words that a turn of the loop changes: on leaving, they are written back.
        self._changed = {
            len(item.stack) - 1 - index
            for item in trace.items
            if isinstance(item, Repeat)
            for index, value in enumerate(item.stack)
            if value.text != f"e{len(item.stack) - 1 - index}"
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
            gas = first.segment.gas
            self._add(1, f"L={gas} if {gas}>mark else mark")
            self._add(1, "while True:")
            self._add(2, "if g<L:")
            self._flush(3, first.stack, first.taken)
            self._add(3, f"return ({trace.start} if g>={gas} else {~trace.start}),g")
            self._add(2, f"g-={gas}")
            rest = trace.items[1:]
        for item in rest:
            self._item(item, shift)
        return "\n".join(self._lines) + "\n"

    def _add(self, indent: int, text: str) -> None:
        self._lines.append(" " * indent + text)

    def _item(self, item: Line | Charge | Leave | Repeat, shift: int) -> None:
        indent = item.indent + shift
        if isinstance(item, Line):
            self._add(indent, item.text)
        elif isinstance(item, Charge):
            gas = item.segment.gas
            if gas:
                self._add(indent, f"if g<{gas}:")
                self._flush(indent + 1, item.stack, item.taken)
                self._add(indent + 1, f"return {~item.position},g")
                self._add(indent, f"g-={gas}")
        elif isinstance(item, Leave):
            self._flush(indent, item.stack, item.taken)
            self._add(indent, f"return {item.position},g")
        else:
            self._repeat(indent, item)

    def _repeat(self, indent: int, item: Repeat) -> None:
        names, values = [], []
        for index, value in enumerate(item.stack):
            name = f"e{len(item.stack) - 1 - index}"
            if value.text != name:
                names.append(name)
                values.append(value.text)
        if names:
            self._add(indent, f"{','.join(names)}={','.join(values)}")
        self._add(indent, "continue")

    def _flush(self, indent: int, stack: tuple[Value, ...], taken: int) -> None:
        """Bring the real stack to what it should be: `taken` words replaced by `stack`."""
        depth = max([taken, *(index + 1 for index in self._changed)])
        words = [f"e{index}" for index in range(depth - 1, taken - 1, -1)] + [value.text for value in stack]
        same = 0
        while same < min(depth, len(words)):
            index = depth - 1 - same
            if words[same] != f"e{index}" or index in self._changed:
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
