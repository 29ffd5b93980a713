"""The daemon as a user meets it: it starts, says what is wrong, heals, stops, and loses nothing to kill -9."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account

from openledger.genesis.dev_accounts import USERS

pytestmark = pytest.mark.slow


def send(devnet: Any, nonce: int, url: str | None = None) -> str:
    signed = Account.sign_transaction(
        {
            "type": 2,
            "chainId": 161_299,
            "nonce": nonce,
            "to": USERS[1].address,
            "value": 1 + nonce,
            "gas": 21_000,
            "maxFeePerGas": 10**10,
            "maxPriorityFeePerGas": 10**6,
        },
        USERS[0].private_key,
    )
    return str(devnet.rpc("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex(), url=url))


def test_a_devnet_starts_takes_a_transaction_and_both_nodes_have_it(devnet_without_serving: Any) -> None:
    devnet = devnet_without_serving
    devnet.start()
    devnet.wait_until_ready()
    # Sent to the second node, which hands it to the sequencer.
    sent = send(devnet, 0, url=devnet.second.rpc)
    devnet.wait_for(lambda: devnet.rpc("eth_getTransactionReceipt", sent), 240, "the transaction")
    receipt = devnet.rpc("eth_getTransactionReceipt", sent)
    assert receipt["status"] == "0x1"
    devnet.wait_for(
        lambda: devnet.rpc("eth_getTransactionReceipt", sent, url=devnet.second.rpc), 240, "the second node to have it"
    )

    def safe_on_second() -> bool:
        head = devnet.rpc("eth_getBlockByNumber", "safe", False, url=devnet.second.rpc)
        return int(head["number"], 16) >= int(receipt["blockNumber"], 16)

    devnet.wait_for(safe_on_second, 240, "the second node to derive the block")
    theirs = devnet.rpc("eth_getBlockByNumber", receipt["blockNumber"], False, url=devnet.second.rpc)
    assert theirs["hash"] == receipt["blockHash"]

    verified = devnet.run("verify", "blocks", "1", str(int(receipt["blockNumber"], 16)), "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    verdicts = [json.loads(line) for line in verified.stdout.splitlines()]
    assert verdicts[-1] == {"block": int(receipt["blockNumber"], 16), "verdict": "good", "detail": receipt["blockHash"]}

    health = devnet.run("health")
    assert health.returncode == 0
    assert "sequencer" in health.stdout
    assert devnet.stop() == 0


def test_kill_9_of_everything_loses_no_acknowledged_transaction(devnet_without_serving: Any) -> None:
    devnet = devnet_without_serving
    devnet.flags = ("--no-serving", "--no-validator")
    devnet.start()
    devnet.wait_until_ready()
    sent = [send(devnet, nonce) for nonce in range(20)]
    devnet.kill()
    devnet.start()
    devnet.wait_until_ready()
    devnet.wait_for(
        lambda: all(devnet.rpc("eth_getTransactionReceipt", digest) for digest in sent), 40, "all twenty transactions"
    )
    assert {devnet.rpc("eth_getTransactionReceipt", digest)["status"] for digest in sent} == {"0x1"}


def test_children_do_not_outlive_a_killed_parent(devnet_without_serving: Any) -> None:
    devnet = devnet_without_serving
    devnet.start()
    devnet.wait_until_ready()
    os.kill(devnet.process.pid, signal.SIGKILL)
    devnet.process.wait()
    deadline = time.monotonic() + 120
    group = devnet.process.pid
    while time.monotonic() < deadline:
        left = subprocess.run(["ps", "-o", "pid=,args=", "-g", str(group)], capture_output=True, text=True).stdout
        if not [line for line in left.splitlines() if "openledger" in line]:
            break
        time.sleep(0.5)
    else:
        pytest.fail(f"still running:\n{left}")
    devnet.start()
    devnet.wait_until_ready()
    assert devnet.stop() == 0


def test_a_port_in_use_is_named_and_nothing_is_left_running(devnet_without_serving: Any) -> None:
    devnet = devnet_without_serving
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 8545 + devnet.offset))
        taken.listen()
        devnet.start()
        assert devnet.process.wait(60) == 2
    assert f"port {8545 + devnet.offset} is in use" in devnet.log
    assert "Traceback" not in devnet.log


def test_a_second_node_that_cannot_start_says_why_in_health(devnet_without_serving: Any) -> None:
    devnet = devnet_without_serving
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 8555 + devnet.offset))
        taken.listen()
        devnet.start()
        reason = f"port {8555 + devnet.offset} is in use"
        devnet.wait_for(lambda: reason in devnet.health()[1].get("validator", ""), 240, "health to name the port")
    devnet.wait_until_ready()
    assert "Traceback" not in devnet.log


def test_a_folder_that_is_open_in_another_node_is_refused(devnet_without_serving: Any) -> None:
    devnet = devnet_without_serving
    devnet.flags = ("--no-serving", "--no-validator")
    devnet.start()
    devnet.wait_until_ready()
    second = devnet.run("dev", "--data-dir", str(devnet.folder / "data"), "--no-serving", "--port-offset", "20100")
    assert second.returncode == 2
    assert "Traceback" not in second.stderr
    assert "another process" in second.stderr
    assert devnet.health()[0] == 200


def test_connections_cannot_take_the_files_of_the_databases(devnet_without_serving: Any) -> None:
    devnet = devnet_without_serving
    devnet.flags = ("--no-serving", "--no-validator")
    devnet.start(open_files=512)
    devnet.wait_until_ready()
    open_ones = [socket.create_connection(("127.0.0.1", 8545 + devnet.offset)) for _ in range(300)]
    try:
        before = int(devnet.rpc("eth_blockNumber", url=devnet.endpoints.l1_rpc), 16)
        devnet.wait_for(
            lambda: int(devnet.rpc("eth_blockNumber", url=devnet.endpoints.l1_rpc), 16) > before + 1, 240, "L1 to go on"
        )
        assert devnet.health()[0] == 200
        assert open_ones[-1].recv(1000).startswith(b"HTTP/1.1 503")
    finally:
        for one in open_ones:
            one.close()
    devnet.wait_for(lambda: devnet.rpc("eth_chainId") == hex(161_299), 240, "an answer")
    assert "Too many open files" not in devnet.log


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("node",), "say which part to run"),
        (("node", "--role", "validator", "--da-url", "http://127.0.0.1:1"), "l1_rpc_url"),
        (("node", "--role", "validator", "--l1-rpc-url", "http://x", "--da-url", "http://y"), "network.json"),
        (("dev", "--port-offset", "60000"), "port_offset"),
        (("account", "nonsense"), "not an address"),
        (("account", "--account", "1", "--port-offset", "41000"), "is the node running"),
    ],
)
def test_a_command_that_cannot_work_says_what_to_do(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    import sys

    done = subprocess.run(
        [sys.executable, "-P", "-m", "openledger.node.cli.main", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENLEDGER_DATA_DIR": str(tmp_path / "empty")},
        timeout=180,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert said in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_a_node_whose_l1_and_da_are_down_starts_says_so_and_heals(devnet_without_serving: Any) -> None:
    devnet = devnet_without_serving
    devnet.flags = ("--no-serving", "--no-validator")
    devnet.start()
    devnet.wait_until_ready()
    devnet.wait_for(lambda: int(devnet.rpc("eth_blockNumber"), 16) > 2, 240, "blocks")
    devnet.stop()

    offset = devnet.offset + 10
    follower = subprocess.Popen(
        devnet.command(
            "node", "--role", "validator", "--no-serving", "--data-dir", str(devnet.folder / "second"),
            "--network-file", str(devnet.folder / "data" / "network.json"), "--port-offset", str(offset),
            "--l1-rpc-url", devnet.endpoints.l1_rpc, "--da-url", devnet.endpoints.da,
        ),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    try:
        url = f"{devnet.second.api}/health"

        def driver() -> str:
            try:
                return str(httpx.get(url, timeout=5, trust_env=False).json()["services"]["driver"])
            except (httpx.HTTPError, ValueError):
                return ""

        devnet.process = None
        devnet.wait_for(lambda: "L1" in driver(), 240, "the follower to say that L1 is down")
        devnet.start()
        devnet.wait_until_ready()
        devnet.wait_for(lambda: driver() == "ready", 240, "the follower to heal")
        devnet.wait_for(
            lambda: int(devnet.rpc("eth_getBlockByNumber", "safe", False, url=devnet.second.rpc)["number"], 16) > 2,
            60,
            "the follower to derive",
        )
    finally:
        os.killpg(follower.pid, signal.SIGKILL)
        follower.wait()
