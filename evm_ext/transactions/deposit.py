"""Deposits: transactions that L1 orders, of type 0x7E."""

from __future__ import annotations

from dataclasses import dataclass

from openledger.evm_ext import encoding
from openledger.evm_ext.encoding import encode_bytes, encode_sequence, encode_uint
from openledger.evm_ext.errors import UndecodableTransaction
from openledger.evm_ext.transactions.fields import recipient
from openledger.evm_ext.transactions.kinds import DEPOSIT


@dataclass(frozen=True)
class DepositTransaction:
    """A transaction that L1 orders (OP-Stack specification, deposits).

    `to` None creates a contract. `mint` is wei credited to `sender` before anything else; it stays
    credited when the rest fails.
    """

    source_hash: bytes
    sender: bytes
    to: bytes | None
    mint: int
    value: int
    gas: int
    is_system_transaction: bool
    data: bytes

    def encode(self) -> bytes:
        """0x7E || rlp([sourceHash, from, to, mint, value, gas, isSystemTx, data])."""
        return bytes((DEPOSIT,)) + encode_sequence(
            (
                encode_bytes(self.source_hash),
                encode_bytes(self.sender),
                encode_bytes(self.to or b""),
                encode_uint(self.mint),
                encode_uint(self.value),
                encode_uint(self.gas),
                encode_uint(int(self.is_system_transaction)),
                encode_bytes(self.data),
            )
        )

    @classmethod
    def decode(cls, raw: bytes) -> DepositTransaction:
        """The inverse of `encode`. Raises `UndecodableTransaction`."""
        if raw[:1] != bytes((DEPOSIT,)):
            raise UndecodableTransaction("a deposit transaction begins with 0x7e")
        try:
            fields = encoding.to_list(encoding.decode(raw[1:]), 8)
            is_system = encoding.to_uint(fields[6], 1)
            if is_system > 1:
                raise encoding.InvalidRLP(f"isSystemTx must be 0 or 1, got {is_system}")
            return cls(
                source_hash=encoding.to_bytes(fields[0], 32),
                sender=encoding.to_bytes(fields[1], 20),
                to=recipient(fields[2]),
                mint=encoding.to_uint(fields[3]),
                value=encoding.to_uint(fields[4]),
                gas=encoding.to_uint(fields[5], 8),
                is_system_transaction=bool(is_system),
                data=encoding.to_bytes(fields[7]),
            )
        except encoding.InvalidRLP as error:
            raise UndecodableTransaction(f"malformed deposit transaction: {error}") from None
