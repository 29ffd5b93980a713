"""The eth namespace over a real chain: what it says is what the chain holds, provably."""

import pytest
import rlp
from eth_account import Account
from eth_utils import to_checksum_address
from hexbytes import HexBytes
from trie import HexaryTrie

from openledger.evm_ext.transactions import DepositTransaction, sign_transaction
from openledger.genesis.dev_accounts import DEV_ACCOUNTS
from openledger.genesis.hashing import keccak256
from openledger.genesis.presets import DEVNET
from openledger.node.rpc.backend import RpcLimits

ALICE, BOB = DEV_ACCOUNTS[0], DEV_ACCOUNTS[1]
NOBODY = "0x" + "99" * 20
TOPIC = 7
# Init code: store 42 at slot 0, log one topic and no data, return the runtime code below.
RUNTIME = bytes.fromhex("60075f5fa1005b")  # PUSH1 7, PUSH0, PUSH0, LOG1, STOP
INIT = bytes.fromhex("602a5f55" + "6007" + "600e" + "5f39" + "60075ff3") + RUNTIME


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


def signed(nonce: int, sender=ALICE, **fields):
    options = {
        "chain_id": DEVNET.l2_chain_id,
        "nonce": nonce,
        "gas": 100_000,
        "max_fee_per_gas": 10**10,
        "max_priority_fee_per_gas": 10**8,
        "to": BOB.address,
    } | fields
    return sign_transaction(sender.private_key, **options)


def send(rpc, transaction) -> str:
    transaction_hash = rpc("eth_sendRawTransaction", hexed(transaction.raw))
    assert transaction_hash == hexed(transaction.hash)
    return transaction_hash


def deploy_logger(rpc, node, nonce: int) -> str:
    transaction_hash = send(rpc, signed(nonce, to=None, data=INIT, gas=200_000))
    node.mine()
    return rpc("eth_getTransactionReceipt", transaction_hash)["contractAddress"]


def test_identity_and_an_empty_chain(still_rpc, still_node):
    assert still_rpc("eth_chainId") == hex(161299)
    assert still_rpc("net_version") == "161299"
    assert still_rpc("eth_blockNumber") == "0x0"
    assert still_rpc("eth_syncing") is False
    assert still_rpc("eth_accounts") == []
    assert still_rpc("net_listening") is True
    assert still_rpc("net_peerCount") == "0x0"
    assert still_rpc("web3_clientVersion").startswith("openledger")
    assert still_rpc("web3_sha3", "0x") == "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    genesis = still_rpc("eth_getBlockByNumber", "earliest", True)
    assert genesis["hash"] == hexed(still_node.chain.genesis_hash)
    assert still_rpc("eth_getBlockByNumber", "0x1", False) is None
    assert still_rpc("eth_getBlockByHash", "0x" + "12" * 32, False) is None
    assert still_rpc("eth_getTransactionByHash", "0x" + "12" * 32) is None
    assert still_rpc("eth_getTransactionReceipt", "0x" + "12" * 32) is None


def test_a_block_hashes_to_what_its_fields_say(still_rpc, still_node):
    send(still_rpc, signed(0))
    block = still_node.mine()
    shown = still_rpc("eth_getBlockByNumber", "latest", False)
    fields = [
        "parentHash",
        "sha3Uncles",
        "miner",
        "stateRoot",
        "transactionsRoot",
        "receiptsRoot",
        "logsBloom",
        "difficulty",
        "number",
        "gasLimit",
        "gasUsed",
        "timestamp",
        "extraData",
        "mixHash",
        "nonce",
        "baseFeePerGas",
        "withdrawalsRoot",
        "blobGasUsed",
        "excessBlobGas",
        "parentBeaconBlockRoot",
        "requestsHash",
    ]
    quantities = [
        "difficulty",
        "number",
        "gasLimit",
        "gasUsed",
        "timestamp",
        "baseFeePerGas",
        "blobGasUsed",
        "excessBlobGas",
    ]
    items = [int(shown[name], 16) if name in quantities else HexBytes(shown[name]) for name in fields]
    assert hexed(keccak256(rlp.encode(items))) == shown["hash"] == hexed(block.hash)
    assert shown["transactions"] == [hexed(item.hash) for item in block.transactions]
    assert int(shown["size"], 16) == len(block.encode())
    assert still_rpc("eth_getBlockByHash", shown["hash"], False) == shown
    assert still_rpc("eth_getHeaderByNumber", "0x1")["hash"] == shown["hash"]
    assert still_rpc("eth_getBlockTransactionCountByNumber", "latest") == "0x1"
    assert still_rpc("eth_getUncleCountByBlockHash", shown["hash"]) == "0x0"


def test_a_transaction_is_shown_pending_then_mined_then_by_its_place(still_rpc, still_node):
    transaction = signed(0, value=5)
    transaction_hash = send(still_rpc, transaction)
    pending = still_rpc("eth_getTransactionByHash", transaction_hash)
    assert pending["blockHash"] is None
    assert still_rpc("eth_getTransactionCount", hexed(ALICE.address), "latest") == "0x0"
    assert still_rpc("eth_getTransactionCount", hexed(ALICE.address), "pending") == "0x1"
    assert still_rpc("txpool_status") == {"pending": "0x1", "queued": "0x0"}
    assert list(still_rpc("txpool_content")["pending"]) == [to_checksum_address(ALICE.address)]
    block = still_node.mine()
    mined = still_rpc("eth_getTransactionByHash", transaction_hash)
    assert mined["blockHash"] == hexed(block.hash)
    assert mined["from"] == hexed(ALICE.address)
    assert int(mined["gasPrice"], 16) == block.header.base_fee_per_gas + 10**8
    assert still_rpc("eth_getTransactionByBlockNumberAndIndex", "0x1", "0x0") == mined
    assert still_rpc("eth_getTransactionByBlockHashAndIndex", mined["blockHash"], "0x0") == mined
    assert still_rpc("eth_getTransactionByBlockHashAndIndex", mined["blockHash"], "0x1") is None
    assert still_rpc("eth_getRawTransactionByHash", transaction_hash) == hexed(transaction.raw)
    assert still_rpc("debug_getRawTransaction", transaction_hash) == hexed(transaction.raw)
    assert Account.recover_transaction(hexed(transaction.raw)).lower() == mined["from"]
    assert still_rpc("eth_getTransactionCount", hexed(ALICE.address), "latest") == "0x1"
    assert still_rpc("txpool_status") == {"pending": "0x0", "queued": "0x0"}


def test_a_receipt_carries_the_fees_of_the_l2_and_its_block_the_roots(still_rpc, still_node):
    transaction_hash = send(still_rpc, signed(0, to=None, data=INIT, gas=200_000))
    block = still_node.mine()
    receipt = still_rpc("eth_getTransactionReceipt", transaction_hash)
    assert receipt["status"] == "0x1"
    assert receipt["to"] is None
    assert still_rpc("eth_getCode", receipt["contractAddress"]) == hexed(RUNTIME)
    for name in ("l1Fee", "l1GasUsed", "l1GasPrice", "l1BlobBaseFee", "l1BaseFeeScalar", "l1BlobBaseFeeScalar"):
        assert int(receipt[name], 16) >= 0
    paid = (
        int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
        + int(receipt["l1Fee"], 16)
        + still_node.chain.receipts(block.hash)[0].operator_fee
    )
    before = int(still_rpc("eth_getBalance", hexed(ALICE.address), "0x0"), 16)
    assert int(still_rpc("eth_getBalance", hexed(ALICE.address), "0x1"), 16) == before - paid
    assert still_rpc("eth_getBlockReceipts", "latest") == [receipt]
    trie = HexaryTrie({})
    for index, raw in enumerate(still_rpc("debug_getRawReceipts", "latest")):
        trie[rlp.encode(index)] = bytes(HexBytes(raw))
    assert hexed(trie.root_hash) == still_rpc("eth_getBlockByNumber", "latest", False)["receiptsRoot"]
    assert keccak256(HexBytes(still_rpc("debug_getRawHeader", "latest"))) == block.hash
    assert still_rpc("debug_getRawBlock", "latest") == hexed(block.encode())


def test_a_deposit_is_shown_as_an_op_node_shows_it(still_rpc, still_node):
    deposit = DepositTransaction(bytes(range(32)), ALICE.address, BOB.address, 1000, 400, 50_000, False, b"\x01")
    block = still_node.mine(deposits=[deposit.encode()])
    (shown,) = still_rpc("eth_getBlockByNumber", "latest", True)["transactions"]
    assert shown["type"] == "0x7e"
    assert shown["sourceHash"] == hexed(bytes(range(32)))
    assert (shown["mint"], shown["value"], shown["isSystemTx"]) == ("0x3e8", "0x190", False)
    assert (shown["nonce"], shown["depositReceiptVersion"], shown["gasPrice"]) == ("0x0", "0x1", "0x0")
    receipt = still_rpc("eth_getTransactionReceipt", hexed(block.transactions[0].hash))
    assert (receipt["depositNonce"], receipt["depositReceiptVersion"]) == ("0x0", "0x1")
    assert receipt["effectiveGasPrice"] == "0x0"
    assert "l1Fee" not in receipt or receipt["l1Fee"] == "0x0"


def test_labels_numbers_and_block_objects_name_blocks(still_rpc, still_node):
    first, second = still_node.mine(), still_node.mine()
    still_node.chain.set_heads(safe=first.hash)
    for reference, number in (
        ("latest", 2),
        ("pending", 2),
        ("safe", 1),
        ("finalized", 0),
        ("earliest", 0),
        ("0x1", 1),
        ({"blockNumber": "0x1"}, 1),
        ({"blockHash": hexed(second.hash)}, 2),
        ({"blockHash": hexed(second.hash), "requireCanonical": True}, 2),
        (hexed(first.hash), 1),
    ):
        assert len(still_rpc("eth_getBlockReceipts", reference)) == 0
        assert still_rpc("eth_getBalance", NOBODY, reference) == "0x0"
        if isinstance(reference, str) and len(reference) < 66 and reference != "pending":
            assert int(still_rpc("eth_getBlockByNumber", reference, False)["number"], 16) == number
    pending = still_rpc("eth_getBlockByNumber", "pending", False)
    assert (pending["number"], pending["hash"], pending["parentHash"]) == ("0x3", None, hexed(second.hash))
    assert still_rpc.error("eth_getBalance", NOBODY, "0x9") == {"code": -32000, "message": "header not found"}
    fork = still_node.chain.build(first.hash, still_node.attributes(first.header, extra_time=1))
    assert still_rpc("eth_getBalance", NOBODY, {"blockHash": hexed(fork.hash)}) == "0x0"
    refused = still_rpc.error("eth_getBalance", NOBODY, {"blockHash": hexed(fork.hash), "requireCanonical": True})
    assert refused["message"] == "hash is not currently canonical"


def test_a_proof_verifies_against_the_state_root_by_another_trie(still_rpc, still_node):
    logger = deploy_logger(still_rpc, still_node, 0)
    root = HexBytes(still_rpc("eth_getBlockByNumber", "latest", False)["stateRoot"])
    proof = still_rpc("eth_getProof", logger, ["0x0", "0x" + "00" * 31 + "05"], "latest")
    account = rlp.decode(verify(root, HexBytes(logger), proof["accountProof"]))
    assert account[2] == HexBytes(proof["storageHash"])
    assert account[3] == HexBytes(proof["codeHash"]) == keccak256(RUNTIME)
    present, absent = proof["storageProof"]
    assert (present["key"], present["value"]) == ("0x0", "0x2a")
    assert rlp.decode(verify(HexBytes(proof["storageHash"]), bytes(32), present["proof"])) == b"\x2a"
    assert (absent["key"], absent["value"]) == ("0x" + "00" * 31 + "05", "0x0")
    assert verify(HexBytes(proof["storageHash"]), bytes(31) + b"\x05", absent["proof"]) == b""
    missing = still_rpc("eth_getProof", NOBODY, [], "latest")
    assert verify(root, HexBytes(NOBODY), missing["accountProof"]) == b""


def verify(root: bytes, key: bytes, proof: list[str]) -> bytes:
    nodes = [rlp.decode(HexBytes(node)) for node in proof]
    return HexaryTrie.get_from_proof(root, keccak256(bytes(key)), nodes)


def test_storage_and_calls_with_overrides(still_rpc, still_node):
    logger = deploy_logger(still_rpc, still_node, 0)
    assert still_rpc("eth_getStorageAt", logger, "0x0") == "0x" + "00" * 31 + "2a"
    assert still_rpc("eth_getStorageAt", logger, "0x" + "00" * 32, "0x0") == "0x" + "00" * 32
    returns_balance = "0x475f5260205ff3"  # SELFBALANCE, PUSH0, MSTORE, PUSH1 32, PUSH0, RETURN
    pretended = {NOBODY: {"code": returns_balance, "balance": "0x7"}}
    assert int(still_rpc("eth_call", {"to": NOBODY}, "latest", pretended), 16) == 7
    returns_slot = {NOBODY: {"code": "0x5f545f5260205ff3", "stateDiff": {"0x" + "00" * 32: "0x" + "00" * 31 + "09"}}}
    assert int(still_rpc("eth_call", {"to": NOBODY}, "latest", returns_slot), 16) == 9
    assert still_rpc("eth_call", {"to": NOBODY}) == "0x"
    assert still_rpc("eth_estimateGas", {"from": hexed(ALICE.address), "to": NOBODY, "value": "0x1"}) == "0x5208"


FAILURES = [
    ("5f56", "invalid jump destination"),
    ("605b600156", "invalid jump destination"),  # a JUMPDEST that is data
    ("60ff5f5f3e", "return data out of bounds"),
    ("60ef5f5360015ff3", "invalid code: must not begin with 0xef"),
    ("5b5f5f56", "stack limit reached 1024 (1023)"),
    ("5b5f600056", "stack limit reached 1024 (1023)"),
    ("5b5f80600056", "stack limit reached 1024 (1023)"),
    ("fe", "invalid opcode: INVALID"),
    ("0c", "invalid opcode: opcode 0xc not defined"),
    ("ee", "invalid opcode: opcode 0xee not defined"),
    ("50", "stack underflow (0 <=> 1)"),
    ("6001f0", "stack underflow (1 <=> 3)"),
    ("5f90", "stack underflow (1 <=> 2)"),
    ("5fa4", "stack underflow (1 <=> 6)"),
    ("5f19515f", "gas uint64 overflow"),
    ("67100000000000000051", "out of gas: gas uint64 overflow"),
    ("62ffffff600157", "invalid jump destination"),
    ("5f62ffffff525f", "out of gas"),
    ("6180005ff3", "max code size exceeded"),
    ("6160005ff3", "contract creation code storage out of gas"),
    ("61c0015f5ff0", "out of gas: max initcode size exceeded: size 49153"),
]


def test_a_failed_call_is_told_in_the_words_of_geth_wherever_it_is_asked(rpc):
    for code, words in FAILURES:
        request = {"data": f"0x{code}", "gas": hex(3_000_000)}
        simulated = rpc("eth_simulateV1", {"blockStateCalls": [{"calls": [request]}]}, "latest")[0]["calls"][0]
        found = [
            rpc.error("eth_call", request, "latest")["message"],
            rpc("debug_traceCall", request, "latest", {"tracer": "callTracer"})["error"],
            rpc("eth_createAccessList", request, "latest")["error"],
            simulated["error"]["message"],
        ]
        assert (code, found) == (code, [words] * 4)
        estimated = rpc.error("eth_estimateGas", request, "latest")["message"]
        assert estimated == ("gas required exceeds allowance (3000000)" if words.startswith("out of gas") else words)


def test_a_failure_after_many_opcodes_is_told_in_fewer_words(rpc):
    counts_down = "620f42405b60019003806004570c"  # a million turns, then a byte that is no opcode
    assert rpc.error("eth_call", {"data": f"0x{counts_down}"}, "latest")["message"] == "invalid opcode"


@pytest.mark.parametrize(
    ("request_object", "code", "message"),
    [
        ({"to": NOBODY, "data": "0x01", "input": "0x02"}, -32602, "are set and not equal"),
        ({"to": NOBODY, "gasPrice": "0x1", "maxFeePerGas": "0x1"}, -32000, "both gasPrice and"),
        ({"to": NOBODY, "chainId": "0x1"}, -32000, "chainId does not match node's"),
        ({"to": "0x12"}, -32602, "want 40 for an address"),
        ({"to": NOBODY, "value": "0x1", "from": NOBODY}, -32000, "insufficient funds"),
        ({"data": "0xfe"}, -32000, "invalid opcode"),
        ({"data": "0x5b5f56", "gas": "0xffff"}, -32000, "out of gas"),
        ({"data": "0x50"}, -32000, "stack underflow"),
    ],
)
def test_a_call_that_cannot_run_says_why(rpc, request_object, code, message):
    error = rpc.error("eth_call", request_object, "latest")
    assert error["code"] == code
    assert message in error["message"]


def test_an_endless_call_ends_with_its_time(tmp_path, genesis, chain_thread, rpc_to):
    with chain_thread(tmp_path, genesis, limits=RpcLimits(call_gas=10**12, call_time_s=0.2)) as node:
        error = rpc_to(node).error("eth_call", {"data": "0x5b5f56"})
        assert error == {"code": -32000, "message": "execution aborted (timeout = 0.2s)"}


def test_fee_history_and_suggestions_follow_the_blocks(still_rpc, still_node):
    for nonce, tip in enumerate((10**8, 3 * 10**8, 2 * 10**8)):
        send(still_rpc, signed(nonce, max_priority_fee_per_gas=tip))
    still_node.mine()
    still_node.mine()
    history = still_rpc("eth_feeHistory", "0x2", "latest", [0, 50, 100])
    assert history["oldestBlock"] == "0x1"
    assert history["reward"] == [[hex(10**8), hex(2 * 10**8), hex(3 * 10**8)], ["0x0"] * 3]
    headers = [still_rpc("eth_getBlockByNumber", hex(number), False) for number in (1, 2)]
    assert history["baseFeePerGas"][:2] == [header["baseFeePerGas"] for header in headers]
    assert history["gasUsedRatio"] == [int(h["gasUsed"], 16) / int(h["gasLimit"], 16) for h in headers]
    third = still_node.mine()
    assert history["baseFeePerGas"][2] == hex(third.header.base_fee_per_gas)
    assert int(still_rpc("eth_maxPriorityFeePerGas"), 16) == 2 * 10**8
    assert int(still_rpc("eth_gasPrice"), 16) == 2 * 10**8 + still_node.chain.next_base_fee(third.hash)
    assert still_rpc("eth_blobBaseFee") == "0x1"
    assert still_rpc("eth_feeHistory", 1, "latest", None)["oldestBlock"] == "0x3"
    assert "invalid reward percentile" in still_rpc.error("eth_feeHistory", "0x1", "latest", [50, 10])["message"]


def test_logs_are_found_by_range_hash_and_topic_and_bounded(tmp_path, genesis, chain_thread, rpc_to):
    limits = RpcLimits(log_blocks=3, log_results=2)
    with chain_thread(tmp_path, genesis, automine=False, limits=limits) as node:
        rpc = rpc_to(node)
        logger = deploy_logger(rpc, node, 0)
        for nonce in (1, 2, 3):
            send(rpc, signed(nonce, to=bytes.fromhex(logger[2:])))
            node.mine()
        topic = "0x" + f"{TOPIC:064x}"
        found = rpc("eth_getLogs", {"fromBlock": "0x2", "toBlock": "0x3", "address": logger, "topics": [topic]})
        assert [(log["blockNumber"], log["logIndex"], log["removed"]) for log in found] == [
            ("0x2", "0x0", False),
            ("0x3", "0x0", False),
        ]
        assert rpc("eth_getLogs", {"blockHash": found[0]["blockHash"]}) == found[:1]
        assert rpc("eth_getLogs", {"fromBlock": "0x2", "toBlock": "0x3", "topics": [hexed(bytes(32))]}) == []
        assert rpc("eth_getLogs", {})[0]["blockNumber"] == "0x4"
        too_far = rpc.error("eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x4"})
        assert (too_far["code"], "exceed maximum block range: 3" in too_far["message"]) == (-32005, True)
        too_many = rpc.error("eth_getLogs", {"fromBlock": "0x2", "toBlock": "0x4"})
        assert (too_many["code"], "more than 2 results" in too_many["message"]) == (-32005, True)
        for method in ("eth_getLogs", "eth_newFilter"):
            assert rpc.error(method, {"fromBlock": "0x2", "toBlock": "0x1"})["code"] == -32602
        assert rpc.error("eth_getLogs", {"blockHash": "0x" + "12" * 32})["message"] == "unknown block"


def test_filters_report_each_change_once_and_reorganisations_as_removed(still_rpc, still_node):
    logger = deploy_logger(still_rpc, still_node, 0)
    blocks = still_rpc("eth_newBlockFilter")
    logs = still_rpc("eth_newFilter", {"address": logger})
    pending = still_rpc("eth_newPendingTransactionFilter")
    whole = still_rpc("eth_newPendingTransactionFilter", True)
    parent = still_node.chain.head()
    transaction_hash = send(still_rpc, signed(1, to=bytes.fromhex(logger[2:])))
    (shown,) = still_rpc("eth_getFilterChanges", whole)
    assert (shown["hash"], shown["blockHash"]) == (transaction_hash, None)
    first = still_node.mine()
    assert still_rpc("eth_getFilterChanges", blocks) == [hexed(first.hash)]
    assert still_rpc("eth_getFilterChanges", blocks) == []
    assert still_rpc("eth_getFilterChanges", pending) == [transaction_hash]
    (log,) = still_rpc("eth_getFilterChanges", logs)
    assert (log["blockHash"], log["removed"]) == (hexed(first.hash), False)
    assert [item["transactionHash"] for item in still_rpc("eth_getFilterLogs", logs)] == [transaction_hash]
    fork = still_node.chain.build(parent.hash, still_node.attributes(parent, extra_time=1))
    still_node.chain.set_heads(unsafe=fork.hash)
    assert still_rpc("eth_getFilterChanges", blocks) == [hexed(fork.hash)]
    (gone,) = still_rpc("eth_getFilterChanges", logs)
    assert (gone["blockHash"], gone["removed"]) == (hexed(first.hash), True)
    assert still_rpc("eth_getTransactionReceipt", transaction_hash) is None
    assert still_rpc("eth_uninstallFilter", logs) is True
    assert still_rpc("eth_uninstallFilter", logs) is False
    assert still_rpc.error("eth_getFilterChanges", logs) == {"code": -32000, "message": "filter not found"}


def test_a_malformed_transaction_is_refused_and_the_node_lives(rpc):
    for raw in ("0x", "0x01", "0xc0", "0x7e" + "00" * 40, "0x02" + "ff" * 60, "0x" + "ff" * 200):
        assert rpc.error("eth_sendRawTransaction", raw)["code"] == -32000
    assert rpc("eth_chainId") == hex(DEVNET.l2_chain_id)


def test_transactions_without_a_chain_id_are_taken_where_they_may_be(tmp_path, genesis, chain_thread, rpc_to):
    anywhere = signed(0, type=0, chain_id=None, max_priority_fee_per_gas=None)
    with chain_thread(tmp_path / "strict", genesis, automine=False, allow_unprotected=False) as node:
        rpc = rpc_to(node)
        for method in ("eth_sendRawTransaction", "eth_sendRawTransactionSync"):
            refused = rpc.error(method, hexed(anywhere.raw))
            words = "only replay-protected (EIP-155) transactions allowed over RPC"
            assert refused == {"code": -32000, "message": words}
        assert "malformed" in rpc.error("eth_sendRawTransaction", "0xc0")["message"]
        send(rpc, signed(0, type=0, max_priority_fee_per_gas=None))
    with chain_thread(tmp_path / "open", genesis, automine=False) as node:
        rpc = rpc_to(node)
        send(rpc, anywhere)
        node.mine()
        assert rpc("eth_getTransactionReceipt", hexed(anywhere.hash))["status"] == "0x1"


def test_a_receipt_can_be_waited_for(rpc):
    receipt = rpc("eth_sendRawTransactionSync", hexed(signed(0).raw), 5_000)
    assert (receipt["transactionHash"], receipt["status"]) == (hexed(signed(0).hash), "0x1")
    assert rpc("eth_getTransactionReceipt", hexed(signed(0).hash)) == receipt


def test_waiting_for_a_receipt_ends(still_rpc):
    late = still_rpc.error("eth_sendRawTransactionSync", hexed(signed(0).raw), "0x32")
    assert (late["code"], late["data"]) == (4, hexed(signed(0).hash))
    assert late["message"].endswith("wasn't processed in 0.05s")
    assert still_rpc("txpool_status")["pending"] == "0x1"
    assert still_rpc.error("eth_sendRawTransactionSync", "0x01")["code"] == -32000


def test_a_transaction_sent_twice_is_already_known(still_rpc):
    send(still_rpc, signed(0))
    assert "already known" in still_rpc.error("eth_sendRawTransaction", hexed(signed(0).raw))["message"]
    cheaper = signed(0, value=1)
    refused = still_rpc.error("eth_sendRawTransaction", hexed(cheaper.raw))
    assert "replacement transaction underpriced" in refused["message"]


def test_subscribing_needs_a_websocket_and_admin_needs_this_machine(still_rpc):
    assert still_rpc.error("eth_subscribe", "newHeads")["code"] == -32601
    assert "protocols" in still_rpc("admin_nodeInfo")
    assert still_rpc.answer("eth_fillTransaction", {})["error"]["code"] == -32601


def test_a_block_is_not_seen_before_the_head_has_moved_to_it(still_rpc, still_node, monkeypatch):
    """Between the write of the new head and its publication another thread may ask."""
    transaction_hash = send(still_rpc, signed(0, value=9))
    seen = []
    write = still_node.chain._store.put_heads

    def write_and_look(*arguments, **options) -> None:
        write(*arguments, **options)
        seen.append(still_rpc("eth_getTransactionReceipt", transaction_hash))
        seen.append(still_rpc("eth_getBlockByNumber", "0x1", False))
        seen.append(still_rpc("eth_getTransactionByHash", transaction_hash)["blockHash"])

    monkeypatch.setattr(still_node.chain._store, "put_heads", write_and_look)
    still_node.mine()
    assert seen == [None, None, None]
    assert still_rpc("eth_getTransactionReceipt", transaction_hash)["blockNumber"] == "0x1"
