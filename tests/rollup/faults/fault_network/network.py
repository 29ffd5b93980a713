"""The processes: a development L1, a DA server, a sequencer and a validator that knows nobody but L1 and DA."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from eth_abi import encode as abi_encode

from fault_network.proxy import FaultyProxy
from openledger.evm_ext.transactions import sign_transaction
from openledger.genesis.dev_accounts import DevAccount
from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import L1_OPEN_TOKEN, L1_PORTAL
from openledger.genesis.presets import DEVNET
from openledger.node.network import Network

HERE = Path(__file__).parent
PORTS = range(29_500, 32_700)
"""Below those that the kernel gives to outgoing connections."""
WAIT_S = 240.0
"""How long anything may take on the slowest machine."""

CLIENT = httpx.Client(timeout=60, trust_env=False, verify=False, limits=httpx.Limits(max_keepalive_connections=0))
"""Made once: a client costs more than a request. Connections are not kept, for their other ends are killed."""

PACE = {"l1_block_time_s": 1, "l2_block_time_s": 1}
SETTINGS = {
    "BATCHER__MAX_CHANNEL_DURATION_S": "1",
    "BATCHER__FAILOVER_AFTER_S": "2",
    "BATCHER__FAILBACK_AFTER_S": "2",
    "DA_TIMEOUT_S": "8",
    "L1_TIMEOUT_S": "8",
    "NETWORK": "devnet",
    "SERVING": "false",
}


def free_ports(count: int) -> list[int]:
    """Ports that are free now. Processes that run tests beside each other choose among different ones."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)
        if port % workers == worker and port not in found:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    found.append(port)
    return found


def wait_until(condition: Callable[[], object], what: Callable[[], str] | str, timeout_s: float = WAIT_S) -> None:
    """A node that does not answer has not come so far."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s for {what if isinstance(what, str) else what()}")
        time.sleep(0.2)


@dataclass
class Process:
    """A process that can die and be started again; its log goes on."""

    name: str
    command: list[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    running: subprocess.Popen[bytes] | None = None

    @property
    def log_file(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def start(self) -> None:
        with open(self.log_file, "ab") as log:
            self.running = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **self.environment},
            )

    @property
    def ended(self) -> bool:
        """Whether it was started and is no more."""
        return self.running is not None and self.running.poll() is not None

    def kill(self) -> None:
        """kill -9 of it and its children."""
        assert self.running is not None
        os.killpg(self.running.pid, signal.SIGKILL)
        self.running.wait()

    def tell(self, line: str) -> None:
        assert self.running is not None
        assert self.running.stdin is not None
        self.running.stdin.write(line.encode() + b"\n")
        self.running.stdin.flush()

    def wait_for_log(self, said: str, since: int = 0, timeout_s: float = WAIT_S) -> None:
        """Wait until it has logged something after the first `since` characters of its log."""
        wait_until(
            lambda: said in self.log[since:], lambda: f"{self.name} to say {said!r}:\n{self.log[-4000:]}", timeout_s
        )


@dataclass
class Node(Process):
    """An `openledger node`, with a proxy on its ways to L1 and DA."""

    rpc_port: int = 0
    api_port: int = 0
    l1: FaultyProxy | None = None
    da: FaultyProxy | None = None
    clock_file: Path | None = None

    def rpc(self, method: str, *params: object) -> Any:
        return rpc(f"http://127.0.0.1:{self.rpc_port}", method, *params)

    def health(self) -> dict[str, str]:
        """What each service says; empty while nothing answers."""
        try:
            answer = CLIENT.get(f"http://127.0.0.1:{self.api_port}/health", timeout=5)
            return dict(answer.json()["services"])
        except (httpx.HTTPError, ValueError, KeyError):
            return {}

    def height(self, label: str = "latest") -> int:
        """Of a head; -1 while the node does not answer."""
        try:
            return int(self.rpc("eth_getBlockByNumber", label, False)["number"], 16)
        except httpx.HTTPError:
            return -1

    def hash(self, number: int) -> str:
        return str(self.rpc("eth_getBlockByNumber", hex(number), False)["hash"])

    def wait_for_safe(self, number: int, timeout_s: float = WAIT_S) -> None:
        wait_until(
            lambda: self.height("safe") >= number,
            lambda: (
                f"{self.name} to have {number} safe, it has {self.height('safe')} of {self.height()}: {self.health()}"
                f"\n{self.log[-4000:]}"
            ),
            timeout_s,
        )

    def wait_for_health(self, service: str, said: str) -> None:
        wait_until(
            lambda: said in self.health().get(service, ""),
            lambda: f"{service} of {self.name} to say {said!r}: {self.health()}\n{self.log[-4000:]}",
        )

    def balance(self, address: bytes, label: str = "safe") -> int:
        return int(self.rpc("eth_getBalance", "0x" + address.hex(), label), 16)

    def send(self, account: DevAccount, to: bytes, value: int = 1) -> str:
        """A transfer, acknowledged by the node; its hash."""
        nonce = int(self.rpc("eth_getTransactionCount", "0x" + account.address.hex(), "pending"), 16)
        signed = sign_transaction(
            account.private_key,
            chain_id=DEVNET.l2_chain_id,
            nonce=nonce,
            gas=21_000,
            to=to,
            value=value,
            max_fee_per_gas=10**10,
            max_priority_fee_per_gas=10**6,
        )
        return str(self.rpc("eth_sendRawTransaction", "0x" + signed.raw.hex()))

    def set_clock(self, ahead_s: float) -> None:
        assert self.clock_file is not None
        self.clock_file.write_text(str(ahead_s))


def rpc(url: str, method: str, *params: object) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = CLIENT.post(url, json=body).json()
    assert "error" not in answer, answer
    return answer["result"]


@dataclass
class FaultNetwork:
    """Everything; `nodes` are all that were made."""

    folder: Path
    network_file: Path
    l1_port: int
    da_port: int
    l1: Process
    da: Process
    nodes: dict[str, Node] = field(default_factory=dict)

    @property
    def sequencer(self) -> Node:
        return self.nodes["sequencer"]

    @property
    def validator(self) -> Node:
        return self.nodes["validator"]

    def l1_rpc(self, method: str, *params: object) -> Any:
        return rpc(f"http://127.0.0.1:{self.l1_port}", method, *params)

    def deposit(self, account: DevAccount, to: bytes, amount: int) -> int:
        """Lock OPEN on L1 for somebody on L2; the L1 block that holds it."""
        nonce = int(self.l1_rpc("eth_getTransactionCount", "0x" + account.address.hex(), "pending"), 16)
        approve = keccak256(b"approve(address,uint256)")[:4] + abi_encode(["address", "uint256"], [L1_PORTAL, amount])
        deposit = keccak256(b"depositERC20Transaction(address,uint256,uint256,uint64,bool,bytes)")[:4] + abi_encode(
            ["address", "uint256", "uint256", "uint64", "bool", "bytes"], [to, amount, amount, 100_000, False, b""]
        )
        for index, (contract, data) in enumerate(((L1_OPEN_TOKEN, approve), (L1_PORTAL, deposit))):
            signed = sign_transaction(
                account.private_key,
                chain_id=DEVNET.l1_chain_id,
                nonce=nonce + index,
                gas=1_000_000,
                to=contract,
                data=data,
                max_fee_per_gas=20 * 10**9,
                max_priority_fee_per_gas=10**9,
            )
            sent = self.l1_rpc("eth_sendRawTransaction", "0x" + signed.raw.hex())
        wait_until(lambda: self.l1_rpc("eth_getTransactionReceipt", sent), "the deposit on L1")
        receipt = self.l1_rpc("eth_getTransactionReceipt", sent)
        assert receipt["status"] == "0x1", receipt
        return int(receipt["blockNumber"], 16)

    def mine_to(self, height: int) -> None:
        """No L1 blocks any more but those up to this height, which are made at once."""
        said = len(self.l1.log)
        self.l1.tell("stop")
        self.l1.tell(f"mine {height}")
        self.l1.wait_for_log(f"mined up to {height}", said)

    def l1_height(self) -> int:
        try:
            return int(self.l1_rpc("eth_blockNumber"), 16)
        except httpx.HTTPError:
            return -1

    def node(self, name: str, role: str, **settings: str) -> Node:
        """A node that is not started yet, in a folder of its own."""
        rpc_port, api_port, metrics_port, p2p_port = free_ports(4)
        l1, da = FaultyProxy(self.l1_port), FaultyProxy(self.da_port)
        clock_file = self.folder / f"{name}.clock"
        clock_file.write_text("0")
        command = [sys.executable, "-P", str(HERE / "odd_machine.py"), str(clock_file), "node", "--role", role]
        command += ["--data-dir", str(self.folder / name), "--network-file", str(self.network_file)]
        command += ["--l1-rpc-url", l1.url, "--da-url", da.url]
        ports = {"RPC": rpc_port, "API": api_port, "METRICS": metrics_port, "P2P": p2p_port}
        environment = {**SETTINGS, **{f"PORTS__{port}": str(number) for port, number in ports.items()}, **settings}
        made = Node(
            name,
            command,
            self.folder,
            {f"OPENLEDGER_{key}": value for key, value in environment.items()},
            rpc_port=rpc_port,
            api_port=api_port,
            l1=l1,
            da=da,
            clock_file=clock_file,
        )
        self.nodes[name] = made
        return made

    def included(self, sent: str) -> int:
        """The block of a transaction on the sequencer, once it is in one."""
        found: list[int] = []

        def there() -> bool:
            receipt = self.sequencer.rpc("eth_getTransactionReceipt", sent)
            found.extend([int(receipt["blockNumber"], 16)] if receipt else [])
            return bool(found)

        wait_until(there, lambda: f"the transaction: {self.sequencer.health()}\n{self.sequencer.log[-3000:]}")
        return found[0]

    def agree(self, number: int) -> None:
        """All running nodes have block `number` safe, and it is the same one."""
        running = [node for node in self.nodes.values() if node.running is not None and node.running.poll() is None]
        for node in running:
            node.wait_for_safe(number)
        assert len({node.hash(number) for node in running}) == 1, {node.name: node.hash(number) for node in running}

    def goes_on(self, account: DevAccount, to: bytes) -> None:
        """A transaction sent now becomes safe on every running node."""
        self.agree(self.included(self.sequencer.send(account, to)))

    def close(self) -> None:
        for process in (*self.nodes.values(), self.da, self.l1):
            if process.running is not None and process.running.poll() is None:
                process.kill()
        for node in self.nodes.values():
            for proxy in (node.l1, node.da):
                assert proxy is not None
                proxy.close()


@contextmanager
def open_fault_network(folder: Path, pace: Mapping[str, int] | None = None, **settings: str) -> Iterator[FaultNetwork]:
    """L1, DA server, sequencer and validator, running and ready. `settings` are the sequencer's."""
    # In the past, so that the first blocks come at once.
    network = Network(replace(DEVNET, **{**PACE, **(pace or {})}), int(time.time()) - 5)
    l1_folder = folder / "l1"
    l1_folder.mkdir(parents=True)
    network_file = l1_folder / "network.json"
    network_file.write_text(network.to_json())
    l1_port, da_port = free_ports(2)
    python = [sys.executable, "-P"]
    da_command = ["da", "--port", str(da_port), "--data-dir", str(folder / "da"), "--chunks", "16", "--operators", "4"]
    made = FaultNetwork(
        folder,
        network_file,
        l1_port,
        da_port,
        Process("l1", [*python, str(HERE / "l1_process.py"), str(l1_folder), str(l1_port)], folder),
        Process("da", [*python, "-m", "openledger.node.cli.main", *da_command], folder),
    )
    try:
        made.node("sequencer", "sequencer", **settings)
        made.node("validator", "validator")
        for process in (made.l1, made.da, *made.nodes.values()):
            process.start()
        for node in made.nodes.values():
            wait_until(
                lambda node=node: node.height("safe") > 0 or any(each.ended for each in (made.l1, made.da, node)),
                lambda node=node: f"{node.name} to begin: {node.health()}\n{node.log[-4000:]}",
            )
            for each in (made.l1, made.da, node):
                assert not each.ended, f"{each.name} ended by itself:\n{each.log[-4000:]}"
        yield made
    finally:
        made.close()
