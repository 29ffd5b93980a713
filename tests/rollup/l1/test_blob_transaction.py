"""Blobs go to L1 with the proofs that its fork of that moment wants, also when the fork comes between two transactions."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from openledger.evm_ext.blobs import decode_network
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.pool import TransactionPool
from openledger.genesis.dev_accounts import BATCHER
from openledger.genesis.presets import DEVNET, l1_genesis
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.dispatcher import Caller, Dispatcher
from openledger.node.rpc.ethereum import EthereumRpc
from openledger.rollup.batcher.channel_builder import BuiltChannel
from openledger.rollup.batcher.routes import BlobRoute
from openledger.rollup.batcher.settings import BatcherSettings
from openledger.rollup.blocks import BlockId
from openledger.rollup.l1.blob_fee import has_cell_proofs
from openledger.rollup.l1.client import L1Client
from openledger.rollup.l1.dev_chain import DevL1
from openledger.rollup.l1.local import LocalL1
from openledger.rollup.l1.source import L1Submitter, L1TransactionRejected
from openledger.rollup.l1.transactions import L1Sender

START = 1_700_000_000
OSAKA = START + 20
INBOX = DEVNET.batch_inbox
CHANNEL = BuiltChannel(b"\x07" * 16, b"\x55" * 1_000, 1, BlockId(b"\x01" * 32, 3), 1_000)


class L1:
    """A development L1 that comes to Osaka, in this process and over JSON-RPC. `says_fork` is false for an endpoint
    that does not know eth_config; `strict` for a pool that refuses the other form in geth's words."""

    def __init__(self, chain: Chain, pool: TransactionPool) -> None:
        self.chain, self.pool = chain, pool
        self.producer = DevL1(chain, pool, 4)
        self.local = LocalL1(chain, pool)
        self.says_fork = self.strict = True
        self.cells_sent: list[bool] = []
        self.cells_taken: list[bool] = []
        dispatcher = Dispatcher()
        EthereumRpc(RpcBackend(chain, pool)).register(dispatcher)
        self._dispatcher = dispatcher
        take = self.local.send_transaction

        async def send(raw: bytes) -> bytes:
            _, sidecar = decode_network(raw)
            assert sidecar is not None
            self.cells_sent.append(sidecar.has_cells)
            if self.strict and sidecar.has_cells != await self.local.wants_cell_proofs():
                raise L1TransactionRejected("sidecar format error: unexpected sidecar version, want: 1, got: 0")
            taken = await take(raw)
            self.cells_taken.append(sidecar.has_cells)
            return taken

        self.local.send_transaction = send  # type: ignore[method-assign]

    async def answer(self, request: httpx.Request) -> httpx.Response:
        body = orjson.loads(await request.aread())
        if body["method"] == "eth_config" and not self.says_fork:
            body["method"] = "eth_unheardOf"
        if body["method"] == "eth_sendRawTransaction":
            try:
                taken = await self.local.send_transaction(bytes.fromhex(body["params"][0][2:]))
            except L1TransactionRejected as error:
                failure = {"code": -32000, "message": str(error)}
                return httpx.Response(200, json={"jsonrpc": "2.0", "id": body["id"], "error": failure})
            return httpx.Response(200, json={"jsonrpc": "2.0", "id": body["id"], "result": "0x" + taken.hex()})
        return httpx.Response(200, content=await self._dispatcher.handle(orjson.dumps(body), Caller()))

    def sender(self, l1: L1Submitter) -> L1Sender:
        """Whoever waits for inclusion lets a block be made."""

        class Clock:
            time = float(self.chain.head().timestamp)

            def now(self) -> float:
                return self.time

            async def sleep(clock, seconds: float) -> None:
                clock.time += 4
                await self.producer.produce_block(self.chain.head().timestamp + 4)

        return L1Sender(l1, DEVNET.l1_chain_id, BATCHER.private_key, Clock())

    async def go_to(self, timestamp: int) -> None:
        while self.chain.head().timestamp < timestamp:
            await self.producer.produce_block(self.chain.head().timestamp + 4)


@pytest.fixture
async def l1(tmp_path: Path) -> AsyncIterator[L1]:
    genesis = l1_genesis(DEVNET, START)
    genesis = replace(genesis, hardforks=replace(genesis.hardforks, osaka_time=OSAKA))
    chain = Chain.open(tmp_path / "l1", genesis)
    pool = TransactionPool(chain)
    yield L1(chain, pool)
    pool.close()
    chain.close()


@pytest.mark.parametrize(
    ("over_rpc", "says_fork", "sent"),
    [
        (False, True, [False, True]),
        (True, True, [False, True]),
        # Refused once with the old form, it keeps to the new one.
        (True, False, [False, False, True, True]),
    ],
)
async def test_one_route_posts_blobs_before_and_after_osaka(
    l1: L1, over_rpc: bool, says_fork: bool, sent: list[bool]
) -> None:
    l1.says_fork = says_fork
    async with AsyncExitStack() as stack:
        view: Any = l1.local
        if over_rpc:
            transport = httpx.MockTransport(l1.answer)
            view = await stack.enter_async_context(L1Client("http://l1", transport=transport, attempts=1))
        route = BlobRoute(l1.sender(view), INBOX, BatcherSettings())
        included = [await route.post(CHANNEL)]
        await l1.go_to(OSAKA)
        included += [await route.post(CHANNEL) for _ in range(len(sent) // 2)]
    assert l1.cells_sent == sent
    assert l1.cells_taken == [False] + [True] * (len(sent) // 2)
    for item in included:
        block = l1.chain.block_by_hash(item.block_hash)
        assert block is not None
        assert [transaction.to for transaction in block.transactions] == [INBOX]
        assert block.header.blob_gas_used == 131_072


async def test_a_refusal_for_another_reason_stays_what_it_is(l1: L1) -> None:
    async def poor(raw: bytes) -> bytes:
        l1.cells_sent.append(True)
        raise L1TransactionRejected("insufficient funds for gas * price + value")

    l1.local.send_transaction = poor  # type: ignore[method-assign]
    with pytest.raises(L1TransactionRejected, match="insufficient funds"):
        await BlobRoute(l1.sender(l1.local), INBOX, BatcherSettings()).post(CHANNEL)
    assert len(l1.cells_sent) == 1


def test_the_public_l1s_say_by_their_schedule() -> None:
    assert [has_cell_proofs(1, time) for time in (1_764_798_550, 1_764_798_551)] == [False, True]
    assert has_cell_proofs(11_155_111, 1_760_427_360)
    assert has_cell_proofs(900, 1_800_000_000) is None
