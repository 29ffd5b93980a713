"""`openledger config`: what a node would run with, and where each setting can be given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

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
    for name, field in _settings(Config):
        default = "" if name.endswith("_key") else f" = {shown(field.get_default(call_default_factory=True))}"
        variable = "OPENLEDGER_" + name.replace(".", "__").upper()
        print(f"{name} ({variable}){default}\n    {field.description or ''}".rstrip())


def _settings(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting with the dotted name it has in TOML."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _settings(field.annotation, f"{path}{name}.")
        else:
            yield path + name, field


def shown(default: Any) -> str:
    """A default as it would be written in TOML."""
    if isinstance(default, Path):
        default = str(default)
    return json.dumps(default)
