"""`openledger account` and `openledger claim`: what someone earned, and paying it out."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import trio
import typer
from rich.console import Console

from openledger.genesis.parameters import OPEN_WEI
from openledger.node import claims
from openledger.node.cli.channel import show_open
from openledger.node.cli.options import Account, ApiUrl, ClientPortOffset, KeyFile, RpcUrl
from openledger.node.cli.session import endpoints, wallet
from openledger.node.errors import UserError
from openledger.node.payer import Api
from openledger.node.rpc_client import RpcClient

Payee = Annotated[str | None, typer.Argument(help="Address; left out: the account given by --account or --key-file.")]


def _address(address: str | None, account: int | None, key_file: Path | None) -> bytes:
    if address is None:
        return wallet(account, key_file).address
    try:
        value = bytes.fromhex(address.removeprefix("0x"))
    except ValueError:
        value = b""
    if len(value) != 20:
        raise UserError(f"{address!r} is not an address: 0x and 40 hex digits")
    return value


def show_account(
    address: Payee = None,
    account: Account = None,
    key_file: KeyFile = None,
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Show a balance, what can be claimed, and what ripens when. Example: `openledger account --account 1`"""
    who = _address(address, account, key_file)

    async def run() -> Any:
        async with Api(endpoints(api=api, port_offset=port_offset).api) as node:
            return await node.get(f"/v1/accounts/0x{who.hex()}")

    print_account(Console(highlight=False, soft_wrap=True), trio.run(run))


def print_account(console: Console, found: dict[str, Any]) -> None:
    """An answer of /v1/accounts for people."""
    balance = Decimal(int(found["balance_wei"])) / OPEN_WEI
    console.print(f"account    {found['address']} at block {found['block']}, epoch {found['epoch']}")
    console.print(f"balance    {balance:,.6f} OPEN")
    console.print(f"claimable  {show_open(found['claimable_micro_open'])}")
    for part in found["pending"]:
        if part["micro_open"]:
            console.print(
                f"pending    {show_open(part['micro_open'])}, ripens at block {part['ripens_at_block']} "
                f"(epoch {part['ripens_in_epoch']})"
            )
    console.print(f"claimed    {show_open(found['claimed_micro_open'])} so far")


def claim(
    address: Payee = None,
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Pay out what has ripened; anyone may ask for anyone, the payee is paid.

    Example: `openledger claim --account 1`, or `openledger claim 0xABC… --account 0`
    """
    signer = wallet(account, key_file)
    payee = signer.address if address is None else _address(address, None, None)

    async def run() -> int:
        async with RpcClient(endpoints(rpc=rpc, port_offset=port_offset).rpc) as chain:
            return await claims.claim(chain, signer, payee)

    paid = trio.run(run)
    Console().print(f"{show_open(paid)} paid to 0x{payee.hex()}", highlight=False, soft_wrap=True)
