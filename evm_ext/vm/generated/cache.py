"""Which code is compiled, when, and what is kept of it.

Compiling an opcode costs as much as some forty plain steps, so a code earns it: every plain step it makes is credit,
and a trace is compiled when the credit covers it. Following a trace that then turns out too dear is paid for, too. The time
spent compiling is thereby never more than a fixed multiple of the time spent executing, whatever code an attacker writes.
What is kept is bounded in all.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from openledger.evm_ext.vm.generated.profile import Profile, profile_of
from openledger.evm_ext.vm.generated.runtime import HALTED, NAMES
from openledger.evm_ext.vm.generated.shape import backward_targets
from openledger.evm_ext.vm.generated.source import function_name, write
from openledger.evm_ext.vm.generated.trace import Tracer
from openledger.evm_ext.vm.parts import push_data

TraceFunction = Callable[[list[int], Any, bytearray, int, int], tuple[int, int]]

HOT_STEPS = 2_000
"""Plain steps after which a code may be compiled at all."""
STEPS_PER_OPCODE = 50
"""Plain steps that pay for compiling one opcode, which takes as long as some forty of them."""
FOLLOWED_PER_OPCODE = 4
"""Opcodes that can be followed, and not compiled, for what one compiled opcode costs."""
MISSES = 4
"""Times that a place is reached before a trace from there is tried."""
MAX_TRACES = 256
MAX_OPCODES = 8_000
"""Compiled for one code."""
CODES = 1_024
MAX_KEPT_OPCODES = 200_000
"""Over all codes of one machine."""


class HotCode:
    """One code on one machine: its traces by program counter, and what it has earned."""

    __slots__ = (
        "_closed",
        "_code",
        "_compiling",
        "_destinations",
        "_machine",
        "_misses",
        "_names",
        "_prices",
        "_spent",
        "_targets",
        "compiled",
        "keeper",
        "steps",
        "traces",
    )

    def __init__(self, code: bytes, machine: Any, keeper: HotCodes | None = None) -> None:
        self._code = code
        self._compiling = threading.Lock()
        self.keeper = keeper
        self._machine = machine
        self._destinations: frozenset[int] | None = None
        self._targets: frozenset[int] = frozenset()
        self._spent = 0
        self._names: dict[str, Any] = {}
        self._misses: dict[int, int] = {}
        self._prices: dict[int, int] = {}
        self._closed: set[int] = set()
        self.traces: dict[int, TraceFunction] = {}
        self.compiled = 0
        self.steps = 0

    def compile(self, position: int, eager: bool) -> TraceFunction | None:
        """The trace from a program counter if it can be had now; None: go on in the plain tier. `eager` asks for
        no credit."""
        if position in self._closed or len(self.traces) >= MAX_TRACES or self.compiled >= MAX_OPCODES:
            return None
        # Calls in other threads share this code: what one of them prepares, another must not see half made.
        if not self._compiling.acquire(blocking=eager):
            return None
        try:
            return self.traces.get(position) or self._compile(position, eager)
        finally:
            self._compiling.release()

    def _compile(self, position: int, eager: bool) -> TraceFunction | None:
        if not eager:
            misses = self._misses[position] = self._misses.get(position, 0) + 1
            credit = self.steps // STEPS_PER_OPCODE - self._spent
            if misses < MISSES or credit < self._prices.get(position, 1):
                return None
        if self._destinations is None:
            self._prepare()
        profile = self._profile()
        trace = Tracer(self._code, self._destinations or frozenset(), self._targets, profile).follow(position)
        if trace is None:
            self._closed.add(position)
            self._spent += 1
            return None
        if not eager and trace.steps > credit:
            self._prices[position] = trace.steps
            self._spent += trace.steps // FOLLOWED_PER_OPCODE + 1
            return None
        for opcode in trace.calls:
            name = f"F{opcode}"
            if name not in self._names:
                self._names[name] = profile.functions.get(opcode) or self._machine._opcode_table[opcode]
        name = function_name(position)
        exec(compile(write(trace), f"<evm code at {position}>", "exec"), self._names)
        function: TraceFunction = self._names.pop(name)
        self.traces[position] = function
        self._spent += trace.steps
        if self.keeper is None:
            self.compiled += trace.steps
        else:
            self.keeper.note_compiled(self, trace.steps)
        return function

    def _prepare(self) -> None:
        data = push_data(self._code)
        self._destinations = frozenset(
            position for position, byte in enumerate(self._code) if byte == 0x5B and not data[position]
        )
        self._targets = backward_targets(self._code, self._destinations)
        self._names = {**NAMES, "HALTED": HALTED, "J": self._destinations, "code": self._code}

    def _profile(self) -> Profile:
        machine = self._machine
        profile: Profile | None = machine.__dict__.get("_generated_profile")
        if profile is None:
            profile = machine._generated_profile = profile_of(
                machine.opcodes, machine._opcode_table, machine._lean_table
            )
        return profile


class HotCodes:
    """The codes of one machine, those used last. Any thread may ask."""

    def __init__(self, machine: Any) -> None:
        self._machine = machine
        self._codes: OrderedDict[bytes, HotCode] = OrderedDict()
        self._lock = threading.Lock()
        self._compiled = 0
        self._asked = 0

    def of(self, code: bytes) -> HotCode:
        found = self._codes.get(code)
        if found is None:
            with self._lock:
                found = self._codes.get(code)
                if found is None:
                    found = self._codes[code] = HotCode(code, self._machine, self)
                    if len(self._codes) > CODES:
                        self._forget_oldest()
        self._asked += 1
        if not self._asked & 15:
            # Now and then is enough: the order need not be exact.
            with self._lock:
                if code in self._codes:
                    self._codes.move_to_end(code)
        return found

    def once(self, code: bytes) -> HotCode:
        """For code that runs once, as initialisation code does: nothing is kept."""
        return self._codes.get(code) or HotCode(code, self._machine)

    def note_compiled(self, hot: HotCode, opcodes: int) -> None:
        """One of the codes compiled more."""
        with self._lock:
            if hot.keeper is self:
                hot.compiled += opcodes
                self._compiled += opcodes
                while self._compiled > MAX_KEPT_OPCODES and len(self._codes) > 1:
                    self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, hot = self._codes.popitem(last=False)
        hot.keeper = None
        self._compiled -= hot.compiled
