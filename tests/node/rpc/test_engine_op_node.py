"""The Engine API as an op-node drives it: the calls of its engine controller, in their order, over HTTP with tokens.

The genesis is ours in geth's form, as `op-geth init` would get it.
"""

import time

import pytest

from openledger.evm_ext.state.policy import StateHistory
from openledger.evm_ext.transactions import sign_transaction
from openledger.genesis.dev_accounts import DEV_ACCOUNTS
from openledger.genesis.presets import DEVNET, l2_genesis
from openledger.node.execution_client import ExecutionClientConfig
from openledger.rollup.codec.l1_info import L1Info, l1_info_deposit

ALICE, BOB = DEV_ACCOUNTS[0], DEV_ACCOUNTS[1]
TIMESTAMP = 1_800_000_000
ZERO = "0x" + "00" * 32
FEE_RECIPIENT = "0x4200000000000000000000000000000000000011"
PARAMS = "0x000000fa00000006"


@pytest.fixture
def tools(load_module):
    return load_module("client_thread")


@pytest.fixture
def start(tmp_path, tools):
    """`start()` runs a client on the same folder, as before a restart."""
    genesis = tools.write_genesis(tmp_path, l2_genesis(DEVNET, TIMESTAMP))
    config = ExecutionClientConfig(
        genesis=genesis, data_dir=tmp_path / "data", port=0, engine_port=0, jwt_secret=tmp_path / "jwt.hex"
    )
    return lambda: tools.ClientThread(config)


@pytest.fixture
def engine(start, tools):
    with start() as client:
        caller = tools.EngineCaller(client)
        yield caller
        caller.close()


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


def l1_info(number: int, sequence: int = 0) -> str:
    info = L1Info(
        number=number,
        timestamp=TIMESTAMP + number,
        base_fee=7,
        blob_base_fee=1,
        block_hash=number.to_bytes(32, "big"),
        sequence_number=sequence,
        batcher=BOB.address,
        base_fee_scalar=1_368,
        blob_base_fee_scalar=810_949,
        operator_fee_scalar=0,
        operator_fee_constant=0,
    )
    return hexed(l1_info_deposit(info).encode())


def attributes(parent: dict, *, l1: int = 1, no_pool: bool = True, **changes) -> dict:
    """As op-node's attributes builder makes them for a block on `parent` (an eth_getBlockByNumber answer or a
    payload)."""
    return {
        "timestamp": hex(int(parent["timestamp"], 16) + 2),
        "prevRandao": "0x" + "44" * 32,
        "suggestedFeeRecipient": FEE_RECIPIENT,
        "withdrawals": [],
        "parentBeaconBlockRoot": "0x" + "55" * 32,
        "transactions": [l1_info(l1)],
        "noTxPool": no_pool,
        "gasLimit": "0x1c9c380",
        "eip1559Params": PARAMS,
    } | changes


def forkchoice(head: str, safe: str = ZERO, finalized: str = ZERO) -> dict:
    return {"headBlockHash": head, "safeBlockHash": safe, "finalizedBlockHash": finalized}


def latest(engine) -> dict:
    return engine("eth_getBlockByNumber", "latest", False)


def build(engine, parent: dict, **options) -> dict:
    """Start a payload, take it: engine_forkchoiceUpdatedV3 with attributes, engine_getPayloadV4."""
    parent_hash = parent.get("hash") or parent["blockHash"]
    started = engine("engine_forkchoiceUpdatedV3", forkchoice(parent_hash), attributes(parent, **options))
    assert started["payloadStatus"] == {"status": "VALID", "latestValidHash": parent_hash, "validationError": None}
    return engine("engine_getPayloadV4", started["payloadId"])


def insert(engine, envelope: dict, safe: str = ZERO, finalized: str = ZERO) -> dict:
    """Insert a payload and make it the head, as op-node does."""
    payload = envelope["executionPayload"]
    status = engine("engine_newPayloadV4", payload, [], envelope["parentBeaconBlockRoot"], [])
    assert status == {"status": "VALID", "latestValidHash": payload["blockHash"], "validationError": None}
    moved = engine("engine_forkchoiceUpdatedV3", forkchoice(payload["blockHash"], safe, finalized), None)
    assert moved["payloadStatus"]["status"] == "VALID"
    assert moved["payloadId"] is None
    return payload


def signed(nonce: int, **fields) -> str:
    options = {
        "chain_id": DEVNET.l2_chain_id,
        "nonce": nonce,
        "gas": 100_000,
        "max_fee_per_gas": 10**10,
        "max_priority_fee_per_gas": 10**8,
        "to": BOB.address,
        "value": 5,
    } | fields
    return hexed(sign_transaction(ALICE.private_key, **options).raw)


def test_the_port_is_closed_without_a_token(engine, start, tools):
    assert engine.post("eth_chainId", token=None).status_code == 401
    assert engine.post("eth_chainId", token="a.b.c").status_code == 401
    stale = engine.post("eth_chainId", token=engine._secret.token(time.time() - 120))
    assert stale.status_code == 401
    assert "stale" in stale.text
    assert engine("eth_chainId") == hex(DEVNET.l2_chain_id)


def test_derivation_builds_a_block_from_attributes_and_makes_it_safe(engine):
    genesis = latest(engine)
    envelope = build(engine, genesis)
    payload = envelope["executionPayload"]
    assert payload["transactions"] == [l1_info(1)]
    assert payload["extraData"] == "0x00" + PARAMS[2:]
    assert payload["withdrawals"] == []
    assert payload["withdrawalsRoot"] != ZERO
    assert envelope["executionRequests"] == []
    assert envelope["parentBeaconBlockRoot"] == "0x" + "55" * 32
    assert envelope["shouldOverrideBuilder"] is False
    assert envelope["blockValue"] == "0x0"
    assert latest(engine)["hash"] == genesis["hash"]
    block_hash = payload["blockHash"]
    insert(engine, envelope, safe=block_hash, finalized=genesis["hash"])
    assert latest(engine)["hash"] == block_hash
    assert engine("eth_getBlockByNumber", "safe", False)["hash"] == block_hash
    assert engine("eth_getBlockByNumber", "finalized", False)["hash"] == genesis["hash"]


def test_a_sequencer_takes_users_transactions_until_the_payload_is_asked_for(engine):
    genesis = latest(engine)
    first = engine("eth_sendRawTransaction", signed(0))
    started = engine("engine_forkchoiceUpdatedV3", forkchoice(genesis["hash"]), attributes(genesis, no_pool=False))
    again = engine("engine_forkchoiceUpdatedV3", forkchoice(genesis["hash"]), attributes(genesis, no_pool=False))
    assert again["payloadId"] == started["payloadId"], "the same attributes are the same payload"
    second = engine("eth_sendRawTransaction", signed(1))
    wanted = {first, second}
    deadline = time.monotonic() + 120
    while True:  # the payload is rebuilt beside us; another one is begun where this one was taken too early
        time.sleep(0.8)
        envelope = engine("engine_getPayloadV4", started["payloadId"])
        payload = envelope["executionPayload"]
        if len(payload["transactions"]) == 3:
            break
        assert time.monotonic() < deadline, payload["transactions"]
        later = attributes(genesis, no_pool=False, timestamp=hex(int(genesis["timestamp"], 16) + 4))
        started = engine("engine_forkchoiceUpdatedV3", forkchoice(genesis["hash"]), later)
    assert payload["transactions"][0] == l1_info(1)
    assert int(envelope["blockValue"], 16) == 2 * 21_000 * 10**8
    insert(engine, envelope)
    block = latest(engine)
    assert set(block["transactions"][1:]) == wanted
    assert engine("txpool_status") == {"pending": "0x0", "queued": "0x0"}


def test_a_payload_may_be_of_the_far_future(engine):
    genesis = latest(engine)
    far = attributes(genesis, no_pool=False, timestamp="0xffffffffffffffff")
    started = engine("engine_forkchoiceUpdatedV3", forkchoice(genesis["hash"]), far)
    time.sleep(0.3)
    engine("eth_sendRawTransaction", signed(0))
    time.sleep(1.2)
    payload = engine("engine_getPayloadV4", started["payloadId"])["executionPayload"]
    assert len(payload["transactions"]) == 2


def test_a_batcher_that_lags_behind_makes_payloads_smaller(engine):
    """Small transactions count as 100 bytes, as their L1 fee does."""
    genesis = latest(engine)
    large = {"data": bytes(range(256)) * 8, "gas": 200_000}
    for nonce in range(3):
        engine("eth_sendRawTransaction", signed(nonce))
    engine("eth_sendRawTransaction", signed(3, **large))
    for transaction, block, expected in (("0x0", "0xc8", 2), ("0x64", "0x0", 3), ("0x0", "0x0", 4)):
        assert engine("miner_setMaxDASize", transaction, block) is True
        later = attributes(genesis, no_pool=False, timestamp=hex(int(genesis["timestamp"], 16) + expected))
        started = engine("engine_forkchoiceUpdatedV3", forkchoice(genesis["hash"]), later)
        time.sleep(1.0)
        payload = engine("engine_getPayloadV4", started["payloadId"])["executionPayload"]
        assert len(payload["transactions"]) == 1 + expected
    assert "miner_setMaxDASize" not in engine("engine_exchangeCapabilities", [])


def test_a_verifier_imports_what_another_node_built(engine, tmp_path, tools, start):
    """Unsafe blocks come by gossip, and not always in order."""
    first = build(engine, latest(engine))
    insert(engine, first)
    second = build(engine, first["executionPayload"], l1=2)
    insert(engine, second)
    other_folder = tmp_path / "other"
    other_folder.mkdir()
    config = ExecutionClientConfig(genesis=tmp_path / "genesis.json", data_dir=other_folder, port=0, engine_port=0)
    with tools.ClientThread(config) as client:
        verifier = tools.EngineCaller(client)
        second_hash = second["executionPayload"]["blockHash"]
        early = verifier("engine_newPayloadV4", second["executionPayload"], [], second["parentBeaconBlockRoot"], [])
        assert early == {"status": "SYNCING", "latestValidHash": None, "validationError": None}
        waiting = verifier("engine_forkchoiceUpdatedV3", forkchoice(second_hash), None)
        assert waiting["payloadStatus"]["status"] == "SYNCING"
        insert(verifier, first)
        moved = verifier("engine_forkchoiceUpdatedV3", forkchoice(second_hash), None)
        assert moved["payloadStatus"] == {"status": "VALID", "latestValidHash": second_hash, "validationError": None}
        assert latest(verifier)["stateRoot"] == second["executionPayload"]["stateRoot"]
        bodies = verifier("engine_getPayloadBodiesByRangeV1", "0x1", "0x20")
        assert [body["transactions"] for body in bodies] == [[l1_info(1)], [l1_info(2)]]
        assert verifier("engine_getPayloadBodiesByHashV1", [second_hash, ZERO])[1] is None
        verifier.close()


def test_an_invalid_payload_stays_invalid_and_so_do_its_children(engine):
    genesis = latest(engine)
    good = build(engine, genesis)
    payload = good["executionPayload"]
    # A wrong hash: nothing is known of the block.
    wrong_hash = engine("engine_newPayloadV4", payload | {"gasUsed": "0x1"}, [], good["parentBeaconBlockRoot"], [])
    assert wrong_hash["status"] == "INVALID"
    assert wrong_hash["latestValidHash"] is None
    # A right hash over a wrong state root: the parent is the newest valid block.
    bad = rehashed(payload, good["parentBeaconBlockRoot"], state_root=bytes(32))
    status = engine("engine_newPayloadV4", bad, [], good["parentBeaconBlockRoot"], [])
    assert (status["status"], status["latestValidHash"]) == ("INVALID", genesis["hash"])
    assert "state_root" in status["validationError"]
    child = rehashed(
        payload,
        good["parentBeaconBlockRoot"],
        parent_hash=bytes.fromhex(bad["blockHash"][2:]),
        number=2,
        timestamp=int(payload["timestamp"], 16) + 2,
    )
    status = engine("engine_newPayloadV4", child, [], good["parentBeaconBlockRoot"], [])
    assert (status["status"], status["latestValidHash"]) == ("INVALID", genesis["hash"])
    for block in (bad, child):
        moved = engine("engine_forkchoiceUpdatedV3", forkchoice(block["blockHash"]), None)
        assert (moved["payloadStatus"]["status"], moved["payloadId"]) == ("INVALID", None)
    assert latest(engine)["hash"] == genesis["hash"]
    insert(engine, good)


def rehashed(payload: dict, beacon_root: str, **changes) -> dict:
    """A payload with other header fields and the hash that goes with them."""
    from dataclasses import replace

    from openledger.evm_ext.block import block_from_payload
    from openledger.node.rpc.engine_formats import decode_payload, payload_json

    decoded, _ = decode_payload(payload, is_op=True, parent_beacon_block_root=bytes.fromhex(beacon_root[2:]))
    block = block_from_payload(decoded)
    return payload_json(replace(block, header=replace(block.header, **changes)), 3, is_op=True)


def test_attributes_that_no_block_can_have_are_refused_and_the_head_still_moves(engine):
    genesis = latest(engine)
    first = insert(engine, build(engine, genesis))
    engine("engine_forkchoiceUpdatedV3", forkchoice(genesis["hash"]), None)
    cases = {
        "timestamp": {"timestamp": first["timestamp"]},
        "missing gasLimit": {"gasLimit": None},
        "missing eip1559Params": {"eip1559Params": None},
        "missing withdrawals": {"withdrawals": None},
        "missing parentBeaconBlockRoot": {"parentBeaconBlockRoot": None},
        "denominator": {"eip1559Params": "0x0000000000000006"},
        "transaction 1": {"transactions": [l1_info(2), "0xdeadbeef"]},
        "nonce too high": {"transactions": [l1_info(2), signed(9)]},
    }
    for words, change in cases.items():
        wanted = {key: value for key, value in attributes(first, l1=2, **change).items() if value is not None}
        error = engine.error("engine_forkchoiceUpdatedV3", forkchoice(first["blockHash"]), wanted)
        assert error["code"] == -38003, (words, error)
        assert words in error["message"]
    assert latest(engine)["hash"] == first["blockHash"]
    withdrawal = {"index": "0x0", "validatorIndex": "0x0", "address": FEE_RECIPIENT, "amount": 5}
    for path, change in {
        "payloadAttributes.eip1559Params": {"eip1559Params": "0x00"},
        "payloadAttributes.withdrawals[0].amount": {"withdrawals": [withdrawal]},
        "payloadAttributes.transactions[1]": {"transactions": [l1_info(2), 7]},
        "payloadAttributes.prevRandao": {"prevRandao": None},
    }.items():
        error = engine.error("engine_forkchoiceUpdatedV3", forkchoice(first["blockHash"]), attributes(first) | change)
        assert (error["code"], f": {path}: " in error["message"]) == (-32602, True), error
    malformed = forkchoice(first["blockHash"], safe="0x12")
    error = engine.error("engine_forkchoiceUpdatedV3", malformed, None)
    assert "forkchoiceState.safeBlockHash: " in error["message"]


def test_each_version_takes_its_own_fork_only(engine):
    envelope = build(engine, latest(engine))
    payload, root = envelope["executionPayload"], envelope["parentBeaconBlockRoot"]
    old = {key: value for key, value in payload.items() if key not in ("withdrawals", "blobGasUsed", "excessBlobGas")}
    assert engine.error("engine_newPayloadV1", old)["code"] == -38005
    assert engine.error("engine_newPayloadV2", payload)["code"] == -38005
    assert engine.error("engine_newPayloadV3", payload, [], root)["code"] == -38005
    assert engine.error("engine_newPayloadV4", payload, [], root)["code"] == -32602
    assert engine.error("engine_newPayloadV4", payload, [], root, ["0x01ff"])["code"] == -32602
    without_root = {key: value for key, value in payload.items() if key != "withdrawalsRoot"}
    assert engine.error("engine_newPayloadV4", without_root, [], root, [])["code"] == -32602
    for path, arguments in {
        "executionPayload.baseFeePerGas": ({**payload, "baseFeePerGas": 7}, [], root, []),
        "executionPayload.withdrawals[0]": ({**payload, "withdrawals": [5]}, [], root, []),
        "executionPayload.stateRoot": ({**payload, "stateRoot": None}, [], root, []),
        "expectedBlobVersionedHashes[0]": (payload, ["0x01"], root, []),
        "parentBeaconBlockRoot": (payload, [], "0x", []),
        "executionRequests[1]": (payload, [], root, ["0x0001", 1]),
    }.items():
        error = engine.error("engine_newPayloadV4", *arguments)
        assert (error["code"], f": {path}: " in error["message"]) == (-32602, True), error
    wrong_blobs = engine("engine_newPayloadV4", payload, ["0x01" + "00" * 31], root, [])
    assert (wrong_blobs["status"], wrong_blobs["latestValidHash"]) == ("INVALID", None)
    started = engine("engine_forkchoiceUpdatedV3", forkchoice(payload["parentHash"]), attributes(latest(engine), l1=9))
    assert engine.error("engine_getPayloadV3", started["payloadId"])["code"] == -38005
    assert engine.error("engine_getPayloadV4", "0x0400000000000000")["code"] == -38001
    too_new = attributes(latest(engine)) | {"timestamp": hex(TIMESTAMP + 100)}
    assert engine.error("engine_forkchoiceUpdatedV1", forkchoice(payload["parentHash"]), too_new)["code"] == -32602
    assert engine.error("engine_forkchoiceUpdatedV2", forkchoice(payload["parentHash"]), too_new)["code"] == -38003


def test_a_reorganisation_moves_the_head_to_a_sibling_and_back_to_an_ancestor(engine):
    """After an L1 reorg op-node rewinds its engine to an older block and derives again."""
    genesis = latest(engine)
    left = insert(engine, build(engine, genesis))
    left_child = insert(engine, build(engine, left, l1=2), safe=left["blockHash"], finalized=genesis["hash"])
    right = build(engine, genesis, l1=7)["executionPayload"]
    assert latest(engine)["hash"] == genesis["hash"], "a fork choice on an OP chain rewinds the head"
    assert engine("eth_getBlockByNumber", "safe", False)["hash"] == genesis["hash"], "safe cannot stay above the head"
    engine("engine_newPayloadV4", right, [], "0x" + "55" * 32, [])
    engine("engine_forkchoiceUpdatedV3", forkchoice(right["blockHash"]), None)
    assert latest(engine)["hash"] == right["blockHash"]
    error = engine.error(
        "engine_forkchoiceUpdatedV3", forkchoice(left_child["blockHash"], safe=right["blockHash"]), None
    )
    assert error["code"] == -38002
    error = engine.error("engine_forkchoiceUpdatedV3", forkchoice(right["blockHash"], finalized="0x" + "99" * 32), None)
    assert error["code"] == -38002
    assert latest(engine)["hash"] == right["blockHash"]
    back = engine("engine_forkchoiceUpdatedV3", forkchoice(left_child["blockHash"], left["blockHash"]), None)
    assert back["payloadStatus"]["status"] == "VALID"
    assert engine("eth_getBlockByNumber", "0x1", False)["hash"] == left["blockHash"]


def test_a_restart_keeps_blocks_and_heads(start, tools):
    with start() as client:
        engine = tools.EngineCaller(client)
        genesis = latest(engine)
        first = insert(engine, build(engine, genesis))
        unfinished = build(engine, first, l1=2)
        engine.close()
    with start() as client:
        engine = tools.EngineCaller(client)
        assert latest(engine)["hash"] == first["blockHash"]
        # What was built and not inserted is gone; the payload itself is still good.
        assert engine.error("engine_getPayloadV4", "0x0300000000000001")["code"] == -38001
        insert(engine, unfinished)
        engine.close()


def test_what_a_pruned_chain_cannot_judge_is_accepted_and_not_gone_back_to(tmp_path, tools):
    config = ExecutionClientConfig(
        genesis=tools.write_genesis(tmp_path, l2_genesis(DEVNET, TIMESTAMP)),
        port=0,
        engine_port=0,
        history=StateHistory("pruned", keep_blocks=16, keep_changes=16),
    )
    with tools.ClientThread(config) as client:
        engine = tools.EngineCaller(client)
        sibling = None
        old = parent = insert(engine, build(engine, latest(engine)))
        for _ in range(40):
            envelope = build(engine, parent)
            if sibling is None:
                sibling = build(engine, parent, prevRandao="0x" + "66" * 32)
            final = envelope["executionPayload"]["blockHash"]
            parent = insert(engine, envelope)
            engine("engine_forkchoiceUpdatedV3", forkchoice(final, final, final), None)
        assert client.chain.oldest_states()[1] > 2
        late = engine("engine_newPayloadV4", sibling["executionPayload"], [], sibling["parentBeaconBlockRoot"], [])
        assert late == {"status": "ACCEPTED", "latestValidHash": None, "validationError": None}
        back = engine.error("engine_forkchoiceUpdatedV3", forkchoice(old["blockHash"]), None)
        assert (back["code"], "was pruned" in back["message"]) == (-32000, True)
        assert latest(engine)["hash"] == parent["blockHash"]
        states, proofs = client.chain.oldest_states()
        assert int(engine("eth_capabilities")["stateproofs"]["oldestBlock"], 16) == proofs
        account, gone, no_tries = "0x" + ALICE.address.hex(), hex(states - 1), hex(proofs - 1)
        call = {"to": account, "data": "0x"}
        for method, params in (
            ("eth_getBalance", (account, gone)),
            ("eth_getStorageAt", (account, "0x0", gone)),
            ("eth_call", (call, gone)),
            ("eth_estimateGas", (call, gone)),
            ("eth_createAccessList", (call, gone)),
            ("eth_simulateV1", ({"blockStateCalls": [{}]}, gone)),
            ("eth_getProof", (account, [], gone)),
            ("eth_getProof", (account, [], no_tries)),
        ):
            refused = engine.error(method, *params)
            assert refused["code"] == -32000, (method, refused)
            assert refused["message"].startswith("missing trie node"), (method, refused)
        engine.close()


def test_the_client_says_what_it_is(engine):
    names = engine("engine_exchangeCapabilities", ["engine_newPayloadV4", "engine_unknownV9"])
    assert {"engine_newPayloadV4", "engine_forkchoiceUpdatedV3", "engine_getPayloadV4"} <= set(names)
    assert "engine_exchangeCapabilities" not in names
    (version,) = engine(
        "engine_getClientVersionV1", {"code": "ON", "name": "op-node", "version": "v1", "commit": "0x0"}
    )
    assert (version["code"], version["name"]) == ("OL", "openledger")
    assert len(bytes.fromhex(version["commit"].removeprefix("0x"))) == 4
    assert version["commit"] != "0x00000000"
    signal = engine("engine_signalSuperchainV1", {"recommended": ZERO, "required": ZERO})
    assert int(signal, 16) >> 96 == 9
    too_many = engine.error("engine_getPayloadBodiesByRangeV1", "0x1", "0x401")
    assert too_many["code"] == -38004
    assert engine.error("engine_getPayloadBodiesByRangeV1", "0x0", "0x1")["code"] == -32602
