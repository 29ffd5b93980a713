"""What a client command works with: the endpoints of a running node, and the key it signs with."""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from openledger.genesis.dev_accounts import DEV_ACCOUNTS
from openledger.genesis.presets import Preset
from openledger.node.cli.options import default_data_dir
from openledger.node.config import Endpoints, load_config
from openledger.node.errors import UserError
from openledger.node.network import read_network
from openledger.node.rpc_client import RpcClient
from openledger.node.wallet import Wallet


def endpoints(rpc: str | None = None, api: str | None = None, port_offset: int = 0) -> Endpoints:
    """Where the node is: the given URLs, else the default ports moved by `port_offset`."""
    usual = Endpoints.of(load_config(port_offset=port_offset))
    return dataclasses.replace(usual, rpc=rpc or usual.rpc, api=api or usual.api)


@asynccontextmanager
async def both_chains(
    rpc: str | None, l1_rpc_url: str | None, port_offset: int, network_file: Path | None
) -> AsyncIterator[tuple[Preset, RpcClient, RpcClient]]:
    """The network's preset, and clients of its L1 and of its L2; URLs and file left out are those of a local node.

    Raises StartupError where there is no network file."""
    usual = endpoints(rpc=rpc, port_offset=port_offset)
    network = read_network(network_file or default_data_dir() / "network.json")
    async with RpcClient(l1_rpc_url or usual.l1_rpc) as l1, RpcClient(usual.rpc) as l2:
        yield network.preset, l1, l2


def wallet(account: int | None, key_file: Path | None) -> Wallet:
    """The signing key that `--account` or `--key-file` names.

    Raises UserError when neither or both are given, or the file holds no key or can be read by others.
    """
    if (account is None) == (key_file is None):
        raise UserError("say who signs: --account N for a development account, or --key-file FILE")
    if account is not None:
        return Wallet(DEV_ACCOUNTS[account].private_key)
    assert key_file is not None
    try:
        text = key_file.read_text().strip().removeprefix("0x")
        if key_file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UserError(f"{key_file} can be read by other users: chmod 600 {key_file}")
        key = bytes.fromhex(text)
    except OSError as error:
        raise UserError(f"cannot read the key file {key_file}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{key_file} does not hold a private key as 64 hex digits") from error
    if len(key) != 32:
        raise UserError(f"{key_file} holds {len(key)} bytes; a private key has 32")
    return Wallet(key)
