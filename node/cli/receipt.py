"""`openledger receipt`: what was asked, answered and paid."""

from __future__ import annotations

from typing import Annotated, Any

import trio
import typer
from rich.console import Console
from rich.table import Table

from openledger.node.cli.channel import show_open
from openledger.node.cli.options import ApiUrl, ClientPortOffset
from openledger.node.cli.session import endpoints
from openledger.node.payer import Api

app = typer.Typer(help="List and show receipts of answers.", no_args_is_help=True)


def _get(path: str, api: str | None, port_offset: int) -> Any:
    async def run() -> Any:
        async with Api(endpoints(api=api, port_offset=port_offset).api) as node:
            return await node.get(path)

    return trio.run(run)


@app.command("list")
def list_receipts(api: ApiUrl = None, port_offset: ClientPortOffset = 0) -> None:
    """List the newest receipts of a provider's node. Example: `openledger receipt list`"""
    table = Table("receipt", "release", "fee", "state", box=None)
    for receipt in _get("/v1/receipts", api, port_offset)["data"]:
        table.add_row(receipt["hash"], str(receipt["release"]), show_open(receipt["fee_micro_open"]), receipt["state"])
    Console(width=120).print(table)


@app.command("show")
def show(
    receipt: Annotated[str, typer.Argument(help="The receipt's hash.")],
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Show one receipt as JSON. Example: `openledger receipt show 0x12…`"""
    Console(soft_wrap=True).print_json(data=_get(f"/v1/receipts/{receipt}", api, port_offset))
