"""`openledger l1`: a network's contracts on an L1 that exists already."""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import trio
import typer
from rich.console import Console

from openledger.genesis.counted import counted
from openledger.node.cli.options import Account, KeyFile, NetworkFile, default_data_dir
from openledger.node.cli.session import wallet
from openledger.node.errors import StartupError, UserError
from openledger.node.network import Network, read_network, write_atomically
from openledger.node.rpc_client import RpcClient

if TYPE_CHECKING:
    from openledger.genesis.preset import Preset
    from openledger.node.l1_deployment import Check, Taken, Terms

app = typer.Typer(help="Put a network's contracts on an L1; check them there.", no_args_is_help=True)

WEI_PER_COIN = 10**18
PUBLIC_CONFIRMATIONS = 64
"""L1 blocks, two epochs of Ethereum's beacon chain: then the rollup's first L1 block is final."""

L1RpcUrl = Annotated[str, typer.Option("--l1-rpc-url", help="JSON-RPC of the L1.")]
RoleAddress = Annotated[str | None, typer.Option(help="Address; left out on a devnet: the development account.")]


@app.callback()
def l1() -> None:
    """Put a network's contracts on an L1; check them there."""


@app.command()
def deploy(
    l1_rpc_url: L1RpcUrl,
    key_file: KeyFile = None,
    account: Account = None,
    preset: Annotated[str, typer.Option(help="What the network is otherwise: devnet, testnet or mainnet.")] = "devnet",
    owner: RoleAddress = None,
    batcher: RoleAddress = None,
    proposer: RoleAddress = None,
    unsafe_block_signer: RoleAddress = None,
    open_token: Annotated[
        str | None, typer.Option(help="The ERC-20 that is OPEN on this L1; left out: one is deployed for the owner.")
    ] = None,
    l2_chain_id: Annotated[int | None, typer.Option(min=1, help="Left out: the preset's.")] = None,
    network_name: Annotated[str, typer.Option(help="A name for people.")] = "",
    out: Annotated[Path, typer.Option(help="Where the network's description goes.")] = Path("network.json"),
    state: Annotated[
        Path | None, typer.Option(help="What was sent so far. Default: OUT with .deployment added.")
    ] = None,
    confirmations: Annotated[
        int | None,
        typer.Option(
            min=0, help=f"L1 blocks over the rollup's first one. Default: devnet 0, else {PUBLIC_CONFIRMATIONS}."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only rehearse on a copy, and say what it costs.")] = False,
) -> None:
    """Deploy token, portal, SystemConfig, output oracle, messenger and bridges; write the network's description.

    Everything is rehearsed on an L1 in memory first. Interrupted, run it again: it goes on from the state file.
    At the end all code, links, roles and the locked OPEN are read back from L1 and checked.

    Example: `openledger l1 deploy --l1-rpc-url http://127.0.0.1:8545 --account 9 --out network.json`, then
    `openledger node --role sequencer --network-file network.json --l1-rpc-url … --da-url …`
    """
    from openledger.node.l1_deployment import Deployment, Terms, check_network

    signer, console = wallet(account, key_file), Console(soft_wrap=True, highlight=False)
    state_file = state or out.with_name(out.name + ".deployment")
    roles = {
        "owner": owner,
        "batcher": batcher,
        "proposer": proposer,
        "unsafe_block_signer": unsafe_block_signer,
    }

    async def run() -> None:
        async with RpcClient(l1_rpc_url) as rpc:
            chosen = chosen_preset(preset, roles, int(await rpc.call("eth_chainId"), 16), l2_chain_id)
            token = None if open_token is None else _address("--open-token", open_token)
            terms = Terms(chosen, signer.address, token)
            if dry_run or not state_file.exists():
                await _rehearse(rpc, signer.private_key, terms, console, show=dry_run)
            if dry_run:
                return
            deployment = Deployment(
                rpc,
                signer.private_key,
                terms,
                state_file=state_file,
                confirmations=_confirmations(confirmations, chosen),
                name=network_name,
                on_step=lambda taken: _say(console, taken),
            )
            network = await deployment.run()
            await _require_good(check_network(rpc, network), console)
            write_atomically(out, network.to_json().encode())
            assert network.l1_genesis is not None
            console.print(f"the rollup begins at L1 block {network.l1_genesis.number}; its description is {out}")
            if token is not None:
                amount = Decimal(terms.proposer_wei) / WEI_PER_COIN
                console.print(
                    f"next: send 0x{chosen.proposer.hex()} {amount:f} OPEN on L1, which its outputs' bonds take"
                )

    trio.run(run)


@app.command()
def verify(l1_rpc_url: L1RpcUrl, network_file: NetworkFile = None) -> None:
    """Hold a network's description against its L1: code, links, roles, locked OPEN. Exit status 1 if anything differs.

    Asks for the state at the rollup's first L1 block, so later it needs an archive node.

    Example: `openledger l1 verify --l1-rpc-url http://127.0.0.1:8545 --network-file network.json`
    """
    from openledger.node.l1_deployment import check_network

    network = read_network(network_file or default_data_dir() / "network.json")
    if network.l1_genesis is None:
        raise StartupError("this devnet has its own embedded L1: there is nothing to hold it against")
    console = Console(soft_wrap=True, highlight=False)

    async def run(described: Network) -> None:
        async with RpcClient(l1_rpc_url) as rpc:
            await _require_good(check_network(rpc, described), console, show_good=True)

    trio.run(run, network)


def chosen_preset(name: str, given: dict[str, str | None], l1_chain_id: int, l2_chain_id: int | None) -> Preset:
    """A preset on this L1 with these roles (None: the preset's own). Raises UserError for what cannot be."""
    from openledger.genesis.preset import DevelopmentKeyRefused, Roles
    from openledger.genesis.presets import UnknownPreset
    from openledger.genesis.presets import preset as known

    try:
        base = known(name)
    except UnknownPreset as error:
        raise UserError(str(error)) from error
    if not base.development and l1_chain_id != base.l1_chain_id:
        raise UserError(f"preset {name} belongs on L1 chain {base.l1_chain_id}, this one is {l1_chain_id}")
    addresses = {
        role: _address(f"--{role.replace('_', '-')}", text) for role, text in given.items() if text is not None
    }
    if base.roles is not None:
        addresses = {**vars(base.roles), **addresses}
    missing = [f"--{role.replace('_', '-')}" for role in given if role not in addresses]
    if missing:
        raise UserError(f"preset {name} has no roles of its own: give {', '.join(missing)}")
    moved = replace(base, l1_chain_id=l1_chain_id, l2_chain_id=l2_chain_id or base.l2_chain_id, l1_contracts=None)
    try:
        return moved.with_roles(Roles(**addresses))
    except (DevelopmentKeyRefused, ValueError) as error:
        raise UserError(str(error)) from error


def _address(option: str, text: str) -> bytes:
    try:
        address = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        address = b""
    if len(address) != 20:
        raise UserError(f"{option} {text!r} is not an address: 0x and 40 hex digits")
    return address


def _confirmations(given: int | None, preset: Preset) -> int:
    if given is not None:
        return given
    return 0 if preset.development else PUBLIC_CONFIRMATIONS


async def _rehearse(rpc: RpcClient, key: bytes, terms: Terms, console: Console, *, show: bool) -> None:
    """Carry everything out on a copy and say what it costs. Raises UserError when the deployer cannot pay for it."""
    from openledger.node.l1_deployment import Deployment, check_network, simulated_l1

    deployer = "0x" + terms.deployer.hex()
    nonce = int(await rpc.call("eth_getTransactionCount", deployer, "pending"), 16)
    head = await rpc.call("eth_getBlockByNumber", "latest", False)
    price = int(head["baseFeePerGas"], 16) + int(await rpc.call("eth_maxPriorityFeePerGas"), 16)
    taken: list[Taken] = []
    async with simulated_l1(
        terms, nonce=nonce, timestamp=int(head["timestamp"], 16), base_fee_wei=int(head["baseFeePerGas"], 16)
    ) as l1:
        rehearsal = Deployment(l1, key, terms, on_step=taken.append, poll_interval_s=0)
        await _require_good(check_network(l1, await rehearsal.run()), console)
    gas = sum(step.gas_used for step in taken)
    if show:
        for step in taken:
            _say(console, step, "would be ")
    cost = Decimal(gas * price) / WEI_PER_COIN
    console.print(
        f"{counted(len(taken), 'transaction')} from {deployer}: {gas:,} gas, {cost:.6f} coins of the L1 at its present fee"
    )
    balance = int(await rpc.call("eth_getBalance", deployer, "latest"), 16)
    if balance < gas * price:
        raise UserError(f"{deployer} holds {Decimal(balance) / WEI_PER_COIN:.6f}: send it more before deploying")


def _say(console: Console, taken: Taken, verb: str = "") -> None:
    where = f" at {taken.address}" if taken.address else ""
    before = " before" if taken.again else ""
    console.print(f"{verb}done{before}: {taken.step}{where} ({taken.gas_used:,} gas)")


async def _require_good(checks: AsyncIterable[Check], console: Console, *, show_good: bool = False) -> None:
    """Raises UserError that names how many checks failed; each is printed."""
    count, bad = 0, 0
    async for check in checks:
        count += 1
        bad += not check.good
        if show_good or not check.good:
            verdict = "[green]good[/green]" if check.good else "[red]wrong[/red]"
            console.print(f"{verdict} {check.name}{f': {check.detail}' if not check.good else ''}")
    if bad:
        raise UserError(f"{bad} of {counted(count, 'check')} failed: what stands on L1 is not what was described")
    console.print(f"{count} checks of code, links, roles, locked OPEN and initialisers are good")
