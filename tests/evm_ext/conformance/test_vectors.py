"""Public test files pass; the same files with something wrong in them do not."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from openledger.evm_ext.block import HEADER_FIELDS, Block
from openledger.evm_ext.conformance.blockchain_fixture import read_blockchain_case
from openledger.evm_ext.conformance.blockchain_run import run_blockchain_case
from openledger.evm_ext.conformance.runner import Unit, run_unit
from openledger.evm_ext.conformance.state_fixture import read_state_cases
from openledger.evm_ext.conformance.state_run import run_state_case
from openledger.evm_ext.conformance.values import InvalidFixture

VECTORS = Path(__file__).parent / "vectors"
CHAINS, PROGRAMS = VECTORS / "chains_by_eels.json", VECTORS / "programs_by_eels.json"
ENGINE = VECTORS / "engine_by_eels.json"


def loaded(path):
    return {name: case for name, case in json.loads(path.read_text()).items() if not name.startswith("_")}


@pytest.mark.parametrize(
    ("file", "kind", "least"),
    [
        ("chains_of_2016.json", "blockchain", 10),
        ("chains_by_eels.json", "blockchain", 33),
        ("engine_by_eels.json", "blockchain", 7),
        ("states_of_2016_by_eels.json", "state", 200),
        ("programs_by_eels.json", "state", 190),
        ("precompiles_by_eels.json", "state", 250),
    ],
)
def test_every_case_passes(file, kind, least):
    results = run_unit(Unit(VECTORS / file, kind, None, True))
    assert [result for result in results if not result.passed] == []
    assert len(results) >= least


def test_forks_can_be_chosen():
    results = run_unit(Unit(PROGRAMS, "state", "Osaka", True))
    assert {result.fork for result in results} == {"Osaka"}


# --- state tests -------------------------------------------------------------------------------------------


def state_case(change):
    name, document = next(iter(loaded(PROGRAMS).items()))
    document = copy.deepcopy(document)
    change(document["post"]["Prague"][0])
    (case,) = read_state_cases(name, document, "prague")
    return run_state_case(case)


def test_a_wrong_root_wrong_logs_and_a_wrong_exception_fail():
    assert state_case(lambda post: None) is None
    assert "expected 0x" + "11" * 32 in state_case(lambda post: post.update(hash="0x" + "11" * 32, state=None))
    assert "logs" in state_case(lambda post: post.update(logs="0x" + "11" * 32))
    assert "accepted" in state_case(lambda post: post.update(expectException="TransactionException.NONCE_TOO_LOW"))
    assert "refused" in state_case(lambda post: post.update(txbytes="0x02c0"))


@pytest.mark.parametrize("excess", ["0xffffffffffffffff", "0x1000000000"])
def test_a_blob_price_that_takes_forever_is_refused(excess):
    name, document = next(iter(loaded(PROGRAMS).items()))
    (case,) = read_state_cases(name, {**document, "env": {**document["env"], "currentExcessBlobGas": excess}}, "Prague")
    with pytest.raises(InvalidFixture, match="no block can have"):
        run_state_case(case)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"baseFeeUpdateFraction": "0x0"}, "must not be 0"),
        ({"target": None}, "lacks target"),
        ({"max": "many"}, "must be a number"),
    ],
)
def test_a_blob_schedule_that_cannot_be_is_refused(change, words):
    document = chain()
    blobs = {"target": "0x6", "max": "0x9", "baseFeeUpdateFraction": "0x4c6964"}
    document["config"]["blobSchedule"] = {"Prague": blobs}
    assert run_chain(document) is None
    document["config"]["blobSchedule"] = {"Prague": {**blobs, **change}}
    with pytest.raises(InvalidFixture, match=words):
        run_chain(document)


def test_what_differs_in_the_state_is_said():
    def change(post):
        address = next(iter(post["state"]))
        post["state"][address]["balance"] = "0x123456"
        post["hash"] = "0x" + "11" * 32

    assert "has balance" in state_case(change)


def test_a_transaction_without_its_bytes_is_signed_with_the_key_of_the_file():
    for name, document in loaded(PROGRAMS).items():
        document = copy.deepcopy(document)
        del document["post"]["Prague"][0]["txbytes"]
        (case,) = read_state_cases(name, document, "Prague")
        assert run_state_case(case) is None, name


def test_a_difficulty_of_zero_does_not_merge_a_state_test():
    """DIFFICULTY in London with a difficulty of 0 gives 0, not the randomness."""
    sender = "0xa94f5374fce5edbc8e2a8697c15331677e6ebf0b"
    document = {
        "env": {
            "currentCoinbase": "0x" + "cb" * 20,
            "currentGasLimit": "0x1000000",
            "currentNumber": "0x1",
            "currentTimestamp": "0x1",
            "currentDifficulty": "0x0",
            "currentRandom": "0x" + "07" * 32,
            "currentBaseFee": "0x0",
        },
        "pre": {
            sender: {"balance": "0x1000000000", "nonce": "0x0", "code": "0x", "storage": {}},
            "0x" + "cc" * 20: {"balance": "0x0", "nonce": "0x1", "code": "0x4460005500", "storage": {"0x00": "0x01"}},
        },
        "transaction": {
            "data": ["0x"],
            "gasLimit": ["0x20000"],
            "value": ["0x0"],
            "gasPrice": "0x0",
            "nonce": "0x0",
            "to": "0x" + "cc" * 20,
            "secretKey": "0x45a915e4d060149eb4365960e6a7a45f334393093061116b197e3240065ff2d8",
        },
        "post": {"London": [], "Paris": []},
    }
    entry = {"indexes": {"data": 0, "gas": 0, "value": 0}, "hash": "0x" + "11" * 32}
    word = {"London": "0x0", "Paris": "0x" + "07" * 32}
    for fork, expected in word.items():
        state = {"0x" + "cc" * 20: {"nonce": "0x1", "code": "0x4460005500", "storage": {"0x0": expected}}}
        document["post"] = {fork: [{**entry, "state": state}]}
        (case,) = read_state_cases("difficulty", document, None)
        assert "there are accounts or slots" in run_state_case(case), fork


# --- blockchain tests --------------------------------------------------------------------------------------


def chain(name="chain_Prague"):
    return copy.deepcopy(loaded(CHAINS)[name])


def run_chain(document):
    case = read_blockchain_case("case", document, None)
    return run_blockchain_case(case)


def test_a_block_that_ought_to_be_refused_and_is_not_fails():
    document = chain()
    document["blocks"][0]["expectException"] = "BlockException.ANY"
    assert run_chain(document) == "block 0 was accepted, expected BlockException.ANY"
    assert "does not check seals" in run_chain({**document, "sealEngine": "Ethash"})


def test_a_block_that_ought_to_be_accepted_and_is_not_fails():
    document = chain()
    wrong = next(block for block in document["blocks"] if "expectException" in block)
    del wrong["expectException"]
    wrong["blockHeader"] = {}
    assert "was refused" in run_chain(document)


def test_another_head_another_state_and_another_genesis_fail():
    document = chain()
    assert "the head is" in run_chain({**document, "lastblockhash": "0x" + "11" * 32})
    address = next(iter(document["postState"]))
    changed = copy.deepcopy(document)
    changed["postState"][address]["balance"] = "0x1"
    assert "balance" in run_chain(changed)
    changed = copy.deepcopy(document)
    changed["pre"][address]["balance"] = "0x1"
    assert "genesis" in run_chain(changed)


@pytest.mark.parametrize("name", ["chain_Frontier", "chain_London", "chain_Shanghai", "chain_Osaka"])
def test_a_block_is_refused_for_the_field_that_is_wrong(name):
    """Each invalid block differs from the valid one after it in one header field."""
    document = chain(name)
    decoded = [Block.decode(bytes.fromhex(block["rlp"][2:])).header for block in document["blocks"]]
    seen = 0
    for index, block in enumerate(document["blocks"]):
        if "expectException" not in block:
            valid = index
            continue
        right = next(
            header for header, other in zip(decoded[index:], document["blocks"][index:]) if "blockHeader" in other
        )
        (field,) = [field for field in HEADER_FIELDS if getattr(decoded[index], field) != getattr(right, field)]
        alone = {**document, "blocks": [*document["blocks"][: valid + 1], {"rlp": block["rlp"], "blockHeader": {}}]}
        words = run_chain(alone)
        # The parent is looked up before the rest; time and beacon root are in the state by the contract of EIP-4788.
        in_state = (
            {"timestamp": "state_root", "parent_beacon_block_root": "state_root"} if name == "chain_Osaka" else {}
        )
        expected = {"parent_hash": "no block", **in_state}.get(field, field)
        assert expected in words, (field, words)
        seen += 1
    assert seen >= 10


def engine_chain(name):
    return copy.deepcopy(loaded(ENGINE)[name])


def test_requests_of_the_engine_api_are_held_to_the_header():
    document = engine_chain("engine_Prague")
    requests = document["engineNewPayloads"][0]["params"][3]
    assert [request[:4] for request in requests] == ["0x00", "0x01", "0x02"]
    for change, words in (
        (lambda: requests.reverse(), "out of order"),
        (lambda: requests.append("0x03"), "empty"),
        (lambda: requests.pop(), "block_hash"),
    ):
        kept = list(requests)
        change()
        assert words in run_chain(document)
        requests[:] = kept
    assert run_chain(document) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda call: call["params"][1].pop(), "blobs"),
        (lambda call: call["params"].pop(), "3 parameters"),
        (lambda call: call["params"].__setitem__(1, None), "versioned hashes must be a list"),
        (lambda call: call["params"][0].update(gasUsed="0x1"), "block_hash"),
        (lambda call: call["params"][0].update(stateRoot="0x1"), "32 bytes"),
        (lambda call: call["params"][0].pop("blobGasUsed"), "blobGasUsed"),
        (lambda call: call["params"][0].update(transactions=["0x"]), "transaction 0"),
    ],
)
def test_a_payload_that_is_not_right_is_refused(change, words):
    document = engine_chain("engine_Cancun")
    change(document["engineNewPayloads"][0])
    assert words in run_chain(document)
    document["engineNewPayloads"][0]["validationError"] = "BlockException.ANY"
    assert "block 1 was refused: no block" in run_chain(document)
