"""secp256k1 signatures by libsecp256k1: recovery of an address, signing of a digest.

Goes to the C functions below coincurve's objects: recovery is called once per transaction, and building
the objects costs more than the curve arithmetic. Recovery releases the GIL.
"""

from __future__ import annotations

import threading

from coincurve import PrivateKey
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

from openledger.genesis.hashing import keccak256, keccak256_of_short

SECP256K1_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SECP256K1_HALF_N = SECP256K1_N // 2

_UNCOMPRESSED = 2  # SECP256K1_EC_UNCOMPRESSED
_CONTEXT = GLOBAL_CONTEXT.ctx
_SERIALIZED_BYTES = 65


class _Buffers(threading.local):
    """What libsecp256k1 writes into: each thread's own, since it runs without the GIL."""

    def __init__(self) -> None:
        self.signature = ffi.new("secp256k1_ecdsa_recoverable_signature *")
        self.public_key = ffi.new("secp256k1_pubkey *")
        self.serialized = ffi.new("unsigned char[]", _SERIALIZED_BYTES)
        self.length = ffi.new("size_t *", _SERIALIZED_BYTES)
        self.all = (self.signature, self.public_key, self.serialized, self.length, ffi.buffer(self.serialized))


_buffers = _Buffers()


def recover_address(digest: bytes, y_parity: int, r: int, s: int) -> bytes | None:
    """The 20-byte address whose key signed the 32-byte `digest`, None if there is none.

    A high s is accepted here (the ecrecover precompile does); callers that must not, check it first."""
    if not (0 < r < SECP256K1_N and 0 < s < SECP256K1_N and 0 <= y_parity <= 1):
        return None
    context = _CONTEXT
    signature, public_key, serialized, length, written = _buffers.all
    compact = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    if not lib.secp256k1_ecdsa_recoverable_signature_parse_compact(context, signature, compact, y_parity):
        return None
    if not lib.secp256k1_ecdsa_recover(context, public_key, signature, digest):
        return None
    length[0] = _SERIALIZED_BYTES
    lib.secp256k1_ec_pubkey_serialize(context, serialized, length, public_key, _UNCOMPRESSED)
    return keccak256_of_short(written[1:])[12:]


def sign_digest(digest: bytes, private_key: bytes) -> tuple[int, int, int]:
    """(y_parity, r, s) with s in the lower half, deterministic (RFC 6979). Raises ValueError for a bad key."""
    signature = PrivateKey(private_key).sign_recoverable(digest, hasher=None)
    return signature[64], int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")


def address_of(private_key: bytes) -> bytes:
    """The 20-byte address of a 32-byte private key."""
    return keccak256(PrivateKey(private_key).public_key.format(compressed=False)[1:])[12:]
