"""P256VERIFY at 0x100: an ECDSA signature over secp256r1 (RIP-7212 on the OP-Stack, EIP-7951 on Ethereum).

Input is hash 32 || r 32 || s 32 || x 32 || y 32. Output is 1 as 32 bytes if the signature is valid, nothing
otherwise, also for input of any other length: the precompile never fails, except for want of gas.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

P256VERIFY_GAS_OP: Final = 3_450
P256VERIFY_GAS_OSAKA: Final = 6_900
INPUT_BYTES: Final = 160

_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_CURVE = ec.SECP256R1()
_ALGORITHM = ec.ECDSA(utils.Prehashed(hashes.SHA256()))


def p256_verify(data: bytes) -> bytes:
    """The precompile's output."""
    return (1).to_bytes(32, "big") if is_valid(data) else b""


def is_valid(data: bytes) -> bool:
    """Whether the 160 bytes hold a valid signature."""
    if len(data) != INPUT_BYTES:
        return False
    digest = data[:32]
    r, s, x, y = (int.from_bytes(data[start : start + 32], "big") for start in range(32, INPUT_BYTES, 32))
    if not (0 < r < _N and 0 < s < _N and x < _P and y < _P):
        return False
    try:
        key = ec.EllipticCurvePublicNumbers(x, y, _CURVE).public_key()
        key.verify(utils.encode_dss_signature(r, s), digest, _ALGORITHM)
    except (ValueError, InvalidSignature):
        return False  # not a point of the curve, or not a signature by this key
    return True
