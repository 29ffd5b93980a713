"""Senders of many transactions at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from openledger.evm_ext.errors import InvalidSignature
from openledger.evm_ext.transactions.transaction import Transaction

_RECOVERED_AT_ONCE = 16


@cache
def _recovery_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(4, os.cpu_count() or 1), "recovery")


def recover_senders(transactions: Sequence[Transaction]) -> None:
    """Recover the senders of many transactions on all cores: the curve arithmetic, most of it, releases the GIL.

    Wrong signatures are left to whoever asks for `sender`, which then raises."""
    chunks = [
        transactions[start : start + _RECOVERED_AT_ONCE] for start in range(0, len(transactions), _RECOVERED_AT_ONCE)
    ]
    if len(chunks) < 2 or (os.cpu_count() or 1) < 2:
        return
    for _ in _recovery_threads().map(_recover, chunks):
        pass


def _recover(transactions: Sequence[Transaction]) -> None:
    for transaction in transactions:
        try:
            _ = transaction.sender
        except InvalidSignature:
            continue
