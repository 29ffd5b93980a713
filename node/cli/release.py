"""`openledger release`: register what was trained, and see what is served."""

from __future__ import annotations

from typing import Annotated, Any

import trio
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from openledger.genesis.parameters import Split
from openledger.node.cli.options import Account, ApiUrl, ClientPortOffset, KeyFile, RpcUrl
from openledger.node.cli.session import endpoints, wallet
from openledger.node.errors import UserError
from openledger.node.factory import client
from openledger.node.payer import Api
from openledger.node.rpc_client import RpcClient

app = typer.Typer(help="Register releases and show them.", no_args_is_help=True)


def parse_split(text: str) -> Split:
    """Owner, trainer, stakers, provider and contributors in percent from "15/5/20/20/40". Raises UserError."""
    try:
        parts = [round(float(part) * 100) for part in text.split("/")]
        if len(parts) != 5:
            raise ValueError("five numbers are needed")
        return Split(*parts)
    except ValueError as error:
        raise UserError(
            f"{text!r} is no split: owner/trainer/stakers/provider/contributors in percent, sum 100, "
            f"such as 15/5/20/20/40 ({error})"
        ) from error


@app.command("register")
def register(
    name: Annotated[str, typer.Argument(help="What calls name as `model`; 1 to 128 bytes.")],
    job: Annotated[str, typer.Option("--job", help="A finished fine-tuning job.")],
    price_in: Annotated[int, typer.Option(min=0, help="micro-OPEN per 1,000 tokens read.")] = 1_000,
    price_out: Annotated[int, typer.Option(min=0, help="micro-OPEN per 1,000 tokens written.")] = 3_000,
    split: Annotated[
        str, typer.Option(help="Owner/trainer/stakers/provider/contributors in percent.")
    ] = "15/5/20/20/40",
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Register a trained adapter as a release that you own.

    Example: `openledger release register whales --job 3f2a90c1d2e4 --price-in 1000 --price-out 3000 --account 0`
    """
    where, signer, parts = endpoints(rpc, api, port_offset), wallet(account, key_file), parse_split(split)
    console = Console(highlight=False, soft_wrap=True)

    async def run() -> None:
        async with RpcClient(where.rpc) as chain, Api(where.api) as node:
            number = await client.register_release(
                chain, node, signer, name, job, price_in=price_in, price_out=price_out, split=parts
            )
            console.print(f"release {number} ({name}) is registered", markup=False)
            with console.status("getting ready to serve it") as status:
                await client.wait_until_served(node, number, lambda reason: status.update(escape(reason)))
            console.print(f'served: `openledger ask "…" --model {name}`', markup=False)

    trio.run(run)


@app.command("list")
def list_releases(api: ApiUrl = None, port_offset: ClientPortOffset = 0) -> None:
    """List the registered releases. Example: `openledger release list`"""

    async def run() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with Api(endpoints(api=api, port_offset=port_offset).api) as node:
            while True:
                told = await node.get(f"/v1/releases?after={len(found)}&limit=500")
                found += told["releases"]
                if len(found) >= told["count"] or not told["releases"]:
                    return found

    table = Table("#", "name", "price in", "price out", "Datanets", "served here")
    for release in trio.run(run):
        served = "yes" if release["served_here"] else release["waits_for"] or "no"
        table.add_row(
            str(release["id"]),
            escape(release["name"]),
            str(release["price_in_micro_open_per_1000"]),
            str(release["price_out_micro_open_per_1000"]),
            ", ".join(f"{d['datanet']}:{d['version']}" for d in release["datanets"]),
            escape(served) if release["active"] else "deprecated",
        )
    Console().print(table)


@app.command("show")
def show(
    release: Annotated[int, typer.Argument(min=1, help="The release's number.")],
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Show everything a release commits to, with its training record. Example: `openledger release show 1`"""

    async def run() -> dict[str, Any]:
        async with Api(endpoints(api=api, port_offset=port_offset).api) as node:
            told: dict[str, Any] = await node.get(f"/v1/releases/{release}")
            return told

    Console().print_json(data=trio.run(run))
