"""An execution client by itself: any chain that a genesis.json describes, behind JSON-RPC and the Engine API.

Nothing of the rollup runs here. Blocks come from a file, or from a consensus client (a beacon node, an op-node)
over the Engine API.
"""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import trio

from openledger.evm_ext.block_file import import_block_file
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.errors import UndecodableBlock
from openledger.evm_ext.pool import TransactionPool
from openledger.evm_ext.state.policy import ARCHIVE, StateHistory
from openledger.genesis.genesis import Genesis, InvalidGenesis
from openledger.node.address_index import fill_index
from openledger.node.chain_folder import open_chain
from openledger.node.errors import StartupError
from openledger.node.http import AccessPolicy, BoundServer, HttpLimits, ListenError, open_listeners
from openledger.node.http.json_limits import require_shallow_json
from openledger.node.latency import collect_garbage, prefer_latency
from openledger.node.open_files import connections, raise_open_files_limit
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.dispatcher import Dispatcher
from openledger.node.rpc.engine import EngineApi
from openledger.node.rpc.ethereum import EthereumRpc
from openledger.node.rpc.jwt import InvalidJwtSecret, JwtSecret, bearer_check
from openledger.node.rpc.parameters import QUANTITY
from openledger.node.rpc.server import serve_rpc
from openledger.node.rpc.testing import Testing

log = structlog.get_logger(__name__)

ENGINE_PORT = 8551
RPC_CONNECTIONS = 10_000
ENGINE_BODY_BYTES = 64 * 1024 * 1024
"""A payload may be larger than what strangers may send."""


@dataclass(frozen=True)
class ExecutionClientConfig:
    """What an execution client is started with.

    data_dir None keeps the chain in a temporary folder. engine_port None serves no Engine API; 0 takes a free
    port. jwt_secret is the file with the secret, made if it is not there; None is jwt.hex in the data folder."""

    genesis: Path
    import_rlp: tuple[Path, ...] = ()
    data_dir: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8545
    engine_port: int | None = None
    jwt_secret: Path | None = None
    cors_origins: tuple[str, ...] = ()
    history: StateHistory = ARCHIVE
    address_index: bool = False
    allow_unprotected_txs: bool = False


@dataclass(frozen=True)
class ExecutionClient:
    """A running one: its chain and pool, and where it listens."""

    chain: Chain
    pool: TransactionPool
    rpc: BoundServer
    engine: BoundServer | None
    jwt_secret: JwtSecret | None


def read_genesis(path: Path) -> Genesis:
    """The genesis in a file of geth's form. Raises StartupError."""
    try:
        content = path.read_bytes()
        require_shallow_json(content)
        document = json.loads(content)
    except OSError as error:
        raise StartupError(f"the genesis {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise StartupError(f"the genesis {path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise StartupError(f"the genesis {path} is not a JSON object")
    try:
        return Genesis.from_json(document)
    except InvalidGenesis as error:
        raise StartupError(f"the genesis {path} cannot be used: {error}") from error


@asynccontextmanager
async def open_execution_client(config: ExecutionClientConfig) -> AsyncIterator[ExecutionClient]:
    """Open the chain, import the files, listen. Everything stops when the block is left. Raises StartupError."""
    async with AsyncExitStack() as stack:
        folder = config.data_dir
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="openledger-rpc-")))
        genesis = await trio.to_thread.run_sync(read_genesis, config.genesis)
        chain = await trio.to_thread.run_sync(
            open_chain, folder / "chain", genesis, config.address_index, config.history
        )
        stack.callback(chain.close)
        for path in config.import_rlp:
            await trio.to_thread.run_sync(_import, chain, path)
        pool = TransactionPool(chain, journal=folder / "transactions.journal")
        stack.callback(pool.close)
        ethereum = EthereumRpc(RpcBackend(chain, pool, allow_unprotected=config.allow_unprotected_txs))
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        await nursery.start(ethereum.run)
        nursery.start_soon(collect_garbage)
        if chain.blocks_to_index:
            await nursery.start(fill_index, chain)

        dispatcher = Dispatcher()
        ethereum.register(dispatcher)
        if config.data_dir is None or config.engine_port is None:
            dispatcher.register(Testing(chain, pool))
        engine: BoundServer | None = None
        secret: JwtSecret | None = None
        if config.engine_port is not None:
            secret = _secret(config.jwt_secret or folder / "jwt.hex")
            engine_api = EngineApi(chain, pool)
            stack.callback(engine_api.close)
            dispatcher.add("miner_setMaxDASize", engine_api.set_data_limits, QUANTITY, QUANTITY, trusted=True)
            led = Dispatcher()
            ethereum.register(led)
            led.register(engine_api)
            led.add("miner_setMaxDASize", engine_api.set_data_limits, QUANTITY, QUANTITY)
            policy = AccessPolicy(hosts=("*",), authorize=bearer_check(secret))
            limits = HttpLimits(body=ENGINE_BODY_BYTES)
            engine = await _listen(nursery, led, config.host, config.engine_port, policy, limits)
        policy, limits = AccessPolicy(origins=config.cors_origins), HttpLimits(connections=RPC_CONNECTIONS)
        rpc = await _listen(nursery, dispatcher, config.host, config.port, policy, limits)
        yield ExecutionClient(chain, pool, rpc, engine, secret)


async def run_execution_client(config: ExecutionClientConfig) -> None:
    """Serve until interrupted. Raises StartupError."""
    raise_open_files_limit()
    prefer_latency()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with open_execution_client(config) as client:
            head = client.chain.head()
            log.info(
                "serving",
                rpc=client.rpc.url,
                engine=None if client.engine is None else client.engine.url,
                chain_id=client.chain.chain_id,
                head=head.number,
                hash="0x" + head.hash.hex(),
            )
            async for number in signals:
                log.info("stopping", signal=signal.Signals(number).name)
                return


def _import(chain: Chain, path: Path) -> None:
    try:
        executed = import_block_file(chain, path)
    except OSError as error:
        raise StartupError(f"the block file {path} cannot be read: {error.strerror or error}") from error
    except UndecodableBlock as error:
        raise StartupError(f"the block file {path} cannot be imported: {error}") from error
    log.info("imported", file=str(path), blocks=executed, head=chain.head().number)


def _secret(path: Path) -> JwtSecret:
    try:
        return JwtSecret.create(path)
    except InvalidJwtSecret as error:
        raise StartupError(str(error)) from error


async def _listen(
    nursery: trio.Nursery, dispatcher: Dispatcher, host: str, port: int, policy: AccessPolicy, limits: HttpLimits
) -> BoundServer:
    try:
        listeners = await open_listeners(host, port)
    except ListenError as error:
        raise StartupError(str(error)) from error

    async def serve(task_status: trio.TaskStatus[BoundServer]) -> None:
        with connections(limits.connections, listeners[0].socket.getsockname()[1]) as granted:
            allowed = replace(limits, connections=granted)
            await serve_rpc(dispatcher, listeners=listeners, policy=policy, limits=allowed, task_status=task_status)

    bound: BoundServer = await nursery.start(serve)
    return bound
