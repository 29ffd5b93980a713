"""POINT_EVALUATION at 0x0a: a KZG proof that a blob's polynomial has a value at a point (EIP-4844).

Input, 192 bytes: versioned hash 32 || z 32 || y 32 || commitment 48 || proof 48. Output: the number of field
elements in a blob and the modulus of the scalars.

Checking one proof needs a single point of the mainnet trusted setup, tau times the generator of G2, so no setup
file is loaded: e(C - y G1, G2) = e(proof, tau G2 - z G2).
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, Final

from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

from openledger.evm_ext.precompiles.precompile import PrecompileFailed

POINT_EVALUATION_GAS: Final = 50_000
INPUT_BYTES: Final = 192
FIELD_ELEMENTS_PER_BLOB: Final = 4_096
SCALAR_MODULUS: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
VERSION: Final = b"\x01"

# The second of the `g2_monomial` points of the KZG ceremony's output, which is [tau]_2.
_TAU_G2 = bytes.fromhex(
    "b5bfd7dd8cdeb128843bc287230af38926187075cbfbefa81009a2ce615ac53d2914e5870cb452d2afaaab24f3499f72"
    "185cbfee53492714734429b7b38608e23926c911cceceac9a36851477ba4c60b087041de621000edc98edada20c1def2"
)
_INFINITY = b"\xc0" + bytes(47)
_OUTPUT = FIELD_ELEMENTS_PER_BLOB.to_bytes(32, "big") + SCALAR_MODULUS.to_bytes(32, "big")


@cache
def _tau_g2() -> Any:
    return G2Point.from_compressed_bytes(_TAU_G2)


def _scalar(encoded: bytes, name: str) -> Any:
    value = int.from_bytes(encoded, "big")
    if value >= SCALAR_MODULUS:
        raise PrecompileFailed(f"POINT_EVALUATION: {name} {value} is not below the scalars' modulus")
    return Scalar.from_be_bytes(encoded)


def _point(encoded: bytes, name: str) -> Any:
    # The library takes any bytes after the mark of infinity; the rule is the one encoding.
    if encoded[0] & 0x40 and encoded != _INFINITY:
        raise PrecompileFailed(f"POINT_EVALUATION: the {name} is not the one encoding of infinity")
    try:
        return G1Point.from_compressed_bytes(encoded)
    except ValueError as problem:
        raise PrecompileFailed(f"POINT_EVALUATION: the {name} is no point of G1: {problem}") from None


def point_evaluation(data: bytes) -> bytes:
    """The output above. Raises PrecompileFailed for a proof that does not hold, and for malformed input."""
    if len(data) != INPUT_BYTES:
        raise PrecompileFailed(f"POINT_EVALUATION: {len(data)} bytes of input, {INPUT_BYTES} are needed")
    versioned_hash, commitment = data[:32], data[96:144]
    if versioned_hash != VERSION + hashlib.sha256(commitment).digest()[1:]:
        raise PrecompileFailed("POINT_EVALUATION: the versioned hash is not the commitment's")
    z, y = _scalar(data[32:64], "z"), _scalar(data[64:96], "y")
    committed, proof = _point(commitment, "commitment"), _point(data[144:], "proof")
    g1, g2 = G1Point(), G2Point()
    if not GT.pairing_check([committed - g1 * y, -proof], [g2, _tau_g2() - g2 * z]):
        raise PrecompileFailed("POINT_EVALUATION: the proof does not hold")
    return _OUTPUT
