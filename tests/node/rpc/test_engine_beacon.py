"""The Engine API as a beacon node drives it over plain Ethereum, each fork by its own versions of the methods."""

import hashlib
from dataclasses import replace

import pytest

from openledger.evm_ext.blobs import CELLS_PER_BLOB, BlobSidecar, encode_network, sidecar_of, versioned_hash
from openledger.evm_ext.transactions import BLOB, Transaction, sign_transaction
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


def unhexed(value: str) -> bytes:
    return bytes.fromhex(value[2:])


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
        hashes = ["0x" + versioned_hash(unhexed(item)).hex() for item in given["blobsBundle"]["commitments"]]
        arguments += [hashes, BEACON_ROOT]
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


def with_blobs(nonce: int, sidecar: BlobSidecar, chain_id: int, **changes) -> Transaction:
    given = {"gas": 21_000, "to": BOB.address, "max_fee_per_gas": 10**11, "max_fee_per_blob_gas": 10**9} | changes
    hashes = sidecar.hashes
    return sign_transaction(
        ALICE.private_key, type=BLOB, chain_id=chain_id, nonce=nonce, blob_versioned_hashes=hashes, **given
    )


def blob(seed: int) -> bytes:
    return b"".join(bytes(1) + hashlib.sha256(bytes((seed, index % 256))).digest()[1:] for index in range(4_096))


def sent(engine, transaction: Transaction, sidecar: BlobSidecar) -> str:
    return engine("eth_sendRawTransaction", "0x" + encode_network(transaction, sidecar).hex())


@pytest.fixture(scope="module")
def two_blobs() -> BlobSidecar:
    return sidecar_of((blob(1), blob(2)))


@pytest.fixture(scope="module")
def one_blob() -> BlobSidecar:
    return sidecar_of((blob(3),))


def test_blobs_come_with_their_transactions_and_go_with_their_payloads(engine, two_blobs, one_blob):
    for _ in range(PRAGUE // SLOT_S - 1):
        advance(engine)
    first = with_blobs(0, two_blobs, engine.chain_id)
    assert sent(engine, first, two_blobs) == "0x" + first.hash.hex()
    hashes = ["0x" + item.hex() for item in first.blob_versioned_hashes]
    pending = engine("eth_getTransactionByHash", "0x" + first.hash.hex())
    assert (pending["blobVersionedHashes"], pending["maxFeePerBlobGas"]) == (hashes, hex(10**9))
    assert engine.error("eth_sendRawTransaction", "0x" + encode_network(first, two_blobs).hex())["message"].startswith(
        "already known"
    )
    unknown = "0x01" + "77" * 31
    found = engine("engine_getBlobsV1", [hashes[1], unknown])
    assert found == [{"blob": "0x" + blob(2).hex(), "proof": "0x" + two_blobs.proofs[1].hex()}, None]
    assert engine.error("engine_getBlobsV2", hashes)["code"] == -38005
    assert engine.error("engine_getBlobsV1", [unknown] * 129)["code"] == -38004

    given = advance(engine)
    assert given["executionPayload"]["transactions"] == ["0x" + first.raw.hex()]
    assert given["blobsBundle"] == {
        "commitments": ["0x" + item.hex() for item in two_blobs.commitments],
        "proofs": ["0x" + item.hex() for item in two_blobs.proofs],
        "blobs": ["0x" + item.hex() for item in two_blobs.blobs],
    }
    receipt = engine("eth_getTransactionReceipt", "0x" + first.hash.hex())
    assert (receipt["blobGasUsed"], receipt["blobGasPrice"]) == (hex(2 * 131_072), "0x1")

    advance(engine)
    advance(engine)
    second = with_blobs(1, one_blob, engine.chain_id)
    sent(engine, second, one_blob)
    assert engine.error("engine_getBlobsV1", [])["code"] == -38005
    (name,) = ("0x" + item.hex() for item in second.blob_versioned_hashes)
    assert engine("engine_getBlobsV2", [name, unknown]) is None
    (cells,) = engine("engine_getBlobsV2", [name])
    assert (len(cells["proofs"]), engine("engine_getBlobsV3", [unknown, name])) == (CELLS_PER_BLOB, [None, cells])
    bundle = advance(engine)["blobsBundle"]
    assert (bundle["proofs"], bundle["blobs"]) == (cells["proofs"], [cells["blob"]])
    third = with_blobs(2, one_blob, engine.chain_id)
    whole = replace(one_blob, proofs=tuple(unhexed(item) for item in cells["proofs"]), has_cells=True)
    assert sent(engine, third, whole) == "0x" + third.hash.hex()
    assert advance(engine)["blobsBundle"] == bundle


def test_blobs_that_are_not_the_transactions_are_refused(engine, two_blobs, one_blob):
    early = with_blobs(0, one_blob, engine.chain_id)
    raw = "0x" + encode_network(early, one_blob).hex()
    assert engine.error("eth_sendRawTransaction", raw)["message"].startswith("transaction type not supported")
    for _ in range(CANCUN // SLOT_S):
        advance(engine)
    transaction = with_blobs(0, two_blobs, engine.chain_id)
    swapped = replace(two_blobs, proofs=two_blobs.proofs[::-1])
    cells = replace(one_blob, proofs=one_blob.proofs * CELLS_PER_BLOB, has_cells=True)
    not_a_number = replace(two_blobs, blobs=(b"\xff" * 131_072, two_blobs.blobs[1]))
    for sidecar, message in (
        (one_blob, "invalid number of 1 blobs, expected 2"),
        (replace(two_blobs, commitments=one_blob.commitments * 2), "blob 0: computed hash 0x"),
        (replace(two_blobs, proofs=()), "invalid number of 0 blob proofs, expected 2"),
        (swapped, "invalid blob proof"),
        (not_a_number, "invalid blob"),
        (cells, "proofs of a blob's cells come with Osaka"),
    ):
        refused = engine.error("eth_sendRawTransaction", "0x" + encode_network(transaction, sidecar).hex())
        assert (refused["code"], refused["message"][: len(message)]) == (-32000, message)
    bare = engine.error("eth_sendRawTransaction", "0x" + transaction.raw.hex())
    assert bare["message"] == "missing sidecar in blob transaction"
    gapped = with_blobs(5, one_blob, engine.chain_id)
    assert (
        "gapped nonce 0"
        in engine.error("eth_sendRawTransaction", "0x" + encode_network(gapped, one_blob).hex())["message"]
    )
    poor = with_blobs(0, one_blob, engine.chain_id, max_fee_per_blob_gas=10**20)
    assert engine.error("eth_sendRawTransaction", "0x" + encode_network(poor, one_blob).hex())["message"].startswith(
        "insufficient funds for gas * price + value"
    )
    for broken in ("0x03c0", "0x03c3808080", "0x" + encode_network(transaction, two_blobs)[:-1].hex()):
        assert engine.error("eth_sendRawTransaction", broken)["message"].startswith("malformed transaction")
    assert advance(engine)["blobsBundle"]["blobs"] == []


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
