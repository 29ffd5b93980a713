"""EigenDA's attestation: BLS signatures on BN254 over a batch header's hash, aggregated over the operators.

Signatures are in G1 (σ = sk·H), public keys in both groups; e(σ, G₂) = e(H, Σ public keys of the signers).
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from openledger.genesis.hashing import keccak256
from openledger.rollup.da import curve
from openledger.rollup.da.curve import FIELD_MODULUS, GROUP_ORDER, G1Point, G2Point


def hash_to_g1(digest: bytes) -> G1Point:
    """Try and increment from `digest` mod p; y is the principal root (core/attestation.go, BN254.sol)."""
    x = int.from_bytes(digest, "big") % FIELD_MODULUS
    while True:
        beta = (x * x * x + 3) % FIELD_MODULUS
        y = pow(beta, (FIELD_MODULUS + 1) // 4, FIELD_MODULUS)
        if y * y % FIELD_MODULUS == beta:
            return G1Point(x, y)
        x = (x + 1) % FIELD_MODULUS


@dataclass(frozen=True)
class OperatorKey:
    """An operator's BLS key."""

    secret: int

    @classmethod
    def generate(cls) -> "OperatorKey":
        """A fresh key from the system's randomness."""
        return cls(secrets.randbelow(GROUP_ORDER - 1) + 1)

    @property
    def public_g1(self) -> G1Point:
        """sk·G₁; summed on chain into the quorums' aggregate keys."""
        return curve.g1_to_integers(curve.g1_generator() * self.secret)

    @property
    def public_g2(self) -> G2Point:
        """sk·G₂; the certificate carries the sum over the signers."""
        return curve.g2_to_integers(curve.g2_generator() * self.secret)

    @property
    def operator_id(self) -> bytes:
        """keccak256(x ‖ y) of the G1 public key."""
        key = self.public_g1
        return keccak256(key.x.to_bytes(32, "big") + key.y.to_bytes(32, "big"))

    def sign(self, digest: bytes) -> G1Point:
        """The signature of a 32-byte digest."""
        return curve.g1_to_integers(curve.g1_from_integers(hash_to_g1(digest)) * self.secret)


def sum_g1(points: Sequence[G1Point]) -> Any:
    """The backend's sum of points; the point at infinity for none. Raises InvalidPoint."""
    total = curve.g1_from_integers(curve.G1_INFINITY)
    for point in points:
        total = total + curve.g1_from_integers(point)
    return total


def sum_g2(points: Sequence[G2Point]) -> Any:
    """The backend's sum of points; the point at infinity for none. Raises InvalidPoint."""
    total = curve.g2_from_integers(curve.G2_INFINITY)
    for point in points:
        total = total + curve.g2_from_integers(point)
    return total


def verify_signature(digest: bytes, signature: G1Point, signers_public_key: G2Point) -> bool:
    """Whether the (aggregate) signature is by the (aggregate) key. Raises InvalidPoint on bad points."""
    hashed: Any = curve.g1_from_integers(hash_to_g1(digest))
    return curve.pairings_cancel(
        (curve.g1_from_integers(signature), curve.g2_generator()),
        (hashed, curve.g2_from_integers(signers_public_key)),
    )
