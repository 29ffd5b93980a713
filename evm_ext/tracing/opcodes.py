"""Names of opcodes as geth prints them, and what each takes from and gives to the stack.

The stack columns are those of the Yellow Paper, appendix H, and of the EIPs that added opcodes later.
"""

from __future__ import annotations

STACK_LIMIT = 1024

# opcode: (name, taken, given)
_TABLE: dict[int, tuple[str, int, int]] = {
    0x00: ("STOP", 0, 0),
    0x01: ("ADD", 2, 1),
    0x02: ("MUL", 2, 1),
    0x03: ("SUB", 2, 1),
    0x04: ("DIV", 2, 1),
    0x05: ("SDIV", 2, 1),
    0x06: ("MOD", 2, 1),
    0x07: ("SMOD", 2, 1),
    0x08: ("ADDMOD", 3, 1),
    0x09: ("MULMOD", 3, 1),
    0x0A: ("EXP", 2, 1),
    0x0B: ("SIGNEXTEND", 2, 1),
    0x10: ("LT", 2, 1),
    0x11: ("GT", 2, 1),
    0x12: ("SLT", 2, 1),
    0x13: ("SGT", 2, 1),
    0x14: ("EQ", 2, 1),
    0x15: ("ISZERO", 1, 1),
    0x16: ("AND", 2, 1),
    0x17: ("OR", 2, 1),
    0x18: ("XOR", 2, 1),
    0x19: ("NOT", 1, 1),
    0x1A: ("BYTE", 2, 1),
    0x1B: ("SHL", 2, 1),
    0x1C: ("SHR", 2, 1),
    0x1D: ("SAR", 2, 1),
    0x1E: ("CLZ", 1, 1),
    0x20: ("KECCAK256", 2, 1),
    0x30: ("ADDRESS", 0, 1),
    0x31: ("BALANCE", 1, 1),
    0x32: ("ORIGIN", 0, 1),
    0x33: ("CALLER", 0, 1),
    0x34: ("CALLVALUE", 0, 1),
    0x35: ("CALLDATALOAD", 1, 1),
    0x36: ("CALLDATASIZE", 0, 1),
    0x37: ("CALLDATACOPY", 3, 0),
    0x38: ("CODESIZE", 0, 1),
    0x39: ("CODECOPY", 3, 0),
    0x3A: ("GASPRICE", 0, 1),
    0x3B: ("EXTCODESIZE", 1, 1),
    0x3C: ("EXTCODECOPY", 4, 0),
    0x3D: ("RETURNDATASIZE", 0, 1),
    0x3E: ("RETURNDATACOPY", 3, 0),
    0x3F: ("EXTCODEHASH", 1, 1),
    0x40: ("BLOCKHASH", 1, 1),
    0x41: ("COINBASE", 0, 1),
    0x42: ("TIMESTAMP", 0, 1),
    0x43: ("NUMBER", 0, 1),
    0x44: ("DIFFICULTY", 0, 1),
    0x45: ("GASLIMIT", 0, 1),
    0x46: ("CHAINID", 0, 1),
    0x47: ("SELFBALANCE", 0, 1),
    0x48: ("BASEFEE", 0, 1),
    0x49: ("BLOBHASH", 1, 1),
    0x4A: ("BLOBBASEFEE", 0, 1),
    0x50: ("POP", 1, 0),
    0x51: ("MLOAD", 1, 1),
    0x52: ("MSTORE", 2, 0),
    0x53: ("MSTORE8", 2, 0),
    0x54: ("SLOAD", 1, 1),
    0x55: ("SSTORE", 2, 0),
    0x56: ("JUMP", 1, 0),
    0x57: ("JUMPI", 2, 0),
    0x58: ("PC", 0, 1),
    0x59: ("MSIZE", 0, 1),
    0x5A: ("GAS", 0, 1),
    0x5B: ("JUMPDEST", 0, 0),
    0x5C: ("TLOAD", 1, 1),
    0x5D: ("TSTORE", 2, 0),
    0x5E: ("MCOPY", 3, 0),
    0x5F: ("PUSH0", 0, 1),
    **{0x5F + size: (f"PUSH{size}", 0, 1) for size in range(1, 33)},
    **{0x7F + depth: (f"DUP{depth}", depth, depth + 1) for depth in range(1, 17)},
    **{0x8F + depth: (f"SWAP{depth}", depth + 1, depth + 1) for depth in range(1, 17)},
    **{0xA0 + topics: (f"LOG{topics}", 2 + topics, 0) for topics in range(5)},
    0xF0: ("CREATE", 3, 1),
    0xF1: ("CALL", 7, 1),
    0xF2: ("CALLCODE", 7, 1),
    0xF3: ("RETURN", 2, 0),
    0xF4: ("DELEGATECALL", 6, 1),
    0xF5: ("CREATE2", 4, 1),
    0xFA: ("STATICCALL", 6, 1),
    0xFD: ("REVERT", 2, 0),
    0xFE: ("INVALID", 0, 0),
    0xFF: ("SELFDESTRUCT", 1, 0),
}

NAMES: tuple[str, ...] = tuple(
    _TABLE[value][0] if value in _TABLE else f"opcode {value:#x} not defined" for value in range(256)
)
TAKEN: tuple[int, ...] = tuple(_TABLE[value][1] if value in _TABLE else 0 for value in range(256))
"""How many words an opcode needs on the stack."""
HIGHEST: tuple[int, ...] = tuple(
    STACK_LIMIT + _TABLE[value][1] - _TABLE[value][2] if value in _TABLE else STACK_LIMIT for value in range(256)
)
"""The highest stack that an opcode may run on."""

SSTORE = 0x55
TSTORE = 0x5D
SLOAD = 0x54
CREATE = 0xF0
CALL = 0xF1
CALLCODE = 0xF2
DELEGATECALL = 0xF4
CREATE2 = 0xF5
STATICCALL = 0xFA
SELFDESTRUCT = 0xFF
CALLS = frozenset({CALL, CALLCODE, DELEGATECALL, STATICCALL})
CREATES = frozenset({CREATE, CREATE2})
LOGS = frozenset(range(0xA0, 0xA5))

# opcode: pairs of stack places (from the top, 0 first) of an offset in memory and a size; None is one word.
MEMORY_OPERANDS: dict[int, tuple[tuple[int, int | None], ...]] = {
    0x20: ((0, 1),),
    0x37: ((0, 2),),
    0x39: ((0, 2),),
    0x3C: ((1, 3),),
    0x3E: ((0, 2),),
    0x51: ((0, None),),
    0x52: ((0, None),),
    0x53: ((0, None),),
    0x5E: ((0, 2), (1, 2)),
    **dict.fromkeys(range(160, 165), ((0, 1),)),
    0xF0: ((1, 2),),
    0xF1: ((3, 4), (5, 6)),
    0xF2: ((3, 4), (5, 6)),
    0xF3: ((0, 1),),
    0xF4: ((2, 3), (4, 5)),
    0xF5: ((1, 2),),
    0xFA: ((2, 3), (4, 5)),
    0xFD: ((0, 1),),
}
