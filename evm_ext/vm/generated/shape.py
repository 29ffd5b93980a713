"""What can be seen of code without following it."""

from __future__ import annotations

_SCANNED_OPCODES = 24
_ENDS = frozenset({0x00, 0xF3, 0xFF})


def only_fails(code: bytes, position: int, destinations: frozenset[int]) -> bool:
    """Whether what follows is soon a REVERT or an INVALID: a way that is hardly ever taken."""
    pushed = -1
    for _ in range(_SCANNED_OPCODES):
        opcode = code[position] if position < len(code) else 0
        if opcode in (0xFD, 0xFE):
            return True
        if opcode == 0x56 and pushed in destinations:
            position = pushed
        elif opcode in (0x56, 0x57) or opcode in _ENDS:
            return False
        else:
            size = opcode - 0x5F if 0x5F <= opcode <= 0x7F else 0
            pushed = int.from_bytes(code[position + 1 : position + 1 + size], "big") if size else -1
            position += 1 + size
    return False


def backward_targets(code: bytes, destinations: frozenset[int]) -> frozenset[int]:
    """Destinations that are pushed further down: where loops may begin."""
    found = set()
    position = 0
    while position < len(code):
        size = code[position] - 0x5F if 0x60 <= code[position] <= 0x7F else 0
        if 0 < size <= 4:
            pushed = int.from_bytes(code[position + 1 : position + 1 + size], "big")
            if pushed <= position and pushed in destinations:
                found.add(pushed)
        position += 1 + size
    return frozenset(found)
