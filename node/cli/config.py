"""`openledger config`: what a node would run with, and where each setting can be given."""

from __future__ import annotations

import typer

from openledger.node.cli.options import ConfigFile, DataDir, PortOffset
from openledger.node.config import Config, load_config

app = typer.Typer(help="Show the configuration and its settings.", no_args_is_help=True)


@app.command("show")
def show(config: ConfigFile = None, data_dir: DataDir = None, port_offset: PortOffset = None) -> None:
    """Print the settings that a node would run with, as JSON; keys are left out.

    Example: `OPENLEDGER_PORTS__RPC=9545 openledger config show`
    """
    loaded = load_config(config, data_dir=data_dir, port_offset=port_offset)
    secret = {name for name in Config.model_fields if name.endswith("_key")}
    print(loaded.model_dump_json(indent=2, exclude=secret))


@app.command("settings")
def settings() -> None:
    """List every setting with its environment variable, default and meaning.

    Example: `openledger config settings`
    """
    for name, field in Config.model_fields.items():
        default = "" if name.endswith("_key") else f" = {field.get_default(call_default_factory=True)!r}"
        print(f"{name} (OPENLEDGER_{name.upper()}){default}\n    {field.description or ''}".rstrip())
