"""`openledger verify`: check blocks and receipts without trusting whoever made them.

Exit status: 0 everything is good, 1 something is false, 2 something could not be checked.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Annotated

import trio
import typer
from rich.console import Console

from openledger.genesis.counted import counted
from openledger.node.cli.options import ApiUrl, ClientPortOffset, RpcUrl
from openledger.node.cli.said import meant_for_people
from openledger.node.cli.session import endpoints
from openledger.node.config import VALIDATOR_PORT_STEP
from openledger.node.errors import StartupError

app = typer.Typer(help="Check blocks and receipts; exit status 0 good, 1 false, 2 not checked.", no_args_is_help=True)

_COLOURS = {"good": "green", "false": "red", "unchecked": "yellow"}
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line instead of a table.")]


def exit_status(verdicts: list[str]) -> int:
    """0 all good, 1 something false, 2 something not checked."""
    if "false" in verdicts:
        return 1
    return 2 if "unchecked" in verdicts or not verdicts else 0


def print_finding(console: Console, name: str, verdict: str, detail: str) -> None:
    """One line of a report."""
    colour = _COLOURS[verdict]
    console.print(f"  [{colour}]{verdict:<9}[/{colour}] {name:<14} {detail}", highlight=False)


class NotChecked(StartupError):
    """The check could not be made, which says nothing of what was to be checked: exit status 2, never 1."""


def _check(work: Callable[[], Awaitable[None]]) -> None:
    """Raises NotChecked where the work cannot be done, with the reason."""
    try:
        trio.run(work)
    except BaseException as error:
        said = meant_for_people(error)
        if said is None:
            raise
        raise NotChecked(str(said)) from error


@app.command("receipt")
def receipt(
    hashes: Annotated[list[str], typer.Argument(help="Receipts to check.")],
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
    as_json: Json = False,
) -> None:
    """Re-do answers on another node: prompt, every token, attribution, fee, signature, settlement.

    Of an attested answer (numerics bf16) only activations can be compared, so it is never found wholly good.
    Without --api the devnet's second node does it. Example: `openledger verify receipt 0x12…`
    """
    from openledger.node.payer import Api

    where = endpoints(api=api, port_offset=port_offset + VALIDATOR_PORT_STEP).api
    console = Console(soft_wrap=True)
    verdicts: list[str] = []

    async def run() -> None:
        async with Api(where) as node:
            for digest in hashes:
                if not as_json:
                    console.print(f"receipt {digest}", highlight=False)
                async with aclosing(node.events(f"/v1/receipts/{digest}/audit", {}, {})) as findings:
                    async for finding in findings:
                        verdicts.append(finding["verdict"])
                        if as_json:
                            print(json.dumps({"receipt": digest, **finding}), flush=True)
                        else:
                            print_finding(console, finding["name"], finding["verdict"], finding["detail"])

    _check(run)
    status = exit_status(verdicts)
    if not as_json:
        console.print(("[green]good[/green]", "[red]false[/red]", "[yellow]not wholly checked[/yellow]")[status])
    raise typer.Exit(status)


@app.command("blocks")
def blocks(
    first: Annotated[int, typer.Argument(min=0, help="First L2 block.")],
    last: Annotated[int | None, typer.Argument(min=0, help="Last L2 block; left out: the newest on L1.")] = None,
    rpc: RpcUrl = None,
    l1_rpc_url: Annotated[str | None, typer.Option(help="JSON-RPC of the L1.")] = None,
    l1_beacon_url: Annotated[
        list[str] | None, typer.Option(help="Beacon node of the L1, for batcher data in blobs; several may be given.")
    ] = None,
    da_url: Annotated[str | None, typer.Option(help="EigenDA proxy.")] = None,
    network_file: Annotated[Path | None, typer.Option(help="network.json of the chain.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where to keep what is derived; default: a fresh folder.")] = None,
    port_offset: ClientPortOffset = 0,
    as_json: Json = False,
) -> None:
    """Derive the chain from L1 and DA alone and compare each block with what a node says.

    Example: `openledger verify blocks 1 100`
    """
    from openledger.node.cli.options import default_data_dir
    from openledger.node.network import read_network
    from openledger.node.verification import BlockVerdict, verify_blocks

    if last is not None and last < first:
        raise NotChecked(f"there are no blocks from {first} to {last}: name the first one first")
    usual = endpoints(rpc=rpc, port_offset=port_offset)
    network = read_network(network_file or default_data_dir() / "network.json")
    console = Console(soft_wrap=True)
    verdicts: list[str] = []

    def show(found: BlockVerdict) -> None:
        verdicts.append(found.verdict)
        if as_json:
            print(json.dumps({"block": found.number, "verdict": found.verdict, "detail": found.detail}), flush=True)
        else:
            print_finding(console, f"block {found.number}", found.verdict, found.detail)

    def progress(derived: int) -> None:
        if not as_json and derived % 100 == 0:
            console.print(f"derived {counted(derived, 'block')}", highlight=False)

    async def run() -> None:
        await verify_blocks(
            network,
            l1_rpc_url=l1_rpc_url or usual.l1_rpc,
            l1_beacon_urls=l1_beacon_url or (),
            da_url=da_url or usual.da,
            rpc_url=usual.rpc,
            first=first,
            last=last,
            folder=folder,
            on_verdict=show,
            on_progress=progress,
        )

    _check(run)
    raise typer.Exit(exit_status(verdicts))
