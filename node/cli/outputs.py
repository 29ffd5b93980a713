"""`openledger bridge output` and `openledger bridge bond`: output roots on L1, disputes about them, and what is staked."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import trio
import typer
from rich.console import Console

from openledger.genesis.parameters import OPEN_WEI
from openledger.node.cli.amounts import hex_data, open_wei
from openledger.node.cli.options import (
    Account,
    ClientPortOffset,
    KeyFile,
    L1RpcUrl,
    NetworkFile,
    RpcUrl,
)
from openledger.node.cli.session import both_chains, wallet
from openledger.node.outputs import Outputs, OutputStatus, Verdict

output_app = typer.Typer(help="Output roots on L1: list, challenge and decide.", no_args_is_help=True)
bond_app = typer.Typer(help="OPEN staked on outputs and challenges: status, deposit, withdraw.", no_args_is_help=True)

Index = Annotated[int, typer.Argument(min=0, help="The output's index, as `openledger bridge output list` shows it.")]
Amount = Annotated[str, typer.Argument(help="Amount in OPEN, such as 1000.")]


@asynccontextmanager
async def _outputs(
    rpc: str | None, l1_rpc_url: str | None, port_offset: int, network_file: Path | None
) -> AsyncIterator[Outputs]:
    async with both_chains(rpc, l1_rpc_url, port_offset, network_file) as (preset, l1, l2):
        yield Outputs(preset, l1, l2)


def _console() -> Console:
    return Console(soft_wrap=True, highlight=False)


def _open(wei: int) -> str:
    return f"{(Decimal(wei) / OPEN_WEI).normalize():f} OPEN"


# --- outputs ---


@output_app.command("list")
def list_outputs(
    count: Annotated[int, typer.Option(min=1, max=1_000, help="How many, from the newest back.")] = 10,
    rpc: RpcUrl = None,
    l1_rpc_url: L1RpcUrl = None,
    port_offset: ClientPortOffset = 0,
    network_file: NetworkFile = None,
) -> None:
    """Show the newest output roots, and whether the node that is asked holds them to be right.

    Example: `openledger bridge output list --count 5`
    """

    async def run() -> None:
        async with _outputs(rpc, l1_rpc_url, port_offset, network_file) as outputs:
            found = await outputs.listing(count)
            console = _console()
            for output in found:
                console.print(_described(output))
            if not found:
                console.print("no output has been proposed yet")

    trio.run(run)


def _described(output: OutputStatus) -> str:
    if output.challenger:
        left = output.decision_until - int(time.time())
        state = f"challenged by 0x{output.challenger.hex()}, " + (
            f"to be decided within {left} s" if left > 0 else "not decided in time"
        )
    elif output.frozen:
        state = "frozen: it stands on a challenged one"
    else:
        state = f"final in {output.final_in_s} s" if output.final_in_s else "final"
    colour = {Verdict.RIGHT: "green", Verdict.WRONG: "red", Verdict.UNKNOWN: "yellow"}[output.verdict]
    return (
        f"{output.index}: L2 block {output.l2_block_number} 0x{output.root.hex()} "
        f"[{colour}]{output.verdict.value}[/{colour}], {state}"
    )


@output_app.command()
def challenge(
    index: Index,
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    l1_rpc_url: L1RpcUrl = None,
    port_offset: ClientPortOffset = 0,
    network_file: NetworkFile = None,
) -> None:
    """Challenge a wrong output with a bond; it cannot become final until that is decided. Anybody may.

    Example: `openledger bridge output challenge 12 --account 1`
    """
    signer = wallet(account, key_file)

    async def run() -> None:
        async with _outputs(rpc, l1_rpc_url, port_offset, network_file) as outputs:
            await outputs.challenge(signer, index)
            _console().print(f"output {index} is challenged, and frozen with all after it")

    trio.run(run)


@output_app.command()
def decide(
    index: Index,
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    l1_rpc_url: L1RpcUrl = None,
    port_offset: ClientPortOffset = 0,
    network_file: NetworkFile = None,
) -> None:
    """Decide a challenge by what the node that is asked has derived. Only the oracle's challenger role may.

    Example: `openledger bridge output decide 12 --account 9`
    """
    signer = wallet(account, key_file)

    async def run() -> None:
        async with _outputs(rpc, l1_rpc_url, port_offset, network_file) as outputs:
            verdict = await outputs.decide(signer, index)
            told = (
                "it stays, and the challenger loses" if verdict is Verdict.RIGHT else "it is deleted with all after it"
            )
            _console().print(f"output {index} is {verdict.value}: {told}")

    trio.run(run)


@output_app.command()
def expire(
    index: Index,
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    l1_rpc_url: L1RpcUrl = None,
    port_offset: ClientPortOffset = 0,
    network_file: NetworkFile = None,
) -> None:
    """Have a challenged output deleted that was not decided in time; both bonds go back. Anybody may.

    Example: `openledger bridge output expire 12 --account 1`
    """
    signer = wallet(account, key_file)

    async def run() -> None:
        async with _outputs(rpc, l1_rpc_url, port_offset, network_file) as outputs:
            await outputs.expire(signer, index)
            _console().print(f"output {index} and all after it are deleted")

    trio.run(run)


# --- bonds ---


@bond_app.command()
def status(
    address: Annotated[str | None, typer.Argument(help="Whose bond; left out: the signing account's.")] = None,
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    l1_rpc_url: L1RpcUrl = None,
    port_offset: ClientPortOffset = 0,
    network_file: NetworkFile = None,
) -> None:
    """Show what an account has staked on L1. Example: `openledger bridge bond status --account 7`"""
    whose = wallet(account, key_file).address if address is None else hex_data(address, 20, "an address")

    async def run() -> None:
        async with _outputs(rpc, l1_rpc_url, port_offset, network_file) as outputs:
            found = await outputs.bond(whose)
            console = _console()
            console.print(f"0x{whose.hex()}")
            console.print(f"free: {_open(found.free)}")
            console.print(f"locked behind outputs and challenges: {_open(found.locked)}")
            console.print(f"outside of the bond, on L1: {_open(found.held)}, {_open(found.allowed)} of it allowed")
            console.print(f"an output takes {_open(found.proposer_bond)}, a challenge {_open(found.challenger_bond)}")

    trio.run(run)


@bond_app.command()
def deposit(
    amount: Amount,
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    l1_rpc_url: L1RpcUrl = None,
    port_offset: ClientPortOffset = 0,
    network_file: NetworkFile = None,
) -> None:
    """Put OPEN on L1 into the account's bond. A proposer's node does so by itself, from what its account holds.

    Example: `openledger bridge bond deposit 3000 --account 7`
    """
    wei, signer = open_wei(amount), wallet(account, key_file)

    async def run() -> None:
        async with _outputs(rpc, l1_rpc_url, port_offset, network_file) as outputs:
            await outputs.deposit(signer, wei)
            _console().print(f"{_open(wei)} added to the bond of 0x{signer.address.hex()}")

    trio.run(run)


@bond_app.command()
def withdraw(
    amount: Annotated[str | None, typer.Argument(help="Amount in OPEN; left out: all that is free.")] = None,
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    l1_rpc_url: L1RpcUrl = None,
    port_offset: ClientPortOffset = 0,
    network_file: NetworkFile = None,
) -> None:
    """Take free OPEN out of the account's bond. Example: `openledger bridge bond withdraw --account 7`"""
    wei, signer = None if amount is None else open_wei(amount), wallet(account, key_file)

    async def run() -> None:
        async with _outputs(rpc, l1_rpc_url, port_offset, network_file) as outputs:
            taken = await outputs.withdraw(signer, wei)
            _console().print(f"{_open(taken)} paid to 0x{signer.address.hex()} on L1")

    trio.run(run)
