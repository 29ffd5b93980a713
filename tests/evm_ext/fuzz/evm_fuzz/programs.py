"""Random programs with the structure that compilers give code: stacks that mostly fit, loops, jump tables, calls."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from openledger.genesis.hardforks import Hardfork

BOUNDARIES = (
    0, 1, 2, 3, 7, 31, 32, 33, 63, 64, 255, 256, 257, 1023, 1024, 0xFFFF, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**64,
    2**127, 2**128, 2**255 - 1, 2**255, 2**256 - 2, 2**256 - 1, 2**256 - 32, 2**248, 0x80, 0x7F, 0xFF00,
)  # fmt: skip

# name: (opcode, taken from the stack, given, first fork)
_PURE = {
    "ADD": (0x01, 2, Hardfork.FRONTIER), "MUL": (0x02, 2, Hardfork.FRONTIER), "SUB": (0x03, 2, Hardfork.FRONTIER),
    "DIV": (0x04, 2, Hardfork.FRONTIER), "SDIV": (0x05, 2, Hardfork.FRONTIER), "MOD": (0x06, 2, Hardfork.FRONTIER),
    "SMOD": (0x07, 2, Hardfork.FRONTIER), "ADDMOD": (0x08, 3, Hardfork.FRONTIER),
    "MULMOD": (0x09, 3, Hardfork.FRONTIER), "EXP": (0x0A, 2, Hardfork.FRONTIER),
    "SIGNEXTEND": (0x0B, 2, Hardfork.FRONTIER), "LT": (0x10, 2, Hardfork.FRONTIER), "GT": (0x11, 2, Hardfork.FRONTIER),
    "SLT": (0x12, 2, Hardfork.FRONTIER), "SGT": (0x13, 2, Hardfork.FRONTIER), "EQ": (0x14, 2, Hardfork.FRONTIER),
    "ISZERO": (0x15, 1, Hardfork.FRONTIER), "AND": (0x16, 2, Hardfork.FRONTIER), "OR": (0x17, 2, Hardfork.FRONTIER),
    "XOR": (0x18, 2, Hardfork.FRONTIER), "NOT": (0x19, 1, Hardfork.FRONTIER), "BYTE": (0x1A, 2, Hardfork.FRONTIER),
    "SHL": (0x1B, 2, Hardfork.CONSTANTINOPLE), "SHR": (0x1C, 2, Hardfork.CONSTANTINOPLE),
    "SAR": (0x1D, 2, Hardfork.CONSTANTINOPLE), "CLZ": (0x1E, 1, Hardfork.OSAKA),
}  # fmt: skip
_SEEN = {
    0x30: Hardfork.FRONTIER, 0x32: Hardfork.FRONTIER, 0x33: Hardfork.FRONTIER, 0x34: Hardfork.FRONTIER,
    0x36: Hardfork.FRONTIER, 0x38: Hardfork.FRONTIER, 0x3A: Hardfork.FRONTIER, 0x3D: Hardfork.BYZANTIUM,
    0x41: Hardfork.FRONTIER, 0x42: Hardfork.FRONTIER, 0x43: Hardfork.FRONTIER, 0x44: Hardfork.FRONTIER,
    0x45: Hardfork.FRONTIER, 0x46: Hardfork.ISTANBUL, 0x47: Hardfork.ISTANBUL, 0x48: Hardfork.LONDON,
    0x4A: Hardfork.CANCUN, 0x58: Hardfork.FRONTIER, 0x59: Hardfork.FRONTIER, 0x5A: Hardfork.FRONTIER,
}  # fmt: skip
_CALLS = {
    0xF1: Hardfork.FRONTIER, 0xF2: Hardfork.FRONTIER, 0xF4: Hardfork.HOMESTEAD, 0xFA: Hardfork.BYZANTIUM,
}  # fmt: skip


class _Label:
    """A place in the code, known when the program is finished."""

    def __init__(self) -> None:
        self.position: int | None = None


class Program:
    """Code in the making: appends opcodes, remembers how high the stack is, fills in labels at the end."""

    def __init__(self) -> None:
        self.parts: list[bytes | _Label] = []
        self.height = 0

    def op(self, opcode: int, taken: int = 0, given: int = 0) -> None:
        self.parts.append(bytes([opcode]))
        self.height += given - taken

    def push(self, value: int, size: int | None = None) -> None:
        least = (value.bit_length() + 7) // 8
        size = max(least, 1) if size is None else max(size, least)
        self.parts.append(bytes([0x5F + size]) + value.to_bytes(size, "big"))
        self.height += 1

    def push_label(self, label: _Label) -> None:
        self.parts.append(b"\x61")
        self.parts.append(label)
        self.height += 1

    def place(self, label: _Label) -> None:
        """A JUMPDEST that the label stands for."""
        label.position = sum(2 if isinstance(part, _Label) else len(part) for part in self.parts)
        self.op(0x5B)

    def finish(self) -> bytes:
        return b"".join(
            (part.position or 0).to_bytes(2, "big") if isinstance(part, _Label) else part for part in self.parts
        )


class Generator:
    """Makes programs of one fork that call the accounts in `addresses`. Everything follows from `chance`."""

    def __init__(self, chance: random.Random, fork: Hardfork, addresses: Sequence[bytes]) -> None:
        self.chance = chance
        self.fork = fork
        self.addresses = tuple(addresses)
        self._pure = [(op, taken) for op, taken, since in _PURE.values() if fork >= since]
        self._seen = [op for op, since in _SEEN.items() if fork >= since]
        self._calls = [op for op, since in _CALLS.items() if fork >= since]

    def program(self, size: int | None = None) -> bytes:
        """A whole program: some statements, and an end."""
        program = Program()
        for _ in range(self.chance.randrange(1, 14) if size is None else size):
            self.statement(program, 2)
        self.end(program)
        code = program.finish()
        return self.mutate(code) if self.chance.random() < 0.15 else code

    # --- values -------------------------------------------------------------------------------------------

    def value(self, program: Program) -> None:
        """One more word on the stack."""
        chance = self.chance
        kind = chance.randrange(14)
        if kind < 4 or not program.height:
            program.push(chance.choice(BOUNDARIES), chance.choice((None, None, None, 32, 3)))
        elif kind == 4:
            program.push(chance.getrandbits(chance.choice((8, 16, 64, 128, 160, 256))))
        elif kind == 5:
            program.op(chance.choice(self._seen), 0, 1)
        elif kind == 6:
            program.push(chance.choice((0, 1, 4, 31, 32, 33, 64, 2**64)))
            program.op(0x35, 1, 1)  # CALLDATALOAD
        elif kind == 7:
            program.push(chance.randrange(4))
            program.op(0x54, 1, 1)  # SLOAD
        elif kind == 8:
            self.offset(program)
            program.op(0x51, 1, 1)  # MLOAD
        elif kind == 9 and self.fork >= Hardfork.CANCUN:
            program.push(chance.randrange(3))
            program.op(0x5C, 1, 1)  # TLOAD
        elif kind == 10 and self.fork >= Hardfork.SHANGHAI:
            program.op(0x5F, 0, 1)  # PUSH0
        elif kind == 11:
            self.account_value(program)
        else:
            depth = chance.randrange(1, min(program.height, 16) + 1)
            program.op(0x7F + depth, 0, 1)  # DUP

    def offset(self, program: Program) -> None:
        """A place in memory, rarely one that nobody can pay for."""
        roll = self.chance.random()
        if roll < 0.93:
            program.push(self.chance.choice((0, 0, 1, 31, 32, 64, 96, 200, 1000, 4096)))
        elif roll < 0.97:
            program.push(self.chance.choice((2**16, 2**20, 2**32, 2**64, 2**255, 2**256 - 1)))
        else:
            program.push(self.chance.randrange(300))
            self.value(program)
            program.push(0xFF)
            program.op(0x16, 2, 1)
            program.op(0x01, 2, 1)

    def length(self, program: Program) -> None:
        program.push(self.chance.choice((0, 0, 1, 4, 31, 32, 33, 64, 100, 4096) if self.chance.random() < 0.96
                                        else (2**32, 2**64, 2**256 - 1)))  # fmt: skip

    def account_value(self, program: Program) -> None:
        program.push(int.from_bytes(self.chance.choice(self.addresses), "big"))
        choices = [0x31, 0x3B]
        if self.fork >= Hardfork.CONSTANTINOPLE:
            choices.append(0x3F)
        program.op(self.chance.choice(choices), 1, 1)

    # --- statements ---------------------------------------------------------------------------------------

    def statement(self, program: Program, depth: int) -> None:
        """Something that leaves the stack at any height it likes, but not below 0 and seldom above 1,000."""
        chance = self.chance
        kinds: list[tuple[int, Callable[[Program, int], None]]] = [
            (30, self._compute),
            (12, self._store_memory),
            (8, self._copy),
            (10, self._store),
            (8, self._shuffle),
            (6, self._hash),
            (4, self._log),
            (8, self._call),
            (3, self._create),
            (3, self._ancestor),
            (2, self._nonsense),
        ]
        if depth:
            kinds += [(7, self._branch), (7, self._loop), (4, self._table), (3, self._skip), (2, self._subroutine)]
        chosen = chance.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])[0]
        chosen(program, depth)
        while program.height > 40:
            program.op(0x50, 1)

    def _compute(self, program: Program, depth: int) -> None:
        for _ in range(self.chance.randrange(1, 6)):
            opcode, taken = self.chance.choice(self._pure)
            while program.height < taken or self.chance.random() < 0.5:
                self.value(program)
                if program.height > 1000:
                    break
            program.op(opcode, taken, 1)

    def _store_memory(self, program: Program, depth: int) -> None:
        self.value(program)
        self.offset(program)
        program.op(self.chance.choice((0x52, 0x52, 0x52, 0x53)), 2)

    def _copy(self, program: Program, depth: int) -> None:
        choices = [0x37, 0x39]
        if self.fork >= Hardfork.BYZANTIUM:
            choices.append(0x3E)
        if self.fork >= Hardfork.CANCUN:
            choices += [0x5E, 0x5E]
        self.length(program)
        if self.chance.random() < 0.8:
            program.push(self.chance.choice((0, 0, 1, 32, 64, 300)))
        else:
            program.push(self.chance.choice(BOUNDARIES))
        self.offset(program)
        if self.chance.random() < 0.15:
            program.push(int.from_bytes(self.chance.choice(self.addresses), "big"))
            program.op(0x3C, 4)
        else:
            program.op(self.chance.choice(choices), 3)

    def _store(self, program: Program, depth: int) -> None:
        self.value(program)
        program.push(self.chance.randrange(4))
        transient = self.fork >= Hardfork.CANCUN and self.chance.random() < 0.3
        program.op(0x5D if transient else 0x55, 2)

    def _shuffle(self, program: Program, depth: int) -> None:
        for _ in range(self.chance.randrange(1, 8)):
            if program.height < 2:
                self.value(program)
                continue
            roll = self.chance.random()
            if roll < 0.4:
                program.op(0x8F + self.chance.randrange(1, min(program.height, 17)))
            elif roll < 0.8:
                program.op(0x7F + self.chance.randrange(1, min(program.height, 16) + 1), 0, 1)
            else:
                program.op(0x50, 1)

    def _hash(self, program: Program, depth: int) -> None:
        self.length(program)
        self.offset(program)
        program.op(0x20, 2, 1)

    def _log(self, program: Program, depth: int) -> None:
        topics = self.chance.randrange(5)
        for _ in range(topics):
            self.value(program)
        self.length(program)
        self.offset(program)
        program.op(0xA0 + topics, 2 + topics)

    def _call(self, program: Program, depth: int) -> None:
        chance = self.chance
        opcode = chance.choice(self._calls)
        for _ in range(2):
            self.length(program)
            self.offset(program)
        if opcode in (0xF1, 0xF2):
            program.push(chance.choice((0, 0, 0, 1, 10**18, 2**255)))
        program.push(int.from_bytes(chance.choice(self.addresses), "big"))
        roll = chance.random()
        if roll < 0.4:
            program.op(0x5A, 0, 1)
        elif roll < 0.9:
            program.push(chance.choice((0, 100, 700, 2_299, 2_300, 2_301, 9_000, 30_000, 100_000)))
        else:
            program.push(chance.choice((2**63, 2**64, 2**256 - 1)))
        program.op(opcode, 7 if opcode in (0xF1, 0xF2) else 6, 1)

    def _create(self, program: Program, depth: int) -> None:
        """Writes creation code into memory and runs it."""
        chance = self.chance
        code = self._creation_code()
        for start in range(0, len(code), 32):
            program.push(int.from_bytes(code[start : start + 32].ljust(32, b"\0"), "big"), 32)
            program.push(start)
            program.op(0x52, 2)
        is_create2 = self.fork >= Hardfork.CONSTANTINOPLE and chance.random() < 0.5
        if is_create2:
            program.push(chance.randrange(2))
        program.push(len(code) if chance.random() < 0.9 else chance.choice((0, 49_152, 49_153, 2**64)))
        program.push(0)
        program.push(chance.choice((0, 0, 1, 10**17, 2**200)))
        program.op(0xF5 if is_create2 else 0xF0, 4 if is_create2 else 3, 1)
        if chance.random() < 0.5:
            # Call what came out of it.
            for _ in range(4):
                program.push(0)
            program.push(0)
            program.op(0x85, 0, 1)  # the address
            program.op(0x5A, 0, 1)
            program.op(0xF1, 7, 1)

    def _creation_code(self) -> bytes:
        chance = self.chance
        program = Program()
        for _ in range(chance.randrange(3)):
            self.statement(program, 0)
        roll = chance.random()
        if roll < 0.6:
            runtime = Generator(chance, self.fork, self.addresses)
            body = Program()
            for _ in range(chance.randrange(3)):
                runtime.statement(body, 0)
            runtime.end(body)
            tail = body.finish()
            if chance.random() < 0.1:
                tail = b"\xef" + tail
            program.push(len(tail))
            label = _Label()
            program.push_label(label)
            program.push(0)
            program.op(0x39, 3)
            program.push(len(tail) if chance.random() < 0.9 else chance.choice((0, 1, 24_576, 24_577)))
            program.push(0)
            program.op(0xF3)
            label.position = sum(2 if isinstance(part, _Label) else len(part) for part in program.parts)
            program.parts.append(tail)
        else:
            self.end(program)
        return program.finish()

    def _ancestor(self, program: Program, depth: int) -> None:
        if self.chance.random() < 0.5:
            program.op(0x43, 0, 1)  # NUMBER
            program.push(self.chance.choice((0, 1, 2, 256, 257)))
            program.op(0x90)
            program.op(0x03, 2, 1)
        else:
            self.value(program)
        if self.chance.random() < 0.3 and self.fork >= Hardfork.CANCUN:
            program.op(0x49, 1, 1)  # BLOBHASH
        else:
            program.op(0x40, 1, 1)  # BLOCKHASH

    def _nonsense(self, program: Program, depth: int) -> None:
        roll = self.chance.random()
        if roll < 0.3:
            program.parts.append(bytes([self.chance.randrange(256)]))
        elif roll < 0.5:
            program.op(0x7F + self.chance.randrange(1, 17), 0, 1)
        elif roll < 0.7:
            program.op(0x8F + self.chance.randrange(1, 17))
        else:
            program.op(0x5B)

    def _condition(self, program: Program) -> None:
        roll = self.chance.random()
        if roll < 0.25:
            program.op(0x5A, 0, 1)  # GAS
            program.push(self.chance.choice((1_000, 5_000, 20_000, 50_000, 100_000)))
            program.op(self.chance.choice((0x10, 0x11)), 2, 1)
        elif roll < 0.35:
            program.op(0x5A, 0, 1)
            program.push(1)
            program.op(0x16, 2, 1)
        else:
            self.value(program)
            if self.chance.random() < 0.5:
                program.op(0x15, 1, 1)

    def _branch(self, program: Program, depth: int) -> None:
        end, otherwise = _Label(), _Label()
        self._condition(program)
        program.push_label(otherwise)
        program.op(0x57, 2)
        height = program.height
        self.statement(program, depth - 1)
        _level(program, height)
        if self.chance.random() < 0.5:
            program.push_label(end)
            program.op(0x56, 1)
            program.place(otherwise)
            program.height = height
            self.statement(program, depth - 1)
            _level(program, height)
            program.place(end)
        else:
            program.place(otherwise)

    def _loop(self, program: Program, depth: int) -> None:
        again, out = _Label(), _Label()
        program.push(self.chance.choice((1, 2, 3, 10, 50, 200)))
        program.place(again)
        height = program.height
        for _ in range(self.chance.randrange(1, 3)):
            self.statement(program, depth - 1)
        if self.chance.random() < 0.05:
            program.op(0x80, 0, 0)  # the stack grows with every round
            program.height = height
        else:
            _level(program, height)
        if self.chance.random() < 0.2:
            self._condition(program)
            program.push_label(out)
            program.op(0x57, 2)
        program.push(1)
        program.op(0x90)
        program.op(0x03, 2, 1)
        program.op(0x80, 0, 1)
        program.push_label(again)
        program.op(0x57, 2)
        program.place(out)
        program.op(0x50, 1)

    def _table(self, program: Program, depth: int) -> None:
        """A computed jump into blocks of equal size."""
        ways = self.chance.choice((2, 4))
        base, end = _Label(), _Label()
        self.value(program)
        program.push(ways - 1)
        program.op(0x16, 2, 1)
        program.push(8)
        program.op(0x02, 2, 1)
        program.push_label(base)
        program.op(0x01, 2, 1)
        program.op(0x56, 1)
        for number in range(ways):
            if number == 0:
                program.place(base)
            else:
                program.op(0x5B)
            program.push(self.chance.randrange(256), 1)
            program.push_label(end)
            program.op(0x56, 1)
            program.op(0x5B)
            program.height -= 1
        program.height += 1
        program.place(end)

    def _skip(self, program: Program, depth: int) -> None:
        """A jump over bytes that never run, sometimes a PUSH that swallows a JUMPDEST."""
        end = _Label()
        program.push_label(end)
        program.op(0x56, 1)
        if self.chance.random() < 0.3:
            program.parts.append(bytes([0x60 + self.chance.randrange(2)]))
        program.parts.append(self.chance.randbytes(self.chance.randrange(4)))
        program.place(end)

    def _subroutine(self, program: Program, depth: int) -> None:
        """A body that is entered twice and jumps back to where its caller said."""
        body, first, second, end = _Label(), _Label(), _Label(), _Label()
        program.push_label(first)
        program.push_label(body)
        program.op(0x56, 1)
        program.place(first)
        program.height -= 1
        program.push_label(second)
        program.push_label(body)
        program.op(0x56, 1)
        program.place(body)
        height = program.height
        self.statement(program, depth - 1)
        _level(program, height)
        program.op(0x56, 1)
        program.place(second)
        program.push_label(end)
        program.op(0x56, 1)
        program.place(end)

    def end(self, program: Program) -> None:
        """A last statement that leaves."""
        roll = self.chance.random()
        if roll < 0.5:
            self.length(program)
            self.offset(program)
            program.op(0xF3 if roll < 0.4 or self.fork < Hardfork.BYZANTIUM else 0xFD)
        elif roll < 0.6:
            if program.height and self.chance.random() < 0.5:
                pass  # whatever is on the stack
            else:
                program.push(int.from_bytes(self.chance.choice(self.addresses), "big"))
            program.op(0xFF)
        elif roll < 0.7:
            program.op(0x00)
        elif roll < 0.75:
            program.op(0xFE)

    # --- damage -------------------------------------------------------------------------------------------

    def mutate(self, code: bytes, other: bytes = b"") -> bytes:
        """Code with a few bytes changed, cut, repeated, or taken from another program."""
        chance = self.chance
        changed = bytearray(code or b"\0")
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(changed) + 1)
            kind = chance.randrange(7)
            if kind == 0 and place < len(changed):
                changed[place] ^= 1 << chance.randrange(8)
            elif kind == 1 and place < len(changed):
                changed[place] = chance.randrange(256)
            elif kind == 2:
                changed[place:place] = bytes([chance.choice((0x5B, 0x50, 0x80, 0x90, 0x5A, 0x56, 0x57, 0x7F, 0x60))])
            elif kind == 3:
                del changed[place : place + chance.randrange(1, 5)]
            elif kind == 4:
                del changed[place:]  # often inside a PUSH
            elif kind == 5:
                changed[place:place] = changed[place : place + chance.randrange(1, 20)]
            elif other:
                start = chance.randrange(len(other))
                changed[place:place] = other[start : start + chance.randrange(1, 40)]
            if not changed:
                changed = bytearray(b"\0")
        return bytes(changed)


def _level(program: Program, height: int) -> None:
    """Bring the stack back to a height."""
    while program.height > height:
        program.op(0x50, 1)
    while program.height < height:
        program.push(program.height)
