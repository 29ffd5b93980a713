"""What `openledger dev` prints once everything runs: where things are, and accounts to use."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from openledger.genesis.dev_accounts import DEV_MNEMONIC, USERS
from openledger.genesis.parameters import OPEN_WEI
from openledger.node.config import Endpoints
from openledger.node.rollup_node import RollupNode
from openledger.node.validator_process import validator_config


def print_welcome(node: RollupNode) -> None:
    """Endpoints, funded accounts and what to do next, on standard output."""
    console = Console(width=170, highlight=False)
    config = node.config
    endpoints = Endpoints.of(config)
    places = Table(title="Openledger devnet is running", title_justify="left", show_header=False, box=None)
    places.add_row("L2 JSON-RPC, HTTP and WebSocket", endpoints.rpc, f"chain id {node.chain.chain_id}")
    places.add_row("web page and API", endpoints.api, "health at /health")
    places.add_row("L1 JSON-RPC", endpoints.l1_rpc, f"chain id {node.rollup_config.l1_chain_id}")
    places.add_row("DA", endpoints.da, "EigenDA REST")
    if config.validator:
        second = Endpoints.of(validator_config(config))
        places.add_row("second node's JSON-RPC", second.rpc, f"its API {second.api}")
    places.add_row("data folder", str(config.folder), "")
    console.print(places)
    accounts = Table(title=f"accounts (mnemonic: {DEV_MNEMONIC})", title_justify="left", box=None, show_header=False)
    state = node.chain.state(node.chain.head("unsafe").hash)
    for user in USERS:
        balance = state.balance(user.address) // OPEN_WEI
        accounts.add_row(str(user.index), "0x" + user.address.hex(), "0x" + user.private_key.hex(), f"{balance:,} OPEN")
    console.print(accounts)
    offset = f" --port-offset {config.port_offset}" if config.port_offset else ""
    console.print(f"Next, in a second terminal: [bold]openledger quickstart{offset}[/bold]")
