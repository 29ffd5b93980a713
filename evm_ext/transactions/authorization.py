"""Entries of an EIP-7702 authorization list."""

from __future__ import annotations

from dataclasses import dataclass

from openledger.evm_ext.encoding import encode_bytes, encode_sequence, encode_uint
from openledger.evm_ext.kept import kept
from openledger.evm_ext.signatures import SECP256K1_HALF_N, recover_address, sign_digest
from openledger.genesis.hashing import keccak256

SET_CODE_MAGIC = b"\x05"


@dataclass(frozen=True)
class Authorization:
    """One entry of an EIP-7702 authorization list. `chain_id` 0 means any chain."""

    chain_id: int
    address: bytes
    nonce: int
    y_parity: int
    r: int
    s: int

    @kept
    def authority(self) -> bytes | None:
        """The account that signed, None if the signature is not one."""
        if self.y_parity > 1 or self.s > SECP256K1_HALF_N:
            return None
        message = SET_CODE_MAGIC + encode_sequence(
            (encode_uint(self.chain_id), encode_bytes(self.address), encode_uint(self.nonce))
        )
        return recover_address(keccak256(message), self.y_parity, self.r, self.s)


def sign_authorization(private_key: bytes, *, chain_id: int, address: bytes, nonce: int) -> Authorization:
    """An EIP-7702 authorization that lets `address`'s code run as the signer."""
    message = SET_CODE_MAGIC + encode_sequence((encode_uint(chain_id), encode_bytes(address), encode_uint(nonce)))
    y_parity, r, s = sign_digest(keccak256(message), private_key)
    return Authorization(chain_id, address, nonce, y_parity, r, s)
