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
    # Nearly every account has this form: a list of two short numbers and two hashes.
    if len(raw) > 69 and raw[0] == 0xF8 and raw[1] == len(raw) - 2 and raw[-66] == 0xA0 == raw[-33]:
        head = raw[2:-66]
        short_nonce, position = _short_uint(head, 0)
        short_balance, position = _short_uint(head, position)
        if position == len(head):
            return Account(short_nonce, short_balance, raw[-65:-33], raw[-32:])
    nonce, balance, storage_root, code_hash = encoding.to_list(encoding.decode(raw), 4)
    return Account(
        encoding.to_uint(nonce),
        encoding.to_uint(balance),
        encoding.to_bytes(storage_root, 32),
        encoding.to_bytes(code_hash, 32),
    )


def _short_uint(data: bytes, position: int) -> tuple[int, int]:
    """A canonical integer of up to 32 bytes and where it ends; a position behind `data` if it is something else."""
    first = data[position] if position < len(data) else 0xFF
    if first <= 0x80:
        return (first if first < 0x80 else 0), position + 1 if first else len(data) + 1
    end = position + first - 0x7F
    if first > 0xA0 or end > len(data) or data[position + 1] == 0 or (first == 0x81 and data[position + 1] < 0x80):
        return 0, len(data) + 1
    return int.from_bytes(data[position + 1 : end], "big"), end
