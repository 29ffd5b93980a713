"""The four precompiles of Frontier: ECRECOVER, SHA256, RIPEMD160, IDENTITY (Yellow Paper, appendix E)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from Crypto.Hash import RIPEMD160

from openledger.evm_ext.precompiles.precompile import padded
from openledger.evm_ext.signatures import recover_address

ECRECOVER_GAS = 3_000


def per_word(base: int, word: int) -> Callable[[bytes], int]:
    """A price of `base` and `word` for every begun 32 bytes of input."""
    return lambda data: base + word * ((len(data) + 31) // 32)


sha256_gas = per_word(60, 12)
ripemd160_gas = per_word(600, 120)
identity_gas = per_word(15, 3)


def ecrecover(data: bytes) -> bytes:
    """Input: hash 32 || v 32 || r 32 || s 32. Output: the signer's address in 32 bytes; nothing if there is none."""
    data = padded(data, 128)
    v = int.from_bytes(data[32:64], "big")
    if v not in (27, 28):
        return b""
    r, s = int.from_bytes(data[64:96], "big"), int.from_bytes(data[96:], "big")
    address = recover_address(data[:32], v - 27, r, s)
    return b"" if address is None else address.rjust(32, b"\0")


def sha256(data: bytes) -> bytes:
    """SHA-256 of the input."""
    return hashlib.sha256(data).digest()


def _openssl_has_ripemd160() -> bool:
    try:
        hashlib.new("ripemd160", usedforsecurity=False)
    except ValueError:  # OpenSSL 3 without its legacy provider
        return False
    return True


_IN_OPENSSL = _openssl_has_ripemd160()


def ripemd160(data: bytes) -> bytes:
    """RIPEMD-160 of the input, in 32 bytes."""
    digest = hashlib.new("ripemd160", data, usedforsecurity=False) if _IN_OPENSSL else RIPEMD160.new(data)
    return digest.digest().rjust(32, b"\0")


def identity(data: bytes) -> bytes:
    """The input."""
    return data
