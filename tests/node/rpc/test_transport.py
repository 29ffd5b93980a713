"""JSON-RPC over HTTP and WebSocket: what may call, what is pushed, in which order, and who is dropped."""

import json

import httpx
import pytest
from websockets.sync.client import connect

from openledger.evm_ext.transactions import sign_transaction
from openledger.genesis.dev_accounts import DEV_ACCOUNTS
from openledger.genesis.presets import DEVNET
from openledger.node.http import AccessPolicy
from openledger.node.rpc.backend import RpcLimits

ALICE, BOB = DEV_ACCOUNTS[0], DEV_ACCOUNTS[1]
CALL = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
LOGGER = bytes.fromhex("6007600c5f3960075ff3" + "0000" + "60075f5fa1005b")


def transfer(nonce: int, to: bytes | None = BOB.address, data: bytes = b"", sender=ALICE):
    return sign_transaction(
        sender.private_key,
        chain_id=DEVNET.l2_chain_id,
        nonce=nonce,
        gas=200_000,
        to=to,
        data=data,
        max_fee_per_gas=10**10,
        max_priority_fee_per_gas=10**8,
    )


class Socket:
    """A WebSocket that keeps pushes apart from answers."""

    def __init__(self, node, **options) -> None:
        self.socket = connect(node.websocket_url, legacy=True, **options)
        self.pushed: list[tuple[str, object]] = []
        self.order: list[str] = []

    def call(self, method: str, *params: object):
        self.socket.send(json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}))
        while True:
            message = self._read(10)
            if message is not None:
                return message.get("result", message.get("error"))

    def push(self) -> tuple[str, object]:
        while not self.pushed:
            self._read(10)
        return self.pushed.pop(0)

    def silent(self) -> bool:
        if self.pushed:
            return False
        try:
            return self._read(0.2) is None and not self.pushed
        except TimeoutError:
            return True

    def _read(self, timeout: float):
        message = json.loads(self.socket.recv(timeout))
        self.order.append("push" if "method" in message else "answer")
        if "method" in message:
            assert message["method"] == "eth_subscription"
            self.pushed.append((message["params"]["subscription"], message["params"]["result"]))
            return None
        return message


@pytest.fixture
def socket(still_node):
    opened = Socket(still_node)
    yield opened
    opened.socket.close()


def test_http_takes_posted_json_and_says_what_else_it_is_not(still_node):
    with httpx.Client(base_url=still_node.url, trust_env=False) as client:
        assert client.post("/", json=CALL).json()["result"] == hex(DEVNET.l2_chain_id)
        typed = client.post("/", content=json.dumps(CALL), headers={"content-type": "application/json; charset=utf-8"})
        assert typed.json()["id"] == 1
        assert client.get("/").status_code == 200
        assert client.put("/", json=CALL).status_code == 405
        assert client.post("/", content=json.dumps(CALL), headers={"content-type": "text/plain"}).status_code == 415
        assert client.post("/", json={key: CALL[key] for key in ("jsonrpc", "method")}).status_code == 204
        assert (
            client.post("/", content=b"{", headers={"content-type": "application/json"}).json()["error"]["code"]
            == -32700
        )
        too_large = client.post(
            "/", content=b"[" + b" " * 5 * 1024 * 1024 + b"]", headers={"content-type": "application/json"}
        )
        assert too_large.status_code == 413


def test_admin_is_hidden_from_browsers_and_proxies(still_node):
    ask = CALL | {"method": "admin_nodeInfo"}
    with httpx.Client(base_url=still_node.url, trust_env=False) as client:
        assert "result" in client.post("/", json=ask).json()
        for name, value in (
            ("origin", "http://localhost:3000"),
            ("x-forwarded-for", "203.0.113.9"),
            ("forwarded", "for=x"),
        ):
            assert client.post("/", json=ask, headers={name: value}).json()["error"]["code"] == -32601


def test_a_rebound_name_and_a_foreign_page_are_refused(tmp_path, genesis, chain_thread):
    with chain_thread(tmp_path, genesis, policy=AccessPolicy(origins=("https://app.example",))) as node:
        with httpx.Client(base_url=node.url, trust_env=False) as client:
            assert client.post("/", json=CALL, headers={"host": "evil.example"}).status_code == 403
            preflight = {"origin": "https://app.example", "access-control-request-method": "POST"}
            assert client.options("/", headers=preflight).status_code == 204
        Socket(node, origin="https://app.example").socket.close()
        with pytest.raises(Exception, match="403"):
            Socket(node, origin="https://evil.example")


def test_heads_and_logs_are_pushed_and_a_reorganisation_takes_logs_back(socket, still_node):
    heads = socket.call("eth_subscribe", "newHeads")
    logs = socket.call("eth_subscribe", "logs", {"topics": ["0x" + f"{7:064x}"]})
    others = socket.call("eth_subscribe", "logs", {"topics": ["0x" + f"{8:064x}"]})
    still_node.pool.add(transfer(0, None, LOGGER).raw)
    deployed = still_node.mine()
    assert socket.push()[1]["hash"] == "0x" + deployed.hash.hex()
    logger = still_node.chain.receipts(deployed.hash)[0].contract_address
    still_node.pool.add(transfer(1, logger).raw)
    block = still_node.mine()
    assert socket.push() == (heads, socket_head(still_node, block))
    identifier, log = socket.push()
    assert identifier == logs != others
    assert (log["blockHash"], log["removed"]) == ("0x" + block.hash.hex(), False)
    fork = still_node.chain.build(deployed.hash, still_node.attributes(deployed.header, extra_time=1))
    still_node.chain.set_heads(unsafe=fork.hash)
    assert socket.push()[1]["hash"] == "0x" + fork.hash.hex()
    identifier, log = socket.push()
    assert (identifier, log["blockHash"], log["removed"]) == (logs, "0x" + block.hash.hex(), True)
    assert socket.call("eth_unsubscribe", heads) is True
    assert socket.call("eth_unsubscribe", heads)["message"] == "subscription not found"
    still_node.mine()
    assert socket.push()[0] == logs


def socket_head(node, block) -> dict:
    with httpx.Client(base_url=node.url, trust_env=False) as client:
        ask = CALL | {"method": "eth_getHeaderByHash", "params": ["0x" + block.hash.hex()]}
        return client.post("/", json=ask).json()["result"]


def test_pending_transactions_are_pushed_as_hashes_or_whole(socket, still_node):
    brief = socket.call("eth_subscribe", "newPendingTransactions")
    full = socket.call("eth_subscribe", "newPendingTransactions", True)
    transaction = transfer(0)
    still_node.pool.add(transaction.raw)
    pushed = dict([socket.push(), socket.push()])
    assert pushed[brief] == "0x" + transaction.hash.hex()
    assert pushed[full]["hash"] == "0x" + transaction.hash.hex()
    assert pushed[full]["blockHash"] is None


def test_the_answer_comes_before_the_first_push_of_its_subscription(still_node):
    for _ in range(20):
        client = Socket(still_node)
        batch = [
            {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]},
            {"jsonrpc": "2.0", "id": 2, "method": "eth_getBlockByNumber", "params": ["latest", True]},
        ]
        client.socket.send(json.dumps(batch))
        still_node.mine()
        first = json.loads(client.socket.recv(10))
        assert isinstance(first, list)
        client.socket.close()


def test_subscriptions_end_with_their_connection_and_are_bounded(tmp_path, genesis, chain_thread):
    with chain_thread(tmp_path, genesis, automine=False, limits=RpcLimits(subscriptions=2)) as node:
        client = Socket(node)
        for _ in range(2):
            assert isinstance(client.call("eth_subscribe", "newHeads"), str)
        assert client.call("eth_subscribe", "newHeads")["code"] == -32005
        assert client.call("eth_chainId") == hex(DEVNET.l2_chain_id)
        client.socket.close()
        node.mine()
        again = Socket(node)
        assert isinstance(again.call("eth_subscribe", "newHeads"), str)
        assert again.silent()
        again.socket.close()


def test_a_subscription_that_makes_no_sense_is_refused(socket):
    assert socket.call("eth_subscribe", "newBlocks")["message"] == "no 'newBlocks' subscription in eth namespace"
    assert socket.call("eth_subscribe", "logs", {"topics": [1]})["code"] == -32602
    assert socket.call("eth_subscribe")["message"] == "missing value for required argument 0"


def test_batches_and_binary_frames_work_over_a_websocket(socket):
    socket.socket.send(json.dumps([CALL, CALL | {"id": 2}]).encode())
    assert [item["id"] for item in json.loads(socket.socket.recv(10))] == [1, 2]
    socket.socket.send("{")
    assert json.loads(socket.socket.recv(10))["error"]["code"] == -32700


def test_slow_calls_do_not_hold_up_quick_ones(tmp_path, genesis, chain_thread):
    with chain_thread(tmp_path, genesis, limits=RpcLimits(call_gas=10**12, call_time_s=1.0)) as node:
        client = connect(node.websocket_url, legacy=True)
        slow = {"jsonrpc": "2.0", "id": "slow", "method": "eth_call", "params": [{"data": "0x5b5f56"}]}
        client.send(json.dumps(slow))
        client.send(json.dumps(CALL | {"id": "quick"}))
        assert [json.loads(client.recv(10))["id"] for _ in range(2)] == ["quick", "slow"]
        client.close()
