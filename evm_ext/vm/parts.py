"""What a computation is made of: its stack, memory, gas and code, lean, with the methods py-evm's opcodes call.

The stack holds integers only (py-evm's holds bytes too), and a frame's memory is one bytearray for its whole life:
the lean opcodes and generated code rely on both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache

from eth.exceptions import FullStack, InsufficientStack, OutOfGas

STACK_LIMIT = 1024


class GasMeter:
    """py-evm's gas meter without its logging."""

    __slots__ = ("gas_refunded", "gas_remaining", "start_gas")

    def __init__(self, start_gas: int) -> None:
        self.start_gas = start_gas
        self.gas_remaining = start_gas
        self.gas_refunded = 0

    def consume_gas(self, amount: int, reason: str) -> None:
        if amount > self.gas_remaining:
            raise OutOfGas(f"out of gas: {reason} needs {amount}, {self.gas_remaining} remain")
        self.gas_remaining -= amount

    def return_gas(self, amount: int) -> None:
        self.gas_remaining += amount

    def refund_gas(self, amount: int) -> None:
        self.gas_refunded += amount


class Stack:
    """Integers below 2**256, the top last; at most 1024."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: list[int] = []

    def push_int(self, value: int) -> None:
        if len(self.values) >= STACK_LIMIT:
            raise FullStack(f"stack limit of {STACK_LIMIT} reached")
        self.values.append(value)

    def push_bytes(self, value: bytes) -> None:
        self.push_int(int.from_bytes(value, "big"))

    def pop1_int(self) -> int:
        if not self.values:
            raise InsufficientStack("wanted 1 stack item, had none")
        return self.values.pop()

    pop1_any = pop1_int

    def pop1_bytes(self) -> bytes:
        value = self.pop1_int()
        return value.to_bytes((value.bit_length() + 7) // 8 or 1, "big")

    def pop_ints(self, count: int) -> tuple[int, ...]:
        values = self.values
        if len(values) < count:
            raise InsufficientStack(f"wanted {count} stack items, had {len(values)}")
        taken = values[: -count - 1 : -1]
        del values[-count:]
        return tuple(taken)

    pop_any = pop_ints

    def pop_bytes(self, count: int) -> tuple[bytes, ...]:
        return tuple(value.to_bytes((value.bit_length() + 7) // 8 or 1, "big") for value in self.pop_ints(count))

    def swap(self, position: int) -> None:
        values = self.values
        if len(values) <= position:
            raise InsufficientStack(f"SWAP{position} on a stack of {len(values)}")
        values[-1], values[-position - 1] = values[-position - 1], values[-1]

    def dup(self, position: int) -> None:
        if len(self.values) < position:
            raise InsufficientStack(f"DUP{position} on a stack of {len(self.values)}")
        self.push_int(self.values[-position])


class Memory:
    """One bytearray, whole words long, that only grows."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __len__(self) -> int:
        return len(self._bytes)

    def extend(self, start_position: int, size: int) -> None:
        if size:
            missing = ((start_position + size + 31) & ~31) - len(self._bytes)
            if missing > 0:
                self._bytes.extend(bytes(missing))

    def write(self, start_position: int, size: int, value: bytes) -> None:
        if size:
            if len(value) != size or start_position + size > len(self._bytes):
                raise ValueError(f"{len(value)} bytes do not fit {size} at {start_position} of {len(self._bytes)}")
            self._bytes[start_position : start_position + size] = value

    def read_bytes(self, start_position: int, size: int) -> bytes:
        return bytes(self._bytes[start_position : start_position + size])

    def copy(self, destination: int, source: int, length: int) -> None:
        self._bytes[destination : destination + length] = self._bytes[source : source + length]


def push_data(code: bytes) -> bytes:
    """1 at every position that is data of a PUSH, 0 elsewhere."""
    marks = bytearray(len(code) + 32)
    position = 0
    length = len(code)
    while position < length:
        size = code[position] - 0x5F
        if 0 < size <= 32:
            marks[position + 1 : position + 1 + size] = b"\x01" * size
            position += size
        position += 1
    return bytes(marks[:length])


_AS_DIGITS = bytes.maketrans(b"\x00\x01", b"01")


@lru_cache(maxsize=4_096)
def _push_data_bits(code: bytes) -> bytes:
    """`push_data` with a bit for each position. With the codes that are its keys, 108 MiB are kept at most."""
    digits = push_data(code).translate(_AS_DIGITS)
    digits += b"0" * (-len(digits) % 8)
    return int(digits, 2).to_bytes(len(digits) // 8, "big")


class Code:
    """A frame's code and its program counter. Jump checks are looked up: code is analysed once, not once per call."""

    __slots__ = ("_analysis", "_raw_code_bytes", "program_counter")

    def __init__(self, code: bytes) -> None:
        self.program_counter = 0
        self._raw_code_bytes = code
        self._analysis: bytes | None = None

    def __len__(self) -> int:
        return len(self._raw_code_bytes)

    def read(self, size: int) -> bytes:
        start = self.program_counter
        self.program_counter = start + size
        return self._raw_code_bytes[start : start + size]

    def peek(self) -> int:
        position = self.program_counter
        return self._raw_code_bytes[position] if position < len(self._raw_code_bytes) else 0

    @contextlib.contextmanager
    def seek(self, program_counter: int) -> Iterator[Code]:
        anchor = self.program_counter
        self.program_counter = program_counter
        try:
            yield self
        finally:
            self.program_counter = anchor

    def is_valid_opcode(self, position: int) -> bool:
        if position >= len(self._raw_code_bytes):
            return False
        if self._analysis is None:
            self._analysis = _push_data_bits(self._raw_code_bytes)
        return not self._analysis[position >> 3] >> (7 - (position & 7)) & 1
