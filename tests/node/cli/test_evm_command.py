"""`openledger evm`: public tests and single blocks from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openledger.node.cli.main import app
from openledger.node.errors import StartupError

VECTORS = Path(__file__).parents[2] / "evm_ext" / "conformance" / "vectors"
PROGRAMS, CHAINS = VECTORS / "programs_by_eels.json", VECTORS / "chains_of_2016.json"


def run(*arguments: object):
    return CliRunner().invoke(app, ["evm", *map(str, arguments)])


def test_one_json_line_is_printed_for_each_case_and_all_pass():
    done = run("statetest", PROGRAMS, "--fork", "Prague", "--json", "--jobs", 1)
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 30
    assert all(set(line) == {"name", "fork", "pass", "error"} for line in lines)
    assert all(line["pass"] is True and line["fork"] == "Prague" and line["error"] is None for line in lines)


def test_blockchain_tests_are_summed_up_for_people():
    done = run("blocktest", CHAINS, "--jobs", 1)
    assert done.exit_code == 0, done.output
    assert "10 passed, 0 failed" in done.stdout


def test_a_failure_is_listed_and_is_the_exit_status(tmp_path):
    document = json.loads(CHAINS.read_text())
    name = "oneUncle_Homestead"
    (tmp_path / "a.json").write_text(json.dumps({name: {**document[name], "lastblockhash": "0x" + "11" * 32}}))
    (tmp_path / "b.json").write_text("no json")
    done = run("blocktest", tmp_path, "--jobs", 1)
    assert done.exit_code == 1
    assert "FAIL Homestead oneUncle_Homestead" in done.stdout
    assert "the head is 0x" in done.stdout
    assert "0 passed, 2 failed" in done.stdout
    assert "Traceback" not in done.output


def test_files_without_a_case_are_a_failure():
    done = run("statetest", CHAINS.parent / "README.md", "--jobs", 1)
    assert done.exit_code == 1
    done = run("statetest", PROGRAMS, "--fork", "NoSuchFork", "--jobs", 1)
    assert done.exit_code == 1


# --- execute -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A block of the devnet's chain with all that it is executed from, as files by name."""
    from openledger.evm_ext import Chain, PayloadAttributes, sign_transaction
    from openledger.evm_ext.header_json import header_to_json
    from openledger.genesis.dev_accounts import USERS
    from openledger.genesis.presets import l2_genesis, preset
    from openledger.rollup.config import RollupConfig

    folder = tmp_path_factory.mktemp("execute")
    chosen = preset("devnet")
    chain = Chain.open(folder / "chain", l2_genesis(chosen, 1_700_000_000))
    parent = chain.head()
    transactions = tuple(
        sign_transaction(
            USERS[0].private_key,
            chain_id=chain.chain_id,
            nonce=nonce,
            to=to,
            value=5,
            data=data,
            gas=200_000,
            max_fee_per_gas=10**12,
        ).raw
        for nonce, (to, data) in enumerate([(b"\x77" * 20, b""), (None, bytes.fromhex("602a60005560016000f3"))])
    )
    attributes = PayloadAttributes(
        timestamp=parent.timestamp + 2,
        prev_randao=b"\x07" * 32,
        suggested_fee_recipient=b"\x08" * 20,
        parent_beacon_block_root=b"\x09" * 32,
        transactions=transactions,
        no_tx_pool=True,
        gas_limit=parent.gas_limit,
    )
    block = chain.build(parent.hash, attributes)
    witness = chain.execution_witness(block)
    rollup = RollupConfig.from_genesis(chosen, b"\x01" * 32, parent.hash, 1_700_000_000).to_json()
    own = chain.genesis.to_json()["config"]["openledger"]
    documents = {
        "rollup": {**rollup, "openledger": own},
        "parent": {**header_to_json(parent), "size": "0x1", "transactions": []},
        "attributes": {
            "timestamp": hex(attributes.timestamp),
            "prevRandao": "0x" + "07" * 32,
            "suggestedFeeRecipient": "0x" + "08" * 20,
            "parentBeaconBlockRoot": "0x" + "09" * 32,
            "withdrawals": [],
            "transactions": ["0x" + raw.hex() for raw in transactions],
            "noTxPool": True,
            "gasLimit": hex(parent.gas_limit),
            "eip1559Params": "0x0000000000000000",
        },
        "witness": {"0x" + key.hex(): "0x" + value.hex() for key, value in witness.preimages().items()},
        "expected": header_to_json(block.header),
    }
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    yield {"folder": folder, "documents": documents, "block": block}
    chain.close()


def execute(files, *more: object, **replaced: Path):
    paths = {name: replaced.get(name, files["folder"] / f"{name}.json") for name in files["documents"]}
    return run(
        "execute",
        *("--rollup-config", paths["rollup"], "--parent", paths["parent"], "--attributes", paths["attributes"]),
        *("--witness", paths["witness"], "--expected", paths["expected"], *more),
    )


def changed(files, tmp_path, name, change):
    document = json.loads(json.dumps(files["documents"][name]))
    document = change(document) or document
    path = tmp_path / f"{name}.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return {name: path}


def test_a_block_is_executed_from_files(files):
    done = execute(files, "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["blockHash"] == "0x" + files["block"].hash.hex()
    assert answer["header"] == files["documents"]["expected"]
    assert answer["differences"] == []
    assert 0 < answer["preimagesUsed"] <= answer["preimagesGiven"]
    assert answer["blockHash"] in execute(files).stdout


def test_headers_may_be_rlp_and_the_expected_one_a_hash(files, tmp_path):
    from openledger.evm_ext.header_json import header_from_json

    parent = tmp_path / "parent.hex"
    parent.write_text("0x" + header_from_json(files["documents"]["parent"]).encode().hex() + "\n")
    expected = tmp_path / "expected.hex"
    expected.write_text("0x" + files["block"].hash.hex())
    assert execute(files, parent=parent, expected=expected).exit_code == 0


def test_every_field_that_is_not_expected_is_printed(files, tmp_path):
    def change(header):
        del header["hash"]
        header.update(gasUsed="0x1", stateRoot="0x" + "11" * 32)

    done = execute(files, **changed(files, tmp_path, "expected", change))
    assert done.exit_code == 1
    assert f"DIFFERENT gasUsed: {files['documents']['expected']['gasUsed']}, expected 0x1" in done.stdout
    assert "DIFFERENT stateRoot" in done.stdout
    assert "DIFFERENT hash" in done.stdout


def test_a_missing_preimage_is_named(files, tmp_path):
    missing = next(key for key, value in files["documents"]["witness"].items() if len(value) > 1000)
    done = execute(files, **changed(files, tmp_path, "witness", lambda witness: witness.pop(missing) and None))
    assert isinstance(done.exception, StartupError)
    assert f"lacks the preimage of {missing}" in str(done.exception)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("rollup", lambda c: c.update(isthmus_time=None, ecotone_time=2**40), "before ecotone"),
        ("rollup", lambda c: c.update(jovian_time=0), "under jovian"),
        ("rollup", lambda c: c.pop("chain_op_config"), "chain_op_config"),
        ("rollup", lambda c: c.update(l2_chain_id="x"), "l2_chain_id"),
        ("parent", lambda c: c.pop("stateRoot") and None, "lacks stateRoot"),
        ("parent", lambda c: c.update(gasUsed="0x7"), "hash"),
        ("parent", lambda c: "no json", "not JSON"),
        ("parent", lambda c: "0x1234zz", "neither JSON nor hex"),
        ("attributes", lambda c: c.pop("gasLimit") and None, "gasLimit"),
        ("attributes", lambda c: c.update(timestamp=hex(1_600_000_000)), "timestamp"),
        ("attributes", lambda c: c.update(transactions=["0x05"]), "transaction 0"),
        ("attributes", lambda c: c.update(withdrawals=[{"index": 1}]), "withdrawals[0].index: expected a hex string"),
        ("witness", lambda c: [1], "witness"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(files, tmp_path, name, change, words):
    def only_text(document):
        answer = change(document)
        return answer if isinstance(answer, str | list) else None

    done = execute(files, **changed(files, tmp_path, name, only_text))
    assert isinstance(done.exception, StartupError), done.output
    assert words in str(done.exception)
