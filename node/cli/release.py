"""`openledger release`: register what was trained, merge adapters into a model, and see what is served."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import trio
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from openledger.genesis.parameters import Split
from openledger.node.cli.options import Account, ApiUrl, ClientPortOffset, KeyFile, RpcUrl
from openledger.node.cli.session import endpoints, wallet
from openledger.node.config import load_config
from openledger.node.errors import StartupError, UserError
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
    job: Annotated[str, typer.Option("--job", help="A finished fine-tuning job.")] = "",
    merged_from: Annotated[
        list[int] | None,
        typer.Option(
            help="Instead of a job: a release whose adapter was merged into the node's model; may be repeated."
        ),
    ] = None,
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
    """Register a trained adapter, or a model into which adapters were merged, as a release that you own.

    Example: `openledger release register whales --job 3f2a90c1d2e4 --price-in 1000 --price-out 3000 --account 0`
    """
    if bool(job) == bool(merged_from):
        raise UserError("name either --job or --merged-from")
    where, signer, parts = endpoints(rpc, api, port_offset), wallet(account, key_file), parse_split(split)
    console = Console(highlight=False, soft_wrap=True)

    async def run() -> None:
        async with RpcClient(where.rpc) as chain, Api(where.api) as node:
            number = await client.register_release(
                chain, node, signer, name, job, price_in=price_in, price_out=price_out, split=parts,
                merged_from=merged_from or (),
            )  # fmt: skip
            console.print(f"release {number} ({name}) is registered", markup=False)
            with console.status("getting ready to serve it") as status:
                await client.wait_until_served(node, number, lambda reason: status.update(escape(reason)))
            console.print(f'served: `openledger ask "…" --model {name}`', markup=False)

    trio.run(run)


@app.command("merge")
def merge(
    output: Annotated[Path, typer.Argument(help="The model file to write, a GGUF.")],
    adapter: Annotated[
        list[str],
        typer.Option(help="Folder of an adapter, =WEIGHT in thousandths after it if not 1000; may be repeated."),
    ],
    model_file: Annotated[Path | None, typer.Option(help="GGUF of the base. Default: SmolLM2-135M-Instruct.")] = None,
    name: Annotated[str, typer.Option(help="The name of the merged model.")] = "",
) -> None:
    """Fold adapters into a copy of a model file: a model of its own, which serves faster than its adapters.

    Example: `openledger release merge whales.gguf --adapter ./whales --adapter ./seas=500`, then set
    `engine.model_file`, restart the node and run `openledger release register whales-merged --merged-from 1`.
    """
    try:
        from openledger.kernels.engine.adapters import AdapterRefused, inspect_adapter
        from openledger.kernels.engine.adapters.merge import Part, merge_adapters
        from openledger.kernels.model.errors import ModelError
        from openledger.kernels.model.files import open_model
        from openledger.kernels.model.gguf import default_model_file
        from openledger.kernels.model.weights import load_weights
    except ImportError as error:
        raise StartupError(f"{error}: run `pip install openledger-node[serve]`") from error
    if output.exists():
        raise UserError(f"{output} is there already: choose another name")
    cache = load_config().cache_folder
    try:
        base = default_model_file() if model_file is None else model_file
        config = open_model(base, cache).config()
        parts = []
        for each in adapter:
            folder, _, weight = each.rpartition("=") if re.fullmatch(r".*=-?[0-9]+", each) else (each, "", "1000")
            parts.append(Part(inspect_adapter(folder, config), int(weight)))
        merge_adapters(base, config, parts, output, name or f"{config.name}, merged")
        source = open_model(output, cache)
        root = load_weights(source, source.config(), cache).root
    except ModelError as error:
        raise StartupError(str(error)) from error
    except AdapterRefused as error:
        raise UserError(str(error)) from error
    print(f"{output} is written; its weights root is 0x{root.hex()}")


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
