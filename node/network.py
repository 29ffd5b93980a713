"""Which chain a data folder belongs to, written once as `network.json`: the preset, its genesis time, and for a chain on
an L1 of its own choice also where on that L1 it begins, its contracts there, and its roles.

A devnet begins when it is first started, so its genesis blocks depend on that moment; a node that joins it is
given the same file. Everything else about the chain follows from the preset, but that a development chain may have a
pace of its own: `"pace": {"l1_block_time_s": 1, "seq_window_size": 20}`.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from openledger.genesis.preset import L1Contracts, Roles
from openledger.genesis.presets import Preset, preset
from openledger.node.errors import StartupError
from openledger.node.http.json_limits import require_shallow_json
from openledger.rollup.blocks import BlockId

PACE = ("l1_block_time_s", "l2_block_time_s", "seq_window_size", "channel_timeout")
"""What of a preset a development chain may set otherwise, in seconds and L1 blocks."""


@dataclass(frozen=True)
class Network:
    """A preset begun at a moment (seconds since the Unix epoch).

    `l1_genesis` is the L1 block that the rollup begins at; None for a devnet whose embedded L1 begins with it.
    `name` is for people; empty for the preset's own.
    """

    preset: Preset
    timestamp_s: int
    l1_genesis: BlockId | None = None
    name: str = ""

    def to_json(self) -> str:
        document: dict[str, Any] = {"preset": self.preset.name, "timestamp": self.timestamp_s}
        usual = preset(self.preset.name)
        pace = {name: getattr(self.preset, name) for name in PACE if getattr(self.preset, name) != getattr(usual, name)}
        if pace:
            document["pace"] = pace
        if self.l1_genesis is not None:
            document |= {
                **({"name": self.name} if self.name else {}),
                "l2_chain_id": self.preset.l2_chain_id,
                "l1": {
                    "chain_id": self.preset.l1_chain_id,
                    "genesis": {"hash": _hex(self.l1_genesis.hash), "number": self.l1_genesis.number},
                    "contracts": _addresses_to_json(self.preset.l1),
                },
                "roles": _addresses_to_json(self.preset.roles),
            }
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Network:
        """The inverse of `to_json`. Raises ValueError, KeyError or TypeError for anything else."""
        require_shallow_json(text.encode())
        content = json.loads(text)
        known, timestamp = _paced(preset(content["preset"]), content.get("pace", {})), int(content["timestamp"])
        if "l1" not in content:
            return cls(known, timestamp)
        l1 = content["l1"]
        described = replace(known, l1_chain_id=int(l1["chain_id"]), l2_chain_id=int(content["l2_chain_id"])).with_roles(
            Roles(**_addresses_from_json(Roles, content["roles"])),
            L1Contracts(**_addresses_from_json(L1Contracts, l1["contracts"])),
        )
        genesis = BlockId(_data(l1["genesis"]["hash"], 32), int(l1["genesis"]["number"]))
        return cls(described, timestamp, genesis, str(content.get("name", "")))


def _paced(known: Preset, pace: dict[str, Any]) -> Preset:
    if pace and not known.development:
        raise ValueError(f"{known.name} has the pace of its preset: only a development chain may have another")
    for name, value in pace.items():
        if name not in PACE or type(value) is not int or value < 1:
            raise ValueError(f"pace: {name} = {value!r} (known, as integers from 1: {', '.join(PACE)})")
    return replace(known, **pace)


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _data(value: str, size: int) -> bytes:
    data = bytes.fromhex(value.removeprefix("0x"))
    if len(data) != size:
        raise ValueError(f"{value} has {len(data)} bytes, not {size}")
    return data


def _addresses_to_json(value: Roles | L1Contracts | None) -> dict[str, str]:
    return {name: _hex(address) for name, address in vars(value).items()}


def _addresses_from_json(kind: type[Roles] | type[L1Contracts], found: dict[str, str]) -> dict[str, bytes]:
    return {field.name: _data(found[field.name], 20) for field in fields(kind)}


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
        return Network.from_json(file.read_text())
    except FileNotFoundError as error:
        raise StartupError(
            f"there is no network file {file}: copy network.json from the data folder of the chain to join "
            "(for a devnet: ~/.openledger/devnet/network.json) or name it with --network-file"
        ) from error
    except KeyError as error:
        raise StartupError(f"{file} is not a network file: it lacks {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise StartupError(f"{file} is not a network file: {error}") from error


def open_or_create_network(file: Path, name: str, now_s: int) -> Network:
    """The network in `file`; where there is none yet, the preset `name` begun at `now_s`, written there."""
    if file.exists():
        found = read_network(file)
        if found.preset.name != name:
            raise StartupError(f"{file} belongs to {found.preset.name}, not {name}: choose another --data-dir")
        return found
    return _kept(file, Network(preset(name), now_s))


def join_network(file: Path, given: Path) -> Network:
    """The network in `file`; where there is none yet, the one described by `given`, written there.

    Raises StartupError where both exist and differ.
    """
    if file.exists() and not given.exists():
        return read_network(file)
    network = read_network(given)
    if not file.exists():
        return _kept(file, network)
    if read_network(file) != network:
        raise StartupError(f"{file} belongs to another chain than {given}: choose another --data-dir")
    return network


def _kept(file: Path, network: Network) -> Network:
    write_atomically(file, network.to_json().encode())
    return network
