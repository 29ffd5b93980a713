"""`openledger rollup`: what operators debug the rollup with. Needs no node."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from openledger.genesis.presets import DEVNET
from openledger.node.cli.input_file import read_bytes_or_hex
from openledger.node.errors import StartupError, UserError

if TYPE_CHECKING:
    from openledger.rollup.codec.readable import ChainTimes

app = typer.Typer(help="Look into what the rollup writes to L1 and the DA layer.", no_args_is_help=True)


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
    """Look into what the rollup writes to L1 and the DA layer."""


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
    json.dump(shown, sys.stdout, indent=2)
    print()


def _chain(rollup_config: Path | None, chain_id: int | None) -> ChainTimes:
    from openledger.rollup.codec.readable import ChainTimes, Unreadable

    if rollup_config is None:
        return ChainTimes(DEVNET.l2_chain_id if chain_id is None else chain_id)
    try:
        chain = ChainTimes.from_rollup_config(json.loads(rollup_config.read_bytes()))
    except (OSError, Unreadable, ValueError, RecursionError) as error:
        raise StartupError(f"{rollup_config} cannot be used as a rollup.json: {error}") from error
    return chain if chain_id is None else replace(chain, chain_id=chain_id)
