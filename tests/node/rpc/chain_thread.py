"""A real chain with its pool and JSON-RPC in a thread; every accepted transaction gets a block at once."""

import threading
from collections.abc import Sequence
from pathlib import Path

import trio

from openledger.evm_ext.block import Block, Header
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.pool import TransactionPool
from openledger.evm_ext.state.policy import ARCHIVE, StateHistory
from openledger.genesis.genesis import Genesis
from openledger.node.http import AccessPolicy, BoundServer
from openledger.node.rpc import Dispatcher, serve_rpc
from openledger.node.rpc.backend import RpcBackend, RpcLimits
from openledger.node.rpc.ethereum import EthereumRpc

FEE_RECIPIENT = b"\x42" + bytes(18) + b"\x11"


class ChainThread:
    """`with ChainThread(folder, genesis) as node:` serves on `node.url` and `node.websocket_url`."""

    def __init__(
        self,
        folder: Path,
        genesis: Genesis,
        *,
        automine: bool = True,
        limits: RpcLimits | None = None,
        policy: AccessPolicy | None = None,
        address_index: bool = False,
        history: StateHistory = ARCHIVE,
        allow_unprotected: bool = True,
    ) -> None:
        self.chain = Chain.open(folder / "chain", genesis, address_index=address_index, history=history)
        self.pool = TransactionPool(self.chain, journal=folder / "pool.journal")
        self.backend = RpcBackend(
            self.chain, self.pool, limits=limits or RpcLimits(), allow_unprotected=allow_unprotected
        )
        self._automine = automine
        self._policy = policy
        self._started = threading.Event()
        self._producing = threading.Lock()
        self._wanted = threading.Event()
        self._stopping = False
        self._server: BoundServer | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="chain-thread")
        self._miner = threading.Thread(target=self._mine_on_demand, name="miner")

    def __enter__(self) -> "ChainThread":
        self._thread.start()
        if not self._started.wait(20) or self._server is None:
            raise RuntimeError(f"the node did not start: {self._failure}")
        if self._automine:
            self.pool.listeners.append(lambda _: self._wanted.set())
        self._miner.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._wanted.set()
        self._miner.join(20)
        assert self._token is not None
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(20)
        self.pool.close()
        self.chain.close()
        if self._failure is not None:
            raise self._failure

    @property
    def url(self) -> str:
        assert self._server is not None
        return self._server.url

    @property
    def websocket_url(self) -> str:
        return "ws" + self.url.removeprefix("http")

    def mine(self, deposits: Sequence[bytes] = (), parent: bytes | None = None) -> Block:
        """Build a block from the pool on `parent` (the head) and make it the head."""
        with self._producing:
            head = self.chain.head() if parent is None else self.chain.header_by_hash(parent)
            assert head is not None
            block = self.chain.build(head.hash, self.attributes(head, deposits), self.pool.pending())
            self.chain.set_heads(unsafe=block.hash)
            return block

    def attributes(self, parent: Header, deposits: Sequence[bytes] = (), extra_time: int = 0) -> PayloadAttributes:
        """For a block on `parent`; `extra_time` seconds make it differ from its sibling."""
        return PayloadAttributes(
            timestamp=parent.timestamp + 2 + extra_time,
            prev_randao=parent.hash,
            suggested_fee_recipient=FEE_RECIPIENT,
            parent_beacon_block_root=bytes(32),
            transactions=tuple(deposits),
        )

    def _mine_on_demand(self) -> None:
        try:
            self._mine_while_wanted()
        except BaseException as error:
            self._failure = error

    def _mine_while_wanted(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._stopping:
                return
            while self.pool.status().pending and not self._stopping:
                if len(self.mine().transactions) == 0:
                    break

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._failure = error
            self._started.set()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        dispatcher = Dispatcher()
        ethereum = EthereumRpc(self.backend)
        ethereum.register(dispatcher)
        with self._scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(ethereum.run)
                self._server = await nursery.start(self._serve_port, dispatcher)
                self._started.set()

    async def _serve_port(
        self, dispatcher: Dispatcher, task_status: trio.TaskStatus[BoundServer] = trio.TASK_STATUS_IGNORED
    ) -> None:
        await serve_rpc(dispatcher, policy=self._policy, task_status=task_status)
