"""Arithmetic of 256-bit words that is more than one expression (Yellow Paper, appendix H)."""

from __future__ import annotations

WORD = (1 << 256) - 1
SIGN = 1 << 255
MODULUS = 1 << 256


def signed_divide(numerator: int, denominator: int) -> int:
    """SDIV: towards zero; by zero gives zero."""
    if not denominator:
        return 0
    if numerator >= SIGN:
        numerator -= MODULUS
    if denominator >= SIGN:
        denominator -= MODULUS
    quotient = abs(numerator) // abs(denominator)
    return (-quotient if (numerator < 0) != (denominator < 0) else quotient) & WORD


def signed_remainder(value: int, modulus: int) -> int:
    """SMOD: the sign is the value's; by zero gives zero."""
    if not modulus:
        return 0
    if value >= SIGN:
        value -= MODULUS
    if modulus >= SIGN:
        modulus -= MODULUS
    remainder = abs(value) % abs(modulus)
    return (-remainder if value < 0 else remainder) & WORD


def sign_extend(size: int, value: int) -> int:
    """SIGNEXTEND: the value's lowest `size` + 1 bytes as a signed number."""
    if size > 30:
        return value
    bit = 1 << (8 * size + 7)
    return value | (WORD ^ (bit - 1)) if value & bit else value & (bit - 1)


def shift_right_signed(shift: int, value: int) -> int:
    """SAR."""
    if value < SIGN:
        return value >> shift if shift < 256 else 0
    return ((value - MODULUS) >> shift) & WORD if shift < 256 else WORD


def byte_of(position: int, value: int) -> int:
    """BYTE: counted from the most significant."""
    return (value >> (248 - 8 * position)) & 255 if position < 32 else 0
