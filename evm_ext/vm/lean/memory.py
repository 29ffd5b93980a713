"""Memory: what growing costs, and copies into it (Yellow Paper, appendix H)."""

from __future__ import annotations

from eth.exceptions import OutOfGas

GAS_COPY_WORD = 3


def grow(memory: bytearray, end: int, gas: int) -> int:
    """Extend memory to cover `end` bytes, which is more than it has; gives the gas that is left.

    Raises OutOfGas before anything is allocated."""
    have = len(memory) >> 5
    want = (end + 31) >> 5
    gas -= 3 * (want - have) + (want * want >> 9) - (have * have >> 9)
    if gas < 0:
        raise OutOfGas(f"out of gas: memory of {want} words, {-gas} missing")
    memory.extend(bytes((want - have) << 5))
    return gas


def copy_into(memory: bytearray, start: int, source: bytes, position: int, size: int, gas: int) -> int:
    """`size` bytes of `source` from `position`, zeros where it ends; gives the gas that is left."""
    if not size:
        return gas
    if len(memory) < start + size:
        gas = grow(memory, start + size, gas)
    gas -= GAS_COPY_WORD * ((size + 31) >> 5)
    if gas < 0:
        raise OutOfGas(f"out of gas: copy of {size} bytes, {-gas} missing")
    memory[start : start + size] = source[position : position + size].ljust(size, b"\0")
    return gas


def copy_inside(memory: bytearray, destination: int, source: int, size: int, gas: int) -> int:
    """MCOPY (EIP-5656); gives the gas that is left."""
    if not size:
        return gas
    end = max(destination, source) + size
    if len(memory) < end:
        gas = grow(memory, end, gas)
    gas -= GAS_COPY_WORD * ((size + 31) >> 5)
    if gas < 0:
        raise OutOfGas(f"out of gas: copy of {size} bytes, {-gas} missing")
    memory[destination : destination + size] = memory[source : source + size]
    return gas
