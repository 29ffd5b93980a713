"""MODEXP at 0x05: base ** exponent % modulus of any length (EIP-198), and what it costs in each fork.

Input: three 32-byte lengths, of base, exponent and modulus, then these three. Input that ends early continues
with zeros. Output: the result in as many bytes as the modulus has. Prices: EIP-198 (Byzantium), EIP-2565 (Berlin),
EIP-7883 with EIP-7823's limit of 1024 bytes for each number (Osaka).

Every price bounds the work before a number is read: lengths that no gas can pay for are never allocated.
"""

from __future__ import annotations

import gmpy2

from openledger.evm_ext.precompiles.precompile import PrecompileFailed, padded

OSAKA_MAX_BYTES = 1_024
_HEADER_BYTES = 96
_WORD_BYTES = 32


def _lengths(data: bytes) -> tuple[int, int, int]:
    header = padded(data, _HEADER_BYTES)
    return (
        int.from_bytes(header[:32], "big"),
        int.from_bytes(header[32:64], "big"),
        int.from_bytes(header[64:], "big"),
    )


def _slice(data: bytes, start: int, size: int) -> bytes:
    return data[start : start + size].ljust(size, b"\0")


def _iterations(data: bytes, base_length: int, exponent_length: int, per_byte: int) -> int:
    """How often the exponentiation multiplies, as the prices count it: by the exponent's first 32 bytes, and
    `per_byte` for each byte that follows them."""
    head_length = min(exponent_length, _WORD_BYTES)
    head = int.from_bytes(_slice(data, _HEADER_BYTES + base_length, head_length), "big")
    return per_byte * (exponent_length - head_length) + max(head.bit_length() - 1, 0)


def gas_eip198(data: bytes) -> int:
    """Byzantium to Muir Glacier."""
    base_length, exponent_length, modulus_length = _lengths(data)
    longest = max(base_length, modulus_length)
    if longest <= 64:
        complexity = longest**2
    elif longest <= 1_024:
        complexity = longest**2 // 4 + 96 * longest - 3_072
    else:
        complexity = longest**2 // 16 + 480 * longest - 199_680
    return complexity * max(_iterations(data, base_length, exponent_length, 8), 1) // 20


def gas_eip2565(data: bytes) -> int:
    """Berlin to Prague."""
    base_length, exponent_length, modulus_length = _lengths(data)
    words = (max(base_length, modulus_length) + 7) // 8
    return max(200, words**2 * max(_iterations(data, base_length, exponent_length, 8), 1) // 3)


def gas_eip7883(data: bytes) -> int:
    """Osaka. Raises PrecompileFailed for a number longer than EIP-7823 allows."""
    base_length, exponent_length, modulus_length = lengths = _lengths(data)
    if max(lengths) > OSAKA_MAX_BYTES:
        raise PrecompileFailed(f"MODEXP: a number of {max(lengths)} bytes, at most {OSAKA_MAX_BYTES} are allowed")
    longest = max(base_length, modulus_length)
    complexity = 16 if longest <= 32 else 2 * ((longest + 7) // 8) ** 2
    return max(500, complexity * max(_iterations(data, base_length, exponent_length, 16), 1))


def modexp(data: bytes) -> bytes:
    """The result; zero for a modulus of zero. The gas must have been charged before."""
    base_length, exponent_length, modulus_length = _lengths(data)
    if modulus_length == 0:
        return b""
    exponent_start = _HEADER_BYTES + base_length
    modulus_start = exponent_start + exponent_length
    modulus = int.from_bytes(_slice(data, modulus_start, modulus_length), "big")
    if modulus == 0:
        return bytes(modulus_length)
    base = int.from_bytes(_slice(data, _HEADER_BYTES, base_length), "big")
    exponent = int.from_bytes(_slice(data, exponent_start, exponent_length), "big")
    return int(gmpy2.powmod(base, exponent, modulus)).to_bytes(modulus_length, "big")
