"""hardhat as its users have it, with our node as its network: deploying, events, every way to fail."""

import json
import os
import subprocess

import pytest

from openledger.genesis.dev_accounts import DEV_ACCOUNTS

pytestmark = pytest.mark.interop


def test_a_hardhat_project_s_tests_pass(clients, node, tmp_path):
    built = json.loads((clients / "contracts/Counter.json").read_text())
    folder = tmp_path / "contracts/Counter.sol"
    folder.mkdir(parents=True)
    # As `hardhat compile` would have written it.
    artifact = {
        "_format": "hh-sol-artifact-1",
        "contractName": "Counter",
        "sourceName": "contracts/Counter.sol",
        "abi": built["abi"],
        "bytecode": built["bytecode"],
        "deployedBytecode": "0x",
        "linkReferences": {},
        "deployedLinkReferences": {},
    }
    (folder / "Counter.json").write_text(json.dumps(artifact))
    environment = {
        **os.environ,
        "NODE_URL": node.url,
        "PRIVATE_KEY": "0x" + DEV_ACCOUNTS[4].private_key.hex(),
        "ARTIFACTS": str(tmp_path),
        "HARDHAT_DISABLE_TELEMETRY_PROMPT": "true",
    }
    done = subprocess.run(
        [str(clients / "node_modules/.bin/hardhat"), "test", "--no-compile"],
        cwd=clients / "hardhat",
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 passing" in done.stdout, done.stdout
