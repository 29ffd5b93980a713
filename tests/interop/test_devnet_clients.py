"""cast, ethers, viem and web3.py against `openledger dev` as users run it: the L2, and what they need of the L1."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from web3 import Web3

from openledger.genesis.dev_accounts import USERS
from openledger.genesis.predeploys import L1_OPEN_TOKEN, L1_PORTAL
from openledger.genesis.presets import DEVNET

pytestmark = [pytest.mark.interop, pytest.mark.slow]

Cast = Callable[..., str]
# Every client has an account of its own, so that their nonces do not meet.
ETHERS, VIEM, CAST, WEB3 = USERS[0], USERS[1], USERS[2], USERS[3]


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


def artifact(clients: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((clients / "contracts/Counter.json").read_text())
    return found


@pytest.fixture(scope="module")
def cast(clients: Path) -> Cast:
    def run(url: str, command: str, *arguments: str) -> str:
        line = [str(clients / "node_modules/.bin/cast"), command, "--rpc-url", url, *arguments]
        done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
        # The npm wrapper does not hand on cast's exit status: what tells a failure is its message.
        assert done.returncode == 0, done.stdout + done.stderr
        assert not done.stderr.startswith("Error"), done.stderr
        return done.stdout.strip()

    return run


@pytest.mark.parametrize(("script", "account"), [("ethers.mjs", ETHERS), ("viem.mjs", VIEM)])
def test_a_library_s_script_runs_through_on_the_l2(
    clients: Path, running_devnet: Any, script: str, account: Any
) -> None:
    http = running_devnet.endpoints.rpc
    arguments = [http, http.replace("http", "ws", 1), hexed(account.private_key), str(DEVNET.l2_chain_id)]
    done = subprocess.run(
        ["node", script, *arguments], cwd=clients, capture_output=True, text=True, timeout=180, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stderr


def test_cast_sends_deploys_calls_and_reads_on_the_l2(cast: Cast, clients: Path, running_devnet: Any) -> None:
    url = running_devnet.endpoints.rpc
    key = ("--private-key", hexed(CAST.private_key), "--json")
    assert cast(url, "chain-id") == str(DEVNET.l2_chain_id)
    stranger = "0x" + "ab" * 20
    sent = json.loads(cast(url, "send", *key, stranger, "--value", "1234wei"))
    assert sent["status"] == "0x1"
    assert cast(url, "balance", stranger) == "1234"
    # What a rollup's receipt has beside Ethereum's: the fee for L1.
    assert int(json.loads(cast(url, "receipt", sent["transactionHash"], "--json"))["l1Fee"], 16) > 0

    deployed = json.loads(cast(url, "send", *key, "--create", artifact(clients)["bytecode"] + f"{7:064x}"))
    counter = deployed["contractAddress"]
    increased = json.loads(cast(url, "send", *key, counter, "increase(uint256,string)", "5", "five"))
    assert cast(url, "call", counter, "number()(uint256)") == "12"
    logs = json.loads(cast(url, "logs", "--address", counter, "--from-block", deployed["blockNumber"], "--json"))
    assert [log["transactionHash"] for log in logs] == [increased["transactionHash"]]
    assert int(cast(url, "storage", counter, "0"), 16) == 12


def test_web3_sends_deploys_and_calls_on_the_l2(clients: Path, running_devnet: Any) -> None:
    w3 = Web3(Web3.HTTPProvider(running_devnet.endpoints.rpc))
    account = Account.from_key(WEB3.private_key)
    assert w3.eth.chain_id == DEVNET.l2_chain_id
    built = artifact(clients)
    factory = w3.eth.contract(abi=built["abi"], bytecode=built["bytecode"])

    def send(call: Any) -> Any:
        filled = call.build_transaction(
            {
                "from": account.address,
                "nonce": w3.eth.get_transaction_count(account.address, "pending"),
                "chainId": w3.eth.chain_id,
                "maxFeePerGas": 2 * w3.eth.gas_price,
                "maxPriorityFeePerGas": w3.eth.max_priority_fee,
            }
        )
        digest = w3.eth.send_raw_transaction(account.sign_transaction(filled).raw_transaction)
        return w3.eth.wait_for_transaction_receipt(digest, timeout=180)

    deployed = send(factory.constructor(7))
    counter = w3.eth.contract(deployed["contractAddress"], abi=built["abi"])
    receipt = send(counter.functions.increase(5, "five"))
    assert receipt["status"] == 1
    assert counter.functions.number().call() == 12
    assert [event["args"]["note"] for event in counter.events.Increased().process_receipt(receipt)] == ["five"]


def test_cast_sends_and_deposits_on_the_embedded_l1(cast: Cast, running_devnet: Any) -> None:
    l1, l2 = running_devnet.endpoints.l1_rpc, running_devnet.endpoints.rpc
    key = ("--private-key", hexed(CAST.private_key), "--json")
    assert cast(l1, "chain-id") == str(DEVNET.l1_chain_id)
    stranger = "0x" + "cd" * 20
    assert json.loads(cast(l1, "send", *key, stranger, "--value", "1wei"))["status"] == "0x1"
    assert cast(l1, "balance", stranger) == "1"

    # OPEN locked on L1 appears on L2.
    portal, amount = hexed(L1_PORTAL), 10**18
    json.loads(cast(l1, "send", *key, hexed(L1_OPEN_TOKEN), "approve(address,uint256)", portal, str(amount)))
    deposit = "depositERC20Transaction(address,uint256,uint256,uint64,bool,bytes)"
    sent = json.loads(
        cast(l1, "send", *key, portal, deposit, stranger, str(amount), str(amount), "100000", "false", "0x")
    )
    assert sent["status"] == "0x1", sent
    running_devnet.wait_for(lambda: cast(l2, "balance", stranger) == str(amount), 300, "the deposit on the L2")


def test_ethers_reads_and_sends_on_the_embedded_l1(clients: Path, running_devnet: Any) -> None:
    script = """
        import { JsonRpcProvider, Wallet } from 'ethers'
        const [url, key] = process.argv.slice(1)
        const provider = new JsonRpcProvider(url, undefined, { pollingInterval: 200 })
        const wallet = new Wallet(key, provider)
        const receipt = await (await wallet.sendTransaction({ to: wallet.address, value: 1n })).wait()
        const block = await provider.getBlock(receipt.blockNumber)
        console.log(JSON.stringify([(await provider.getNetwork()).chainId.toString(), receipt.status, block.hash === receipt.blockHash]))
        process.exit(0)
    """
    line = ["node", "--input-type=module", "-e", script, running_devnet.endpoints.l1_rpc, hexed(ETHERS.private_key)]
    done = subprocess.run(line, cwd=clients, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [str(DEVNET.l1_chain_id), 1, True]
