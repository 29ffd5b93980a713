"""What `openledger dev` runs besides its node: an L1 of its own and a DA server, each with its folder and port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from openledger.evm_ext.errors import GenesisMismatch
from openledger.evm_ext.pool import TransactionPool
from openledger.genesis.presets import l1_genesis
from openledger.node import http
from openledger.node.chain_folder import open_chain
from openledger.node.config import Config
from openledger.node.errors import StartupError
from openledger.node.listening import http_service
from openledger.node.network import Network
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.dispatcher import Dispatcher
from openledger.node.rpc.ethereum import EthereumRpc
from openledger.node.rpc.server import RpcServer
from openledger.node.supervisor import Service
from openledger.rollup.da.memstore_config import MemstoreConfig
from openledger.rollup.da.server import DAServer, DAServerSettings, open_da_server
from openledger.rollup.da.server import Request as DARequest
from openledger.rollup.l1.dev_chain import DevL1

DA_PATH_BYTES = 128 << 10
"""A certificate stands in the path of a request as hex."""


@asynccontextmanager
async def embedded_l1(config: Config, network: Network) -> AsyncIterator[list[Service]]:
    """The services of the development L1: its block producer and its JSON-RPC."""
    folder = config.folder / "l1"
    genesis = l1_genesis(network.preset, network.timestamp_s)
    async with AsyncExitStack() as stack:
        try:
            chain = await trio.to_thread.run_sync(open_chain, folder / "chain", genesis)
        except StartupError as error:
            if isinstance(error.__cause__, GenesisMismatch):
                raise StartupError(
                    f"{error}. An older version began a devnet with other contracts on its L1, and cannot be gone on with: "
                    f"begin a new one in another --data-dir, or delete {config.folder}"
                ) from error
            raise
        stack.callback(chain.close)
        pool = TransactionPool(chain, journal=folder / "transactions.journal")
        stack.callback(pool.close)
        rpc = EthereumRpc(RpcBackend(chain, pool, client_version="openledger-l1"))
        dispatcher = Dispatcher()
        rpc.register(dispatcher)
        server = RpcServer(dispatcher)
        producer = DevL1(chain, pool, network.preset.l1_block_time_s)
        yield [
            Service("l1", producer.run),
            Service("l1-events", rpc.run),
            http_service(
                "l1-rpc",
                server.http,
                host=config.host,
                port=config.listening.l1_rpc,
                websocket=server.websocket,
                quick=server.quick,
                policy=http.AccessPolicy(origins=config.cors_origins),
            ),
        ]


@asynccontextmanager
async def embedded_da(config: Config, network: Network) -> AsyncIterator[list[Service]]:
    """The service of the DA server. Its blobs are kept for good: nothing on a devnet pays to keep them shorter."""
    settings = DAServerSettings(
        folder=config.folder / "da",
        development=network.preset.development,
        memstore=MemstoreConfig(blob_expiration_ns=0),
    )
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(open_da_server(settings))

        yield [
            http_service(
                "da",
                da_handler(server),
                host=config.host,
                port=config.listening.da,
                limits=http.HttpLimits(body=server.max_body_bytes, header=DA_PATH_BYTES),
            )
        ]


def da_handler(server: DAServer) -> http.Handler:
    """The DA server behind our HTTP server."""

    async def handle(request: http.Request) -> http.Response:
        answer = await server.handle(
            DARequest(request.method, request.path, request.query, request.headers, request.body)
        )
        return http.Response(answer.status, answer.body, tuple(answer.headers.items()))

    return handle
