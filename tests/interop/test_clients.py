"""cast, ethers and viem, unmodified: connect, send, deploy, call, read events, decode every failure, subscribe."""

import json
import subprocess

import pytest

from openledger.genesis.dev_accounts import DEV_ACCOUNTS
from openledger.genesis.presets import DEVNET

pytestmark = pytest.mark.interop
ALICE, BOB, CAROL = DEV_ACCOUNTS[0], DEV_ACCOUNTS[1], DEV_ACCOUNTS[2]


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


@pytest.mark.parametrize(("script", "account"), [("ethers.mjs", ALICE), ("viem.mjs", BOB)])
def test_a_script_of_a_library_runs_through(clients, node, script, account):
    arguments = [node.url, node.websocket_url, hexed(account.private_key), str(DEVNET.l2_chain_id)]
    done = subprocess.run(["node", script, *arguments], cwd=clients, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stderr


@pytest.fixture
def cast(clients, node):
    def run(command: str, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            [str(clients / "node_modules/.bin/cast"), command, "--rpc-url", node.url, *arguments],
            capture_output=True,
            text=True,
            timeout=180,
        )
        # The npm wrapper does not hand on cast's exit status: what tells a failure is its message.
        failed = done.returncode != 0 or done.stderr.startswith("Error")
        assert failed is not check, done.stdout + done.stderr
        return done.stdout.strip() if check else done.stderr

    return run


def test_cast_sends_deploys_calls_and_reads_logs(cast, clients):
    key = ("--private-key", hexed(CAROL.private_key), "--json")
    assert cast("chain-id") == str(DEVNET.l2_chain_id)
    stranger = "0x" + "ab" * 20
    sent = json.loads(cast("send", *key, stranger, "--value", "1234wei"))
    assert sent["status"] == "0x1"
    assert cast("balance", stranger) == "1234"
    assert json.loads(cast("receipt", sent["transactionHash"], "--json"))["blockHash"] == sent["blockHash"]

    artifact = json.loads((clients / "contracts/Counter.json").read_text())
    constructor_argument = f"{7:064x}"
    deployed = json.loads(cast("send", *key, "--create", artifact["bytecode"] + constructor_argument))
    counter = deployed["contractAddress"]
    assert cast("call", counter, "number()(uint256)") == "7"
    increased = json.loads(cast("send", *key, counter, "increase(uint256,string)", "5", "five"))
    assert cast("call", counter, "number()(uint256)") == "12"
    logs = json.loads(cast("logs", "--address", counter, "--from-block", deployed["blockNumber"], "--json"))
    assert [log["transactionHash"] for log in logs] == [increased["transactionHash"]]
    assert int(cast("storage", counter, "0"), 16) == 12
    assert cast("nonce", hexed(CAROL.address)) == "3"
    assert json.loads(cast("proof", counter, "0x0", "--json"))["storageProof"][0]["value"] == "0xc"


def test_cast_shows_why_a_call_or_a_transaction_fails(cast, clients, node):
    key = ("--private-key", hexed(CAROL.private_key))
    artifact = json.loads((clients / "contracts/Counter.json").read_text())
    deployed = json.loads(cast("send", *key, "--json", "--create", artifact["bytecode"] + f"{7:064x}"))
    counter = deployed["contractAddress"]
    refused = cast("call", counter, "increase(uint256,string)(uint256)", "0", "", check=False)
    assert "execution reverted: nothing to add" in refused
    refused = cast("send", *key, counter, "increase(uint256,string)", "0", "", check=False)
    assert "nothing to add" in refused
    refused = cast("send", "--private-key", "0x" + "11" * 32, counter, "--value", "1wei", check=False)
    assert "insufficient funds" in refused.lower()
    assert "nonce too low" in cast("send", *key, counter, "--nonce", "0", "--gas-limit", "30000", check=False)
