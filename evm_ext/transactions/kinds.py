"""The types of transactions, and limits that all share."""

from __future__ import annotations

LEGACY = 0
ACCESS_LIST = 1
DYNAMIC_FEE = 2
BLOB = 3
SET_CODE = 4
DEPOSIT = 0x7E

MAX_TRANSACTION_BYTES = 1 << 20
"""Longest encoding of a transaction that is taken from users, in bytes. In a block only its gas limits it."""

MAX_UINT64 = 2**64 - 1

AccessList = tuple[tuple[bytes, tuple[int, ...]], ...]
