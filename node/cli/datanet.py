"""`openledger datanet`: contribute documents, approve them, publish versions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import trio
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table

from openledger.genesis.counted import counted
from openledger.kernels.documents import SUPPORTED_SUFFIXES
from openledger.node.cli import datanet_files
from openledger.node.cli.options import Account, ApiUrl, ClientPortOffset, KeyFile, RpcUrl
from openledger.node.cli.session import endpoints, wallet
from openledger.node.datanets import client
from openledger.node.datanets.drafts import FOLDER
from openledger.node.datanets.hugging_face import open_dataset
from openledger.node.errors import UserError
from openledger.node.extraction.extract import EXTRACTED_SUFFIXES
from openledger.node.payer import Api
from openledger.node.rpc_client import RpcClient

app = typer.Typer(help="Create Datanets, contribute documents, approve them, publish versions.", no_args_is_help=True)
app.command("extract")(datanet_files.extract)
app.command("export")(datanet_files.export)
app.command("diff")(datanet_files.diff)

Datanet = Annotated[int, typer.Argument(min=1, help="The Datanet's number.")]
SUFFIXES = (*SUPPORTED_SUFFIXES, *EXTRACTED_SUFFIXES)


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="1 to 64 bytes.")],
    description: Annotated[str, typer.Option("--description", help="What belongs in it.")] = "",
    private: Annotated[bool, typer.Option("--private", help="Its documents are not to be fetched by nodes.")] = False,
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Create a Datanet that you own.

    Example: `openledger datanet create whales --description "What old books say of whales" --account 0`
    """
    where, signer = endpoints(rpc, api, port_offset), wallet(account, key_file)

    async def run() -> int:
        async with RpcClient(where.rpc) as chain, Api(where.api) as node:
            return await client.create_datanet(chain, node, signer, name, description=description, public=not private)

    number = trio.run(run)
    _console().print(f"Datanet {number} ({name}) is yours, {'0x' + signer.address.hex()}", markup=False)


@app.command("add")
def add(
    datanet: Datanet,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Documents (.txt, .md, and text from .pdf, .docx, .csv, .jsonl, .parquet), or folders of them."
        ),
    ],
    licence: Annotated[
        str | None,
        typer.Option("--licence", "--license", help="SPDX expression, such as CC0-1.0; of a --dataset, its card's."),
    ] = None,
    dataset: Annotated[
        bool, typer.Option("--dataset", help="The folders are datasets in Hugging Face's layout.")
    ] = False,
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
    drafts: Annotated[Path, typer.Option("--drafts", help="Where salts are kept until the reveal.")] = FOLDER,
) -> None:
    """Contribute documents: commit, upload, reveal. An interrupted call can simply be repeated.

    Of a PDF, a Word document or a table the text is contributed; `datanet extract` shows it before.

    Example: `openledger datanet add 1 ambergris.md report.pdf --licence CC0-1.0 --account 2`
    """
    where, signer = endpoints(rpc, api, port_offset), wallet(account, key_file)
    chosen = _data_files(files, licence) if dataset else _licensed(_files(files), licence)
    console = _console()

    async def run() -> list[client.Contributed]:
        async with RpcClient(where.rpc) as chain, Api(where.api) as node:
            rules = await client.economy(node)
            documents = [
                await trio.to_thread.run_sync(client.read_file, path, spdx, rules.max_document_bytes)
                for path, spdx in chosen
            ]
            with Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                TextColumn("[cyan]{task.fields[stage]}"),
                console=console,
            ) as bars:
                rows: dict[str, TaskID] = {
                    d.metadata.name: bars.add_task(d.metadata.name, total=1, stage="") for d in documents
                }

                def show(progress: client.ContributeProgress) -> None:
                    bars.update(rows[progress.name], stage=progress.stage, completed=progress.stage == "done")

                return await client.contribute(chain, node, signer, datanet, documents, folder=drafts, on_progress=show)

    for contributed in trio.run(run):
        console.print(
            f"contribution {contributed.contribution}: {contributed.name}, waits for the owner's approval", markup=False
        )


def _licensed(paths: list[Path], licence: str | None) -> list[tuple[Path, str]]:
    if not licence:
        raise UserError("say under which licence: --licence with an SPDX expression such as CC0-1.0 or CC-BY-4.0")
    return [(path, licence) for path in paths]


def _data_files(folders: list[Path], licence: str | None) -> list[tuple[Path, str]]:
    """The data files of datasets, each under the licence given, or else its card's."""
    chosen = []
    for folder in folders:
        found = open_dataset(folder)
        chosen += _licensed(list(found.files), licence or found.licence)
    return chosen


def _files(paths: list[Path]) -> list[Path]:
    """The files named, and the documents in the folders named. Raises UserError."""
    chosen: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not found:
                raise UserError(f"there is no document ({', '.join(SUFFIXES)}) in {path}")
            chosen += found
        else:
            chosen.append(path)
    return chosen


@app.command("list")
def list_datanets(api: ApiUrl = None, port_offset: ClientPortOffset = 0) -> None:
    """List the Datanets. Example: `openledger datanet list`"""

    async def run() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with Api(endpoints(api=api, port_offset=port_offset).api) as node:
            while True:
                told = await node.get(f"/v1/datanets?after={len(found)}&limit=500")
                found += told["datanets"]
                if len(found) >= told["count"] or not told["datanets"]:
                    return found

    table = Table("#", "name", "approved", "versions", "public", "owner")
    for datanet in trio.run(run):
        table.add_row(
            str(datanet["id"]),
            escape(datanet["name"]),
            str(datanet["approvals"]),
            str(datanet["versions"]),
            "yes" if datanet["is_public"] else "no",
            datanet["owner"],
        )
    _console().print(table)


@app.command("show")
def show(datanet: Datanet, api: ApiUrl = None, port_offset: ClientPortOffset = 0) -> None:
    """Show a Datanet, its contributions and its versions. Example: `openledger datanet show 1`"""

    async def run() -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
        async with Api(endpoints(api=api, port_offset=port_offset).api) as node:
            shown = await node.get(f"/v1/datanets/{datanet}")
            return shown, await client.contributions(node, datanet), await node.get(f"/v1/datanets/{datanet}/versions")

    shown, contributions, versions = trio.run(run)
    console = _console()
    console.print(f"[bold]{escape(shown['name'])}[/bold]  Datanet {datanet}, owner {shown['owner']}")
    if shown["metadata"] and shown["metadata"].get("description"):
        console.print(str(shown["metadata"]["description"]), markup=False)
    table = Table("#", "document", "licence", "bytes", "status", "on this node", "contributor", title="contributions")
    for c in contributions:
        about = c["metadata"] or {}
        table.add_row(
            str(c["id"]),
            escape(about.get("title") or c["document_hash"][:18]),
            escape(about.get("license", "")),
            f"{c['size']:,}",
            c["status"],
            "yes" if c["held"] else "not yet",
            c["contributor"],
        )
    console.print(table)
    table = Table("version", "documents", "tokens", "root", title="versions")
    for v in versions["versions"]:
        table.add_row(str(v["version"]), str(v["count"]), str(v["tokens"] or "not indexed here"), v["root"])
    console.print(table)


@app.command("approve")
def approve(
    datanet: Datanet,
    contributions: Annotated[
        list[int] | None, typer.Argument(help="Numbers; none given: all that are pending.")
    ] = None,
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Admit pending contributions, as the Datanet's owner. Example: `openledger datanet approve 1 --account 0`"""
    where, signer = endpoints(rpc, api, port_offset), wallet(account, key_file)

    async def run() -> list[int]:
        async with RpcClient(where.rpc) as chain, Api(where.api) as node:
            known = {c["id"]: c for c in await client.contributions(node, datanet)}
            chosen = contributions or [c for c, shown in known.items() if shown["status"] == "pending"]
            if not chosen:
                raise UserError(f"no contribution of Datanet {datanet} is pending")
            for number in chosen:
                if number not in known:
                    raise UserError(
                        f"contribution {number} is not one of Datanet {datanet}: see `datanet show {datanet}`"
                    )
                if not known[number]["held"]:
                    raise UserError(
                        f"the document of contribution {number} is not on this node, so nobody can tell what it is: "
                        "ask its contributor to upload it, then try again"
                    )
            await client.approve(chain, signer, datanet, chosen)
            return chosen

    _console().print(f"approved: {', '.join(map(str, trio.run(run)))}")


@app.command("reject")
def reject(
    contribution: Annotated[int, typer.Argument(min=1)],
    reason: Annotated[str, typer.Option("--reason", help="Kept on chain for the contributor.")],
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Turn a pending contribution down. Example: `openledger datanet reject 3 --reason "not about whales" --account 0`"""
    where, signer = endpoints(rpc, None, port_offset), wallet(account, key_file)

    async def run() -> None:
        async with RpcClient(where.rpc) as chain:
            await client.reject(chain, signer, contribution, reason)

    trio.run(run)
    _console().print(f"rejected contribution {contribution}")


@app.command("publish")
def publish(
    datanet: Datanet,
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Publish the approved contributions as a version and commit to its corpus, as the Datanet's owner.

    The node indexes the documents; anyone can compute the same roots from them.
    Example: `openledger datanet publish 1 --account 0`
    """
    where, signer = endpoints(rpc, api, port_offset), wallet(account, key_file)
    console = _console()

    async def run() -> client.PublishedVersion:
        async with RpcClient(where.rpc) as chain, Api(where.api) as node:
            with Progress(SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), console=console) as bars:
                bar = bars.add_task("publishing", total=None)

                def show(progress: client.PublishProgress) -> None:
                    bars.update(bar, description=progress.stage, completed=progress.done, total=progress.total or None)

                return await client.publish(chain, node, signer, datanet, on_progress=show)

    done = trio.run(run)
    console.print(f"version {done.version} of Datanet {datanet}: {counted(done.tokens, 'token')}")
    console.print(f"root   0x{done.root.hex()}")
    console.print(f"corpus 0x{done.corpus_root.hex()}")
