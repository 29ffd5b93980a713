"""OpenZeppelin's token with permits and accounts that delegate, driven by viem; its artifacts are what the sources give."""

import importlib.util
import subprocess
from pathlib import Path

import pytest

from openledger.genesis.dev_accounts import DEV_ACCOUNTS
from openledger.genesis.presets import DEVNET

pytestmark = pytest.mark.interop
CONTRACTS = Path(__file__).parents[1] / "clients/contracts"
PACKAGES = Path(__file__).parents[2] / "genesis/contracts/node_modules"


def test_viem_permits_delegates_and_batches(clients, node):
    arguments = [node.url, "0x" + DEV_ACCOUNTS[3].private_key.hex(), str(DEVNET.l2_chain_id)]
    done = subprocess.run(["node", "token.mjs", *arguments], cwd=clients, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "ok"), done.stderr


def test_the_artifacts_are_what_their_sources_compile_to():
    if not (PACKAGES / "solc").is_dir() or not (PACKAGES / "@openzeppelin").is_dir():
        pytest.skip("run `npm ci` in genesis/contracts: its solc compiles these contracts")
    spec = importlib.util.spec_from_file_location("rebuild", CONTRACTS / "rebuild.py")
    assert spec is not None
    assert spec.loader is not None
    rebuild = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rebuild)
    for name, text in rebuild.compiled().items():
        assert (CONTRACTS / name).read_text() == text, (
            f"{name} is behind: run python tests/clients/contracts/rebuild.py"
        )
