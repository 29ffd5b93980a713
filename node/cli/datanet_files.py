"""Datanets as files: `openledger datanet extract`, `export`, `diff`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import trio
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from openledger.genesis.counted import counted
from openledger.kernels.documents import MAX_DOCUMENT_BYTES, DocumentError
from openledger.node.cli.options import ApiUrl, ClientPortOffset
from openledger.node.cli.session import endpoints
from openledger.node.datanets.export import VersionListing, export_version, list_version
from openledger.node.errors import UserError
from openledger.node.extraction.extract import EXTRACTED_SUFFIXES, extract_file
from openledger.node.network import write_atomically
from openledger.node.payer import Api


def extract(
    file: Annotated[Path, typer.Argument(help=f"A {', '.join(EXTRACTED_SUFFIXES)} file.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the text goes; none given: to the terminal.")
    ] = None,
) -> None:
    """Show the text that would be contributed of a PDF, a Word document or a table. Nothing is sent anywhere.

    Example: `openledger datanet extract report.pdf -o report.txt`
    """
    try:
        text = extract_file(file, limit_bytes=MAX_DOCUMENT_BYTES)
        if output is None:
            typer.echo(text.data.decode(), nl=False)
        else:
            write_atomically(output, text.data)
    except DocumentError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"cannot read or write {error.filename or file}: {error.strerror}") from error


def export(
    datanet: Annotated[int, typer.Argument(min=1, help="The Datanet's number.")],
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    version: Annotated[int | None, typer.Option("--version", min=1, help="The newest, if none is given.")] = None,
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Write a version to a folder: its texts as JSON lines, described in Croissant, their origin in PROV.

    Example: `openledger datanet export 1 whales-1 --version 1`
    """
    console = Console(highlight=False, soft_wrap=True)

    async def run() -> tuple[int, int]:
        async with Api(endpoints(api=api, port_offset=port_offset).api) as node:
            number = version or await _newest(node, datanet)
            with Progress(TextColumn("documents"), BarColumn(), MofNCompleteColumn(), console=console) as bars:
                bar = bars.add_task("documents", total=None)

                def show(done: int, total: int) -> None:
                    bars.update(bar, completed=done, total=total)

                return number, await export_version(node, datanet, number, folder, show)

    number, documents = trio.run(run)
    console.print(f"version {number} of Datanet {datanet}: {counted(documents, 'document')} in {folder}", markup=False)


def diff(
    datanet: Annotated[int, typer.Argument(min=1, help="The Datanet's number.")],
    old: Annotated[int, typer.Argument(min=1, help="The earlier version.")],
    new: Annotated[int, typer.Argument(min=1, help="The later version.")],
    api: ApiUrl = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Show what a version has that an earlier one had not. A version is never shortened; what was retired since is marked.

    Example: `openledger datanet diff 1 1 2`
    """

    async def run() -> tuple[VersionListing, VersionListing]:
        async with Api(endpoints(api=api, port_offset=port_offset).api) as node:
            return await list_version(node, datanet, old), await list_version(node, datanet, new)

    before, after = trio.run(run)
    console = Console(highlight=False, soft_wrap=True)
    known = {c["id"] for c in before.contributions}
    added = [c for c in after.contributions if c["id"] not in known]
    table = Table("", "#", "document", "licence", "bytes", "contributor")
    for sign, rows in (("+", added), ("retired", _retired(after.contributions))):
        for c in rows:
            about = c["metadata"] or {}
            title = about.get("title") or c["document_hash"][:18]
            table.add_row(sign, str(c["id"]), title, about.get("license", ""), f"{c['size']:,}", c["contributor"])
    console.print(
        f"version {old}: {counted(len(before.contributions), 'document')}, version {new}: "
        f"{counted(len(after.contributions), 'document')}, {counted(sum(c['size'] for c in added), 'byte')} more"
    )
    if table.row_count:
        console.print(table)


def _retired(contributions: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [c for c in contributions if c["status"] == "retired"]


async def _newest(node: Api, datanet: int) -> int:
    count = int((await node.get(f"/v1/datanets/{datanet}"))["versions"])
    if not count:
        raise UserError(
            f"Datanet {datanet} has no version yet: its owner publishes one with `datanet publish {datanet}`"
        )
    return count
