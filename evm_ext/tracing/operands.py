"""What CALL*, CREATE*, LOG* and SELFDESTRUCT take from the stack, read before they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from openledger.evm_ext.encoding import encode
from openledger.evm_ext.tracing import opcodes
from openledger.genesis.hashing import keccak256

_ADDRESS_MASK = (1 << 160) - 1


@dataclass(frozen=True, slots=True)
class Operands:
    """`target`: the account called, or who inherits. `value`: wei, for SELFDESTRUCT the balance. `nonce`: the
    creator's, before. `offset`, `size`: of the input, or of the log's data, in memory."""

    target: bytes = b""
    value: int = 0
    offset: int = 0
    size: int = 0
    topics: tuple[bytes, ...] = ()
    salt: int | None = None
    nonce: int = 0

    def input(self, computation: Any) -> bytes:
        """The bytes in memory, once memory reaches so far."""
        return memory_bytes(computation, self.offset, self.size)

    def created_address(self, computation: Any) -> bytes:
        """Where a creation goes (EIP-1014 where there is a salt)."""
        creator = computation.msg.storage_address
        if self.salt is None:
            return keccak256(encode((creator, self.nonce)))[12:]
        return created_address_with_salt(creator, self.salt, self.input(computation))


def created_address_with_salt(creator: bytes, salt: int, init_code: bytes) -> bytes:
    """EIP-1014."""
    return keccak256(b"\xff" + creator + salt.to_bytes(32, "big") + keccak256(init_code))[12:]


def peek(computation: Any, place: int) -> int:
    """A stack item, 0 the top; py-evm keeps some as bytes."""
    value = computation._stack.values[-1 - place]
    return value if isinstance(value, int) else int.from_bytes(value, "big")


def peek_address(computation: Any, place: int) -> bytes:
    return (peek(computation, place) & _ADDRESS_MASK).to_bytes(20, "big")


def memory_bytes(computation: Any, offset: int, size: int) -> bytes:
    """Memory, followed by zeros as far as it is not there."""
    if not size:
        return b""
    have = max(0, min(size, len(computation._memory) - offset))
    read = bytes(computation.memory_read_bytes(offset, have)) if have else b""
    return read.ljust(size, b"\x00")


def operands_of(computation: Any, opcode: int) -> Operands:
    """The stack must be high enough."""
    if opcode in opcodes.LOGS:
        return Operands(
            offset=peek(computation, 0),
            size=peek(computation, 1),
            topics=tuple(peek(computation, 2 + place).to_bytes(32, "big") for place in range(opcode - 0xA0)),
        )
    if opcode == opcodes.SELFDESTRUCT:
        balance = computation.state.get_balance(computation.msg.storage_address)
        return Operands(target=peek_address(computation, 0), value=balance)
    if opcode in opcodes.CREATES:
        return Operands(
            value=peek(computation, 0),
            offset=peek(computation, 1),
            size=peek(computation, 2),
            salt=peek(computation, 3) if opcode == opcodes.CREATE2 else None,
            nonce=computation.state.get_nonce(computation.msg.storage_address),
        )
    has_value = opcode in (opcodes.CALL, opcodes.CALLCODE)
    first = 3 if has_value else 2
    return Operands(
        target=peek_address(computation, 1),
        value=peek(computation, 2) if has_value else computation.msg.value,
        offset=peek(computation, first),
        size=peek(computation, first + 1),
    )
