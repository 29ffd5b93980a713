"""Programs as compilers write them: variables on the stack, nested loops over them, comparisons that say something about
the arithmetic after them. They aim at what generated code concludes from branches, ranges and memory it has seen.
"""

from __future__ import annotations

import random

from openledger.genesis.hardforks import Hardfork

from .programs import BOUNDARIES, Program, _Label

_BINARY = (0x01, 0x01, 0x02, 0x03, 0x03, 0x03, 0x04, 0x05, 0x06, 0x07, 0x0B, 0x10, 0x11, 0x12, 0x13, 0x14, 0x16, 0x17,
           0x18, 0x1A)  # fmt: skip
_SHIFTS = (0x1B, 0x1C, 0x1D)
_COMPARISONS = (0x10, 0x11, 0x12, 0x13, 0x14)


class VariableProgram:
    """Makes one program. The bottom of the stack holds the variables; every statement leaves nothing above them."""

    def __init__(self, chance: random.Random, fork: Hardfork) -> None:
        self._chance = chance
        self._fork = fork
        self._program = Program()
        self._count = chance.randrange(2, 7)
        self._counters: list[int] = []

    def code(self) -> bytes:
        """The program: variables set, statements, and what they came to stored, logged or returned."""
        chance, program = self._chance, self._program
        for _ in range(self._count):
            roll = chance.random()
            if roll < 0.5:
                program.push(chance.choice(BOUNDARIES))
            elif roll < 0.8:
                program.push(chance.randrange(64))
                program.op(0x35, 1, 1)
            else:
                program.push(chance.getrandbits(chance.choice((8, 32, 256))))
        for _ in range(chance.randrange(1, 6)):
            self._statement(3)
        for index in range(self._count):
            self._load(index)
            program.push(32 * index)
            program.op(0x52, 2)
        if chance.random() < 0.3:
            self._load(0)
            program.push(0)
            program.op(0x55, 2)
        program.push(32 * self._count)
        program.push(0)
        program.op(0xF3)
        return program.finish()

    # --- variables ----------------------------------------------------------------------------------------

    def _load(self, index: int) -> None:
        self._program.op(0x7F + self._program.height - index, 0, 1)

    def _store(self, index: int) -> None:
        """The word on top into a variable."""
        depth = self._program.height - 1 - index
        self._program.op(0x8F + depth)
        self._program.op(0x50, 1)

    def _some(self) -> int:
        return self._chance.randrange(self._count)

    def _free(self) -> int | None:
        """A variable that no loop counts with."""
        free = [index for index in range(self._count) if index not in self._counters]
        return self._chance.choice(free) if free else None

    # --- expressions --------------------------------------------------------------------------------------

    def _expression(self, depth: int) -> None:
        """One more word; never more than 14 above the bottom, so that every variable can be reached."""
        chance, program = self._chance, self._program
        roll = chance.random()
        if depth == 0 or program.height > 12 or roll < 0.35:
            kind = chance.random()
            if kind < 0.6:
                self._load(self._some())
            elif kind < 0.9:
                program.push(chance.choice(BOUNDARIES) if chance.random() < 0.6 else chance.randrange(300))
            else:
                program.op(chance.choice((0x30, 0x33, 0x34, 0x36, 0x38, 0x3A, 0x41, 0x42, 0x43, 0x58, 0x59)), 0, 1)
        elif roll < 0.75:
            self._expression(depth - 1)
            self._expression(depth - 1)
            program.op(chance.choice(_BINARY), 2, 1)
        elif roll < 0.82 and self._fork >= Hardfork.CONSTANTINOPLE:
            self._expression(depth - 1)
            if chance.random() < 0.7:
                program.push(chance.choice((0, 1, 3, 8, 31, 32, 128, 224, 248, 255, 256, 2**64)))
            else:
                self._expression(depth - 1)
            program.op(chance.choice(_SHIFTS), 2, 1)
        elif roll < 0.87:
            self._expression(depth - 1)
            program.op(chance.choice((0x15, 0x19)), 1, 1)
        elif roll < 0.91:
            for _ in range(3):
                self._expression(depth - 1)
            program.op(chance.choice((0x08, 0x09)), 3, 1)
        elif roll < 0.93:
            self._expression(0)
            self._expression(depth - 1)
            program.op(0x0A, 2, 1)
        elif roll < 0.97:
            self._place(depth)
            program.op(0x51, 1, 1)
        elif roll < 0.985:
            program.push(chance.choice((0, 1, 32, 64)))
            self._place(depth)
            program.op(0x20, 2, 1)
        else:
            program.push(chance.randrange(3))
            program.op(0x54, 1, 1)

    def _place(self, depth: int) -> None:
        """An offset in memory: fixed, or a variable's low bits."""
        program = self._program
        if self._chance.random() < 0.5:
            program.push(self._chance.choice((0, 1, 32, 33, 64, 96, 100, 512)))
            return
        self._load(self._some())
        program.push(self._chance.choice((0x1F, 0xFF, 0x3E0)))
        program.op(0x16, 2, 1)
        if self._chance.random() < 0.5:
            program.push(self._chance.choice((1, 32, 64)))
            program.op(0x01, 2, 1)

    def _condition(self) -> None:
        chance, program = self._chance, self._program
        if chance.random() < 0.7:
            self._load(self._some())
            if chance.random() < 0.5:
                self._load(self._some())
            else:
                program.push(chance.choice(BOUNDARIES))
            if chance.random() < 0.5:
                program.op(0x90)
            program.op(chance.choice(_COMPARISONS), 2, 1)
        else:
            self._expression(2)
        for _ in range(chance.choice((0, 0, 1, 1, 2))):
            program.op(0x15, 1, 1)

    # --- statements ---------------------------------------------------------------------------------------

    def _statement(self, depth: int) -> None:
        roll = self._chance.random()
        if depth and roll < 0.25:
            self._if(depth)
        elif depth and roll < 0.5:
            self._loop(depth)
        elif roll < 0.65:
            self._expression(2)
            self._place(1)
            self._program.op(self._chance.choice((0x52, 0x52, 0x52, 0x53)), 2)
        elif roll < 0.7:
            self._expression(1)
            self._program.push(self._chance.randrange(3))
            self._program.op(0x55, 2)
        elif roll < 0.74:
            self._program.push(self._chance.choice((0, 1, 32, 40)))
            self._place(1)
            self._place(1)
            copies = (0x37, 0x39, 0x5E) if self._fork >= Hardfork.CANCUN else (0x37, 0x39)
            self._program.op(self._chance.choice(copies), 3)
        else:
            index = self._free()
            if index is not None:
                self._expression(3)
                self._store(index)

    def _if(self, depth: int) -> None:
        otherwise, end = _Label(), _Label()
        program = self._program
        self._condition()
        program.push_label(otherwise)
        program.op(0x57, 2)
        for _ in range(self._chance.randrange(1, 3)):
            self._statement(depth - 1)
        if self._chance.random() < 0.1:
            program.push(0)
            program.push(0)
            program.op(0xF3 if self._fork < Hardfork.BYZANTIUM else 0xFD, 2)
        program.push_label(end)
        program.op(0x56, 1)
        program.place(otherwise)
        if self._chance.random() < 0.5:
            self._statement(depth - 1)
        program.place(end)

    def _loop(self, depth: int) -> None:
        """Up or down over a variable, with a test at the top or at the bottom."""
        chance, program = self._chance, self._program
        index = self._free()
        if index is None:
            return
        turns = chance.choice((1, 2, 3, 5, 20, 60) if depth > 1 else (1, 2, 3, 5, 20, 200))
        up = chance.random() < 0.6
        again, out = _Label(), _Label()
        start = chance.choice((0, 0, 1, 2**256 - turns - 1, 2**255 - 2, 2**64 - 2)) if up else turns
        program.push(start)
        self._store(index)
        self._counters.append(index)
        program.place(again)
        at_top = chance.random() < 0.6
        if at_top:
            self._past_end(index, start, turns, up)
            program.push_label(out)
            program.op(0x57, 2)
        for _ in range(chance.randrange(1, 3)):
            self._statement(depth - 1)
        if chance.random() < 0.15:
            self._condition()
            program.push_label(out)
            program.op(0x57, 2)
        program.push(1)
        self._load(index)
        program.op(0x01 if up else 0x03, 2, 1)
        self._store(index)
        if at_top:
            program.push_label(again)
            program.op(0x56, 1)
        else:
            self._past_end(index, start, turns, up)
            program.op(0x15, 1, 1)
            program.push_label(again)
            program.op(0x57, 2)
        program.place(out)
        self._counters.remove(index)

    def _past_end(self, index: int, start: int, turns: int, up: bool) -> None:
        """Whether the loop is over, said in one of the ways compilers say it."""
        program = self._program
        if not up:
            self._load(index)
            program.op(0x15, 1, 1)
            return
        end = (start + turns) % 2**256
        self._load(index)
        program.push(end)
        if start + turns < 2**255 and self._chance.random() < 0.7:
            # end > index
            program.op(self._chance.choice((0x11, 0x13)), 2, 1)
            program.op(0x15, 1, 1)
        else:
            program.op(0x14, 2, 1)
