"""Running a frame: plain until its code is hot, then by traces, and plain where there is none."""

from __future__ import annotations

import time
from itertools import repeat
from operator import length_hint
from typing import Any

from eth.exceptions import Halt

from openledger.evm_ext.errors import CallTimeout
from openledger.evm_ext.vm.generated.cache import HOT_STEPS, HotCode
from openledger.evm_ext.vm.generated.runtime import HALTED

STEPS_BETWEEN_CLOCK_LOOKS = 2048
GAS_BETWEEN_CLOCK_LOOKS = 1_000_000
STEPS_BETWEEN_TRIES = 32
_NEVER = -1


def look_at_clock(deadline: float | None) -> None:
    """Raises CallTimeout after the deadline (monotonic seconds)."""
    if deadline is not None and time.monotonic() > deadline:
        raise CallTimeout("execution aborted: the call took longer than its time limit")


def run_plain(computation: Any) -> None:
    """Execute to the end in the plain tier."""
    code = computation.code
    raw = code._raw_code_bytes
    length = len(raw)
    table = computation._opcode_table
    deadline = computation.state.deadline
    try:
        while True:
            for _ in repeat(None, STEPS_BETWEEN_CLOCK_LOOKS):
                position = code.program_counter
                code.program_counter = position + 1
                table[raw[position] if position < length else 0](computation)
            look_at_clock(deadline)
    except Halt:
        pass


def run_until_hot(computation: Any, hot: HotCode) -> None:
    """Execute in the plain tier, counting, and by traces once the code has earned it."""
    code = computation.code
    raw = code._raw_code_bytes
    length = len(raw)
    table = computation._opcode_table
    deadline = computation.state.deadline
    steps = repeat(None, 0)
    try:
        while hot.steps < HOT_STEPS:
            steps = repeat(None, STEPS_BETWEEN_CLOCK_LOOKS)
            for _ in steps:
                position = code.program_counter
                code.program_counter = position + 1
                table[raw[position] if position < length else 0](computation)
            hot.steps += STEPS_BETWEEN_CLOCK_LOOKS
            look_at_clock(deadline)
    except Halt:
        hot.steps += STEPS_BETWEEN_CLOCK_LOOKS - length_hint(steps)
        return
    run_traces(computation, hot, False)


def run_traces(computation: Any, hot: HotCode, eager: bool) -> None:
    """Execute by traces; `eager` compiles whatever is reached."""
    code = computation.code
    meter = computation._gas_meter
    stack = computation._stack.values
    memory = computation._memory._bytes
    deadline = computation.state.deadline
    traces = hot.traces
    position = code.program_counter
    gas = meter.gas_remaining
    mark = _NEVER if deadline is None else gas - GAS_BETWEEN_CLOCK_LOOKS
    while True:
        trace = traces.get(position) or hot.compile(position, eager)
        if trace is not None:
            position, gas = trace(stack, computation, memory, gas, mark)
        if trace is None or position < 0:
            if position == HALTED:
                meter.gas_remaining = gas
                return
            code.program_counter = position if position >= 0 else ~position
            meter.gas_remaining = gas
            if _run_block(computation, hot, 1 if eager else STEPS_BETWEEN_TRIES):
                return
            position = code.program_counter
            gas = meter.gas_remaining
        if gas < mark:
            look_at_clock(deadline)
            mark = gas - GAS_BETWEEN_CLOCK_LOOKS


def _run_block(computation: Any, hot: HotCode, least: int) -> bool:
    """Execute in the plain tier, at least one opcode, up to a JUMPDEST from where there is a trace or, after `least`
    opcodes, from where one may be made; whether the frame ended."""
    code = computation.code
    raw = code._raw_code_bytes
    length = len(raw)
    table = computation._opcode_table
    traces = hot.traces
    steps = 0
    try:
        while True:
            position = code.program_counter
            code.program_counter = position + 1
            table[raw[position] if position < length else 0](computation)
            steps += 1
            position = code.program_counter
            if position < length and raw[position] == 0x5B and (steps >= least or position in traces):
                return False
    except Halt:
        return True
    finally:
        hot.steps += steps
