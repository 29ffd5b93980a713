"""Exit status 1 of `openledger verify` means "false" to a script, so nothing else may end with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from openledger.genesis.presets import DEVNET
from openledger.node.network import Network


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("receipt", "0x" + "11" * 32), "is the node running"),
        (("receipt", "nonsense"), "is the node running"),
        (("blocks", "1", "5"), "cannot be derived"),
        (("blocks", "5", "1"), "no blocks from 5 to 1"),
        (("blocks", "1", "--network-file", "/nonexistent"), "network file"),
    ],
)
def test_what_cannot_be_checked_is_not_called_false(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "network.json").write_text(Network(DEVNET, 1_800_000_000).to_json())
    done = subprocess.run(
        [sys.executable, "-P", "-m", "openledger.node.cli.main", "verify", *arguments, "--port-offset", "41000"],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENLEDGER_DATA_DIR": str(tmp_path)},
        timeout=180,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
