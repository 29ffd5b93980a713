"""Following bytecode from one place: along jumps that are known, past branches, until the way is lost.

The stack is followed by name, so that most of it never exists. Gas is charged by segments: stretches in which nothing
looks at the gas that is left and nothing can fail but for gas. Where there is not enough for a segment, or a branch leads
where generated code does not go, the stack is written back and the frame goes on from there in the plain tier, which
knows the exact point of failure.
"""

from __future__ import annotations

from dataclasses import replace

from openledger.evm_ext.vm.generated.memory import MAX_WAITING, meets, to_bytes, writes
from openledger.evm_ext.vm.generated.path import Charge, Leave, Line, Path, Repeat, Segment, Trace
from openledger.evm_ext.vm.generated.profile import Profile
from openledger.evm_ext.vm.generated.shape import only_fails
from openledger.evm_ext.vm.generated.values import (
    ZERO,
    Emit,
    Test,
    Value,
    arithmetic,
    compare,
    is_zero,
    literal,
    modular,
    of_bytes,
    test_of,
)
from openledger.evm_ext.vm.lean.words import WORD

MAX_PATH_OPCODES = 400
MAX_STEPS = 1_600
MAX_EXPLORED_STEPS = 1_000
MAX_NESTING = 10
_UINT64 = (1 << 64) - 1
_ADDRESS = (1 << 160) - 1


class Tracer:
    """Follows one code on one machine. `targets` are its `backward_targets`."""

    def __init__(self, code: bytes, destinations: frozenset[int], targets: frozenset[int], profile: Profile) -> None:
        self._code = code
        self._destinations = destinations
        self._profile = profile
        self._targets = targets

    def follow(self, start: int) -> Trace | None:
        """The trace from `start`, None where generated code gains nothing."""
        trace = self._follow(start, frozenset())
        if trace is None or trace.steps > MAX_STEPS // 2:
            return trace
        # Words that a loop makes by hashing stay bytes from turn to turn: mostly they are only hashed again.
        hashes = frozenset(
            len(repeat.stack) - 1 - index
            for repeat in trace.repeats()
            for index, value in enumerate(repeat.stack)
            if value.lazy
        )
        if not hashes:
            return trace
        steps = trace.steps
        trace = self._follow(start, hashes)
        if trace is not None:
            trace.steps += steps
        return trace

    def _follow(self, start: int, hashes: frozenset[int]) -> Trace | None:
        self._trace = trace = Trace(start, hashes=hashes)
        self._names = 0
        self._explores = start in self._targets
        opcode = self._code[start] if start < len(self._code) else 0
        if (
            opcode not in self._profile.gas
            and opcode not in self._profile.functions
            and opcode not in self._profile.calls
        ):
            return None
        path = Path(start, 1, trace.items)
        self._run(path)
        return trace

    # --- the pieces --------------------------------------------------------------------------------------

    def _line(self, path: Path, text: str) -> None:
        path.items.append(Line(path.indent, text))

    def _emitter(self, path: Path) -> Emit:
        def emit(text: str, top: int = WORD) -> Value:
            self._names += 1
            name = f"t{self._names}"
            self._line(path, f"{name}={text}")
            return Value(name, top)

        return emit

    def _charge(self, path: Path, gas: int) -> None:
        if path.segment is None:
            path.segment = Segment()
            path.items.append(
                Charge(path.indent, path.segment, path.position, tuple(path.stack), path.taken, dict(path.waiting))
            )
        path.segment.gas += gas

    def _pop(self, path: Path) -> Value:
        value = self._take(path)
        if not value.lazy:
            return value
        named = replace(value, text=self._emitter(path)(value.text).text, lazy=False)
        path.stack = [named if word is value else word for word in path.stack]
        path.stored = {place: named if word is value else word for place, word in path.stored.items()}
        return named

    def _take(self, path: Path) -> Value:
        """As `_pop`, where it does not matter whether the word is there as a number."""
        return path.stack.pop() if path.stack else self._entry(path)

    def _entry(self, path: Path) -> Value:
        """The topmost word of those that were on the stack at the start."""
        depth = path.taken
        path.taken += 1
        self._trace.needs = max(self._trace.needs, path.taken)
        return of_bytes(f"r{depth}") if depth in self._trace.hashes else Value(f"e{depth}")

    def _push(self, path: Path, value: Value) -> None:
        path.stack.append(value)
        self._trace.grows = max(self._trace.grows, len(path.stack) - path.taken)

    def _reach(self, path: Path, depth: int) -> None:
        """At least `depth` words on the followed stack."""
        while len(path.stack) < depth:
            path.stack.insert(0, self._entry(path))

    def _leave(self, path: Path, position: str) -> None:
        path.items.append(Leave(path.indent, position, tuple(path.stack), path.taken, dict(path.waiting)))

    def _input(self, name: str, top: int = WORD) -> Value:
        self._trace.inputs.add(name)
        return Value(name, top)

    # --- following ---------------------------------------------------------------------------------------

    def _run(self, path: Path) -> bool:
        """Follow until the path ends; whether some way along it comes back to the start."""
        code, profile = self._code, self._profile
        looped = False
        while True:
            position = path.position
            if path.opcodes >= MAX_PATH_OPCODES or self._trace.steps >= MAX_STEPS:
                self._leave(path, str(position))
                return looped
            path.opcodes += 1
            self._trace.steps += 1
            opcode = code[position] if position < len(code) else 0
            if opcode == 0x5B and opcode in profile.gas:
                if position in path.visited:
                    if position == self._trace.start and len(path.stack) == path.taken:
                        path.items.append(Repeat(path.indent, tuple(path.stack), dict(path.waiting)))
                        self._trace.loops = True
                        return True
                    self._leave(path, str(position))
                    return looped
                path.visited.add(position)
            if opcode in profile.gas:
                ended, found = self._inline(path, opcode)
                looped = looped or found
                if ended:
                    return looped
            elif opcode in profile.functions:
                self._function(path, opcode)
                path.position = position + 1
            elif opcode in profile.calls:
                self._call(path, opcode, *profile.calls[opcode])
                path.position = position + 1
            else:
                self._leave(path, f"~{position}")
                return looped

    def _inline(self, path: Path, opcode: int) -> tuple[bool, bool]:
        """(whether the path ended, whether a branch came back to the start)."""
        position = path.position
        self._charge(path, self._profile.gas[opcode])
        path.position = position + 1
        if 0x5F <= opcode <= 0x7F:
            size = opcode - 0x5F
            data = self._code[position + 1 : position + 1 + size]
            self._push(path, literal(int.from_bytes(data, "big") << 8 * (size - len(data))))
            path.position = position + 1 + size
        elif 0x80 <= opcode <= 0x8F:
            self._reach(path, opcode - 0x7F)
            self._push(path, path.stack[0x7F - opcode])
        elif 0x90 <= opcode <= 0x9F:
            other = 0x8F - opcode - 1
            self._reach(path, -other)
            stack = path.stack
            stack[-1], stack[other] = stack[other], stack[-1]
        elif opcode == 0x50:
            self._take(path)
        elif opcode == 0x56:
            return self._jump(path), False
        elif opcode == 0x57:
            return self._branch(path)
        elif opcode in (0x00, 0xF3, 0xFD):
            self._end(path, opcode)
            return True, False
        elif opcode == 0x5A:
            path.segment = None
            self._push(path, self._emitter(path)("g", _UINT64))
        elif opcode < 0x20:
            self._push(path, self._compute(path, opcode))
        elif opcode in (0x20, 0x37, 0x39, 0x51, 0x52, 0x53, 0x59, 0x5E):
            self._memory(path, opcode)
        elif opcode != 0x5B:
            self._push(path, self._context(path, opcode))
        return False, False

    def _compute(self, path: Path, opcode: int) -> Value:
        emit = self._emitter(path)
        a = self._pop(path)
        if opcode == 0x15:
            return is_zero(a)
        if opcode == 0x19:
            return literal(a.const ^ WORD) if a.const is not None else emit(f"{a.text}^{hex(WORD)}")
        b = self._pop(path)
        if opcode in (0x10, 0x11, 0x12, 0x13) or (opcode == 0x14 and a.const != 0 and b.const != 0):
            # A comparison of comparisons by name: their texts would double with every level.
            a, b = (value if value.test is None else emit(value.text, 1) for value in (a, b))
        if opcode in (0x10, 0x12):
            return compare("<" if opcode == 0x10 else "<s", a, b, path.facts)
        if opcode in (0x11, 0x13):
            return compare("<" if opcode == 0x11 else "<s", b, a, path.facts)
        if opcode == 0x14:
            return compare("==", a, b, path.facts)
        if opcode in (0x08, 0x09):
            return modular(opcode, a, b, self._pop(path), path.facts, emit)
        if opcode == 0x0A:
            if b.const is not None:
                self._charge(path, self._profile.exponent_byte_gas * ((b.const.bit_length() + 7) // 8))
            else:
                self._line(path, f"g-={self._profile.exponent_byte_gas}*(({b.text}.bit_length()+7)>>3)")
                self._line(path, "if g<0: out_of_gas(g)")
        return arithmetic(opcode, a, b, path.facts, emit)

    def _context(self, path: Path, opcode: int) -> Value:
        emit = self._emitter(path)
        if opcode == 0x35:
            a = self._pop(path)
            self._input("data")
            if a.const is not None:
                # Calldata never changes: one load serves the whole trace, and every turn of a loop.
                return self._input(f"data_{a.const}") if a.const < 1 << 32 else ZERO
            return emit(f"word(data[{a.text}:{a.text}+32].ljust(32,b'\\0'),'big')")
        if opcode == 0x38:
            return literal(len(self._code))
        if opcode == 0x3D:
            return emit("len(c.return_data)", _UINT64)
        if opcode == 0x47:
            return emit("c.state.get_balance(c.msg.storage_address)")
        if opcode == 0x58:
            return literal(path.position - 1)
        name, top = _INPUTS[opcode]
        return self._input(name, top)

    # --- memory ------------------------------------------------------------------------------------------

    def _cover(self, path: Path, start: Value, size: Value) -> None:
        """Memory exists from `start` for `size` bytes; what it costs is charged."""
        if size.const == 0:
            return
        if start.const is not None and size.const is not None:
            end = start.const + size.const
            if end > path.covered:
                grows = f"if len(B)<{end}: g=grow(B,{end},g)"
                if self._explores:
                    # Perhaps a loop: what has grown once is known by a local from then on.
                    self._trace.inputs.add("M")
                    self._line(path, f"if M<{end}:")
                    path.items += (Line(path.indent + 1, grows), Line(path.indent + 1, "M=len(B)"))
                else:
                    self._line(path, grows)
                path.covered = (end + 31) // 32 * 32
            return
        end_text = f"{start.text}+{size.text}" if start.const != 0 else size.text
        guard = "" if size.const is not None else f"{size.text} and "
        self._line(path, f"if {guard}len(B)<{end_text}: g=grow(B,{end_text},g)")

    def _memory(self, path: Path, opcode: int) -> None:
        emit = self._emitter(path)
        if opcode == 0x59:
            self._push(path, emit("len(B)", _UINT64))
            return
        start = self._pop(path)
        if opcode == 0x51:
            self._push(path, self._load_word(path, start))
            return
        if opcode == 0x52:
            self._store_word(path, start, self._take(path))
            return
        second = self._pop(path)
        if opcode == 0x53:
            self._cover(path, start, _ONE)
            self._give_memory(path)
            value = str(second.const & 255) if second.const is not None else f"{second.text}&255"
            self._line(path, f"B[{start.text}]={value}")
        elif opcode == 0x20:
            self._cover(path, start, second)
            if second.const is not None:
                self._charge(path, 6 * ((second.const + 31) // 32))
            else:
                self._line(path, f"g-=6*(({second.text}+31)>>5)")
                self._line(path, "if g<0: out_of_gas(g)")
            data = self._region(path, start, second)
            function = "keccak" if second.const is None or second.const > _SHORT else "keccak_short"
            self._names += 1
            self._line(path, f"h{self._names}={function}({data})")
            self._push(path, of_bytes(f"h{self._names}"))
        else:
            size = self._pop(path)
            self._give_memory(path)
            if opcode == 0x5E:
                self._line(path, f"g=copy_inside(B,{start.text},{second.text},{size.text},g)")
            else:
                source = "data" if opcode == 0x37 else "code"
                if opcode == 0x37:
                    self._input("data")
                self._line(path, f"g=copy_into(B,{start.text},{source},{second.text},{size.text},g)")

    def _load_word(self, path: Path, start: Value) -> Value:
        if start.const is not None and start.const in path.stored:
            return path.stored[start.const]
        if path.seen is not None and path.seen[0] == start.text:
            return path.seen[1]
        self._cover(path, start, _THIRTY_TWO)
        self._show_memory(path, start, _THIRTY_TWO)
        value = self._emitter(path)(f"word(B[{_span(start, _THIRTY_TWO)}],'big')")
        if start.const is not None:
            path.stored[start.const] = value
        else:
            path.seen = start.text, value
        return value

    def _store_word(self, path: Path, start: Value, value: Value) -> None:
        self._cover(path, start, _THIRTY_TWO)
        if start.const is None:
            self._give_memory(path)
            self._line(path, f"B[{_span(start, _THIRTY_TWO)}]={to_bytes(value)}")
            path.seen = start.text, value
            return
        place = start.const
        others = path.waiting.keys() - {place}
        if len(others) >= MAX_WAITING or meets(others, place, place + 32):
            self._write_waiting(path)
        path.stored = {at: word for at, word in path.stored.items() if abs(at - place) >= 32}
        path.stored[place] = path.waiting[place] = value
        path.seen = None

    def _region(self, path: Path, start: Value, size: Value) -> str:
        """Memory's bytes from `start`, which is covered, as Python."""
        if size.const == 0:
            return "b''"
        if start.const is not None and size.const is not None and size.const in _WHOLE_WORDS:
            places = range(start.const, start.const + size.const, 32)
            if all(place in path.stored for place in places):
                # As cheap as reading them, and they need not have been written.
                return "+".join(to_bytes(path.stored[place]) for place in places)
        self._show_memory(path, start, size)
        return f"bytes(B[{_span(start, size)}])"

    def _write_waiting(self, path: Path) -> None:
        self._trace.touched += ((place, place + 32) for place in path.waiting)
        for line in writes({place: to_bytes(value) for place, value in path.waiting.items()}):
            self._line(path, line)
        path.waiting.clear()

    def _show_memory(self, path: Path, start: Value, size: Value) -> None:
        """Something reads memory there."""
        if start.const is None or size.const is None:
            self._trace.wild = True
            self._write_waiting(path)
            return
        end = start.const + size.const
        self._trace.touched.append((start.const, end))
        if meets(path.waiting, start.const, end):
            self._write_waiting(path)

    def _give_memory(self, path: Path) -> None:
        """Something may write memory, anywhere."""
        self._trace.wild = True
        self._write_waiting(path)
        path.stored.clear()
        path.seen = None

    # --- jumps -------------------------------------------------------------------------------------------

    def _jump(self, path: Path) -> bool:
        """Whether the path ended."""
        target = self._pop(path)
        if target.const is not None and target.const in self._destinations:
            path.position = target.const
            return False
        self._jump_to_unknown(path, target)
        return True

    def _jump_to_unknown(self, path: Path, target: Value) -> None:
        if target.const is not None:
            self._line(path, f"invalid_jump({target.text})")
            return
        self._line(path, f"if {target.text} not in J: invalid_jump({target.text})")
        self._leave(path, target.text)

    def _branch(self, path: Path) -> tuple[bool, bool]:
        target = self._pop(path)
        condition = self._pop(path)
        after = path.position
        path.segment = None
        if condition.const == 0:
            return False, False
        if condition.const is not None:
            path.stack.append(target)
            return self._jump(path), False
        test = test_of(condition)
        if target.const is None or target.const not in self._destinations:
            side = path.branch(after)
            self._line(path, f"if {test.text}:")
            self._jump_to_unknown(side, target)
            path.items += side.items
            path.facts.assume(test.inverse)
            return False, False
        if self._explores and path.indent < MAX_NESTING and self._explore(path, target.const, test):
            path.facts.assume(test.inverse)
            return False, True
        if only_fails(self._code, after, self._destinations):
            self._side_exit(path, test.inverse, after)
            path.facts.assume(test)
            path.position = target.const
        else:
            self._side_exit(path, test, target.const)
            path.facts.assume(test.inverse)
        return False, False

    def _explore(self, path: Path, target: int, test: Test) -> bool:
        """Follow a branch; keep it if it comes back to the start of the trace."""
        trace = self._trace
        if trace.steps > MAX_EXPLORED_STEPS:
            return False
        before = (
            trace.needs,
            trace.grows,
            trace.loops,
            set(trace.inputs),
            set(trace.calls),
            list(trace.touched),
            trace.wild,
        )
        side = path.branch(target)
        side.facts.assume(test)
        if self._run(side):
            self._line(path, f"if {test.text}:")
            path.items += side.items
            return True
        trace.needs, trace.grows, trace.loops, trace.inputs, trace.calls, trace.touched, trace.wild = before
        return False

    def _side_exit(self, path: Path, test: Test, position: int) -> None:
        self._line(path, f"if {test.text}:")
        path.items.append(Leave(path.indent + 1, str(position), tuple(path.stack), path.taken, dict(path.waiting)))

    # --- what leaves the machine's hands ------------------------------------------------------------------

    def _end(self, path: Path, opcode: int) -> None:
        if opcode == 0x00:
            self._line(path, "return HALTED,g")
            return
        start = self._pop(path)
        size = self._pop(path)
        self._cover(path, start, size)
        output = self._region(path, start, size)
        if opcode == 0xF3:
            self._line(path, f"c._output={output}")
            self._line(path, "return HALTED,g")
        else:
            self._line(path, "c._gas_meter.gas_remaining=g")
            self._line(path, f"revert(c,{output})")

    def _function(self, path: Path, opcode: int) -> None:
        """Through a lean function that charges by itself."""
        self._trace.calls.add(opcode)
        if opcode == 0x54:
            slot = self._pop(path)
            self._names += 1
            name = f"t{self._names}"
            self._line(path, f"{name},g=F84(c,{slot.text},g)")
            self._push(path, Value(name))
            return
        path.segment = None
        if opcode == 0x55:
            slot, value = self._pop(path), self._pop(path)
            self._line(path, f"g=F85(c,{slot.text},{value.text},g)")
        else:
            start, size = self._pop(path), self._pop(path)
            topics = "".join(f"{self._pop(path).text}," for _ in range(opcode - 0xA0))
            self._trace.wild = True
            self._write_waiting(path)
            self._line(path, f"g=F{opcode}(c,B,{start.text},{size.text},({topics}),g)")

    def _call(self, path: Path, opcode: int, takes: int, gives: int) -> None:
        """Through the machine's own function, with the words it takes on top of the real stack."""
        path.segment = None
        self._trace.calls.add(opcode)
        words = [self._pop(path).text for _ in range(takes)]
        self._give_memory(path)
        self._trace.grows = max(self._trace.grows, takes, gives)
        if takes == 1:
            self._line(path, f"S.append({words[0]})")
        elif takes:
            self._line(path, f"S+=({','.join(reversed(words))})")
        self._line(path, "m=c._gas_meter")
        self._line(path, "m.gas_remaining=g")
        self._line(path, f"F{opcode}(c)")
        self._line(path, "g=m.gas_remaining")
        if gives:
            self._push(path, self._emitter(path)("S.pop()"))


_THIRTY_TWO = literal(32)
_ONE = literal(1)
_SHORT = 1_024
_WHOLE_WORDS = range(32, 32 * MAX_WAITING + 1, 32)

_INPUTS = {
    0x30: ("address", _ADDRESS),
    0x32: ("origin", _ADDRESS),
    0x33: ("caller", _ADDRESS),
    0x34: ("value", WORD),
    0x36: ("size", _UINT64),
    0x3A: ("gas_price", WORD),
    0x41: ("coinbase", _ADDRESS),
    0x42: ("timestamp", WORD),
    0x43: ("number", WORD),
    0x45: ("gas_limit", WORD),
    0x46: ("chain_id", WORD),
    0x48: ("base_fee", WORD),
}


def _span(start: Value, size: Value) -> str:
    if start.const is not None and size.const is not None:
        return f"{start.const}:{start.const + size.const}"
    return f"{start.text}:{start.text}+{size.text}"
