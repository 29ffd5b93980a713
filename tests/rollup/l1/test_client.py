"""The JSON-RPC view of L1 says what the chain says, and believes nothing that does not hash to it."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest

from openledger.evm_ext.transactions import sign_authorization, sign_transaction
from openledger.genesis.dev_accounts import BATCHER, USERS
from openledger.node.rpc.backend import RpcBackend
from openledger.node.rpc.dispatcher import Caller, Dispatcher
from openledger.node.rpc.ethereum import EthereumRpc
from openledger.rollup.batcher import Batcher, BatcherSettings
from openledger.rollup.driver import Driver
from openledger.rollup.l1.client import L1Client, WrongL1Chain
from openledger.rollup.l1.source import (
    L1BlockMissing,
    L1DataInvalid,
    L1TransactionRejected,
    L1Unavailable,
)


class Served(httpx.AsyncBaseTransport):
    """An RPC server in this process. `tamper` may change answers, `down` is a refused connection."""

    def __init__(self, handle: Callable[[bytes], Awaitable[bytes | None]]) -> None:
        self.handle = handle
        self.tamper: Callable[[str, Any], Any] = lambda method, result: result
        self.down = 0
        self.calls: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.down:
            self.down -= 1
            raise httpx.ConnectError("connection refused")
        body = await request.aread()
        method = orjson.loads(body)["method"]
        self.calls.append(method)
        answer = orjson.loads(await self.handle(body) or b"null")
        if "result" in answer:
            answer["result"] = self.tamper(method, answer["result"])
        return httpx.Response(200, content=orjson.dumps(answer))


@pytest.fixture
async def served(network) -> Served:
    dispatcher = Dispatcher()
    EthereumRpc(RpcBackend(network.l1.chain, network.l1.pool)).register(dispatcher)
    return Served(lambda body: dispatcher.handle(body, Caller()))


@pytest.fixture
async def client(served: Served):
    async with L1Client("http://user:secret@l1:8546", transport=served, attempts=2, backoff_s=0) as client:
        yield client


async def busy_block(network):
    """An L1 block with a transaction of every type that L1 takes, logs, a creation and a failure."""
    key, address = USERS[2].private_key, USERS[2].address
    common: dict[str, Any] = {"chain_id": 900, "gas": 500_000, "max_fee_per_gas": 20 * 10**9}
    authorization = sign_authorization(USERS[3].private_key, chain_id=900, address=b"\x16" * 20, nonce=0)
    for nonce, extra in enumerate(
        [
            {"type": 0, "to": b"\x01" * 20, "chain_id": None, "max_priority_fee_per_gas": None},
            {"type": 0, "to": b"\x01" * 20},
            {"type": 1, "to": b"\x01" * 20, "access_list": ((b"\x02" * 20, (1, 2)),)},
            {"type": 2, "to": None, "data": bytes.fromhex("60016000f3")},
            {"type": 2, "to": None, "data": b"\xfe"},
            {"type": 4, "to": b"\x01" * 20, "authorization_list": (authorization,)},
        ]
    ):
        fields = {**common, "nonce": nonce, "max_priority_fee_per_gas": 10**9, **extra}
        network.l1.pool.add(sign_transaction(key, **fields).raw)
    network.deposit_open(USERS[0], address, 10**18)
    await network.advance(4)
    return network.l1.chain.head()


async def test_it_says_what_the_chain_says(network, client: L1Client) -> None:
    head = await busy_block(network)
    view = network.l1_view
    assert await client.chain_id() == 900
    assert await client.header_by_number(head.number) == head
    assert await client.header_by_hash(head.hash) == head
    assert await client.header_by_number(head.number + 1) is None
    transactions = await client.transactions(head)
    assert {raw[0] if raw[0] < 5 else 0 for raw in transactions} == {0, 1, 2, 4}
    assert transactions == await view.transactions(head)
    assert [(item.status, item.logs) for item in await client.receipts(head)] == [
        (item.status, item.logs) for item in await view.receipts(head)
    ]
    for label in ("latest", "safe", "finalized"):
        assert await client.header_by_label(label) == await view.header_by_label(label)
    assert await client.nonce(USERS[2].address, pending=False) == 6
    assert await client.nonce(USERS[2].address, pending=True) == await view.nonce(USERS[2].address, pending=True)


async def test_what_is_known_by_hash_is_not_asked_again(network, client: L1Client, served: Served) -> None:
    head = await busy_block(network)
    for _ in range(2):
        await client.header_by_hash(head.hash)
        await client.transactions(head)
        await client.receipts(head)
    assert len(served.calls) == 3


def flip(value: str) -> str:
    return value[:-1] + ("1" if value[-1] != "1" else "2")


def change(*path: Any) -> Callable[[Any], Any]:
    def apply(result: Any) -> Any:
        target = result
        if path[0] == "transactions" and isinstance(result["transactions"][0], str):
            return result  # a block without its transactions
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = flip(target[path[-1]])
        return result

    return apply


LIES: list[tuple[str, Callable[[Any], Any]]] = [
    ("eth_getBlockByHash", change("stateRoot")),
    ("eth_getBlockByHash", change("timestamp")),
    ("eth_getBlockByHash", change("hash")),
    ("eth_getBlockByHash", change("transactions", 2, "input")),
    ("eth_getBlockByHash", change("transactions", 2, "accessList", 0, "storageKeys", 0)),
    ("eth_getBlockByHash", change("transactions", 5, "authorizationList", 0, "nonce")),
    ("eth_getBlockByHash", lambda block: {**block, "transactions": block["transactions"][:-1]}),
    ("eth_getBlockByHash", lambda block: {**block, "transactions": [{"type": "0x5"}]}),
    ("eth_getBlockReceipts", lambda receipts: receipts[:-1]),
    ("eth_getBlockReceipts", change(-1, "status")),
    ("eth_getBlockReceipts", change(-1, "logs", 0, "data")),
    ("eth_getBlockReceipts", change(-1, "logs", 0, "topics", 1)),
    ("eth_getBlockReceipts", lambda receipts: [{**item, "logs": []} for item in receipts]),
    ("eth_getBlockReceipts", lambda receipts: [{**item, "type": "0x2"} for item in receipts]),
    ("eth_getBlockReceipts", lambda receipts: [{"status": 1} for item in receipts]),
    ("eth_getBlockReceipts", lambda receipts: ["nonsense"]),
    ("eth_getBlockByHash", lambda block: "nonsense"),
    ("eth_getBlockByHash", lambda block: {**block, "requestsHash": None}),
]


@pytest.mark.parametrize("lie", range(len(LIES)))
async def test_a_lie_is_named_as_such(network, client: L1Client, served: Served, lie: int) -> None:
    head = await busy_block(network)
    lying_method, apply = LIES[lie]
    served.tamper = lambda method, result: apply(result) if method == lying_method else result

    async def read_everything() -> None:
        await client.header_by_hash(head.hash)
        await client.transactions(head)
        await client.receipts(head)

    with pytest.raises(L1DataInvalid):
        await read_everything()


async def test_another_block_than_the_one_asked_for_is_refused(network, client: L1Client, served: Served) -> None:
    await network.advance(8)
    first, second = (network.l1.chain.header_by_number(number) for number in (1, 2))
    answer = await served.handle(
        orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_getBlockByNumber", "params": ["0x1", False]})
    )
    assert answer is not None
    served.tamper = lambda method, result: orjson.loads(answer)["result"]
    with pytest.raises(L1DataInvalid, match="asked for"):
        await client.header_by_hash(second.hash)
    with pytest.raises(L1DataInvalid, match="asked for L1 block 2, got 1"):
        await client.header_by_number(2)
    assert await client.header_by_number(1) == first


async def test_a_block_that_is_gone_is_told_apart_from_an_endpoint_that_is_down(
    client: L1Client, served: Served
) -> None:
    with pytest.raises(L1BlockMissing):
        await client.header_by_hash(b"\x55" * 32)
    served.down = 1
    assert await client.chain_id() == 900
    served.down = 100
    with pytest.raises(L1Unavailable, match="cannot reach L1 at http://l1:8546") as caught:
        await client.chain_id()
    assert "secret" not in str(caught.value)


async def test_the_wrong_chain_is_named(client: L1Client) -> None:
    await client.check_chain_id(900)
    with pytest.raises(WrongL1Chain, match="serves chain 900, but this rollup's L1 is chain 1"):
        await client.check_chain_id(1)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(502, text="bad gateway"),
        httpx.Response(200, text="[1"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={"jsonrpc": "2.0", "id": 1}),
        httpx.Response(200, json={"error": {"code": -32005, "message": "limit"}}),
    ],
)
async def test_answers_of_a_sick_endpoint_are_tried_again_and_then_named(response: httpx.Response) -> None:
    calls: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(response.status_code, content=response.content)

    async with L1Client("http://l1", transport=httpx.MockTransport(answer), attempts=3, backoff_s=0) as client:
        with pytest.raises(L1Unavailable):
            await client.chain_id()
    assert len(calls) == 3


async def test_sending_a_known_transaction_again_is_no_error_and_a_bad_one_is(network, client: L1Client) -> None:
    raw = sign_transaction(
        USERS[0].private_key, chain_id=900, nonce=0, gas=21_000, to=bytes(20), max_fee_per_gas=10**10
    ).raw
    transaction_hash = await client.send_transaction(raw)
    assert await client.send_transaction(raw) == transaction_hash
    assert await client.inclusion(transaction_hash) is None
    with pytest.raises(L1TransactionRejected):
        await client.send_transaction(
            sign_transaction(
                USERS[0].private_key, chain_id=901, nonce=1, gas=21_000, to=bytes(20), max_fee_per_gas=10**10
            ).raw
        )
    await network.advance(4)
    included = await client.inclusion(transaction_hash)
    assert included is not None
    assert included == await network.l1_view.inclusion(transaction_hash)
    assert included.succeeded


async def test_batcher_and_validator_work_over_rpc_alone(network, client: L1Client) -> None:
    network.deposit_open(USERS[0], b"\x77" * 20, 5)
    await network.advance(16)
    batcher = Batcher(
        network.node.engine,
        client,
        network.da,
        BATCHER.private_key,
        settings=BatcherSettings(max_channel_blocks=3),
        clock=network.clock,
    )
    await network.post(batcher=batcher)
    validator = network.open_node("validator")
    driver = Driver(validator.engine, client, network.da, clock=network.clock)
    assert (await driver.derive_to_tip()).hash == network.node.chain.head().hash
    assert validator.chain.state(validator.chain.head().hash).balance(b"\x77" * 20) == 5
    validator.close()
