"""The Engine API as a beacon node drives it over plain Ethereum, each fork by its own versions of the methods."""

import hashlib
from dataclasses import replace

import pytest

from openledger.evm_ext.transactions import sign_transaction
from openledger.genesis.dev_accounts import DEV_ACCOUNTS
from openledger.genesis.hardforks import HardforkSchedule
from openledger.genesis.predeploys import WITHDRAWAL_REQUESTS
from openledger.genesis.presets import DEVNET, l1_genesis
from openledger.node.execution_client import ExecutionClientConfig

ALICE, BOB = DEV_ACCOUNTS[0], DEV_ACCOUNTS[1]
ZERO = "0x" + "00" * 32
SLOT_S = 12
SHANGHAI, CANCUN, PRAGUE, OSAKA = 2 * SLOT_S, 4 * SLOT_S, 6 * SLOT_S, 8 * SLOT_S
BEACON_ROOT = "0x" + "be" * 32


@pytest.fixture
def engine(tmp_path, load_module):
    tools = load_module("client_thread")
    schedule = replace(
        HardforkSchedule(),
        **dict.fromkeys(
            (
                "homestead_block",
                "eip150_block",
                "eip155_block",
                "eip158_block",
                "byzantium_block",
                "constantinople_block",
                "petersburg_block",
                "istanbul_block",
                "berlin_block",
                "london_block",
            ),
            0,
        ),
        terminal_total_difficulty=0,
        shanghai_time=SHANGHAI,
        cancun_time=CANCUN,
        prague_time=PRAGUE,
        osaka_time=OSAKA,
    )
    genesis = replace(l1_genesis(DEVNET, 0), hardforks=schedule)
    config = ExecutionClientConfig(
        genesis=tools.write_genesis(tmp_path, genesis), data_dir=tmp_path / "data", port=0, engine_port=0
    )
    with tools.ClientThread(config) as client:
        caller = tools.EngineCaller(client)
        caller.chain_id = client.chain.chain_id
        yield caller
        caller.close()


def versions(timestamp: int) -> tuple[int, int, int]:
    """(forkchoiceUpdated, getPayload, newPayload) for a payload of this time."""
    if timestamp >= OSAKA:
        return 3, 5, 4
    if timestamp >= PRAGUE:
        return 3, 4, 4
    if timestamp >= CANCUN:
        return 3, 3, 3
    return (2, 2, 2) if timestamp >= SHANGHAI else (1, 1, 1)


def attributes(timestamp: int) -> dict:
    wanted = {"timestamp": hex(timestamp), "prevRandao": "0x" + "44" * 32, "suggestedFeeRecipient": "0x" + "fe" * 20}
    if timestamp >= SHANGHAI:
        account = "0x" + BOB.address.hex()
        wanted["withdrawals"] = [{"index": "0x1", "validatorIndex": "0x2", "address": account, "amount": "0x3"}]
    if timestamp >= CANCUN:
        wanted["parentBeaconBlockRoot"] = BEACON_ROOT
    return wanted


def forkchoice(head: str, safe: str = ZERO, finalized: str = ZERO) -> dict:
    return {"headBlockHash": head, "safeBlockHash": safe, "finalizedBlockHash": finalized}


def advance(engine, *, safe: str = ZERO, finalized: str = ZERO) -> dict:
    """One slot: build on the head, take the payload, insert it, make it the head."""
    head = engine("eth_getBlockByNumber", "latest", False)
    timestamp = int(head["timestamp"], 16) + SLOT_S
    choice, give, take = versions(timestamp)
    wanted = attributes(timestamp)
    started = engine(f"engine_forkchoiceUpdatedV{choice}", forkchoice(head["hash"]), wanted)
    given = engine(f"engine_getPayloadV{give}", started["payloadId"])
    payload = given if give == 1 else given["executionPayload"]
    arguments = [payload]
    if take >= 3:
        arguments += [[], BEACON_ROOT]
    if take >= 4:
        arguments.append(given["executionRequests"])
    status = engine(f"engine_newPayloadV{take}", *arguments)
    assert status == {"status": "VALID", "latestValidHash": payload["blockHash"], "validationError": None}
    moved = engine(f"engine_forkchoiceUpdatedV{choice}", forkchoice(payload["blockHash"], safe, finalized), None)
    assert moved["payloadStatus"]["status"] == "VALID"
    return given


def test_a_chain_is_led_through_every_fork_since_the_merge(engine):
    names = {}
    for _ in range(9):
        given = advance(engine)
        payload = given.get("executionPayload", given)
        names[int(payload["timestamp"], 16)] = (set(payload), set(given))
    assert "withdrawals" not in names[SLOT_S][0]
    assert "withdrawals" in names[SHANGHAI][0]
    assert "blobGasUsed" not in names[SHANGHAI][0]
    assert {"blobGasUsed", "excessBlobGas"} <= names[CANCUN][0]
    assert "withdrawalsRoot" not in names[PRAGUE][0], "only OP chains have it in the payload"
    assert "parentBeaconBlockRoot" not in names[PRAGUE][1]
    assert "executionRequests" not in names[CANCUN][1]
    assert {"blobsBundle", "executionRequests"} <= names[PRAGUE][1] & names[OSAKA][1]
    assert engine("eth_blockNumber") == "0x9"
    bob = int(engine("eth_getBalance", "0x" + BOB.address.hex(), "latest"), 16)
    assert bob == int(engine("eth_getBalance", "0x" + BOB.address.hex(), "0x0"), 16) + 8 * 3 * 10**9
    bodies = engine("engine_getPayloadBodiesByRangeV1", "0x1", "0x2")
    assert [body["withdrawals"] is None for body in bodies] == [True, False]


def test_requests_out_of_a_block_are_given_and_have_to_be_given_back(engine):
    for _ in range(PRAGUE // SLOT_S - 1):
        advance(engine)
    request = sign_transaction(
        ALICE.private_key,
        chain_id=engine.chain_id,
        nonce=0,
        gas=200_000,
        to=WITHDRAWAL_REQUESTS,
        value=10**9,
        data=b"\x11" * 48 + (7).to_bytes(8, "big"),
        max_fee_per_gas=10**11,
    )
    engine("eth_sendRawTransaction", "0x" + request.raw.hex())
    given = advance(engine)
    (wanted,) = given["executionRequests"]
    body = ALICE.address + b"\x11" * 48 + (7).to_bytes(8, "little")
    assert wanted == "0x01" + body.hex()
    header = engine("eth_getBlockByNumber", "latest", False)
    digest = hashlib.sha256(hashlib.sha256(b"\x01" + body).digest()).hexdigest()
    assert header["requestsHash"] == "0x" + digest
    payload = given["executionPayload"]
    without = engine("engine_newPayloadV4", payload, [], BEACON_ROOT, [])
    assert (without["status"], without["latestValidHash"]) == ("INVALID", None)
    for bad in (["0x01"], ["0x02aa", "0x01aa"], ["0x01aa", "0x01bb"]):
        assert engine.error("engine_newPayloadV4", payload, [], BEACON_ROOT, bad)["code"] == -32602


def test_a_fork_choice_for_an_ancestor_changes_nothing(engine):
    first = advance(engine)["blockHash"]
    second = advance(engine)["executionPayload"]
    answer = engine("engine_forkchoiceUpdatedV2", forkchoice(first), attributes(int(second["timestamp"], 16) + SLOT_S))
    assert answer == {
        "payloadStatus": {"status": "VALID", "latestValidHash": first, "validationError": None},
        "payloadId": None,
    }
    assert engine("eth_getBlockByNumber", "latest", False)["hash"] == second["blockHash"]


def test_safe_and_finalized_move_with_the_fork_choice(engine):
    first = advance(engine)["blockHash"]
    second = advance(engine, safe=first)["executionPayload"]["blockHash"]
    assert engine("eth_getBlockByNumber", "safe", False)["hash"] == first
    third = advance(engine, safe=second, finalized=first)["executionPayload"]["blockHash"]
    assert engine("eth_getBlockByNumber", "finalized", False)["hash"] == first
    assert engine.error("engine_forkchoiceUpdatedV2", forkchoice(third, first, second), None)["code"] == -38002
    assert engine("eth_getBlockByNumber", "safe", False)["hash"] == second


def test_versions_are_held_to_their_forks(engine):
    head = engine("eth_getBlockByNumber", "latest", False)["hash"]
    paris, shanghai, cancun = attributes(SLOT_S), attributes(SHANGHAI), attributes(CANCUN)
    assert engine.error("engine_forkchoiceUpdatedV1", forkchoice(head), shanghai)["code"] == -32602
    late = paris | {"timestamp": hex(SHANGHAI)}
    assert engine.error("engine_forkchoiceUpdatedV1", forkchoice(head), late)["code"] == -38005
    assert engine.error("engine_forkchoiceUpdatedV2", forkchoice(head), late)["code"] == -38003
    early = shanghai | {"timestamp": hex(SLOT_S)}
    assert engine.error("engine_forkchoiceUpdatedV2", forkchoice(head), early)["code"] == -38003
    assert engine.error("engine_forkchoiceUpdatedV2", forkchoice(head), cancun)["code"] == -38003
    assert engine.error("engine_forkchoiceUpdatedV3", forkchoice(head), shanghai)["code"] == -38005
    assert engine.error("engine_forkchoiceUpdatedV3", forkchoice(head), cancun | {"noTxPool": True})["code"] == -38003
    payload = advance(engine)
    assert engine.error("engine_newPayloadV1", payload | {"withdrawals": []})["code"] == -32602
    assert engine.error("engine_newPayloadV2", payload | {"withdrawals": []})["code"] == -32602
    assert engine("engine_newPayloadV2", payload)["status"] == "VALID"
    with_blobs = payload | {"withdrawals": [], "blobGasUsed": "0x0"}
    assert engine.error("engine_newPayloadV3", with_blobs, [], BEACON_ROOT)["code"] == -32602
    whole = with_blobs | {"excessBlobGas": "0x0"}
    assert engine.error("engine_newPayloadV3", whole, [], BEACON_ROOT)["code"] == -38005
