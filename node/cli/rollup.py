"""`openledger rollup`: what operators debug the rollup with, and what an independent node is pointed at it with."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import trio
import typer

from openledger.genesis.presets import DEVNET
from openledger.node.cli.input_file import read_bytes_or_hex
from openledger.node.cli.options import DataDir, NetworkFile, default_data_dir
from openledger.node.errors import StartupError, UserError

if TYPE_CHECKING:
    from openledger.node.network import Network
    from openledger.rollup.codec.readable import ChainTimes

app = typer.Typer(help="Look into what the rollup writes; point an independent node at it.", no_args_is_help=True)


class Kind(StrEnum):
    """What a file is said to hold."""

    BATCHER_TX = "batcher-tx"
    CHANNEL = "channel"
    FRAME = "frame"
    SPAN_BATCH = "span-batch"
    DEPOSIT = "deposit"
    L1_INFO = "l1-info"


@app.callback()
def rollup() -> None:
    """Look into what the rollup writes to L1 and the DA layer; point an independent node at it."""


@app.command()
def decode(
    kind: Annotated[Kind, typer.Argument(help="What the file holds.")],
    file: Annotated[Path, typer.Argument(help="The bytes, as they are or as hex; - reads standard input.")],
    rollup_config: Annotated[
        Path | None, typer.Option(help="op-node's rollup.json: chain id, genesis time, block time.")
    ] = None,
    chain_id: Annotated[int | None, typer.Option(min=1, help="L2 chain id, which span batches leave out.")] = None,
) -> None:
    """Print as JSON what a batcher transaction, frame, channel, span batch, deposit or L1 attributes hold.

    `batcher-tx` takes calldata or a whole signed transaction, `span-batch` also one without its version byte,
    `l1-info` also the deposit around it. Exit status 1: the bytes are not that; 2: the file cannot be read.

    Example: `cast tx 0x12… input | openledger rollup decode batcher-tx -`
    """
    from openledger.rollup.codec.readable import DECODERS

    chain = _chain(rollup_config, chain_id)
    data = read_bytes_or_hex(file)
    try:
        shown = DECODERS[kind.value](data, chain)
    except ValueError as error:
        raise UserError(f"{file} holds no {kind.value} that can be read: {error}") from error
    _print_json(shown)


@app.command()
def config(
    network_file: NetworkFile = None,
    data_dir: DataDir = None,
    rpc: Annotated[str | None, typer.Option(help="Ask the node at this JSON-RPC URL instead.")] = None,
) -> None:
    """Print the chain's rollup.json, as op-node reads it with --rollup.config.

    Example: `openledger rollup config > rollup.json`

    An op-node with it needs `--altda.enabled --altda.da-server URL` for the DA server, L1 by --l1, and an execution client
    by --l2 that starts from `openledger rollup genesis`, such as `openledger rpc` or, until our own precompiles are called,
    op-geth.
    """
    if rpc is not None:
        _print_json(_asked(rpc, "optimism_rollupConfig"))
        return
    from openledger.node.rollup_node import rollup_config_of

    _print_json(rollup_config_of(_network(network_file, data_dir)).to_json())


@app.command()
def genesis(network_file: NetworkFile = None, data_dir: DataDir = None) -> None:
    """Print the chain's L2 genesis.json in geth's form, for an execution client.

    Example: `openledger rollup genesis > genesis.json`, then `openledger rpc --genesis genesis.json`
    """
    from openledger.genesis.presets import l2_genesis

    network = _network(network_file, data_dir)
    _print_json(l2_genesis(network.preset, network.timestamp_s).to_json())


def _network(network_file: Path | None, data_dir: Path | None) -> Network:
    """The network that `--network-file` names, else that of the data folder. Raises StartupError."""
    from openledger.node.network import read_network

    return read_network(network_file or (data_dir or default_data_dir()).expanduser() / "network.json")


def _asked(url: str, method: str) -> Any:
    from openledger.node.rpc_client import RpcClient, RpcError, RpcUnavailable

    async def ask() -> Any:
        async with RpcClient(url) as client:
            return await client.call(method)

    try:
        return trio.run(ask)
    except (RpcError, RpcUnavailable) as error:
        raise UserError(f"{url} does not answer {method}: {error}") from error


def _print_json(document: Any) -> None:
    json.dump(document, sys.stdout, indent=2)
    print()


def _chain(rollup_config: Path | None, chain_id: int | None) -> ChainTimes:
    from openledger.node.http.json_limits import require_shallow_json
    from openledger.rollup.codec.readable import ChainTimes, Unreadable

    if rollup_config is None:
        return ChainTimes(DEVNET.l2_chain_id if chain_id is None else chain_id)
    try:
        content = rollup_config.read_bytes()
        require_shallow_json(content)
        chain = ChainTimes.from_rollup_config(json.loads(content))
    except (OSError, Unreadable, ValueError, RecursionError) as error:
        raise StartupError(f"{rollup_config} cannot be used as a rollup.json: {error}") from error
    return chain if chain_id is None else replace(chain, chain_id=chain_id)
