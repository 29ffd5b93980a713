"""What op-node, op-batcher and op-proposer of the Isthmus time ask of a rollup node, and read in its answers and files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import L2_TO_L1_MESSAGE_PASSER
from openledger.node.cli.main import app
from openledger.node.errors import StartupError, UserError
from openledger.node.network import Network as NetworkDescription
from openledger.node.rpc.dispatcher import Caller, Dispatcher
from openledger.node.rpc.optimism import OptimismRpc
from openledger.rollup.config import RollupConfig

L1_REF = {"hash": 32, "number": int, "parentHash": 32, "timestamp": int}
L2_REF = {**L1_REF, "l1origin": {"hash": 32, "number": int}, "sequenceNumber": int}
# op-service/eth: SyncStatus and OutputResponse; a number stands for so many bytes of hex.
SYNC_STATUS = {
    **dict.fromkeys(("current_l1", "current_l1_finalized", "head_l1", "safe_l1", "finalized_l1"), L1_REF),
    **dict.fromkeys(
        ("unsafe_l2", "safe_l2", "finalized_l2", "pending_safe_l2", "cross_unsafe_l2", "local_safe_l2"), L2_REF
    ),
}
OUTPUT = {
    "version": 32,
    "outputRoot": 32,
    "blockRef": L2_REF,
    "withdrawalStorageRoot": 32,
    "stateRoot": 32,
    "syncStatus": SYNC_STATUS,
}
# op-node/rollup: Config, which is read with unknown fields refused.
ROLLUP_CONFIG = {
    "genesis": {
        "l1": {"hash": 32, "number": int},
        "l2": {"hash": 32, "number": int},
        "l2_time": int,
        "system_config": {
            "batcherAddr": 20,
            "overhead": 32,
            "scalar": 32,
            "gasLimit": int,
            "eip1559Params": 8,
            "operatorFeeParams": 32,
        },
    },
    **dict.fromkeys(("block_time", "max_sequencer_drift", "seq_window_size", "channel_timeout"), int),
    **dict.fromkeys(("l1_chain_id", "l2_chain_id"), int),
    **{
        f"{fork}_time": int
        for fork in ("regolith", "canyon", "delta", "ecotone", "fjord", "granite", "holocene", "isthmus")
    },
    **dict.fromkeys(("batch_inbox_address", "deposit_contract_address"), 20),
    **dict.fromkeys(("l1_system_config_address", "protocol_versions_address"), 20),
    "chain_op_config": {"eip1559Elasticity": int, "eip1559Denominator": int, "eip1559DenominatorCanyon": int},
    "alt_da": {
        "da_challenge_contract_address": 20,
        "da_commitment_type": str,
        "da_challenge_window": int,
        "da_resolve_window": int,
    },
}


def misfits(value: Any, form: Any, path: str = "", *, more: bool = False) -> list[str]:
    """Where a document does not have the form; `more` allows fields that Go's decoder passes over."""
    if isinstance(form, Mapping):
        if not isinstance(value, Mapping):
            return [path]
        found = [f"{path}.{name} is missing" for name in form if name not in value]
        if not more:
            found += [f"{path}.{name} is unknown" for name in value if name not in form]
        for name in form:
            if name in value:
                found += misfits(value[name], form[name], f"{path}.{name}", more=more)
        return found
    if isinstance(form, int):
        is_hex = isinstance(value, str) and value.startswith("0x") and len(value) == 2 + 2 * form
        return [] if is_hex and bytes.fromhex(value[2:]) is not None else [f"{path} = {value!r}"]
    return [] if type(value) is form else [f"{path} = {value!r}"]


def check(config: Mapping[str, Any]) -> list[str]:
    """What makes op-node refuse a rollup config beyond its form (Check, GetOPAltDAConfig)."""
    genesis, alt_da = config["genesis"], config["alt_da"]
    system = genesis["system_config"]
    zero = {name: "0x" + "00" * size for name, size in (("hash", 32), ("address", 20))}
    forks = [value for name, value in config.items() if name.endswith("_time") and name != "block_time"]
    wrong = {
        "block time": config["block_time"] == 0,
        "channel timeout": config["channel_timeout"] == 0,
        "sequencing window": config["seq_window_size"] < 2,
        "drift": config["max_sequencer_drift"] == 0,
        "genesis hashes": len({genesis["l1"]["hash"], genesis["l2"]["hash"], zero["hash"]}) != 3,
        "genesis time": genesis["l2_time"] == 0,
        "batcher": system["batcherAddr"] == zero["address"],
        "scalar": system["scalar"] == zero["hash"],
        "scalar's version and padding": not system["scalar"].startswith("0x01" + "00" * 23),
        "gas limit": system["gasLimit"] == 0,
        "inbox": config["batch_inbox_address"] == zero["address"],
        "portal": config["deposit_contract_address"] == zero["address"],
        "chain ids": config["l1_chain_id"] == config["l2_chain_id"]
        or min(config["l1_chain_id"], config["l2_chain_id"]) < 1,
        "forks in order": forks != sorted(forks),
        "commitments": alt_da["da_commitment_type"] not in ("GenericCommitment", "KeccakCommitment"),
        "challenges of generic commitments": alt_da["da_challenge_contract_address"] != zero["address"],
        "windows": 0 in (alt_da["da_challenge_window"], alt_da["da_resolve_window"]),
    }
    return [name for name, is_wrong in wrong.items() if is_wrong]


class Asked:
    """The optimism namespace of the sequencer's node."""

    def __init__(self, network: Any) -> None:
        self._dispatcher = Dispatcher()
        p2p: Any = None  # only opp2p asks it
        self._dispatcher.register(OptimismRpc(network.node.engine, network.node.driver, p2p))

    async def answer(self, method: str, *params: Any) -> Any:
        body = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        return orjson.loads(await self._dispatcher.handle(body, Caller()) or b"")

    async def __call__(self, method: str, *params: Any) -> Any:
        return (await self.answer(method, *params))["result"]


@pytest.fixture
async def asked(network: Any) -> Asked:
    """After a few blocks, of which some are safe and some finalized."""
    for _ in range(4):
        await network.advance(12)
        await network.post()
        await network.node.driver.derive_to_tip()
    await network.advance(4)
    return Asked(network)


async def test_the_status_has_the_heads_that_a_batcher_and_a_proposer_go_by(network: Any, asked: Asked) -> None:
    status = await asked("optimism_syncStatus")
    assert misfits(status, SYNC_STATUS, more=True) == []
    chain, l1 = network.node.chain, network.l1.chain
    for name, label in (("unsafe_l2", "unsafe"), ("safe_l2", "safe"), ("finalized_l2", "finalized")):
        header = chain.head(label)
        assert status[name]["hash"] == "0x" + header.hash.hex(), name
        assert status[name]["number"] == header.number
        origin = network.node.engine.ref(header).l1_origin
        assert status[name]["l1origin"] == {"hash": "0x" + origin.hash.hex(), "number": origin.number}
    assert 0 < status["finalized_l2"]["number"] < status["safe_l2"]["number"] < status["unsafe_l2"]["number"]
    assert status["local_safe_l2"] == status["pending_safe_l2"] == status["safe_l2"]
    # op-batcher refuses a status whose head_l1 is empty; op-proposer puts current_l1 into its transaction.
    for name in ("head_l1", "current_l1"):
        header = l1.header_by_number(status[name]["number"])
        assert status[name]["hash"] == "0x" + header.hash.hex()
        assert status[name]["timestamp"] == header.timestamp


async def test_an_output_is_of_the_block_asked_for_and_its_root_follows_from_it(network: Any, asked: Asked) -> None:
    chain = network.node.chain
    for number in (0, chain.head("finalized").number, chain.head().number):
        output = await asked("optimism_outputAtBlock", hex(number))
        assert misfits(output, OUTPUT, more=True) == []
        header = chain.header_by_number(number)
        assert (output["blockRef"]["number"], output["blockRef"]["hash"]) == (number, "0x" + header.hash.hex())
        assert output["version"] == "0x" + "00" * 32
        proof = chain.state(header.hash).account_proof(L2_TO_L1_MESSAGE_PASSER, ())
        assert output["withdrawalStorageRoot"] == "0x" + proof.storage_root.hex()
        parts = (output["version"], output["stateRoot"], output["withdrawalStorageRoot"], output["blockRef"]["hash"])
        assert output["outputRoot"] == "0x" + keccak256(b"".join(bytes.fromhex(part[2:]) for part in parts)).hex()
    assert "not known" in (await asked.answer("optimism_outputAtBlock", "0xffff"))["error"]["message"]


async def test_the_rollup_config_is_one_that_op_node_takes(network: Any, asked: Asked) -> None:
    config = await asked("optimism_rollupConfig")
    assert misfits(config, ROLLUP_CONFIG) == []
    assert check(config) == []
    assert RollupConfig.from_json(config) == network.config
    assert (await asked("optimism_version")).startswith("openledger-")
    not_kept = (await asked.answer("optimism_safeHeadAtL1Block", "0x1"))["error"]
    assert not_kept["message"] == "safe head database not enabled"


def test_the_checks_of_this_test_find_what_op_node_refuses() -> None:
    config = RollupConfig.from_genesis(NetworkDescription.from_json('{"preset": "devnet", "timestamp": 5}').preset, b"\1" * 32, b"\2" * 32, 5)  # fmt: skip
    document = config.to_json()
    assert check(document) == misfits(document, ROLLUP_CONFIG) == []
    document["alt_da"]["da_challenge_window"] = 0
    assert check(document) == ["windows"]
    assert misfits(document | {"extra": 1, "block_time": "2"}, ROLLUP_CONFIG) == [
        ".extra is unknown",
        ".block_time = '2'",
    ]


def test_the_files_that_an_independent_node_needs_are_printed(tmp_path: Path) -> None:
    (tmp_path / "network.json").write_text('{"preset": "devnet", "timestamp": 1700000000}')
    flags = ["--network-file", str(tmp_path / "network.json")]
    config, genesis = (
        json.loads(CliRunner().invoke(app, ["rollup", name, *flags]).stdout) for name in ("config", "genesis")
    )
    assert misfits(config, ROLLUP_CONFIG) == check(config) == []
    assert config["genesis"]["l2_time"] == int(genesis["timestamp"], 16) == 1_700_000_000
    assert config["l2_chain_id"] == genesis["config"]["chainId"]
    assert genesis["config"]["isthmusTime"] == 0
    missing = CliRunner().invoke(app, ["rollup", "config", "--data-dir", str(tmp_path / "nothing")])
    assert isinstance(missing.exception, StartupError)
    nobody = CliRunner().invoke(app, ["rollup", "config", "--rpc", "http://127.0.0.1:1"])
    assert isinstance(nobody.exception, UserError)
    assert "optimism_rollupConfig" in str(nobody.exception)
