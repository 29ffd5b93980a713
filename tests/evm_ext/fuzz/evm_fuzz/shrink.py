"""Makes a failing case small: what can go without the failure going is taken away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from openledger.genesis.genesis import GenesisAccount

from .case import SENDER, Case

STOP, JUMPDEST = 0x00, 0x5B


def shrink(case: Case, fails: Callable[[Case], bool], seconds: float = 20.0) -> Case:
    """A case for which `fails` still holds and of which no single part can be taken away, or the best in the time."""
    end = time.monotonic() + seconds
    improved = True
    while improved and time.monotonic() < end:
        improved = False
        for smaller in _smaller(case):
            if time.monotonic() >= end:
                break
            if fails(smaller):
                case = smaller
                improved = True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """Cases with less in them, boldest first."""
    for address in case.accounts:
        if address not in (SENDER, case.to):
            yield replace(case, accounts={key: value for key, value in case.accounts.items() if key != address})
    for index in range(len(case.before)):
        yield replace(case, before=case.before[:index] + case.before[index + 1 :])
    if case.access_list:
        yield replace(case, access_list=())
        yield replace(case, access_list=case.access_list[1:])
    if len(case.authorizations) > 1:
        for index in range(len(case.authorizations)):
            yield replace(case, authorizations=case.authorizations[:index] + case.authorizations[index + 1 :])
    if case.value:
        yield replace(case, value=0)
    for data in _shorter(case.data, fill=None):
        yield replace(case, data=data)
    for address, account in case.accounts.items():
        for slot in account.storage:
            rest = {key: value for key, value in account.storage.items() if key != slot}
            yield _with(case, address, replace(account, storage=rest))
        for code in _shorter(account.code, fill=STOP):
            yield _with(case, address, replace(account, code=code))


def _with(case: Case, address: bytes, account: GenesisAccount) -> Case:
    return replace(case, accounts={**case.accounts, address: account})


def _shorter(code: bytes, fill: int | None) -> Iterator[bytes]:
    """Code cut short, with pieces taken out, and with pieces made into nothing so that places stay where they are."""
    size = len(code)
    while size:
        size //= 2
        if size < len(code):
            yield code[: len(code) - max(size, 1)]
    size = len(code) // 2
    while size:
        for start in range(0, len(code), size):
            yield code[:start] + code[start + size :]
        size //= 2
    if fill is None:
        return
    for start, byte in enumerate(code):
        if byte != JUMPDEST:
            yield code[:start] + bytes([JUMPDEST]) + code[start + 1 :]
