"""network.json: what it says is read back, and what it may not say is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from openledger.genesis.presets import DEVNET
from openledger.node.errors import StartupError
from openledger.node.network import Network, read_network
from openledger.node.rollup_node import rollup_config_of


def test_a_development_chain_may_have_a_pace_of_its_own(tmp_path: Path) -> None:
    network = Network(replace(DEVNET, l1_block_time_s=1, seq_window_size=20), 1_700_000_000)
    file = tmp_path / "network.json"
    file.write_text(network.to_json())
    assert json.loads(file.read_text())["pace"] == {"l1_block_time_s": 1, "seq_window_size": 20}
    assert read_network(file) == network
    assert rollup_config_of(network).seq_window_size == 20
    assert "pace" not in Network(DEVNET, 1_700_000_000).to_json()


@pytest.mark.parametrize(
    ("preset", "pace", "said"),
    [
        ("devnet", {"max_sequencer_drift": 7}, "max_sequencer_drift"),
        ("devnet", {"l1_block_time_s": 0}, "l1_block_time_s = 0"),
        ("devnet", {"l1_block_time_s": True}, "integers from 1"),
        ("devnet", [1], "not a network file"),
        ("mainnet", {"seq_window_size": 20}, "mainnet has the pace of its preset"),
    ],
)
def test_any_other_pace_is_refused(tmp_path: Path, preset: str, pace: object, said: str) -> None:
    file = tmp_path / "network.json"
    file.write_text(json.dumps({"preset": preset, "timestamp": 1_700_000_000, "pace": pace}))
    with pytest.raises(StartupError, match=said):
        read_network(file)
