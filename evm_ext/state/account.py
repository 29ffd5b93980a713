"""The account record of the state trie (Yellow Paper 4.1)."""

from __future__ import annotations

from typing import NamedTuple

from openledger.evm_ext import encoding
from openledger.evm_ext.encoding import encode_bytes, encode_sequence, encode_uint
from openledger.evm_ext.trie import EMPTY_ROOT
from openledger.genesis.hashing import keccak256

EMPTY_CODE_HASH = keccak256(b"")


class Account(NamedTuple):
    """Nonce, balance in wei, root of the storage trie, hash of the code."""

    nonce: int
    balance: int
    storage_root: bytes
    code_hash: bytes

    @property
    def is_empty(self) -> bool:
        """No nonce, no balance, no code (EIP-161)."""
        return self.nonce == 0 and self.balance == 0 and self.code_hash == EMPTY_CODE_HASH


EMPTY_ACCOUNT = Account(0, 0, EMPTY_ROOT, EMPTY_CODE_HASH)


def encode_account(account: Account) -> bytes:
    """RLP, the value in the state trie."""
    return encode_sequence(
        (
            encode_uint(account.nonce),
            encode_uint(account.balance),
            encode_bytes(account.storage_root),
            encode_bytes(account.code_hash),
        )
    )


def decode_account(raw: bytes) -> Account:
    """The inverse of `encode_account`. Raises `InvalidRLP`."""
    nonce, balance, storage_root, code_hash = encoding.to_list(encoding.decode(raw), 4)
    return Account(
        encoding.to_uint(nonce),
        encoding.to_uint(balance),
        encoding.to_bytes(storage_root, 32),
        encoding.to_bytes(code_hash, 32),
    )
