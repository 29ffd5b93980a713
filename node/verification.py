"""Deriving L2 blocks from L1 and DA alone, and holding a node's blocks against them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import trio

from openledger.genesis.presets import l2_genesis
from openledger.node.chain_folder import open_chain
from openledger.node.errors import UserError
from openledger.node.network import Network
from openledger.node.rollup_node import rollup_config_of
from openledger.node.rpc_client import RpcClient
from openledger.rollup.da.client import open_da_client
from openledger.rollup.da.worker import open_blob_worker
from openledger.rollup.derivation.errors import CriticalDerivationError
from openledger.rollup.derivation.pipeline import Progress
from openledger.rollup.driver import PASSING_TROUBLE, Driver
from openledger.rollup.engine import Engine
from openledger.rollup.l1.beacon import BeaconClient
from openledger.rollup.l1.client import L1Client


@dataclass(frozen=True)
class BlockVerdict:
    """`good`: the node's block is the derived one. `unchecked`: L1 does not hold it yet, or the node lacks it."""

    number: int
    verdict: Literal["good", "false", "unchecked"]
    detail: str


async def verify_blocks(
    network: Network,
    *,
    l1_rpc_url: str,
    l1_beacon_urls: Sequence[str],
    da_url: str,
    rpc_url: str,
    first: int,
    last: int | None,
    folder: Path | None,
    on_verdict: Callable[[BlockVerdict], None],
    on_progress: Callable[[int], None],
) -> None:
    """Derive up to block `last` (None: as far as L1 goes) and give a verdict on each block from `first`; those that
    L1 does not hold yet have one verdict together.

    What was derived is kept in `folder`, so that a later call goes on from there; None derives from genesis in a
    folder that is removed afterwards. Raises UserError when L1 or DA do not answer, RpcUnavailable, StartupError.
    """
    temporary = Path(tempfile.mkdtemp(prefix="openledger-verify-")) if folder is None else None
    where = folder or temporary
    assert where is not None
    genesis = l2_genesis(network.preset, network.timestamp_s)
    config = await trio.to_thread.run_sync(rollup_config_of, network)
    chain = await trio.to_thread.run_sync(open_chain, where / "chain", genesis)
    try:
        async with (
            L1Client(l1_rpc_url) as l1,
            BeaconClient(l1_beacon_urls) as beacon,
            open_blob_worker(development=network.preset.development) as worker,
            open_da_client(da_url, worker=worker) as da,
            RpcClient(rpc_url) as rpc,
        ):
            driver = Driver(Engine(chain, config), l1, da, blobs=beacon if l1_beacon_urls else None)
            try:
                while last is None or chain.head("safe").number < last:
                    progress = await driver.step()
                    if progress is None:
                        on_progress(chain.head("safe").number)
                    elif progress is Progress.AT_TIP:
                        break
            except (*PASSING_TROUBLE, CriticalDerivationError) as error:
                raise UserError(f"the chain cannot be derived: {error}") from error
            safe = chain.head("safe").number
            for number in range(first, (safe if last is None else min(safe, last)) + 1):
                header = chain.header_by_number(number)
                assert header is not None, "the safe chain has no gaps"
                told = await rpc.call("eth_getBlockByNumber", hex(number), False)
                derived = "0x" + header.hash.hex()
                if told is None:
                    on_verdict(BlockVerdict(number, "unchecked", f"{rpc_url} does not have it"))
                elif told["hash"] == derived:
                    on_verdict(BlockVerdict(number, "good", derived))
                else:
                    on_verdict(BlockVerdict(number, "false", f"derived {derived}, the node says {told['hash']}"))
            if last is not None and last > safe:
                on_verdict(BlockVerdict(max(first, safe + 1), "unchecked", f"and all to {last}: L1 holds {safe} now"))
    finally:
        chain.close()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
