"""Whatever comes in over JSON-RPC is answered with an error that says what is wrong, and the node lives."""

import json
from dataclasses import replace

import httpx
import pytest
import rlp
from websockets.sync.client import connect

from openledger.evm_ext.signatures import SECP256K1_N
from openledger.evm_ext.transactions import (
    Authorization,
    DepositTransaction,
    encode_transaction,
    sign_authorization,
    sign_transaction,
)
from openledger.genesis.dev_accounts import DEV_ACCOUNTS
from openledger.genesis.presets import DEVNET, l1_genesis
from openledger.node.rpc import Dispatcher
from openledger.node.rpc.backend import RpcLimits
from openledger.node.rpc.ethereum import EthereumRpc

ALICE, BOB = DEV_ACCOUNTS[0], DEV_ACCOUNTS[1]
SERVER_ERROR, INVALID_PARAMS, INTERNAL_ERROR = -32000, -32602, -32603
ADDRESS, HASH = "0x" + "11" * 20, "0x" + "22" * 32

NONSENSE = (
    None, True, 0, -1, 1.5, 10**30, "", "0x", "0xzz", "0x1", "latest", "no such thing", ADDRESS, HASH, "0x" + "f" * 65,
    "0x" + "00" * 5000, [], [[]], [None], [ADDRESS] * 3, {}, {"a": 1}, {"to": 5}, {"blockHash": 5},
    {"fromBlock": "0x5", "toBlock": "0x1"}, {"tracer": "nonsense"}, "é" * 50,
)  # fmt: skip


def signed(**fields):
    options = {
        "chain_id": DEVNET.l2_chain_id,
        "nonce": 0,
        "gas": 100_000,
        "max_fee_per_gas": 10**10,
        "max_priority_fee_per_gas": 10**8,
        "to": BOB.address,
    } | fields
    return sign_transaction(ALICE.private_key, **options)


def post(node, body: bytes) -> httpx.Response:
    with httpx.Client(base_url=node.url, trust_env=False, timeout=180) as client:
        return client.post("/", content=body, headers={"content-type": "application/json"})


def lives(node) -> bool:
    body = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'
    return post(node, body).json()["result"] == hex(DEVNET.l2_chain_id)


def test_no_method_fails_inside_whatever_its_arguments_are(still_node):
    dispatcher = Dispatcher()
    EthereumRpc(still_node.backend).register(dispatcher)
    calls = []
    for method in dispatcher.method_names:
        for value in NONSENSE:
            for params in ([value], [value, value], [ADDRESS, value, value], [HASH, value], [{}, value, value]):
                calls.append({"jsonrpc": "2.0", "id": len(calls), "method": method, "params": params})
    internal = []
    for start in range(0, len(calls), 500):
        answers = post(still_node, json.dumps(calls[start : start + 500]).encode()).json()
        for answer in answers:
            if answer.get("error", {}).get("code") == INTERNAL_ERROR:
                call = calls[answer["id"]]
                internal.append((call["method"], str(call["params"])[:100]))
    assert internal == []
    assert lives(still_node)


def test_params_that_are_no_list_are_refused(still_node):
    for params in ({"address": ADDRESS}, "latest", 5, True):
        body = {"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": params}
        assert post(still_node, json.dumps(body).encode()).json()["error"]["code"] == INVALID_PARAMS


OVERRIDDEN = {ADDRESS: {"state": {HASH: "0x1"}}}


@pytest.mark.parametrize(
    ("method", "params", "path"),
    [
        ("eth_call", [{"from": 5}], "from"),
        ("eth_call", [{"accessList": [{"address": ADDRESS, "storageKeys": [HASH, "0x1"]}]}], "accessList[0].storageKeys[1]"),
        ("eth_call", [{"accessList": [{"address": ADDRESS}, {}]}], "accessList[1].address"),
        ("eth_estimateGas", [{"authorizationList": [{"chainId": "1"}]}], "authorizationList[0].chainId"),
        ("eth_call", [{}, "latest", OVERRIDDEN], f"{ADDRESS}.state.{HASH}"),
        ("eth_call", [{}, "latest", {"0x12": {}}], "0x12"),
        ("eth_call", [{}, "latest", {}, {"baseFeePerGas": "5"}], "baseFeePerGas"),
        ("eth_call", [{}, {"blockNumber": 5}], "blockNumber"),
        ("eth_simulateV1", [{"blockStateCalls": [{}, {"calls": [{"to": "0x"}]}]}], "blockStateCalls[1].calls[0].to"),
        ("eth_simulateV1", [{"blockStateCalls": [{"stateOverrides": OVERRIDDEN}]}], f"blockStateCalls[0].stateOverrides.{ADDRESS}"),
        ("eth_getLogs", [{"topics": [None, [HASH, 5]]}], "topics[1][1]"),
        ("debug_traceCall", [{}, "latest", {"blockOverrides": {"time": -1}}], "blockOverrides.time"),
        ("eth_getStorageValues", [{ADDRESS: ["zz"]}], f"{ADDRESS}[0]"),
    ],
)  # fmt: skip
def test_a_wrong_value_inside_an_object_is_named(still_rpc, method, params, path):
    refused = still_rpc.error(method, *params)
    assert refused["code"] == INVALID_PARAMS
    assert f": {path}" in refused["message"]


def test_a_simulation_of_a_chain_without_its_system_contracts_says_which_is_missing(tmp_path, chain_thread, rpc_to):
    bare = replace(l1_genesis(DEVNET, 1_700_000_000), alloc={})
    with chain_thread(tmp_path, bare, automine=False) as node:
        refused = rpc_to(node).error("eth_simulateV1", {"blockStateCalls": [{}]})
        assert (refused["code"], refused["message"][:35]) == (SERVER_ERROR, "no code at system contract 0x000009")


def test_a_damaged_database_is_said_to_be_and_the_node_lives(tmp_path, genesis, chain_thread, rpc_to):
    with chain_thread(tmp_path, genesis, automine=False) as node:
        for key in list(node.chain._store.database.keys(b"c", b"d")):
            with node.chain._store.database.batch() as batch:
                batch.delete(key)
        refused = rpc_to(node).error("eth_getCode", "0x4200000000000000000000000000000000000016", "latest")
        assert refused["code"] == INTERNAL_ERROR
        assert refused["message"].startswith("the node's database is damaged")
        assert lives(node)


@pytest.mark.parametrize("depth", [900, 5_000, 200_000])
def test_deep_json_is_refused_over_http_and_websocket(still_node, depth):
    body = b'{"jsonrpc":"2.0","id":1,"method":"eth_call","params":' + b"[" * depth + b"]" * depth + b"}"
    code = post(still_node, body).json()["error"]["code"]
    assert code == (INVALID_PARAMS if depth == 900 else -32700)
    with connect(still_node.websocket_url, legacy=True, max_size=None) as socket:
        socket.send(body.decode())
        assert json.loads(socket.recv(10))["error"]["code"] == code
    assert lives(still_node)


def test_batches_and_bodies_beyond_the_limits_are_refused_whole(still_node):
    call = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'
    refused = post(still_node, b"[" + b",".join([call] * 1001) + b"]").json()["error"]
    assert (refused["code"], refused["message"]) == (-32600, "batch too large: 1001 calls, at most 1000")
    assert post(still_node, b"[" + b" " * (5 << 20) + b"]").status_code == 413
    many = b"[" + b",".join([b"1"] * 300_000) + b"]"
    assert "values" in post(still_node, many).json()["error"]["message"]
    assert lives(still_node)


def test_filters_beyond_the_limits_say_what_the_limit_is(tmp_path, genesis, chain_thread, rpc_to):
    limits = RpcLimits(log_blocks=2, log_results=1, filters=2)
    with chain_thread(tmp_path, genesis, automine=False, limits=limits) as node:
        rpc = rpc_to(node)
        for _ in range(4):
            node.mine()
        too_long = rpc.error("eth_getLogs", {"fromBlock": "0x0", "toBlock": "0x4"})
        assert too_long["code"] == -32005
        assert "maximum block range: 2" in too_long["message"]
        for query, words in (
            ({"address": [ADDRESS] * 1001}, "at most 1000"),
            ({"topics": [[HASH] * 1001]}, "at most 1000"),
            ({"topics": [HASH] * 5}, "a log has at most 4"),
            ({"topics": [["0x1234"]]}, "want 64"),
            ({"address": "0x12"}, "want 40"),
            ({"fromBlock": "0x4", "toBlock": "0x1"}, "invalid block range"),
            ({"blockHash": HASH, "fromBlock": "0x1"}, "cannot specify both"),
        ):
            refused = rpc.error("eth_getLogs", query)
            assert refused["code"] == INVALID_PARAMS, query
            assert words in refused["message"]
        for _ in range(2):
            rpc("eth_newBlockFilter")
        assert rpc.error("eth_newBlockFilter")["code"] == -32005


def fields_of(transaction) -> list:
    return rlp.decode(transaction.raw[1:])


def typed(kind: int, fields: list) -> bytes:
    return bytes((kind,)) + rlp.encode(fields)


def changed(**places) -> bytes:
    """A type 2 transaction with some of its fields replaced, by place."""
    fields = fields_of(signed())
    for place, value in places.items():
        fields[int(place[1:])] = value
    return typed(2, fields)


GOOD = signed()
DEPOSIT = DepositTransaction(bytes(32), ALICE.address, BOB.address, 10**18, 0, 21_000, False, b"")
HUGE_LIST = b"\xfb\xff\xff\xff\xff"
AUTHORIZATION = sign_authorization(BOB.private_key, chain_id=DEVNET.l2_chain_id, address=BOB.address, nonce=0)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "the transaction is empty"),
        (b"\x01", "malformed transaction"),
        (b"\xc0", "malformed transaction"),
        (b"\x85hello", "the transaction is a byte string"),
        (b"\x05" + GOOD.raw[1:], "transaction type not supported: 0x05"),
        (b"\x7d" + GOOD.raw[1:], "transaction type not supported: 0x7d"),
        (DEPOSIT.encode(), "transaction type not supported: 0x7e (deposits come from L1"),
        (GOOD.raw[:-1], "malformed transaction"),
        (GOOD.raw + b"\x00", "malformed transaction"),
        (b"\x02" + HUGE_LIST, "malformed transaction"),
        (b"\x02" + b"\xc1" * 2000 + b"\xc0", "malformed transaction"),
        (typed(2, fields_of(GOOD)[:-1]), "malformed transaction"),
        (typed(2, [*fields_of(GOOD), b""]), "malformed transaction"),
        (changed(_1=b"\x00"), "malformed transaction"),
        (changed(_1=b"\x01" * 9), "malformed transaction"),
        (changed(_2=b"\x01" * 33), "malformed transaction"),
        (changed(_5=b"\x11" * 19), "malformed transaction"),
        (changed(_8=[[b"\x11" * 20, [b"\x01"]]]), "malformed transaction"),
        (changed(_8=b"nolist"), "malformed transaction"),
        (changed(_9=b"\x02"), "invalid sender"),
        (changed(_10=b""), "invalid sender"),
        (changed(_10=SECP256K1_N.to_bytes(32, "big")), "invalid sender"),
        (encode_transaction(replace(GOOD, s=SECP256K1_N - GOOD.s, y_parity=1 - GOOD.y_parity)), "invalid sender"),
        (signed(chain_id=1).raw, "invalid chain id for signer: have 1 want"),
        (signed(type=0, chain_id=1).raw, "invalid chain id for signer: have 1 want"),
        (signed(gas=20_999).raw, "intrinsic gas too low"),
        (signed(gas=23_000, data=b"\xff" * 80).raw, "insufficient gas for floor data gas cost"),
        (signed(gas=2**63, max_fee_per_gas=1, max_priority_fee_per_gas=0).raw, "exceeds block gas limit"),
        (signed(gas=10**7, data=bytes(200_000)).raw, "oversized data"),
        (signed(to=None, gas=10**7, data=bytes(49_153)).raw, "max initcode size exceeded"),
        (signed(max_fee_per_gas=1, max_priority_fee_per_gas=2).raw, "max priority fee per gas higher than max fee"),
        (signed(nonce=2**64 - 1).raw, "nonce has max value"),
        (signed(value=10**60).raw, "insufficient funds for gas * price + value"),
        (signed(max_fee_per_gas=10**20).raw, "tx fee"),
        (
            signed(type=3, blob_versioned_hashes=(b"\x01" + bytes(31),), max_fee_per_blob_gas=1).raw,
            "transaction type not supported: 0x03",
        ),
        (signed(type=4).raw, "EIP-7702 transaction with empty auth list"),
        (signed(type=4, to=None, gas=10**6, authorization_list=(AUTHORIZATION,)).raw, "EIP-7702 transaction cannot"),
        (
            signed(type=4, gas=10**6, authorization_list=(Authorization(2**70, BOB.address, 0, 0, 1, 1),)).raw,
            None,  # a chain id that nobody has: the authorization is passed over
        ),
    ],
)  # fmt: skip
def test_a_transaction_of_every_wrong_kind_is_refused_with_its_reason(shared_node, raw, words):
    body = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": ["0x" + raw.hex()]}
    answer = post(shared_node, json.dumps(body).encode()).json()
    if words is None:
        assert answer.get("error", {}).get("code") != INTERNAL_ERROR
        return
    assert answer["error"]["code"] == SERVER_ERROR, answer
    assert answer["error"]["message"].startswith(words), answer
    assert raw != GOOD.raw
    assert lives(shared_node)


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory, genesis):
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    spec = spec_from_file_location("chain_thread_shared", Path(__file__).with_name("chain_thread.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.ChainThread(tmp_path_factory.mktemp("bad"), genesis, automine=False) as running:
        yield running
