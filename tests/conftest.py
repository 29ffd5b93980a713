"""A devnet in a process of its own, on free ports and in a temporary folder."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from openledger.node.config import VALIDATOR_PORT_STEP, Endpoints, Ports, load_config

START_S = 90.0


def free_port_offset() -> int:
    """An offset at which every port of a devnet and its validator is free now."""
    while True:
        offset = random.randrange(100, 20_000, 2 * VALIDATOR_PORT_STEP)
        try:
            for step in (0, VALIDATOR_PORT_STEP):
                for port in Ports().shifted(offset + step).model_dump().values():
                    with socket.socket() as probe:
                        probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return offset


@dataclass
class Devnet:
    """`openledger dev` as a user runs it."""

    folder: Path
    offset: int
    flags: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints.of(load_config(port_offset=self.offset))

    @property
    def second(self) -> Endpoints:
        """The validator's endpoints."""
        return Endpoints.of(load_config(port_offset=self.offset + VALIDATOR_PORT_STEP))

    @property
    def log(self) -> str:
        return (self.folder / "dev.log").read_text(errors="replace")

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "openledger.node.cli.main", *arguments]

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        line = self.command("dev", "--data-dir", str(self.folder / "data"), "--port-offset", str(self.offset))
        with open(self.folder / "dev.log", "ab") as log:
            self.process = subprocess.Popen([*line, *self.flags], stdout=log, stderr=log, start_new_session=True)

    def health(self) -> tuple[int, dict[str, str]]:
        """Status and services of /health; status 0 while nothing answers."""
        try:
            answer = httpx.get(f"{self.endpoints.api}/health", timeout=5, trust_env=False)
            return answer.status_code, answer.json()["services"]
        except (httpx.HTTPError, ValueError):
            return 0, {}

    def wait_until_ready(self, timeout_s: float = START_S) -> None:
        self.wait_for(lambda: self.health()[0] == 200, timeout_s, "everything to be ready")

    def wait_for(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the devnet ended with {self.process.returncode}:\n{self.log[-3000:]}")
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {timeout_s:.0f} s for {what}: {self.health()}\n{self.log[-3000:]}")
            time.sleep(0.3)

    def rpc(self, method: str, *params: object, url: str | None = None) -> object:
        answer = httpx.post(
            url or self.endpoints.rpc,
            json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
            timeout=10,
            trust_env=False,
        ).json()
        assert "error" not in answer, answer
        return answer["result"]

    def run(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """A client command against this devnet."""
        environment = {
            **os.environ,
            "OPENLEDGER_PORT_OFFSET": str(self.offset),
            "OPENLEDGER_DATA_DIR": str(self.folder / "data"),
        }
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=timeout_s, env=environment, check=False
        )

    def kill(self) -> None:
        """kill -9 of every process of the devnet at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """Ask it to stop, as Ctrl-C does; its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"it did not stop:\n{self.log[-3000:]}") from None
        return self.process.returncode


@pytest.fixture
def devnet_without_serving(tmp_path: Path) -> Iterator[Devnet]:
    """The chain part of a devnet, not started yet: no engine."""
    devnet = Devnet(tmp_path / "devnet", free_port_offset(), ("--no-serving",))
    yield devnet
    if devnet.process is not None and devnet.process.poll() is None:
        devnet.kill()


@pytest.fixture(scope="module")
def running_devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    """The chain part of a devnet without a second node, ready; a module's tests share it."""
    flags = ("--no-serving", "--no-validator")
    devnet = Devnet(tmp_path_factory.mktemp("devnet"), free_port_offset(), flags)
    devnet.start()
    try:
        devnet.wait_until_ready()
        yield devnet
    finally:
        if devnet.process is not None and devnet.process.poll() is None:
            devnet.kill()
