"""`openledger channel`: the money that pays a provider's answers."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any

import trio
import typer
from rich.console import Console

from openledger.genesis.parameters import MICRO_OPEN_WEI, OPEN_WEI
from openledger.node.cli.options import Account, ApiUrl, ClientPortOffset, KeyFile, RpcUrl
from openledger.node.cli.session import endpoints, wallet
from openledger.node.errors import UserError
from openledger.node.payer import Api, Payer
from openledger.node.predeploy_contracts import inference_ledger
from openledger.node.rpc_client import RpcClient

app = typer.Typer(help="Open, fund, show and close the channel that pays a provider.", no_args_is_help=True)


def micro_open(text: str) -> int:
    """Micro-OPEN from an amount in OPEN such as "2.5". Raises UserError."""
    try:
        amount = Decimal(text) * (OPEN_WEI // MICRO_OPEN_WEI)
    except InvalidOperation:
        raise UserError(f"{text!r} is not an amount of OPEN, such as 2.5") from None
    if amount <= 0 or amount != int(amount):
        raise UserError(f"{text} OPEN is not a positive number of micro-OPEN (0.000001 OPEN)")
    return int(amount)


def show_open(amount: int) -> str:
    """An amount of micro-OPEN for people, in OPEN."""
    return f"{Decimal(amount) / 1_000_000:,f} OPEN"


Amount = Annotated[str, typer.Argument(help="Amount in OPEN, such as 2.5.")]


@app.command("open")
def open_channel(
    amount: Amount,
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Open the channel with the node's provider, or add to it. Example: `openledger channel open 5 --account 2`"""
    where, signer, deposit = endpoints(rpc, api, port_offset), wallet(account, key_file), micro_open(amount)

    async def run() -> None:
        async with RpcClient(where.rpc) as chain, Api(where.api) as node:
            payer = Payer.of(signer, await node.provider())
            opened = await payer.fund(chain, node, deposit)
            verb = "opened with" if opened else "topped up by"
            Console().print(f"channel 0x{payer.terms.id.hex()} {verb} {show_open(deposit)}", highlight=False)

    trio.run(run)


@app.command("show")
def show(
    account: Account = None,
    key_file: KeyFile = None,
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Show what the channel holds and owes. Example: `openledger channel show --account 2`"""
    where, signer = endpoints(api=api, port_offset=port_offset), wallet(account, key_file)

    async def run() -> dict[str, Any] | None:
        async with Api(where.api) as node:
            return await Payer.of(signer, await node.provider()).state(node)

    state = trio.run(run)
    if state is None:
        raise UserError("there is no channel with this provider yet: `openledger channel open AMOUNT` makes one")
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"channel   {state['channel_id']}")
    for name in ("deposit", "claimed", "owed"):
        console.print(f"{name:<9} {show_open(state[f'{name}_micro_open'])}")
    if state["closing"]:
        console.print("the payer asked for the rest back: the provider takes no more vouchers")


def _payer_transaction(
    function: str, said: str, account: int | None, key_file: Path | None, rpc: str | None, api: str | None, offset: int
) -> None:
    where, signer = endpoints(rpc, api, offset), wallet(account, key_file)

    async def run() -> None:
        async with RpcClient(where.rpc) as chain, Api(where.api) as node:
            payer = Payer.of(signer, await node.provider())
            await signer.send(chain, inference_ledger(), function, payer.terms.id)

    trio.run(run)
    Console().print(said)


@app.command("close")
def close(
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Ask for the unclaimed rest; it can be withdrawn after the channel's delay.

    Example: `openledger channel close --account 2`
    """
    said = "asked; `openledger channel withdraw` pays it back after the channel's delay"
    _payer_transaction("requestWithdraw", said, account, key_file, rpc, api, port_offset)


@app.command("withdraw")
def withdraw(
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Take the unclaimed rest back after the delay. Example: `openledger channel withdraw --account 2`"""
    _payer_transaction("withdraw", "withdrawn", account, key_file, rpc, api, port_offset)
