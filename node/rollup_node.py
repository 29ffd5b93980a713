"""The chain part of a node: L2 chain and pool, peers, derivation, JSON-RPC, and on a sequencer block building and batching.

Walk of a block: `Sequencer` builds it → `P2PService` gossips it → `Batcher` posts it → every node's `Driver` derives it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog
import trio

from openledger.evm_ext.calls import CallRequest
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.genesis_block import genesis_block
from openledger.evm_ext.payload import ExecutionPayload
from openledger.evm_ext.pool import PoolLimits, TransactionPool
from openledger.genesis.dev_accounts import BATCHER, OWNER, PROPOSER, SEQUENCER_P2P, DevAccount
from openledger.genesis.preset import Preset
from openledger.genesis.presets import l1_genesis, l2_genesis
from openledger.node.address_index import fill_index
from openledger.node.chain_folder import open_chain
from openledger.node.config import Config, Endpoints, PoolConfig
from openledger.node.content import ContentStore
from openledger.node.da_layer import open_da_layer
from openledger.node.errors import StartupError
from openledger.node.http import AccessPolicy, HttpLimits
from openledger.node.listening import http_service
from openledger.node.network import Network
from openledger.node.registry import CallReverted, Registry
from openledger.node.rpc.backend import RpcBackend, RpcLimits, SyncProgress
from openledger.node.rpc.dispatcher import Dispatcher, DispatchLimits
from openledger.node.rpc.errors import ServerError
from openledger.node.rpc.ethereum import EthereumRpc
from openledger.node.rpc.openledger import OpenledgerRpc
from openledger.node.rpc.optimism import OptimismRpc
from openledger.node.rpc.server import RpcServer
from openledger.node.rpc_client import RpcClient, RpcUnavailable
from openledger.node.rpc_client import RpcError as RpcClientError
from openledger.node.supervisor import Service
from openledger.p2p.backend import ChainBackend
from openledger.p2p.service import P2PConfig, P2PService
from openledger.rollup.batcher import Batcher, BatcherSettings
from openledger.rollup.blocks import BlockId
from openledger.rollup.config import RollupConfig
from openledger.rollup.da.direct import DALayer
from openledger.rollup.driver import Driver
from openledger.rollup.engine import Engine
from openledger.rollup.l1.beacon import BeaconClient
from openledger.rollup.l1.endpoints import L1Endpoints, open_l1
from openledger.rollup.output_checker import OutputChecker
from openledger.rollup.proposer import Proposer
from openledger.rollup.sequencer import BlockCallback, Sequencer

log = structlog.get_logger(__name__)

SEQUENCING_ROLES = ("dev", "sequencer")
PUBLISH_BEHIND_S = 30
"""A block older than this is not gossiped: peers refuse it, and fetch it by range sync."""


def rollup_config_of(network: Network) -> RollupConfig:
    """The rollup's configuration, which follows from the network alone."""
    preset, timestamp, l1 = network.preset, network.timestamp_s, network.l1_genesis
    if l1 is None:
        l1 = BlockId(genesis_block(l1_genesis(preset, timestamp))[0].hash, 0)
    l2, _ = genesis_block(l2_genesis(preset, timestamp))
    return RollupConfig.from_genesis(preset, l1.hash, l2.hash, timestamp, l1.number)


def private_key(setting: str, name: str, development: bytes | None) -> bytes:
    """A key from the configuration, or the development key where there is one. Raises StartupError."""
    if not setting:
        if development is None:
            raise StartupError(f"{name} is not set: give it in the configuration or as OPENLEDGER_{name.upper()}")
        return development
    try:
        key = bytes.fromhex(setting.removeprefix("0x"))
    except ValueError:
        key = b""
    if len(key) != 32:
        raise StartupError(f"{name} must be a private key of 64 hex digits")
    return key


def _l1(config: Config, url: str) -> AbstractAsyncContextManager[L1Endpoints]:
    """Raises StartupError for a quorum that cannot be reached."""
    urls = (url, *config.l1_further_rpc_urls)
    if config.l1_quorum > len(urls):
        raise StartupError(f"l1_quorum is {config.l1_quorum}, but only {len(urls)} L1 endpoints are configured")
    return open_l1(
        urls, quorum=config.l1_quorum, requests_per_s=config.l1_requests_per_s, deadline_s=config.l1_timeout_s
    )


def _optional_key(setting: str, name: str, preset: Preset, development: DevAccount) -> bytes | None:
    """A key from the configuration, the development account's on a development chain, else None."""
    if not setting and not preset.development:
        return None
    return private_key(setting, name, development.private_key if preset.development else None)


def pool_limits(config: PoolConfig) -> PoolLimits:
    """The pool's limits as configured."""
    return PoolLimits(
        account_slots=config.account_slots,
        global_slots=config.global_slots,
        account_queue=config.account_queue,
        global_queue=config.global_queue,
        lifetime_s=config.lifetime_s,
        minimum_tip=config.price_limit_wei,
        price_bump_percent=config.price_bump_percent,
        maximum_fee=config.fee_cap_wei or None,
    )


@dataclass
class RollupNode:
    """The parts of a running chain node that others build on."""

    config: Config
    network: Network
    rollup_config: RollupConfig
    chain: Chain
    pool: TransactionPool
    engine: Engine
    driver: Driver
    p2p: P2PService
    l1: L1Endpoints
    da: DALayer
    content: ContentStore
    dispatcher: Dispatcher
    services: list[Service]
    output_checker: OutputChecker
    batcher: Batcher | None = None
    proposer: Proposer | None = None

    def registry(self, block_hash: bytes | None = None) -> Registry:
        """Our contracts' state after a block; None is the unsafe head."""
        return registry_of(self.chain, block_hash)


def registry_of(chain: Chain, block_hash: bytes | None = None) -> Registry:
    """Our contracts' state after a block; None is the unsafe head."""
    at = block_hash or chain.head("unsafe").hash

    def call(to: bytes, data: bytes) -> bytes:
        result = chain.call(CallRequest(to=to, data=data), at)
        if not result.success:
            raise CallReverted(result.output)
        return result.output

    return Registry(call)


@asynccontextmanager
async def open_rollup_node(config: Config, network: Network) -> AsyncIterator[RollupNode]:
    """Open the chain's folder and put the chain services together; the supervisor runs them.

    Raises StartupError.
    """
    sequencing = config.role in SEQUENCING_ROLES
    preset = network.preset
    endpoints = Endpoints.of(config)
    async with AsyncExitStack() as stack:
        rollup_config = await trio.to_thread.run_sync(rollup_config_of, network)
        genesis = l2_genesis(preset, network.timestamp_s)
        chain = await trio.to_thread.run_sync(
            open_chain, config.folder / "chain", genesis, config.address_index, config.state_history
        )
        stack.callback(chain.close)
        pool = TransactionPool(chain, pool_limits(config.pool), journal=config.folder / "transactions.journal")
        stack.callback(pool.close)
        content = ContentStore(config.folder / "content")
        l1 = await stack.enter_async_context(_l1(config, endpoints.l1_rpc))
        da = await stack.enter_async_context(open_da_layer(config, preset, l1, endpoints.da))

        engine = Engine(chain, rollup_config)
        beacon = None
        if config.l1_beacon_urls:
            beacon = await stack.enter_async_context(BeaconClient(config.l1_beacon_urls))
        driver = Driver(engine, l1, da, blobs=beacon)
        p2p = P2PService(
            P2PConfig(
                chain_id=chain.chain_id,
                genesis_hash=chain.genesis_hash,
                folder=config.folder,
                listen_host=config.host,
                listen_port=config.listening.p2p,
                static_peers=config.peers,
                sequencer_address=preset.unsafe_block_signer,
                sequencer_key=private_key(
                    config.sequencer_key, "sequencer_key", SEQUENCER_P2P.private_key if preset.development else None
                )
                if sequencing
                else None,
            ),
            ChainBackend(chain, content=content.serve, import_payload=driver.insert_unsafe),
        )

        async def ask_peers(_first: int, _last: int) -> None:
            p2p.wake()

        driver.request_range = ask_peers

        backend = RpcBackend(
            chain,
            pool,
            client_version="openledger",
            limits=RpcLimits(
                log_blocks=config.rpc.log_blocks,
                log_results=config.rpc.log_results,
                call_gas=config.rpc.call_gas,
                call_time_s=config.rpc.call_time_s,
                subscriptions=config.rpc.subscriptions,
                filters=config.rpc.filters,
            ),
            syncing=lambda: _syncing(driver, p2p),
            peer_count=lambda: len(p2p.peers()),
            allow_unprotected=config.allow_unprotected_txs,
            submit=None if sequencing or not config.sequencer_rpc_url else _forward(config.sequencer_rpc_url),
        )
        ethereum = EthereumRpc(backend)
        dispatcher = Dispatcher(DispatchLimits(batch=config.rpc.batch, response=config.rpc.response_bytes))
        ethereum.register(dispatcher)
        dispatcher.register(OptimismRpc(engine, driver, p2p))
        dispatcher.register(OpenledgerRpc(lambda: registry_of(chain), content.get_named))
        server = RpcServer(dispatcher)

        services = [
            Service("rpc-events", ethereum.run),
            http_service(
                "rpc",
                server.http,
                host=config.host,
                port=config.listening.rpc,
                websocket=server.websocket,
                quick=server.quick,
                policy=AccessPolicy(origins=config.cors_origins),
                limits=HttpLimits(
                    body=config.rpc.body_bytes,
                    websocket_message=config.rpc.body_bytes,
                    connections=config.rpc.connections,
                    connections_per_client=config.rpc.connections_per_client,
                ),
            ),
            Service("p2p", p2p.run),
            Service("driver", driver.run, probe=lambda: driver.status.problem),
        ]
        if chain.index is not None:
            services.append(Service("address-index", partial(fill_index, chain)))
        # On a development chain every validator may decide about a wrong output; elsewhere it disputes with its own key.
        checker = OutputChecker(
            engine, l1, preset.l1.output_oracle, _optional_key(config.challenger_key, "challenger_key", preset, OWNER)
        )
        services.append(Service("outputs", checker.run, probe=lambda: checker.problem))
        batcher: Batcher | None = None
        proposer: Proposer | None = None
        if sequencing:
            batcher = posting = Batcher(
                engine,
                l1,
                da,
                private_key(config.batcher_key, "batcher_key", BATCHER.private_key if preset.development else None),
                current_l1=lambda: driver.status.current_l1.number if driver.status.current_l1 else None,
                may_post=lambda: driver.at_tip,
                settings=BatcherSettings(**config.batcher.model_dump()),
            )
            sequencer = Sequencer(engine, pool, l1, data_limit=batcher.data_limit)
            sequencer.on_block.append(_publisher(p2p))

            async def sequence(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
                await sequencer.run(ready=driver.caught_up, task_status=task_status)

            services += [
                Service("sequencer", sequence, probe=sequencer.status),
                Service("batcher", batcher.run, probe=lambda: posting.problem),
            ]
            proposer_key = _optional_key(config.proposer_key, "proposer_key", preset, PROPOSER)
            if proposer_key is not None:
                proposer = proposing = Proposer(engine, l1, l1, preset.l1.output_oracle, proposer_key)
                services.append(Service("proposer", proposer.run, probe=lambda: proposing.problem))
        yield RollupNode(
            config=config,
            network=network,
            rollup_config=rollup_config,
            chain=chain,
            pool=pool,
            engine=engine,
            driver=driver,
            p2p=p2p,
            l1=l1,
            da=da,
            content=content,
            dispatcher=dispatcher,
            services=services,
            output_checker=checker,
            batcher=batcher,
            proposer=proposer,
        )


def _syncing(driver: Driver, p2p: P2PService) -> SyncProgress | None:
    """Not None while a peer claims a head well ahead of ours."""
    current = driver.status.unsafe_l2.number
    highest = max((peer.head_number or 0 for peer in p2p.peers()), default=0)
    return SyncProgress(0, current, highest) if highest > current + 2 else None


def _publisher(p2p: P2PService) -> BlockCallback:
    """Gossips each new block, unless it is old: a sequencer that catches up would only annoy its peers."""

    async def publish(payload: ExecutionPayload) -> None:
        if time.time() - payload.timestamp < PUBLISH_BEHIND_S:
            await p2p.publish(payload)

    return publish


def _forward(url: str) -> Callable[[bytes], Awaitable[bytes]]:
    """Hands transactions to the sequencer, whose answer is the caller's."""

    async def submit(raw: bytes) -> bytes:
        async with RpcClient(url) as rpc:
            try:
                answer: str = await rpc.call("eth_sendRawTransaction", "0x" + raw.hex())
            except RpcUnavailable as error:
                raise ServerError(f"the sequencer cannot be reached, try again later: {error}") from error
            except RpcClientError as error:
                raise ServerError(str(error)) from error
        return bytes.fromhex(answer[2:])

    return submit
