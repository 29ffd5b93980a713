"""A whole rollup in one process, with time turned by hand: L1 chain, real DA server, sequencer, batcher, validators."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import httpx
import orjson
import pytest
from eth_abi import encode as abi_encode

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.pool import TransactionPool
from openledger.evm_ext.transactions import Transaction, sign_transaction
from openledger.genesis.dev_accounts import BATCHER, PROPOSER, USERS, DevAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import L1_OPEN_TOKEN, L1_OUTPUT_ORACLE, L1_PORTAL
from openledger.genesis.presets import DEVNET, l1_genesis, l2_genesis
from openledger.node.bridge import Bridge
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.dispatcher import Caller, Dispatcher
from openledger.node.rpc.ethereum import EthereumRpc
from openledger.node.rpc.optimism import OptimismRpc
from openledger.node.rpc_client import RpcClient, RpcError
from openledger.p2p.service import P2PService
from openledger.rollup.batcher import Batcher, BatcherSettings
from openledger.rollup.codec.batcher_transaction import encode_commitment_data
from openledger.rollup.config import RollupConfig
from openledger.rollup.da.client import DAClient
from openledger.rollup.da.server import DAServer, DAServerSettings, Request, open_da_server
from openledger.rollup.derivation.l1_retrieval import DASource
from openledger.rollup.driver import Driver
from openledger.rollup.engine import Engine
from openledger.rollup.l1.dev_chain import DevL1
from openledger.rollup.l1.local import LocalL1
from openledger.rollup.l1.output_oracle import OutputOracle
from openledger.rollup.proposer import Proposer
from openledger.rollup.sequencer import Sequencer

GENESIS_TIME = 1_700_000_000


class ManualClock:
    """Time that passes only when somebody waits or turns it; `on_sleep` lets the world go on meanwhile."""

    def __init__(self, now: float) -> None:
        self.time = now
        self.on_sleep: Callable[[], Awaitable[None]] | None = None

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
        if self.on_sleep is not None:
            await self.on_sleep()


class InProcess(httpx.AsyncBaseTransport):
    """Carries requests straight to a DA server's handler; `down` makes it unreachable, `status` its only answer to a put."""

    def __init__(self, server: DAServer) -> None:
        self.server = server
        self.down = False
        self.status: int | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            raise httpx.ConnectError("connection refused")
        if self.status is not None and request.method == "POST":
            return httpx.Response(self.status, text="not now")
        answer = await self.server.handle(
            Request(
                request.method,
                request.url.path,
                dict(request.url.params),
                {name.lower(): value for name, value in request.headers.items()},
                await request.aread(),
            )
        )
        return httpx.Response(answer.status, headers=dict(answer.headers), content=answer.body)


@dataclass
class Node:
    """One node's L2 side."""

    folder: Path
    chain: Chain
    pool: TransactionPool
    engine: Engine
    driver: Driver

    def close(self) -> None:
        self.pool.close()
        self.chain.close()


@dataclass
class Network:
    """Everything, with the sequencer's node and any number of others."""

    folder: Path
    clock: ManualClock
    config: RollupConfig
    l1: DevL1
    l1_view: LocalL1
    da: DAClient
    da_transport: InProcess
    node: Node
    sequencer: Sequencer
    batcher: Batcher

    def open_node(self, name: str, *, da: DASource | None = None) -> Node:
        """A node in the folder `name`, as it would start after a crash or for the first time."""
        return open_node(self.folder / name, self.config, self.l1_view, da or self.da, self.clock)

    def make_batcher(self, **settings: object) -> Batcher:
        chosen = replace(BatcherSettings(max_channel_blocks=3), **settings)  # type: ignore[arg-type]
        return Batcher(self.node.engine, self.l1_view, self.da, BATCHER.private_key, settings=chosen, clock=self.clock)

    async def advance(self, seconds: int, *, sequence: bool = True) -> None:
        """Let time pass: L1 makes its blocks, the sequencer (unless told otherwise) those of L2."""
        for _ in range(0, seconds, 2):
            self.clock.time += 2
            await self.tick(sequence=sequence)

    async def tick(self, *, sequence: bool = True) -> None:
        while self.l1.chain.head().timestamp + DEVNET.l1_block_time_s <= self.clock.time:
            await self.l1.produce_block(self.l1.chain.head().timestamp + DEVNET.l1_block_time_s)
        if sequence:
            while await self.sequencer.produce_block(self.clock.time) is not None:
                pass

    async def post(self, *, batcher: Batcher | None = None) -> None:
        """Post everything that is not safe yet, and let L1 include it."""
        while await (batcher or self.batcher).step(flush=True):
            pass

    def send_l2(self, account: DevAccount, to: bytes | None, *, value: int = 0, data: bytes = b"") -> bytes:
        transaction = self._signed(self.node.chain, self.node.pool, account, to, value, data)
        return self.node.pool.add(transaction.raw)

    def send_l1(self, account: DevAccount, to: bytes | None, *, data: bytes = b"", gas: int = 1_000_000) -> bytes:
        transaction = self._signed(self.l1.chain, self.l1.pool, account, to, 0, data, gas)
        return self.l1.pool.add(transaction.raw)

    async def post_to_inbox(self, data: bytes, account: DevAccount = BATCHER) -> None:
        """Raw calldata in the batch inbox, included in the next L1 block."""
        self.send_l1(account, self.config.batch_inbox, data=data, gas=2_000_000)
        await self.advance(4)

    async def post_payload(self, payload: bytes) -> None:
        """A DA payload and its commitment in the inbox."""
        await self.post_to_inbox(encode_commitment_data(await self.da.put(payload)))

    def deposit_open(self, account: DevAccount, to: bytes, amount: int) -> bytes:
        """Lock OPEN in the portal for `to` on L2; the hash of the deposit's L1 transaction."""
        approve = keccak256(b"approve(address,uint256)")[:4]
        self.send_l1(account, L1_OPEN_TOKEN, data=approve + abi_encode(["address", "uint256"], [L1_PORTAL, amount]))
        deposit = keccak256(b"depositERC20Transaction(address,uint256,uint256,uint64,bool,bytes)")[:4]
        arguments = abi_encode(
            ["address", "uint256", "uint256", "uint64", "bool", "bytes"], [to, amount, amount, 100_000, False, b""]
        )
        return self.send_l1(account, L1_PORTAL, data=deposit + arguments)

    @staticmethod
    def _signed(
        chain: Chain,
        pool: TransactionPool,
        account: DevAccount,
        to: bytes | None,
        value: int,
        data: bytes,
        gas: int = 300_000,
    ) -> Transaction:
        return sign_transaction(
            account.private_key,
            chain_id=chain.chain_id,
            nonce=pool.pending_nonce(account.address),
            gas=gas,
            to=to,
            value=value,
            data=data,
            max_fee_per_gas=20 * 10**9,
            max_priority_fee_per_gas=10**9,
        )

    async def propose_wrong(self, root: bytes, number: int) -> None:
        """Have the proposer's key put a root on L1, whatever the chain says, with the bond that it takes."""
        self.allow_bond(PROPOSER, DEVNET.proposer_bond_wei)
        await self.advance(4)
        at = self.l1.chain.head()
        self.send_l1(PROPOSER, L1_OUTPUT_ORACLE, data=OutputOracle.propose(root, number, at.hash, at.number))
        await self.advance(4)

    def allow_bond(self, account: DevAccount, amount: int) -> None:
        """Let the output oracle take so much of an account's OPEN on L1."""
        approve = keccak256(b"approve(address,uint256)")[:4]
        self.send_l1(
            account, L1_OPEN_TOKEN, data=approve + abi_encode(["address", "uint256"], [L1_OUTPUT_ORACLE, amount])
        )

    async def propose(self) -> None:
        """Put every output root that is due on L1."""
        proposer = Proposer(
            self.node.engine, self.l1_view, self.l1_view, L1_OUTPUT_ORACLE, PROPOSER.private_key, clock=self.clock
        )
        while await proposer.step():
            pass


class Direct(RpcClient):
    """JSON-RPC without a socket; whoever waits for a receipt lets the network's time pass."""

    def __init__(self, chain: Chain, pool: TransactionPool, network: Network) -> None:
        super().__init__("http://nowhere")
        self.dispatcher = Dispatcher()
        EthereumRpc(RpcBackend(chain, pool, client_version="test")).register(self.dispatcher)
        self._network = network
        self._numbers = itertools.count()

    async def call(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": next(self._numbers), "method": method, "params": params}
        answer = orjson.loads(await self.dispatcher.handle(orjson.dumps(body), Caller()))
        if "error" in answer:
            failure = answer["error"]
            raise RpcError(failure["code"], failure["message"], failure.get("data"))
        return answer["result"]

    async def wait_for_receipt(self, transaction_hash: bytes, timeout_s: float = 240.0) -> dict[str, Any]:
        for _ in range(10):
            receipt = await self.call("eth_getTransactionReceipt", "0x" + transaction_hash.hex())
            if receipt is not None:
                return receipt
            await self._network.advance(4)
        raise AssertionError("the transaction is in no block")


def open_node(folder: Path, config: RollupConfig, l1: LocalL1, da: DASource, clock: ManualClock) -> Node:
    chain = Chain.open(folder, l2_genesis(DEVNET, GENESIS_TIME))
    pool = TransactionPool(chain)
    engine = Engine(chain, config)
    return Node(folder, chain, pool, engine, Driver(engine, l1, da, clock=clock))


@pytest.fixture
def config_change() -> dict[str, int]:
    """What a test changes in the rollup configuration."""
    return {}


@asynccontextmanager
async def open_network(tmp_path: Path, config_change: dict[str, int]) -> AsyncIterator[Network]:
    """The network in a folder, new or as its last process left it."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(open_da_server(DAServerSettings(tmp_path / "da", development=True)))
        transport = InProcess(server)
        da = await stack.enter_async_context(DAClient("http://da", transport=transport, attempts=1))
        clock = ManualClock(GENESIS_TIME)
        l1_chain = Chain.open(tmp_path / "l1", l1_genesis(DEVNET, GENESIS_TIME))
        stack.callback(l1_chain.close)
        l1_pool = TransactionPool(l1_chain)
        l1 = DevL1(l1_chain, l1_pool, DEVNET.l1_block_time_s, clock=clock)
        l1_view = LocalL1(l1_chain, l1_pool)
        probe = Chain.open(tmp_path / "sequencer", l2_genesis(DEVNET, GENESIS_TIME))
        config = replace(
            RollupConfig.from_genesis(DEVNET, l1_chain.genesis_hash, probe.genesis_hash, GENESIS_TIME), **config_change
        )
        probe.close()
        node = open_node(tmp_path / "sequencer", config, l1_view, da, clock)
        stack.callback(lambda: network.node.close())
        sequencer = Sequencer(node.engine, node.pool, l1_view, clock=clock)
        batcher = Batcher(
            node.engine,
            l1_view,
            da,
            BATCHER.private_key,
            settings=BatcherSettings(max_channel_blocks=3),
            clock=clock,
        )
        network = Network(tmp_path, clock, config, l1, l1_view, da, transport, node, sequencer, batcher)
        clock.time = max(clock.time, l1_chain.head().timestamp, node.chain.head().timestamp)
        clock.on_sleep = lambda: network.tick(sequence=False)
        yield network


@pytest.fixture
async def network(tmp_path: Path, config_change: dict[str, int]) -> AsyncIterator[Network]:
    async with open_network(tmp_path, config_change) as opened:
        yield opened


@pytest.fixture
def user() -> DevAccount:
    return USERS[0]


@pytest.fixture
def reopen() -> Callable[[Path, dict[str, int]], AbstractAsyncContextManager[Network]]:
    """Opens a network in a folder that another process may have left."""
    return open_network


@pytest.fixture
async def rpcs(network: Network) -> tuple[RpcClient, RpcClient]:
    """JSON-RPC of L1 and of L2."""
    await network.advance(4)
    l1 = Direct(network.l1.chain, network.l1.pool, network)
    l2 = Direct(network.node.chain, network.node.pool, network)
    l2.dispatcher.register(OptimismRpc(network.node.engine, network.node.driver, p2p=cast(P2PService, None)))
    return l1, l2


@pytest.fixture
def bridge(rpcs: tuple[RpcClient, RpcClient]) -> Bridge:
    """The bridge of the network, as `openledger bridge` uses it."""
    return Bridge(DEVNET, *rpcs)
