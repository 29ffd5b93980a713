"""`openledger da` as an operator starts it: a process, its REST API, its metrics, its end."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from openledger.node.cli.main import app
from openledger.node.errors import StartupError

COMMAND = [sys.executable, "-P", "-m", "openledger.node.cli.main", "da"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_payload_goes_in_and_comes_out_and_is_counted(tmp_path: Path) -> None:
    ports = [str(free_port()) for _ in range(2)]
    flags = ["--port", ports[0], "--metrics-port", ports[1], "--storage", "memory", "--operators", "3"]
    da, metrics = (f"http://127.0.0.1:{port}" for port in ports)
    process = subprocess.Popen([*COMMAND, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        assert any("DA server ready" in line for line in process.stdout)
        with httpx.Client(trust_env=False, timeout=180) as client:
            commitment = client.post(f"{da}/put", content=b"payload").content
            assert commitment[:3] == b"\x01\x00\x03"
            assert client.get(f"{da}/get/0x{commitment.hex()}").content == b"payload"
            assert client.get(f"{da}/operators").status_code == 404  # the admin API is off
            counted = client.get(f"{metrics}/metrics").text
        assert 'method="POST",status="200"' in counted
        assert "eigenda_proxy_default_up 1.0" in counted
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--chunks", "60"], "power of two"),
        (["--operators", "64"], "operators"),
        (["--storage", "s3"], "bucket"),
        (["--expiration", "soon"], "duration"),
        (["--api", "telepathy"], "telepathy"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(tmp_path: Path, flags: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["da", "--port", "0", "--data-dir", str(tmp_path), *flags])
    assert isinstance(done.exception, StartupError)
    assert said in str(done.exception)
