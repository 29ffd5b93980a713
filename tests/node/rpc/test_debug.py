"""debug_trace* and the debug methods about states, over HTTP."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openledger.evm_ext.block import Block
from openledger.evm_ext.payload import PayloadAttributes
from openledger.evm_ext.stateless import execute
from openledger.evm_ext.transactions import sign_transaction
from openledger.evm_ext.witness import Witness
from openledger.genesis.dev_accounts import USERS
from openledger.genesis.hashing import keccak256
from openledger.node.rpc.backend import RpcLimits
from openledger.node.rpc.trace_config import decode_duration

GWEI = 10**9
# SSTORE(0, CALLVALUE); LOG1(data 0, topic 7); RETURN 32 bytes
COUNTER = "34600055600760206000a160206000f3"
# MSTORE(0, Error("no")) REVERT
REVERTER = (
    "7f08c379a000000000000000000000000000000000000000000000000000000000600052"
    "6020600452600260245261" + "6e6f" + "60f01b60445260646000fd"
)


def _deployment(runtime: str) -> bytes:
    """Initialisation code that returns the runtime code."""
    size = len(runtime) // 2
    return bytes.fromhex(f"60{size:02x}600c60003960{size:02x}6000f3" + runtime)


class Sender:
    def __init__(self, node, rpc) -> None:
        self.node, self.rpc, self.nonce = node, rpc, 0
        self.address = "0x" + USERS[0].address.hex()

    def send(self, to=None, data=b"", value=0, gas=300_000):
        transaction = sign_transaction(
            USERS[0].private_key,
            chain_id=self.node.chain.chain_id,
            nonce=self.nonce,
            to=to,
            data=data,
            value=value,
            gas=gas,
            max_fee_per_gas=100 * GWEI,
            max_priority_fee_per_gas=GWEI,
        )
        self.nonce += 1
        return self.rpc("eth_sendRawTransaction", "0x" + transaction.raw.hex())

    def deploy(self, runtime: str) -> str:
        sent = self.send(data=_deployment(runtime))
        self.node.mine()
        receipt = self.rpc("eth_getTransactionReceipt", sent)
        assert receipt["status"] == "0x1"
        return receipt["contractAddress"]


@pytest.fixture
def sender(still_node, still_rpc):
    return Sender(still_node, still_rpc)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def test_a_transaction_is_traced_in_the_place_it_had_in_its_block(sender, still_node, still_rpc):
    counter = sender.deploy(COUNTER)
    first = sender.send(_bytes(counter), value=5)
    second = sender.send(_bytes(counter), value=9)
    still_node.mine()
    state = still_rpc("debug_traceTransaction", second, {"tracer": "prestateTracer"})
    word = "0x" + "0" * 63
    assert state[counter]["storage"] == {word + "0": word + "5"}
    assert int(state[counter]["balance"], 16) == 5
    logs = still_rpc("debug_traceTransaction", second, {"tracer": "callTracer", "tracerConfig": {"withLog": True}})
    receipt = still_rpc("eth_getTransactionReceipt", second)
    assert [log["index"] for log in logs["logs"]] == [log["logIndex"] for log in receipt["logs"]] == ["0x1"]
    assert logs["gasUsed"] == receipt["gasUsed"]
    assert logs["gas"] == hex(300_000)
    rows = still_rpc("debug_traceTransaction", first)
    assert rows["gas"] == int(still_rpc("eth_getTransactionReceipt", first)["gasUsed"], 16)
    assert rows["returnValue"] == "0x" + "0" * 64
    assert [row["op"] for row in rows["structLogs"]][:3] == ["CALLVALUE", "PUSH1", "SSTORE"]


def test_all_transactions_of_a_block_are_traced_by_number_by_hash_and_from_bytes(sender, still_node, still_rpc):
    counter = sender.deploy(COUNTER)
    hashes = [sender.send(_bytes(counter), value=value) for value in (1, 2)]
    block = still_node.mine()
    config = {"tracer": "callTracer"}
    traces = still_rpc("debug_traceBlockByNumber", hex(block.number), config)
    assert [trace["txHash"] for trace in traces] == hashes
    assert [trace["result"]["value"] for trace in traces] == ["0x1", "0x2"]
    assert still_rpc("debug_traceBlockByHash", "0x" + block.hash.hex(), config) == traces
    assert still_rpc("debug_traceBlock", "0x" + block.encode().hex(), config) == traces


def test_a_call_is_traced_on_a_state_and_a_block_that_are_made_up(sender, still_node, still_rpc):
    reverter = sender.deploy(REVERTER)
    counter = sender.deploy(COUNTER)
    call = {"from": sender.address, "to": reverter}
    trace = still_rpc("debug_traceCall", call, "latest", {"tracer": "callTracer"})
    assert (trace["error"], trace["revertReason"]) == ("execution reverted", "no")
    # NUMBER, COINBASE and the code of the counter are the caller's word
    config = {
        "stateOverrides": {counter: {"code": "0x4360005260206000f3"}},
        "blockOverrides": {"number": "0x1234"},
    }
    rows = still_rpc("debug_traceCall", {"to": counter}, "latest", config)
    assert int(rows["returnValue"], 16) == 0x1234
    sender.send(_bytes(counter), value=3)
    sender.send(_bytes(counter), value=4)
    block = still_node.mine()
    slots = [
        still_rpc(
            "debug_traceCall", {"to": counter}, hex(block.number), {"tracer": "prestateTracer", "txIndex": hex(index)}
        )[counter].get("storage")
        for index in (0, 1)
    ]
    word = "0x" + "0" * 63
    assert slots == [{word + "0": word + "0"}, {word + "0": word + "3"}]


@pytest.mark.parametrize(
    ("method", "params", "code", "words"),
    [
        ("debug_traceTransaction", ["0x" + "00" * 32], -32000, "transaction not found"),
        ("debug_traceBlockByNumber", ["0x0"], -32000, "genesis is not traceable"),
        ("debug_traceBlockByNumber", ["0x999"], -32000, "block #2457 not found"),
        ("debug_traceBlock", ["0xc0"], -32000, "could not decode block"),
        ("debug_traceCall", [{}, "pending"], -32000, "tracing on top of pending is not supported"),
        ("debug_traceCall", [{"to": "0x12"}, "latest"], -32602, "invalid argument 0"),
        ("debug_traceCall", [{}, "latest", {"tracer": "{data: []}"}], -32000, "tracer not found"),
        ("debug_traceCall", [{}, "latest", {"timeout": "5"}], -32602, "invalid duration"),
        ("debug_traceCall", [{}, "latest", {"limit": "5"}], -32000, "limit is a number of rows"),
        ("debug_traceCall", [{}, "latest", {"tracer": "callTracer", "tracerConfig": 5}], -32602, "expected an object"),
        ("debug_traceBlockByNumber", ["3"], -32602, "invalid argument 0: hex string without 0x prefix"),
        ("debug_traceBlockByHash", ["0x" + "00" * 31 + "01"], -32000, "block 0x" + "00" * 31 + "01 not found"),
        ("debug_traceCall", [{}, "0xfffffffff", {"tracer": "callTracer"}], -32000, "block #68719476735 not found"),
        ("debug_executionWitness", ["0x0"], -32000, "block 0x0 found, but parent missing"),
        ("debug_executionWitness", ["pending"], -32000, "pending block has no witness"),
        ("debug_executionWitness", ["0xfffffffff"], -32000, "block 0xfffffffff not found"),
        ("debug_preimage", ["0x" + "00" * 32], -32000, "preimages are not kept"),
        ("debug_storageRangeAt", ["0x0", 0, "0x" + "00" * 20, "0x", 1], -32000, "no transaction in genesis"),
        ("debug_storageRangeAt", ["latest", 9, "0x" + "00" * 20, "0x", 1], -32000, "out of range"),
        ("debug_getModifiedAccountsByNumber", ["0x1", "0x0"], -32000, "must be less than"),
    ],
)
def test_what_cannot_be_traced_says_why(sender, still_node, still_rpc, method, params, code, words):
    still_node.mine()
    error = still_rpc.error(method, *params)
    assert error["code"] == code
    assert words in error["message"]


# JUMPDEST PUSH0 JUMP
ENDLESS = "5b5f56"


def test_a_trace_ends_when_its_time_is_over(sender, still_rpc):
    endless = sender.deploy(ENDLESS)
    call = {"to": endless, "gas": hex(50_000_000)}
    error = still_rpc.error("debug_traceCall", call, "latest", {"tracer": "callTracer", "timeout": "150ms"})
    assert error == {"code": -32000, "message": "execution timeout"}


def test_a_trace_ends_when_it_would_be_too_large(tmp_path, genesis, chain_thread, rpc_to):
    with chain_thread(tmp_path, genesis, automine=False, limits=RpcLimits(trace_bytes=100_000)) as node:
        rpc = rpc_to(node)
        endless = Sender(node, rpc).deploy(ENDLESS)
        error = rpc.error("debug_traceCall", {"to": endless}, "latest", {})
        assert error["code"] == -32003
        assert "larger than 100000 bytes" in error["message"]
        assert rpc("debug_traceCall", {"to": endless, "gas": hex(25_000)}, "latest", {})["failed"]


# calls itself with all gas, and says nothing
RECURSIVE = "6000600060006000600030" + "5af100"


@pytest.mark.parametrize(
    "config",
    [
        {"tracer": "callTracer"},
        {"tracer": "muxTracer", "tracerConfig": {"callTracer": {}, "4byteTracer": None}},
        {"tracer": "flatCallTracer"},
        {"tracer": "prestateTracer"},
        {},
    ],
)
def test_calls_as_deep_as_gas_allows_are_traced(sender, still_rpc, config):
    recursive = sender.deploy(RECURSIVE)
    call = {"to": recursive, "gas": hex(50_000_000)}
    result = still_rpc("debug_traceCall", call, "latest", config)
    tree = result.get("callTracer", result) if isinstance(result, dict) else {}
    depth = 0
    while "calls" in tree:
        (tree,) = tree["calls"]
        depth += 1
    if "callTracer" in str(config):
        assert depth > 300
        assert tree["error"] == "out of gas"


def test_go_durations_are_read():
    assert [decode_duration(text) for text in ("5s", "1m30s", "250ms", "1.5h")] == [5, 90, 0.25, 5400]
    for text in ("", "5", "s", "5 s", "-5s", "1d"):
        with pytest.raises(ValueError, match="invalid duration"):
            decode_duration(text)


def test_a_witness_is_enough_to_execute_its_block(sender, still_node, still_rpc):
    counter = sender.deploy(COUNTER)
    sender.send(_bytes(counter), value=5)
    sender.send(data=_deployment(REVERTER))
    block = still_node.mine()
    answer = still_rpc("debug_executionWitness", hex(block.number))
    parent = still_node.chain.header_by_hash(block.header.parent_hash)
    assert keccak256(_bytes(answer["headers"][-1])) == parent.hash
    assert "0x" + counter[2:] in answer["keys"]
    assert all(answer[name] == sorted(answer[name]) for name in ("state", "codes", "keys"))
    attributes = PayloadAttributes(
        timestamp=block.header.timestamp,
        prev_randao=block.header.prev_randao,
        suggested_fee_recipient=block.header.fee_recipient,
        parent_beacon_block_root=block.header.parent_beacon_block_root,
        transactions=tuple(transaction.raw for transaction in block.transactions),
        no_tx_pool=True,
    )
    result = execute(still_node.chain.rules, parent, attributes, Witness.from_json(answer))
    assert result.block.hash == block.hash
    nodes = {keccak256(_bytes(item)) for name in ("state", "codes") for item in answer[name]}
    assert nodes == set(result.used) - {parent.hash}


def test_intermediate_roots_end_with_the_state_before_the_end_of_the_block(sender, still_node, still_rpc):
    counter = sender.deploy(COUNTER)
    for value in (1, 2, 3):
        sender.send(_bytes(counter), value=value)
    block = still_node.mine()
    roots = still_rpc("debug_intermediateRoots", "0x" + block.hash.hex())
    assert len(set(roots)) == 3
    assert roots[-1] == "0x" + block.header.state_root.hex()


def test_storage_is_listed_in_the_order_of_hashes_before_a_transaction(sender, still_node, still_rpc):
    counter = sender.deploy(COUNTER)
    sender.send(_bytes(counter), value=5)
    sender.send(_bytes(counter), value=6)
    block = still_node.mine()
    hashed = "0x" + keccak256(bytes(32)).hex()
    word = "0x" + "0" * 63

    def listed(index: int, start: str = "0x", most: int = 10):
        return still_rpc("debug_storageRangeAt", "0x" + block.hash.hex(), index, counter, start, most)

    assert listed(0) == {"storage": {}, "nextKey": None}
    assert listed(1)["storage"] == {hashed: {"key": word + "0", "value": word + "5"}}
    assert listed(2)["storage"] == {hashed: {"key": word + "0", "value": word + "6"}}
    assert listed(1, most=0) == {"storage": {}, "nextKey": hashed}
    still_node.mine()
    after = still_rpc("debug_storageRangeAt", "latest", 0, counter, "0x", 10)
    assert after["storage"] == {hashed: {"key": None, "value": word + "6"}}


def test_accounts_are_listed_in_the_order_of_their_hashes(sender, still_node, still_rpc):
    first = still_rpc("debug_accountRange", "latest", "0x", 3, True, True, True)
    assert len(first["accounts"]) == 3
    keys = [account["key"] for account in first["accounts"].values()]
    assert keys == sorted(keys)
    dumped = still_rpc("debug_dumpBlock", "latest")
    assert dumped["root"] == still_node.chain.head().state_root.hex()
    assert dumped["accounts"][sender.address]["balance"] == str(int(still_rpc("eth_getBalance", sender.address), 16))


def test_modified_accounts_are_those_that_differ(sender, still_node, still_rpc):
    counter = sender.deploy(COUNTER)
    sender.send(_bytes(counter), value=5)
    block = still_node.mine()
    modified = still_rpc("debug_getModifiedAccountsByNumber", hex(block.number))
    assert {counter, sender.address} <= set(modified)
    assert modified == still_rpc("debug_getModifiedAccountsByHash", "0x" + block.hash.hex())
    two = still_rpc("debug_getModifiedAccountsByNumber", "0x0", hex(block.number))
    assert two == still_rpc("debug_getModifiedAccountsByNumber", 0, block.number)  # geth's numbers are plain ones
    assert set(modified) <= set(two)


def test_refused_blocks_are_listed(sender, still_node, still_rpc):
    block = still_node.mine()
    bad = Block(replace(block.header, number=block.number + 1, parent_hash=block.hash), ())
    with pytest.raises(Exception, match="timestamp"):
        still_node.chain.import_block(bad)
    listed = still_rpc("debug_getBadBlocks")
    assert [entry["hash"] for entry in listed] == ["0x" + bad.hash.hex()]
    assert Block.decode(_bytes(listed[0]["rlp"])).hash == bad.hash


def test_a_transaction_that_is_nowhere_has_no_bytes(still_rpc):
    assert still_rpc("debug_getRawTransaction", "0x" + "00" * 28 + "deadbeef") is None


def test_the_head_goes_back_for_who_runs_the_node(sender, still_node, still_rpc):
    first = still_node.mine()
    still_node.mine()
    assert still_rpc("debug_setHead", hex(first.number)) is None
    assert still_node.chain.head().hash == first.hash
