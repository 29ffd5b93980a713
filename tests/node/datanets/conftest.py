"""A real chain with our contracts behind JSON-RPC, a real DA server, and nodes' content services around them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from openledger.evm_ext.block import Block
from openledger.evm_ext.calls import CallRequest
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.pool import TransactionPool
from openledger.genesis.dev_accounts import DEV_ACCOUNTS, PROVIDER
from openledger.genesis.presets import DEVNET, l2_genesis
from openledger.kernels.attribution.client import AttributionClient
from openledger.node.api.content import ContentApi
from openledger.node.api.datanets import DatanetsApi
from openledger.node.content import ContentStore, Fetch
from openledger.node.datanets.announcements import Announcements
from openledger.node.datanets.follower import ContentFollower
from openledger.node.datanets.indexes import IndexService
from openledger.node.datanets.registered import Registered
from openledger.node.datanets.service import PublishingService
from openledger.node.datanets.versions import version_contents
from openledger.node.embedded import da_handler
from openledger.node.http import Handler, Router, serve_http
from openledger.node.payer import Api
from openledger.node.registry import CallReverted, Registry
from openledger.node.rpc import Dispatcher, serve_rpc
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.ethereum import EthereumRpc
from openledger.node.rpc_client import RpcClient
from openledger.node.wallet import Wallet
from openledger.rollup.da.client import DAClient
from openledger.rollup.da.memstore_config import MemstoreConfig
from openledger.rollup.da.server import DAServerSettings, open_da_server

TIMESTAMP = 1_800_000_000
TEXTS = Path(__file__).parents[3] / "node" / "quickstart" / "documents"


@dataclass
class SmallNet:
    """The chain, its JSON-RPC and the DA server, which all nodes here share."""

    folder: Path
    chain: Chain
    pool: TransactionPool
    rpc: RpcClient
    da: DAClient
    da_is_down: bool = False
    nursery: trio.Nursery = field(kw_only=True)
    texts: Path = TEXTS
    mining: bool = True

    @property
    def owner(self) -> Wallet:
        return Wallet(DEV_ACCOUNTS[5].private_key)

    @property
    def alice(self) -> Wallet:
        return Wallet(DEV_ACCOUNTS[6].private_key)

    @property
    def bob(self) -> Wallet:
        return Wallet(DEV_ACCOUNTS[7].private_key)

    async def eventually(self, condition: Callable[[], object], timeout_s: float = 240) -> None:
        """Wait until the condition holds; trio.TooSlowError where it does not in time."""
        with trio.fail_after(timeout_s):
            while not condition():  # noqa: ASYNC110
                await trio.sleep(0.02)

    def node(self, name: str, **options: Any) -> AbstractAsyncContextManager[SmallNode]:
        """A node's content services on folder `name`, running; a name opened again is a restarted node."""
        return open_node(self, name, **options)

    def registry(self, block_hash: bytes | None = None) -> Registry:
        at = block_hash or self.chain.head("unsafe").hash

        def call(to: bytes, data: bytes) -> bytes:
            result = self.chain.call(CallRequest(to=to, data=data), at)
            if not result.success:
                raise CallReverted(result.output)
            return result.output

        return Registry(call)

    def mine(self, parent: bytes | None = None, *, transactions: bool = True) -> Block:
        """A block on `parent` (the head), which becomes the head."""
        head = self.chain.head() if parent is None else self.chain.header_by_hash(parent)
        assert head is not None
        attributes = PayloadAttributes(
            timestamp=head.timestamp + 2,
            prev_randao=head.hash,
            suggested_fee_recipient=PROVIDER.address,
            parent_beacon_block_root=bytes(32),
        )
        block = self.chain.build(head.hash, attributes, self.pool.pending() if transactions else ())
        self.chain.set_heads(unsafe=block.hash)
        return block

    async def keep_mining(self) -> None:
        while True:
            if self.mining:
                await trio.to_thread.run_sync(self.mine)
            await trio.sleep(0.1)


@dataclass
class SmallNode:
    """One node's content services; they run in the net's nursery until the test ends."""

    net: SmallNet
    folder: Path
    content: ContentStore
    registered: Registered
    announcements: Announcements
    follower: ContentFollower
    publishing: PublishingService | None
    router: Router
    api: Api
    indexes: IndexService | None = None

    async def holds(self, content_hash: bytes, timeout_s: float = 240) -> bytes:
        await self.net.eventually(lambda: self.content.get(content_hash) is not None, timeout_s)
        data = self.content.get(content_hash)
        assert data is not None
        return data


async def serve(nursery: trio.Nursery, handler: Handler) -> str:
    server = await nursery.start(serve_http, handler)
    return str(server.url)


@asynccontextmanager
async def open_net(folder: Path) -> AsyncIterator[SmallNet]:
    chain = Chain.open(folder / "chain", l2_genesis(DEVNET, TIMESTAMP))
    pool = TransactionPool(chain, journal=folder / "pool.journal")
    settings = DAServerSettings(folder / "da", development=True, memstore=MemstoreConfig(blob_expiration_ns=0))
    async with AsyncExitStack() as stack:
        stack.callback(chain.close)
        stack.callback(pool.close)
        da_server = await stack.enter_async_context(open_da_server(settings))
        nursery = await stack.enter_async_context(trio.open_nursery())
        ethereum = EthereumRpc(RpcBackend(chain, pool))
        dispatcher = Dispatcher()
        ethereum.register(dispatcher)
        await nursery.start(ethereum.run)
        rpc_server = await nursery.start(partial(serve_rpc, dispatcher))
        answering = da_handler(da_server)

        async def da(request):  # type: ignore[no-untyped-def]
            if net.da_is_down:
                raise RuntimeError("the DA layer is down")
            return await answering(request)

        da_url = await serve(nursery, da)
        rpc = await stack.enter_async_context(RpcClient(rpc_server.url))
        client = await stack.enter_async_context(DAClient(da_url, attempts=1, backoff_s=0.01))
        net = SmallNet(folder, chain, pool, rpc, client, nursery=nursery)
        yield net
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_node(
    net: SmallNet,
    name: str,
    *,
    publishes: bool = True,
    fetch: Fetch | None = None,
    uses_da: bool = True,
    attribution: AttributionClient | None = None,
) -> AsyncIterator[SmallNode]:
    async with AsyncExitStack() as stack:
        folder = net.folder / name
        content = ContentStore(folder / "content")
        registered = Registered(net.chain, net.registry, poll_s=0.05)
        announcements = Announcements(folder / "announcements.sqlite", net.chain)
        stack.callback(announcements.close)
        follower = ContentFollower(
            content=content,
            registered=registered,
            announcements=announcements,
            da=net.da if uses_da else None,
            retry_s=0.1,
            **({} if fetch is None else {"fetch": fetch}),
        )
        publishing = None
        if publishes:
            publishing = PublishingService(
                folder=folder,
                content=content,
                registered=registered,
                da=net.da,
                rpc_url=net.rpc.url,
                wallet=Wallet(PROVIDER.private_key),
                max_document_bytes=DEVNET.economy.max_document_bytes,
            )
            stack.callback(publishing.close)
        indexes = None
        if attribution is not None:
            indexes = IndexService(
                folder=folder / "indexes",
                chain=net.chain,
                registry=net.registry,
                registered=registered,
                content=content,
                attribution=attribution,
            )
        router = Router()
        ContentApi(content, follower, publishing).mount(router)
        DatanetsApi(
            chain_id=net.chain.chain_id,
            max_document_bytes=DEVNET.economy.max_document_bytes,
            registry=net.registry,
            registered=registered,
            content=content,
            indexes=indexes,
            contents=lambda datanet, number: version_contents(net.chain, net.registry(None), datanet, number),
        ).mount(router)
        nursery = await stack.enter_async_context(trio.open_nursery())
        services: list[Callable[..., object]] = [registered.run, follower.run]
        services += [publishing.run] if publishing else []
        services += [indexes.run] if indexes else []
        for run in services:
            await nursery.start(run)  # type: ignore[arg-type]
        api = await stack.enter_async_context(Api(await serve(nursery, router)))
        yield SmallNode(net, folder, content, registered, announcements, follower, publishing, router, api, indexes)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[SmallNet]:
    async with open_net(tmp_path) as opened:
        opened.nursery.start_soon(opened.keep_mining)
        yield opened
