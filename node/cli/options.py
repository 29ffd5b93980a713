"""Options that several subcommands share, so that each is spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from openledger.node.config import load_config
from openledger.node.errors import UserError

ConfigFile = Annotated[Path | None, typer.Option("--config", help="TOML file; environment and flags override it.")]
DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder for everything kept on disk. Default ~/.openledger/devnet.")
]
PortOffset = Annotated[int | None, typer.Option("--port-offset", min=0, help="Move every port by this much.")]
Host = Annotated[str | None, typer.Option("--host", help="Address to listen on. Default 127.0.0.1.")]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"] | None,
    typer.Option("--log-level", help="What is logged: from here on."),
]
LogFormat = Annotated[
    Literal["console", "json"] | None, typer.Option("--log-format", help="Log lines for people, or for machines.")
]
NetworkFile = Annotated[
    Path | None,
    typer.Option("--network-file", help="network.json of the chain to join. Default DATA_DIR/network.json."),
]
RpcUrl = Annotated[
    str | None,
    typer.Option("--rpc", envvar="OPENLEDGER_RPC", help="JSON-RPC of the node to talk to.", show_default=False),
]
L1RpcUrl = Annotated[
    str | None, typer.Option("--l1-rpc-url", help="JSON-RPC of the L1; left out: the devnet's.", show_default=False)
]
ApiUrl = Annotated[
    str | None, typer.Option("--api", envvar="OPENLEDGER_API", help="API of the node to talk to.", show_default=False)
]
ClientPortOffset = Annotated[
    int, typer.Option("--port-offset", envvar="OPENLEDGER_PORT_OFFSET", min=0, help="The running node's port offset.")
]
Account = Annotated[
    int | None, typer.Option("--account", min=0, max=9, help="Sign as this development account (devnet only).")
]
KeyFile = Annotated[Path | None, typer.Option("--key-file", help="File with the signing private key as 64 hex digits.")]


def default_data_dir() -> Path:
    """The data folder that the configuration names, absolute."""
    return load_config().folder


def l1_address(value: str | None, option: str) -> bytes | None:
    """The 20 bytes that an option gives, None where it is not given. Raises UserError."""
    if value is None:
        return None
    try:
        address = bytes.fromhex(value.removeprefix("0x"))
    except ValueError:
        address = b""
    if len(address) != 20:
        raise UserError(f"{option} {value!r} is not an address: 0x and 40 hex digits")
    return address
