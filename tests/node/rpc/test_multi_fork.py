"""`openledger rpc` over a chain that goes through every kind of fork: Frontier to Osaka, with the merge between.

The chain is built here, written as a file of blocks, and imported from there. What is shown is held against the hashes
that the fields give by the `rlp` library and Keccak, never against our own encoder.
"""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import httpx
import pytest
import rlp

from openledger.evm_ext.block import Block, encode_uncles
from openledger.evm_ext.block_file import BlockFileError, import_block_file, write_blocks
from openledger.evm_ext.building import _results
from openledger.evm_ext.chain import Chain
from openledger.evm_ext.payload import PayloadAttributes, Withdrawal
from openledger.evm_ext.processing import BlockProcessor
from openledger.evm_ext.transactions import sign_transaction
from openledger.genesis.dev_accounts import DEV_ACCOUNTS
from openledger.genesis.hardforks import HardforkSchedule
from openledger.genesis.hashing import keccak256
from openledger.genesis.presets import DEVNET, l1_genesis
from openledger.node.errors import StartupError
from openledger.node.execution_client import ExecutionClientConfig

ALICE, BOB = DEV_ACCOUNTS[0], DEV_ACCOUNTS[1]
STEP_S = 12
LAST_OF_WORK, LAST = 8, 18
UNCLE_BLOCK = 5
SCHEDULE = HardforkSchedule(
    homestead_block=1,
    eip150_block=2,
    eip155_block=2,
    eip158_block=2,
    byzantium_block=3,
    constantinople_block=4,
    petersburg_block=4,
    istanbul_block=4,
    berlin_block=6,
    london_block=7,
    arrow_glacier_block=8,
    gray_glacier_block=8,
    terminal_total_difficulty=(LAST_OF_WORK + 1) * 131_072 - 1_000,
    shanghai_time=10 * STEP_S,
    cancun_time=12 * STEP_S,
    prague_time=14 * STEP_S,
    osaka_time=16 * STEP_S,
)
LONDON, SHANGHAI, CANCUN, PRAGUE, OSAKA = 7, 10, 12, 14, 16
# Emits one event without data, topic 7: PUSH1 7, PUSH1 0, PUSH1 0, LOG1.
LOGGER = bytes.fromhex("600760006000a1")
INIT = bytes.fromhex("6007600c60003960076000f3") + LOGGER


def transaction(number: int, nonce: int, chain_id: int, **fields):
    kinds = [kind for kind, since in ((0, 0), (1, 6), (2, LONDON)) if number >= since]
    options = {
        "type": kinds[-1],
        "chain_id": chain_id if number >= 2 else None,
        "nonce": nonce,
        "gas": 200_000,
        "to": BOB.address,
        "value": number,
        "max_fee_per_gas": 10**10,
    }
    return sign_transaction(ALICE.private_key, **options | fields)


def with_uncle(chain: Chain, block: Block, uncle) -> Block:
    """The block again, naming an uncle."""
    parent = chain.parent_state(block.header.parent_hash)
    processor = BlockProcessor(chain.rules, parent.reader, block.header, parent.ancestor_hash)
    processor.start()
    for item in block.transactions:
        processor.apply(item)
    results = _results(processor.finish((), (uncle,)))
    header = replace(block.header, **results, uncles_hash=keccak256(encode_uncles((uncle,))))
    return Block(header, block.transactions, (), (uncle,))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, load_module):
    """A folder with genesis.json and chain.rlp, and the blocks in it."""
    folder = tmp_path_factory.mktemp("multi-fork")
    base = l1_genesis(DEVNET, 0)
    genesis = replace(base, hardforks=SCHEDULE, difficulty=131_072, base_fee_per_gas=10**9, gas_limit=30_000_000)
    load_module("client_thread").write_genesis(folder, genesis)
    chain = Chain.open(folder / "building", genesis)
    blocks, sibling = [], None
    try:
        for number in range(1, LAST + 1):
            parent = chain.head()
            sent = [transaction(number, 2 * number - 2, genesis.chain_id)]
            sent.append(transaction(number, 2 * number - 1, genesis.chain_id, to=None, value=0, data=INIT))
            attributes = PayloadAttributes(
                timestamp=parent.timestamp + STEP_S,
                prev_randao=bytes(32) if number <= LAST_OF_WORK else number.to_bytes(32, "big"),
                suggested_fee_recipient=b"\xfe" * 20,
                parent_beacon_block_root=b"\xbe" * 32 if number >= CANCUN else bytes(32),
                transactions=tuple(item.raw for item in sent),
                withdrawals=(Withdrawal(number, 5, BOB.address, 100),) if number >= SHANGHAI else (),
            )
            block = chain.build(parent.hash, attributes)
            if number == UNCLE_BLOCK - 1:
                sibling = chain.build(parent.hash, replace(attributes, suggested_fee_recipient=b"\xfd" * 20)).header
            if number == UNCLE_BLOCK:
                block = with_uncle(chain, block, sibling)
                chain.import_block(block)
            chain.set_heads(unsafe=block.hash)
            blocks.append(block)
        with (folder / "chain.rlp").open("wb") as file:
            write_blocks(file, iter((chain.block_by_number(0), *blocks)))
    finally:
        chain.close()
    return folder, blocks


@pytest.fixture(scope="module")
def rpc(recorded, load_module):
    folder, _ = recorded
    tools = load_module("client_thread")
    config = ExecutionClientConfig(genesis=folder / "genesis.json", import_rlp=(folder / "chain.rlp",), port=0)
    with tools.ClientThread(config) as client, httpx.Client(trust_env=False, base_url=client.rpc.url) as http:

        def call(method, *params):
            answer = http.post("/", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).json()
            return answer["result"] if "result" in answer else answer["error"]

        yield call


FIELDS = [
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
QUANTITIES = {
    "difficulty",
    "number",
    "gasLimit",
    "gasUsed",
    "timestamp",
    "baseFeePerGas",
    "blobGasUsed",
    "excessBlobGas",
}


def hash_of(shown: dict) -> str:
    fields = []
    for name in FIELDS:
        if name in shown:
            value = shown[name]
            fields.append(int(value, 16) if name in QUANTITIES else bytes.fromhex(value[2:]))
    return "0x" + keccak256(rlp.encode(fields)).hex()


@pytest.mark.parametrize("number", range(LAST + 1))
def test_a_block_shows_the_fields_of_its_fork_and_they_hash_to_its_hash(rpc, recorded, number):
    shown = rpc("eth_getBlockByNumber", hex(number), False)
    size = next(
        size for since, size in ((PRAGUE, 21), (CANCUN, 20), (SHANGHAI, 17), (LONDON, 16), (0, 15)) if number >= since
    )
    assert [name for name in FIELDS if name in shown] == FIELDS[:size]
    assert ("withdrawals" in shown) == (number >= SHANGHAI)
    assert shown["hash"] == hash_of(shown)
    if number:
        assert shown["hash"] == "0x" + recorded[1][number - 1].hash.hex()
        assert (int(shown["difficulty"], 16) > 0) == (number <= LAST_OF_WORK)
        raw = bytes.fromhex(rpc("debug_getRawBlock", hex(number))[2:])
        assert shown["size"] == hex(len(raw))
        header = rpc("eth_getHeaderByNumber", hex(number))
        assert header.items() <= shown.items()


def test_the_heads_are_the_last_block(rpc, recorded):
    last = "0x" + recorded[1][-1].hash.hex()
    for label in ("latest", "safe", "finalized"):
        assert rpc("eth_getBlockByNumber", label, False)["hash"] == last


@pytest.mark.parametrize("number", range(1, LAST + 1))
def test_receipts_have_a_root_before_byzantium_and_a_status_since(rpc, recorded, number):
    receipts = rpc("eth_getBlockReceipts", hex(number))
    raws = rpc("debug_getRawReceipts", hex(number))
    for receipt, raw, transaction in zip(receipts, raws, recorded[1][number - 1].transactions, strict=True):
        assert ("root" in receipt, "status" in receipt) == (number < 3, number >= 3)
        body = bytes.fromhex(raw[2:])
        first = rlp.decode(body if body[0] >= 0xC0 else body[1:])[0]
        if number < 3:
            assert receipt["root"] == "0x" + first.hex()
        else:
            assert receipt["status"] == hex(int.from_bytes(first, "big")) == "0x1"
        assert receipt == rpc("eth_getTransactionReceipt", receipt["transactionHash"])
        shown = rpc("eth_getTransactionByHash", receipt["transactionHash"])
        assert ("chainId" in shown) == (transaction.chain_id is not None)
        assert shown["blockTimestamp"] == hex(number * STEP_S)
        assert shown["type"] == receipt["type"] == hex(transaction.type)
    assert receipts[1]["contractAddress"] is not None
    assert rpc("eth_getCode", receipts[1]["contractAddress"], hex(number)) == "0x" + LOGGER.hex()


def test_an_uncle_is_shown_by_its_place(rpc, recorded):
    (uncle,) = recorded[1][UNCLE_BLOCK - 1].uncles
    block = rpc("eth_getBlockByNumber", hex(UNCLE_BLOCK), False)
    assert block["uncles"] == ["0x" + uncle.hash.hex()]
    assert rpc("eth_getUncleCountByBlockNumber", hex(UNCLE_BLOCK)) == "0x1"
    assert rpc("eth_getUncleCountByBlockHash", block["hash"]) == "0x1"
    shown = rpc("eth_getUncleByBlockNumberAndIndex", hex(UNCLE_BLOCK), "0x0")
    assert shown == rpc("eth_getUncleByBlockHashAndIndex", block["hash"], "0x0")
    assert shown["hash"] == hash_of(shown) == block["uncles"][0]
    assert "transactions" not in shown
    assert rpc("eth_getUncleByBlockNumberAndIndex", hex(UNCLE_BLOCK), "0x1") is None


def test_calls_follow_the_rules_of_their_block(rpc):
    push0 = {"input": "0x5f5ff3"}
    shanghai, before = hex(SHANGHAI), hex(SHANGHAI - 1)
    assert rpc("eth_call", push0, shanghai) == "0x"
    assert "invalid opcode" in rpc("eth_call", push0, before)["message"]
    assert rpc("eth_call", push0, before, {}, {"time": hex(SHANGHAI * STEP_S)}) == "0x"
    clz = {"input": "0x60011e60005260206000f3"}
    assert rpc("eth_call", clz, hex(OSAKA)) == "0x" + f"{255:064x}"
    assert "invalid opcode" in rpc("eth_call", clz, hex(OSAKA - 1))["message"]
    # Calldata costs 68 gas a byte before Istanbul, 16 since; EIP-7623 has a floor since Prague.
    data = {"to": "0x" + BOB.address.hex(), "input": "0x" + "11" * 100}
    assert [rpc("eth_estimateGas", data, hex(number)) for number in (2, 4, PRAGUE)] == [
        hex(21_000 + 6_800),
        hex(21_000 + 1_600),
        hex(21_000 + 4_000),
    ]


@pytest.mark.parametrize(
    ("field", "value", "since", "words"),
    [
        ("accessList", [], 6, "access list tx"),
        ("maxFeePerGas", "0x0", LONDON, "not valid before London is active"),
        ("maxPriorityFeePerGas", "0x0", LONDON, "not valid before London is active"),
        ("blobVersionedHashes", ["0x01" + "00" * 31], CANCUN, "blob tx"),
        ("maxFeePerBlobGas", "0x1", CANCUN, "blob tx"),
        ("authorizationList", [], PRAGUE, "set code tx"),
    ],
)
def test_a_field_of_a_later_fork_is_refused_before_it(rpc, field, value, since, words):
    request = {"to": "0x" + BOB.address.hex(), field: value}
    for method in ("eth_call", "eth_estimateGas"):
        refused = rpc(method, request, hex(since - 1))
        assert refused["code"] == -32000
        assert words in refused["message"]
        assert isinstance(rpc(method, request, hex(since)), str)
    assert rpc("eth_createAccessList", {"to": request["to"]}, "0x5")["code"] == -32000


def test_simulated_blocks_take_the_form_of_their_fork(rpc):
    calls = {"blockStateCalls": [{"calls": [{"to": "0x" + BOB.address.hex()}]}]}
    for number in range(LAST):
        (block,) = rpc("eth_simulateV1", calls, hex(number))
        assert block["number"] == hex(number + 1)
        assert block["hash"] == hash_of(block), number
    # The first block of Osaka simulated from the last of Prague, and one on top of it.
    first, second = rpc("eth_simulateV1", {"blockStateCalls": [{}, {}]}, hex(OSAKA - 1))
    assert second["parentHash"] == first["hash"]


def test_fees_are_those_of_the_fork(rpc):
    history = rpc("eth_feeHistory", hex(LAST + 1), "latest", [50])
    assert len(history["baseFeePerGas"]) == len(history["baseFeePerBlobGas"]) == LAST + 2
    assert set(history["baseFeePerGas"][:LONDON]) == {"0x0"}
    assert history["baseFeePerGas"][LONDON] == hex(10**9)
    assert set(history["baseFeePerBlobGas"][:CANCUN]) == {"0x0"}
    assert set(history["baseFeePerBlobGas"][CANCUN:]) == {"0x1"}
    assert int(history["reward"][LAST][0], 16) == 10**10 - int(history["baseFeePerGas"][LAST], 16)


def test_the_configuration_names_the_fork_at_the_head(rpc):
    config = rpc("eth_config")
    assert config["current"]["activationTime"] == OSAKA * STEP_S
    assert config["current"]["precompiles"]["P256VERIFY"] == "0x" + f"{0x100:040x}"
    assert (config["next"], config["last"]) == (None, None)


def test_a_file_that_does_not_fit_is_named(recorded, tmp_path, load_module):
    folder, blocks = recorded
    tools = load_module("client_thread")
    whole = (folder / "chain.rlp").read_bytes()
    cut = tmp_path / "cut.rlp"
    cut.write_bytes(whole[:-5])
    wrong = tmp_path / "wrong.rlp"
    with wrong.open("wb") as file:
        write_blocks(file, iter((blocks[0], replace(blocks[1], transactions=()))))
    for path, words in (
        (cut, "ends in the middle"),
        (wrong, "transactions_root"),
        (tmp_path / "absent", "cannot be read"),
    ):
        config = ExecutionClientConfig(genesis=folder / "genesis.json", import_rlp=(path,), port=0)
        with pytest.raises(StartupError, match=words), tools.ClientThread(config):
            pass
    other = tmp_path / "genesis.json"
    other.write_text((folder / "genesis.json").read_text().replace('"0x20000"', '"0x20001"'))
    config = ExecutionClientConfig(genesis=other, import_rlp=(folder / "chain.rlp",), port=0)
    with pytest.raises(StartupError, match="begins with genesis"), tools.ClientThread(config):
        pass


def test_a_file_is_no_folder_to_keep_a_chain_in(recorded, load_module):
    tools = load_module("client_thread")
    genesis = recorded[0] / "genesis.json"
    config = ExecutionClientConfig(genesis=genesis, data_dir=genesis, port=0)
    with pytest.raises(StartupError, match="cannot be used: Not a directory"), tools.ClientThread(config):
        pass


@pytest.mark.parametrize("keeps_a_folder", [False, True])
def test_a_consensus_client_leads_an_imported_chain_on(recorded, tmp_path, load_module, keeps_a_folder):
    folder, blocks = recorded
    tools = load_module("client_thread")
    secret = tmp_path / "jwt.hex"
    secret.write_text("0x" + "73" * 32 + "\n")
    config = ExecutionClientConfig(
        genesis=folder / "genesis.json",
        import_rlp=(folder / "chain.rlp",),
        data_dir=tmp_path / "data" if keeps_a_folder else None,
        port=0,
        engine_port=0,
        jwt_secret=secret,
    )
    with tools.ClientThread(config) as client:
        engine = tools.EngineCaller(client)
        head = "0x" + blocks[-1].hash.hex()
        state = {"headBlockHash": head, "safeBlockHash": head, "finalizedBlockHash": head}
        valid = {"status": "VALID", "latestValidHash": head, "validationError": None}
        assert engine("engine_forkchoiceUpdatedV3", state) == {"payloadStatus": valid, "payloadId": None}
        wanted = {
            "timestamp": hex((LAST + 1) * STEP_S),
            "prevRandao": "0x" + "44" * 32,
            "suggestedFeeRecipient": "0x" + "fe" * 20,
            "withdrawals": [],
            "parentBeaconBlockRoot": "0x" + "be" * 32,
        }
        started = engine("engine_forkchoiceUpdatedV3", state, wanted)
        given = engine("engine_getPayloadV5", started["payloadId"])
        payload, requests = given["executionPayload"], given["executionRequests"]
        added = engine("engine_newPayloadV4", payload, [], wanted["parentBeaconBlockRoot"], requests)
        assert added["status"] == "VALID"
        moved = engine("engine_forkchoiceUpdatedV3", state | {"headBlockHash": payload["blockHash"]})
        assert moved["payloadStatus"]["status"] == "VALID"
        assert engine("eth_blockNumber") == hex(LAST + 1)
        call = {"jsonrpc": "2.0", "id": 1, "method": "testing_buildBlockV1", "params": [payload["blockHash"], {}]}
        answer = httpx.post(client.rpc.url, json=call, trust_env=False).json()
        assert (answer["error"]["code"] == -32601) == keeps_a_folder, "networks' clients do not offer it"
        engine.close()


def test_what_came_before_a_bad_block_is_kept(recorded, tmp_path):
    from openledger.node.execution_client import read_genesis

    folder, blocks = recorded
    path = tmp_path / "bad.rlp"
    with path.open("wb") as file:
        write_blocks(file, iter((*blocks[:3], replace(blocks[3], transactions=()))))
    chain = Chain.open(tmp_path / "chain", read_genesis(folder / "genesis.json"))
    try:
        with pytest.raises(BlockFileError, match="block 4"):
            import_block_file(chain, path)
        assert chain.head().hash == blocks[2].hash
        assert import_block_file(chain, folder / "chain.rlp") == LAST - 3
        path.write_bytes(b"")
        with pytest.raises(BlockFileError, match="no block"):
            import_block_file(chain, path)
    finally:
        chain.close()


def test_the_command_serves_until_it_is_interrupted(recorded):
    folder, _ = recorded
    command = [sys.executable, "-m", "openledger.node.cli.main", "rpc", "--port", "0", "--log-format", "json"]
    command += ["--genesis", str(folder / "genesis.json"), "--import-rlp", str(folder / "chain.rlp")]
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            url = None
            for line in process.stdout:
                if (found := re.search(r"http://127\.0\.0\.1:\d+", line)) is not None:
                    url = found[0]
                    break
            assert url is not None
            body = {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber"}
            assert httpx.post(url, json=body, trust_env=False).json()["result"] == hex(LAST)
        finally:
            process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 0


def test_a_block_can_be_built_to_be_looked_at(rpc, recorded):
    """testing_buildBlockV1, with the gas limit of geth's default."""
    _, blocks = recorded
    parent = "0x" + blocks[-1].hash.hex()
    wanted = {
        "parentBeaconBlockRoot": "0x" + "cf" * 32,
        "prevRandao": "0x" + "00" * 32,
        "suggestedFeeRecipient": "0x" + "00" * 20,
        "timestamp": hex((LAST + 1) * STEP_S),
        "withdrawals": [],
    }
    chain_id = int(rpc("eth_chainId"), 16)
    good = transaction(LAST + 1, 2 * LAST, chain_id)
    built = rpc("testing_buildBlockV1", parent, wanted, ["0x" + good.raw.hex()], "0x1234")
    payload = built["executionPayload"]
    assert payload["transactions"] == ["0x" + good.raw.hex()]
    assert payload["extraData"] == "0x1234"
    limit = blocks[-1].header.gas_limit
    step = limit // 1024 - 1
    assert int(payload["gasLimit"], 16) == max(limit - step, min(limit + step, 60_000_000))
    assert int(built["blockValue"], 16) == 21_000 * (10**10 - int(payload["baseFeePerGas"], 16))
    assert rpc("testing_buildBlockV1", parent, wanted, [])["executionPayload"]["transactions"] == []
    bad = transaction(LAST + 1, 999, chain_id)
    refused = rpc("testing_buildBlockV1", parent, wanted, ["0x" + bad.raw.hex()], "0x")
    assert refused["code"] == -32000
    assert refused["message"].startswith("nonce too high: address 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266, tx: 999")
    assert rpc("eth_blockNumber") == hex(LAST)


def test_a_block_can_be_committed(recorded, load_module):
    """testing_commitBlockV1, on a chain of its own, since it moves the head."""
    folder, blocks = recorded
    tools = load_module("client_thread")
    config = ExecutionClientConfig(genesis=folder / "genesis.json", import_rlp=(folder / "chain.rlp",), port=0)
    with tools.ClientThread(config) as client, httpx.Client(trust_env=False, base_url=client.rpc.url) as http:

        def rpc(method, *params):
            answer = http.post("/", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).json()
            return answer["result"] if "result" in answer else answer["error"]

        def attributes(number):
            return {
                "parentBeaconBlockRoot": "0x" + "cf" * 32,
                "prevRandao": "0x" + "11" * 32,
                "suggestedFeeRecipient": "0x" + "00" * 20,
                "timestamp": hex(number * STEP_S),
                "withdrawals": [],
            }

        chain_id = int(rpc("eth_chainId"), 16)
        sent = transaction(LAST + 1, 2 * LAST, chain_id)
        committed = rpc("testing_commitBlockV1", attributes(LAST + 1), ["0x" + sent.raw.hex()], "0x746573745f6e616d65")
        block = rpc("eth_getBlockByNumber", "latest", False)
        assert block["hash"] == committed
        assert block["parentHash"] == "0x" + blocks[-1].hash.hex()
        assert block["transactions"] == ["0x" + sent.hash.hex()]
        assert block["extraData"] == "0x746573745f6e616d65"
        # From the pool.
        waiting = transaction(LAST + 2, 2 * LAST + 1, chain_id)
        rpc("eth_sendRawTransaction", "0x" + waiting.raw.hex())
        committed = rpc("testing_commitBlockV1", attributes(LAST + 2), None)
        assert rpc("eth_getBlockByHash", committed, False)["transactions"] == ["0x" + waiting.hash.hex()]
        # What is refused leaves the head where it is.
        bad = transaction(LAST + 3, 999, chain_id)
        assert rpc("testing_commitBlockV1", attributes(LAST + 3), ["0x" + bad.raw.hex()], "0x")["message"].startswith(
            "nonce too high: address 0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266, tx: 999"
        )
        assert "extra" in rpc("testing_commitBlockV1", attributes(LAST + 3), [], "0x" + "00" * 33)["message"]
        assert rpc("eth_getBlockByNumber", "latest", False)["hash"] == committed
