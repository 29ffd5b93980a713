"""Several L1 endpoints: one that is down, lags, or lies is got past; a quorum decides what is canonical."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import trio

from openledger.evm_ext.chain import Chain
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.pool import TransactionPool
from openledger.evm_ext.transactions import sign_transaction
from openledger.genesis.dev_accounts import USERS
from openledger.genesis.presets import DEVNET, l1_genesis
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.dispatcher import Caller, Dispatcher
from openledger.node.rpc.ethereum import EthereumRpc
from openledger.rollup.l1.client import L1Client
from openledger.rollup.l1.endpoints import L1Endpoints, L1EndpointsDisagree
from openledger.rollup.l1.source import L1DataInvalid, L1TransactionRejected, L1Unavailable

TIME = 1_700_000_000


class Node(httpx.AsyncBaseTransport):
    """An L1 node with a chain of its own."""

    def __init__(self, folder: Path) -> None:
        self.chain = Chain.open(folder, l1_genesis(DEVNET, TIME))
        self.pool = TransactionPool(self.chain)
        self.dispatcher = Dispatcher()
        EthereumRpc(RpcBackend(self.chain, self.pool)).register(self.dispatcher)
        self.down = self.lies = False
        self.asked = 0

    def extend(self, count: int, recipient: bytes = bytes(20)) -> None:
        for _ in range(count):
            head = self.chain.head()
            attributes = PayloadAttributes(head.timestamp + 4, bytes(32), recipient, bytes(32))
            self.chain.set_heads(unsafe=self.chain.build(head.hash, attributes).hash)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.down:
            raise httpx.ConnectError("connection refused")
        answer = orjson.loads(await self.dispatcher.handle(await request.aread(), Caller()) or b"null")
        if self.lies and isinstance(answer.get("result"), dict) and "stateRoot" in answer["result"]:
            answer["result"]["stateRoot"] = "0x" + "66" * 32
        return httpx.Response(200, content=orjson.dumps(answer))


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Node]]:
    opened = [Node(tmp_path / str(index)) for index in range(3)]
    yield opened
    for node in opened:
        node.pool.close()
        node.chain.close()


@pytest.fixture
async def connect(nodes: list[Node]) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:

        async def connect(quorum: int = 1, **options: Any) -> L1Endpoints:
            options = {"attempts": 1, "backoff_s": 0, **options}
            clients = [
                await stack.enter_async_context(L1Client(f"http://l1-{index}", transport=node, **options))
                for index, node in enumerate(nodes)
            ]
            return L1Endpoints(clients, quorum)

        yield connect


async def test_an_endpoint_that_is_down_or_lies_is_got_past_and_asked_last(nodes, connect) -> None:
    for node in nodes:
        node.extend(3)
    l1 = await connect()
    nodes[0].down, nodes[1].lies = True, True
    head = nodes[2].chain.head()
    assert await l1.header_by_number(3) == head
    assert await l1.header_by_hash(head.hash) == head
    before = nodes[0].asked, nodes[1].asked
    assert await l1.transactions(head) == ()
    assert await l1.receipts(head) == ()
    assert (nodes[0].asked, nodes[1].asked) == before
    nodes[2].down = True
    with pytest.raises((L1Unavailable, L1DataInvalid)):
        await l1.header_by_number(2)


async def test_a_quorum_decides_which_block_is_canonical(nodes, connect) -> None:
    nodes[0].extend(4, b"\x01" * 20)
    nodes[1].extend(2)
    nodes[2].extend(3)
    l1 = await connect(2)
    assert await l1.header_by_number(2) == nodes[1].chain.header_by_number(2)
    # One endpoint alone reaches height 4, two reach 3 but with different blocks.
    assert await l1.header_by_number(4) is None
    with pytest.raises(L1EndpointsDisagree, match="block 3"):
        await l1.header_by_number(3)
    nodes[1].extend(1)
    assert await l1.header_by_label("latest") == nodes[2].chain.head()
    nodes[1].down = True
    with pytest.raises(L1EndpointsDisagree):
        await l1.header_by_number(1)
    nodes[2].down = True
    with pytest.raises(L1Unavailable, match="1 of 3"):
        await l1.header_by_number(1)


async def test_calls_need_the_quorum_too(nodes, connect) -> None:
    token = DEVNET.l1.open_token
    supply = bytes.fromhex("18160ddd")
    l1 = await connect(2)
    assert int.from_bytes(await l1.call(token, supply), "big") == 10**27
    nodes[0].down = True
    assert int.from_bytes(await l1.call(token, supply), "big") == 10**27


async def test_a_transaction_goes_to_every_endpoint(nodes, connect) -> None:
    l1 = await connect()
    nodes[0].down = True
    fields: dict[str, Any] = {"chain_id": 900, "gas": 21_000, "to": bytes(20), "max_fee_per_gas": 10**10}
    signed = sign_transaction(USERS[0].private_key, nonce=0, **fields)
    assert await l1.send_transaction(signed.raw) == signed.hash
    assert [node.pool.status().pending for node in nodes] == [0, 1, 1]
    assert await l1.nonce(USERS[0].address, pending=True) == 1
    poor = sign_transaction(b"\x05" * 32, nonce=0, **fields)
    with pytest.raises(L1TransactionRejected, match="insufficient funds"):
        await l1.send_transaction(poor.raw)


async def test_requests_keep_to_the_rate(nodes, connect) -> None:
    """A busy machine asks later, never sooner."""
    l1 = await connect(requests_per_s=50)
    nodes[0].extend(1)
    asked, start = nodes[0].asked, trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(21):
            nursery.start_soon(l1.header_by_number, 1)
    assert nodes[0].asked - asked == 21
    assert trio.current_time() - start > 20 / 50 - 0.01


def test_a_quorum_that_cannot_be_reached_is_refused() -> None:
    for quorum in (0, 2):
        with pytest.raises(ValueError, match="quorum"):
            L1Endpoints([L1Client("http://l1")], quorum)
