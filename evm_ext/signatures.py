"""secp256k1 signatures by libsecp256k1: recovery of an address, signing of a digest.

Goes to the C functions below coincurve's objects: recovery is called once per transaction, and building
the objects costs more than the curve arithmetic. Recovery releases the GIL.
"""

from __future__ import annotations

from coincurve import PrivateKey
from coincurve._libsecp256k1 import ffi, lib
from coincurve.context import GLOBAL_CONTEXT

from openledger.genesis.hashing import keccak256

SECP256K1_N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
SECP256K1_HALF_N = SECP256K1_N // 2

_UNCOMPRESSED = 2  # SECP256K1_EC_UNCOMPRESSED
_CONTEXT = GLOBAL_CONTEXT.ctx
_SIGNATURE = ffi.typeof("secp256k1_ecdsa_recoverable_signature *")
_PUBLIC_KEY = ffi.typeof("secp256k1_pubkey *")
_SERIALIZED = ffi.typeof("unsigned char[65]")
_LENGTH = ffi.typeof("size_t *")


def recover_address(digest: bytes, y_parity: int, r: int, s: int) -> bytes | None:
    """The 20-byte address whose key signed the 32-byte `digest`, None if there is none.

    A high s is accepted here (the ecrecover precompile does); callers that must not, check it first."""
    if not (0 < r < SECP256K1_N and 0 < s < SECP256K1_N and 0 <= y_parity <= 1):
        return None
    context = _CONTEXT
    signature = ffi.new(_SIGNATURE)
    compact = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    if not lib.secp256k1_ecdsa_recoverable_signature_parse_compact(context, signature, compact, y_parity):
        return None
    public_key = ffi.new(_PUBLIC_KEY)
    if not lib.secp256k1_ecdsa_recover(context, public_key, signature, digest):
        return None
    serialized = ffi.new(_SERIALIZED)
    length = ffi.new(_LENGTH, 65)
    lib.secp256k1_ec_pubkey_serialize(context, serialized, length, public_key, _UNCOMPRESSED)
    return keccak256(ffi.buffer(serialized)[1:])[12:]


def sign_digest(digest: bytes, private_key: bytes) -> tuple[int, int, int]:
    """(y_parity, r, s) with s in the lower half, deterministic (RFC 6979). Raises ValueError for a bad key."""
    signature = PrivateKey(private_key).sign_recoverable(digest, hasher=None)
    return signature[64], int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")


def address_of(private_key: bytes) -> bytes:
    """The 20-byte address of a 32-byte private key."""
    return keccak256(PrivateKey(private_key).public_key.format(compressed=False)[1:])[12:]
