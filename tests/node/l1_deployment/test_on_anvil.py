"""A rollup on an L1 that we did not write: deployed to anvil, sequenced, batched, and paid into, as its operator would."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from openledger.evm_ext.transactions import sign_transaction
from openledger.genesis.dev_accounts import DEV_ACCOUNTS, PROPOSER
from openledger.genesis.hashing import keccak256
from openledger.genesis.parameters import OPEN_WEI
from openledger.rollup.l1.output_oracle import OutputOracle

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(1200)]

ANVIL = Path(__file__).parents[2] / "clients/node_modules/.bin/anvil"
RECEIVER = b"\x77" * 20
L1_BEHIND_S = 90
"""anvil's clock is set back, so that blocks made as fast as transactions come still lie in the past."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rpc(url: str, method: str, *params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = httpx.post(url, json=body, timeout=120, trust_env=False).json()
    assert "error" not in answer, answer
    return answer["result"]


@dataclass
class Operator:
    """Processes in a folder, each with its log."""

    folder: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str, *command: str) -> None:
        with open(self.folder / f"{name}.log", "ab") as log:
            self.running.append(subprocess.Popen(command, stdout=log, stderr=log))

    def openledger(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "openledger.node.cli.main", *arguments]

    def run(self, *arguments: str) -> str:
        done = subprocess.run(self.openledger(*arguments), capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stdout + done.stderr + self.logs()
        return done.stdout

    def wait_for(self, condition: Callable[[], object], what: str, timeout_s: float = 240) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                if condition():
                    return
            except (httpx.HTTPError, ValueError):
                pass
            assert time.monotonic() < deadline, f"waited for {what}:\n{self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text()[-1500:]}" for log in self.folder.glob("*.log"))

    def stop(self) -> None:
        for process in reversed(self.running):
            process.send_signal(signal.SIGINT)
        for process in self.running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    if not ANVIL.exists() or shutil.which("node") is None:
        pytest.skip("anvil is not installed: run `npm ci` in tests/clients")
    started = Operator(tmp_path)
    yield started
    started.stop()


def test_a_chain_deployed_to_anvil_is_sequenced_posted_and_paid_into(operator: Operator, free_offset: int) -> None:
    port = free_port()
    l1, da, network = f"http://127.0.0.1:{port}", free_port(), operator.folder / "network.json"
    behind = str(int(time.time()) - L1_BEHIND_S)
    operator.start("anvil", str(ANVIL), "--port", str(port), "--hardfork", "prague", "--timestamp", behind, "--silent")
    operator.start("da", *operator.openledger("da", "--port", str(da), "--data-dir", str(operator.folder / "da")))
    operator.wait_for(lambda: rpc(l1, "eth_chainId"), "anvil")
    said = operator.run("l1", "deploy", "--l1-rpc-url", l1, "--account", "9", "--out", str(network))
    assert "checks of code, links, roles, locked OPEN and initialisers are good" in said
    contracts = json.loads(network.read_text())["l1"]["contracts"]
    rpc(l1, "evm_setIntervalMining", 1)
    operator.start(
        "sequencer",
        *operator.openledger("node", "--role", "sequencer", "--no-serving", "--network-file", str(network)),
        *("--data-dir", str(operator.folder / "data"), "--port-offset", str(free_offset)),
        *("--l1-rpc-url", l1, "--da-url", f"http://127.0.0.1:{da}"),
    )
    l2 = f"http://127.0.0.1:{8545 + free_offset}"
    operator.wait_for(lambda: int(rpc(l2, "eth_blockNumber"), 16) > 0, "the first L2 block")

    def locked() -> int:
        data = keccak256(b"balanceOf(address)")[:4].hex() + "00" * 12 + contracts["portal"][2:]
        return int(rpc(l1, "eth_call", {"to": contracts["open_token"], "data": "0x" + data}, "latest"), 16)

    supply = sum(int(rpc(l2, "eth_getBalance", "0x" + account.address.hex(), "0x0"), 16) for account in DEV_ACCOUNTS)
    assert locked() == supply == 10_000_000 * OPEN_WEI

    places = ("--rpc", l2, "--l1-rpc-url", l1, "--network-file", str(network))
    told = operator.run("bridge", "deposit", "5", "--account", "9", "--to", "0x" + RECEIVER.hex(), *places)
    assert "has it since L2 block" in told
    arrived = int(told.split("has it since L2 block")[1])
    assert int(rpc(l2, "eth_getBalance", "0x" + RECEIVER.hex(), "latest"), 16) == 5 * OPEN_WEI
    assert locked() == supply + 5 * OPEN_WEI

    # The batcher's posts lie on anvil, and what is derived from them is the block with the deposit.
    def safe() -> bool:
        return int(rpc(l2, "eth_getBlockByNumber", "safe", False)["number"], 16) >= arrived

    before = rpc(l2, "eth_getBlockByNumber", hex(arrived), False)["hash"]
    operator.wait_for(safe, "the deposit's block to be safe")
    assert rpc(l2, "eth_getBlockByNumber", hex(arrived), False)["hash"] == before
    wrong_output(operator, l1, l2, contracts["output_oracle"], places)


def wrong_output(operator: Operator, l1: str, l2: str, oracle: str, places: tuple[str, ...]) -> None:
    """The proposer's key puts a wrong root on anvil: the running node challenges it and, as the decider, deletes it."""
    assert "2000 OPEN added" in operator.run("bridge", "bond", "deposit", "2000", "--account", "7", *places)

    def asked(signature: str) -> int:
        call = {"to": oracle, "data": "0x" + keccak256(signature.encode())[:4].hex()}
        return int(rpc(l1, "eth_call", call, "latest"), 16)

    def number(url: str, label: str, field: str) -> int:
        return int(rpc(url, "eth_getBlockByNumber", label, False)[field], 16)

    def proposed() -> bool:
        due = asked("nextBlockNumber()")
        behind = int(time.time()) - number(l1, "latest", "timestamp")
        if behind > 10:
            rpc(l1, "evm_increaseTime", behind - 5)
        if number(l2, "safe", "number") < due:
            return False
        sender = "0x" + PROPOSER.address.hex()
        nonce = int(rpc(l1, "eth_getTransactionCount", sender, "latest"), 16)
        transaction = sign_transaction(
            PROPOSER.private_key,
            chain_id=31337,
            nonce=nonce,
            gas=400_000,
            to=bytes.fromhex(oracle[2:]),
            data=OutputOracle.propose(b"\x66" * 32, due, bytes(32), 0),
            max_fee_per_gas=10**11,
            max_priority_fee_per_gas=10**9,
        )
        # The node's proposer has the same key: whose transaction takes the nonce, and whose the block, is open.
        body = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": ["0x" + transaction.raw.hex()]}
        httpx.post(l1, json=body, timeout=120, trust_env=False)
        operator.wait_for(lambda: int(rpc(l1, "eth_getTransactionCount", sender, "latest"), 16) > nonce, "the nonce")
        receipt = rpc(l1, "eth_getTransactionReceipt", "0x" + transaction.hash.hex())
        return bool(receipt and receipt["status"] == "0x1")

    operator.wait_for(proposed, "a wrong output on L1", timeout_s=240)
    operator.wait_for(lambda: asked("forfeited()") == 500 * OPEN_WEI, "the wrong output to be judged", timeout_s=120)
    assert "locked behind outputs and challenges: 0 OPEN" in operator.run(
        "bridge", "bond", "status", "--account", "9", *places
    )
    assert "1000 OPEN paid" in operator.run("bridge", "bond", "withdraw", "--account", "9", *places)
    operator.run("bridge", "output", "list", *places)


@pytest.fixture
def free_offset() -> int:
    """At which the ports of a node are free now."""
    while True:
        offset = int.from_bytes(os.urandom(2), "big") % 20_000 + 100
        try:
            for port in (8545, 8080, 7300, 9222):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        return offset
