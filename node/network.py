"""Which chain a data folder belongs to: the preset and its genesis time, written once as `network.json`.

A devnet begins when it is first started, so its genesis blocks depend on that moment; a node that joins it is
given the same file. Everything else about the chain follows from the preset.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from openledger.genesis.presets import Preset, preset
from openledger.node.errors import StartupError


@dataclass(frozen=True)
class Network:
    """A preset begun at a moment (seconds since the Unix epoch)."""

    preset: Preset
    timestamp_s: int

    def to_json(self) -> str:
        return json.dumps({"preset": self.preset.name, "timestamp": self.timestamp_s}, indent=1) + "\n"


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by `data` so that after a crash it holds the old bytes or the new ones, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_network(file: Path) -> Network:
    """The network described by `file`.

    Raises StartupError when it is missing or not such a file.
    """
    try:
        content = json.loads(file.read_text())
        return Network(preset(content["preset"]), int(content["timestamp"]))
    except FileNotFoundError as error:
        raise StartupError(
            f"there is no network file {file}: copy network.json from the data folder of the chain to join "
            "(for a devnet: ~/.openledger/devnet/network.json) or name it with --network-file"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise StartupError(f"{file} is not a network file: {error}") from error


def open_or_create_network(file: Path, name: str, now_s: int) -> Network:
    """The network in `file`; where there is none yet, the preset `name` begun at `now_s`, written there."""
    if file.exists():
        found = read_network(file)
        if found.preset.name != name:
            raise StartupError(f"{file} belongs to {found.preset.name}, not {name}: choose another --data-dir")
        return found
    network = Network(preset(name), now_s)
    write_atomically(file, network.to_json().encode())
    return network
