"""Real chains on disk and real libp2p nodes on loopback, all in one process."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from openledger.evm_ext.block import Block
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.payload import PayloadAttributes
from openledger.genesis.dev_accounts import SEQUENCER_P2P
from openledger.genesis.presets import DEVNET, l2_genesis
from openledger.p2p import ChainBackend, P2PConfig, P2PService, PeerBackend


def grow(chain: Chain, count: int, marker: int = 0) -> list[Block]:
    """`count` empty blocks on top of the head; `marker` makes another branch of them."""
    blocks = []
    for _ in range(count):
        head = chain.head()
        block = chain.build(
            head.hash,
            PayloadAttributes(
                timestamp=head.timestamp + 2,
                prev_randao=marker.to_bytes(32, "big"),
                suggested_fee_recipient=bytes(20),
                parent_beacon_block_root=bytes(32),
                no_tx_pool=True,
                eip_1559_params=bytes(8),
            ),
        )
        chain.set_heads(unsafe=block.hash)
        blocks.append(block)
    return blocks


@dataclass
class Network:
    """Chains that start from one genesis, so long ago that 100 blocks end near now."""

    folder: Path
    genesis_time: int

    def __post_init__(self) -> None:
        self._open: list[Chain] = []

    def chain(self, name: str, blocks: int = 0) -> Chain:
        chain = Chain.open(self.folder / name / "chain", l2_genesis(DEVNET, self.genesis_time))
        self._open.append(chain)
        grow(chain, blocks)
        return chain

    def config(self, name: str, chain: Chain, *peers: str, sequencer: bool = False, **changes: Any) -> P2PConfig:
        settings: dict[str, Any] = {
            "listen_port": 0,
            "sequencer_address": SEQUENCER_P2P.address,
            "sequencer_key": SEQUENCER_P2P.private_key if sequencer else None,
            "status_interval_s": 0.3,
            **changes,
        }
        return P2PConfig(chain.chain_id, chain.genesis_hash, self.folder / name, static_peers=peers, **settings)

    def close(self) -> None:
        for chain in self._open:
            chain.close()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path, int(time.time()) - 200)
    yield network
    network.close()


@asynccontextmanager
async def run_service(config: P2PConfig, backend: PeerBackend) -> AsyncIterator[P2PService]:
    service = P2PService(config, backend)
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: Any) -> None:
            await service.run(task_status=task_status)

        await nursery.start(run)
        yield service
        nursery.cancel_scope.cancel()


@dataclass
class Tools:
    """What tests share, without importing this file."""

    grow: Callable[..., list[Block]]
    run_service: Callable[[P2PConfig, PeerBackend], AbstractAsyncContextManager[P2PService]]
    backend: type[ChainBackend]

    @staticmethod
    async def until(condition: Callable[[], bool], timeout_s: float = 240) -> None:
        with trio.fail_after(timeout_s):
            while not condition():  # noqa: ASYNC110
                await trio.sleep(0.01)


@pytest.fixture
def tools() -> Tools:
    return Tools(grow, run_service, ChainBackend)
