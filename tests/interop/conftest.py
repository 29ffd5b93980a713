"""The pinned npm clients, installed once, and a node for them to talk to."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from openledger.genesis.presets import DEVNET, l2_genesis

CLIENTS = Path(__file__).parents[1] / "clients"
TIMESTAMP = 1_800_000_000


@pytest.fixture(scope="session")
def clients() -> Path:
    """tests/clients with its node_modules as the lock file says."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("npm is not installed: the tests with cast, ethers and viem need it")
    installed, lock = CLIENTS / "node_modules/.package-lock.json", CLIENTS / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"], cwd=CLIENTS, capture_output=True, text=True, timeout=240
        )
        if "EUSAGE" in done.stderr or "EINTEGRITY" in done.stderr:
            pytest.fail(f"tests/clients/package-lock.json does not fit its package.json: {done.stderr[-600:]}")
        if done.returncode:
            pytest.skip(f"npm ci failed in tests/clients, is the registry reachable? {done.stderr[-300:]}")
    return CLIENTS


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A devnet L2 that mines a block for every transaction."""
    path = Path(__file__).parents[1] / "node/rpc/chain_thread.py"
    spec = importlib.util.spec_from_file_location("chain_thread", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.ChainThread(tmp_path_factory.mktemp("node"), l2_genesis(DEVNET, TIMESTAMP)) as running:
        yield running
