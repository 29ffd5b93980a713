"""Servers as a client sees them: ours and anvil, started here, and plain HTTP to them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpc_parts.chain import CHAIN_ID, genesis, logged_blocks

ANVIL = Path(__file__).parents[2] / "tests/clients/node_modules/@foundry-rs"
SCRIPT = Path(__file__).parents[1] / "rpc.py"


@dataclass
class Server:
    """A running one. `process_id` is the process whose CPU and memory count."""

    name: str
    port: int
    process: subprocess.Popen[str]

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_kib(self) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@contextmanager
def ours(full_blocks: int = 0, switch_interval_s: float | None = None) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        line = [sys.executable, str(SCRIPT), "--serve", folder, str(full_blocks)]
        if switch_interval_s is not None:
            line += ["--switch-interval", str(switch_interval_s)]
        with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                yield Server("ours", int(process.stdout.readline()), process)
            finally:
                process.kill()


@contextmanager
def anvil() -> Iterator[Server]:
    """anvil with the same genesis and the same small blocks."""
    binary = next(ANVIL.glob("anvil-*/bin/anvil"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "genesis.json"
        path.write_text(json.dumps(genesis().to_json()))
        line = [str(binary), "--port", "0", "--init", str(path), "--hardfork", "prague", "--no-mining"]
        line += ["--gas-limit", "60000000", "--chain-id", str(CHAIN_ID)]
        with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            try:
                port = next(int(item.rpartition(":")[2]) for item in process.stdout if "Listening on" in item)
                threading.Thread(target=process.stdout.read, daemon=True).start()
                server = Server("anvil", port, process)
                for raw in logged_blocks():
                    for item in raw:
                        ask(server, "eth_sendRawTransaction", "0x" + item.hex())
                    ask(server, "evm_mine")
                yield server
            finally:
                process.kill()


def http(server: Server, body: bytes) -> bytes:
    return (
        b"POST / HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nuser-agent: benchmark\r\naccept: */*\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (server.port, len(body), body)
    )


def connected(server: Server) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", server.port))
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def read_answer(opened: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += received(opened)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while len(body) < lengths[0]:
        body += received(opened)
    return body


def received(opened: socket.socket) -> bytes:
    data = opened.recv(1 << 20)
    if not data:
        raise ConnectionError("the server closed the connection")
    return data


def call(method: str, *params: object, identifier: int = 1) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": params}


def ask(server: Server, method: str, *params: object) -> Any:
    with connected(server) as opened:
        opened.sendall(http(server, json.dumps(call(method, *params)).encode()))
        answer = json.loads(read_answer(opened))
    assert "error" not in answer, (server.name, method, answer)
    return answer["result"]
