"""`openledger bridge`: move OPEN between L1 and L2."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import trio
import typer
from rich.console import Console

from openledger.genesis.parameters import OPEN_WEI
from openledger.node.bridge import Bridge, Stage, WithdrawalStatus
from openledger.node.cli import outputs
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
from openledger.node.rpc_client import RpcClient

app = typer.Typer(help="Move OPEN between L1 and L2: deposit; withdraw, prove and finalize.", no_args_is_help=True)
app.add_typer(outputs.output_app, name="output")
app.add_typer(outputs.bond_app, name="bond")

Amount = Annotated[str, typer.Argument(help="Amount in OPEN, such as 2.5.")]
To = Annotated[str | None, typer.Option("--to", help="Address that gets it; left out: the signing account.")]
Hash = Annotated[str, typer.Argument(help="The L2 transaction that began the withdrawal.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the step can be taken.")]


@asynccontextmanager
async def _bridge(
    rpc: str | None, l1_rpc_url: str | None, port_offset: int, network_file: Path | None
) -> AsyncIterator[tuple[Bridge, RpcClient]]:
    async with both_chains(rpc, l1_rpc_url, port_offset, network_file) as (preset, l1, l2):
        yield Bridge(preset, l1, l2), l2


@app.command()
def deposit(
    amount: Amount,
    to: To = None,
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    l1_rpc_url: L1RpcUrl = None,
    port_offset: ClientPortOffset = 0,
    network_file: NetworkFile = None,
) -> None:
    """Lock OPEN on L1 and wait until it is there on L2. Example: `openledger bridge deposit 5 --account 1`"""
    wei, signer = open_wei(amount), wallet(account, key_file)
    receiver = signer.address if to is None else hex_data(to, 20, "an address")
    console = Console(soft_wrap=True, highlight=False)

    async def run() -> None:
        async with _bridge(rpc, l1_rpc_url, port_offset, network_file) as (bridge, l2):
            transaction = await bridge.deposit(signer, receiver, wei)
            console.print(f"locked {amount} OPEN on L1; L2 executes it as 0x{transaction.hex()}")
            receipt = await l2.wait_for_receipt(transaction, timeout_s=300)
            console.print(f"0x{receiver.hex()} has it since L2 block {int(receipt['blockNumber'], 16)}")

    trio.run(run)


@app.command()
def withdraw(
    amount: Amount,
    to: To = None,
    account: Account = None,
    key_file: KeyFile = None,
    rpc: RpcUrl = None,
    l1_rpc_url: L1RpcUrl = None,
    port_offset: ClientPortOffset = 0,
    network_file: NetworkFile = None,
) -> None:
    """Begin a withdrawal on L2. Example: `openledger bridge withdraw 5 --account 1`"""
    wei, signer = open_wei(amount), wallet(account, key_file)
    receiver = signer.address if to is None else hex_data(to, 20, "an address")

    async def run() -> None:
        async with _bridge(rpc, l1_rpc_url, port_offset, network_file) as (bridge, _):
            transaction = await bridge.withdraw(signer, receiver, wei)
            console = Console(soft_wrap=True, highlight=False)
            console.print(f"withdrawal begun: 0x{transaction.hex()}")
            console.print(f"next: openledger bridge prove 0x{transaction.hex()}")

    trio.run(run)


@app.command()
def status(
    transaction: Hash,
    rpc: RpcUrl = None,
    l1_rpc_url: L1RpcUrl = None,
    port_offset: ClientPortOffset = 0,
    network_file: NetworkFile = None,
) -> None:
    """Say how far a withdrawal is. Example: `openledger bridge status 0x12…`"""
    digest = hex_data(transaction, 32, "a transaction hash")

    async def run() -> None:
        async with _bridge(rpc, l1_rpc_url, port_offset, network_file) as (bridge, _):
            _print_status(Console(soft_wrap=True, highlight=False), await bridge.status(digest))

    trio.run(run)


@app.command()
def prove(
    transaction: Hash,
    account: Account = None,
    key_file: KeyFile = None,
    wait: Wait = True,
    rpc: RpcUrl = None,
    l1_rpc_url: L1RpcUrl = None,
    port_offset: ClientPortOffset = 0,
    network_file: NetworkFile = None,
) -> None:
    """Prove a withdrawal on L1. Anybody may; it costs gas there. Example: `openledger bridge prove 0x12… --account 1`"""
    digest, signer = hex_data(transaction, 32, "a transaction hash"), wallet(account, key_file)
    stages = (Stage.READY_TO_PROVE, Stage.PROVEN, Stage.DISPUTED, Stage.READY_TO_FINALIZE, Stage.FINALIZED)
    places = (rpc, l1_rpc_url, port_offset, network_file)
    _step(digest, stages if wait else (), lambda bridge: bridge.prove(signer, digest), "proven", places)


@app.command()
def finalize(
    transaction: Hash,
    account: Account = None,
    key_file: KeyFile = None,
    wait: Wait = True,
    rpc: RpcUrl = None,
    l1_rpc_url: L1RpcUrl = None,
    port_offset: ClientPortOffset = 0,
    network_file: NetworkFile = None,
) -> None:
    """Have a proven withdrawal paid on L1. Example: `openledger bridge finalize 0x12… --account 1`"""
    digest, signer = hex_data(transaction, 32, "a transaction hash"), wallet(account, key_file)
    stages = (Stage.READY_TO_FINALIZE, Stage.FINALIZED, Stage.READY_TO_PROVE, Stage.WAITING_FOR_OUTPUT)
    places = (rpc, l1_rpc_url, port_offset, network_file)
    _step(digest, stages if wait else (), lambda bridge: bridge.finalize(signer, digest), "paid", places)


def _step(
    digest: bytes,
    stages: tuple[Stage, ...],
    take: Callable[[Bridge], Awaitable[bytes]],
    done: str,
    places: tuple[str | None, str | None, int, Path | None],
) -> None:
    """Wait for one of the stages (none: do not wait), then take the step."""
    console = Console(soft_wrap=True, highlight=False)

    async def run() -> None:
        said: list[Stage] = []

        def say(found: WithdrawalStatus) -> None:
            if found.stage not in said:
                said.append(found.stage)
                _print_status(console, found)

        async with _bridge(*places) as (bridge, _):
            if stages:
                await bridge.wait_for(digest, stages, trio.sleep, say)
            console.print(f"{done} in L1 transaction 0x{(await take(bridge)).hex()}")

    trio.run(run)


def _print_status(console: Console, found: WithdrawalStatus) -> None:
    amount = Decimal(found.withdrawal.value) / OPEN_WEI
    left = f" ({found.wait_s} s left)" if found.wait_s else ""
    console.print(
        f"{amount:f} OPEN to 0x{found.withdrawal.target.hex()}, begun in L2 block {found.l2_block_number}: "
        f"{found.stage.value}{left}"
    )
