"""`openledger quickstart`: the whole way of the network, told on a running devnet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import trio
import typer
from rich.console import Console

from openledger.node.cli.options import ClientPortOffset, DataDir
from openledger.node.cli.session import endpoints
from openledger.node.config import VALIDATOR_PORT_STEP, load_config
from openledger.node.errors import UserError
from openledger.node.network import write_atomically


def quickstart(
    data_dir: DataDir = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin a new story instead of going on with the last.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the wall time of every step here.")] = None,
    port_offset: ClientPortOffset = 0,
) -> None:
    """Contribute, train, ask, pay, settle, verify and claim on a running devnet, with real texts and a real model.

    Killed at any moment, it goes on where it was when started again. Example: `openledger quickstart`
    """
    import orjson

    from openledger.node.quickstart.narrator import Narrator
    from openledger.node.quickstart.story import tell

    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise UserError(f"there is no folder {json_file.absolute().parent}: create it, or name another file")
    config = load_config(data_dir=data_dir)
    first, second = endpoints(port_offset=port_offset), endpoints(port_offset=port_offset + VALIDATOR_PORT_STEP)
    console = Console(highlight=False, soft_wrap=True)
    if port_offset:
        console.print(f"[dim]each command below also takes --port-offset {port_offset}[/dim]")
    report = trio.run(lambda: tell(first, second, config.folder, Narrator(console), fresh=fresh))
    if json_file is not None:
        write_atomically(json_file, orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
