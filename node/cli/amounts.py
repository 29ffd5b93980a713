"""Amounts and bytes as people write them on the command line."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from openledger.genesis.parameters import OPEN_WEI
from openledger.node.errors import UserError


def open_wei(amount: str) -> int:
    """Wei in an amount of OPEN. Raises UserError for what is no positive number of wei."""
    try:
        wei = Decimal(amount) * OPEN_WEI
    except InvalidOperation:
        wei = Decimal("nan")
    if not wei.is_finite():
        raise UserError(f"{amount!r} is not an amount of OPEN, such as 2.5")
    if wei <= 0 or wei != int(wei):
        raise UserError(f"{amount} OPEN is not a positive number of wei (18 decimals)")
    return int(wei)


def hex_data(value: str, size: int, what: str) -> bytes:
    """Bytes in hex, of one size. Raises UserError that calls them `what`."""
    try:
        decoded = bytes.fromhex(value.removeprefix("0x"))
    except ValueError:
        decoded = b""
    if len(decoded) != size:
        raise UserError(f"{value!r} is not {what}: 0x and {2 * size} hex digits")
    return decoded
