"""Settings come from a file, the environment and flags, each overriding the one before."""

from pathlib import Path

import pytest

from openledger.evm_ext.state.policy import ARCHIVE, StateHistory
from openledger.node.config import Endpoints, load_config
from openledger.node.errors import StartupError


def test_flags_override_environment_overrides_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "node.toml"
    file.write_text('port_offset = 1\nlog_level = "debug"\n[ports]\nrpc = 9000\napi = 9001\n')
    monkeypatch.setenv("OPENLEDGER_PORTS__API", "9100")
    monkeypatch.setenv("OPENLEDGER_PORT_OFFSET", "2")
    config = load_config(file, port_offset=3, host=None)
    assert (config.log_level, config.host) == ("debug", "127.0.0.1")
    assert (config.listening.rpc, config.listening.api, config.listening.da) == (9003, 9103, 3103)


def test_an_offset_moves_every_port_and_the_endpoints() -> None:
    config = load_config(port_offset=100)
    assert config.listening.model_dump() == {
        "rpc": 8645,
        "l1_rpc": 8646,
        "api": 8180,
        "da": 3200,
        "metrics": 7400,
        "p2p": 9322,
    }
    assert Endpoints.of(config).api == "http://127.0.0.1:8180"


@pytest.mark.parametrize(
    ("flags", "said"),
    [({"port_ofset": 1}, "port_ofset"), ({"role": "king"}, "role"), ({"ports": {"rpc": 70000}}, "ports.rpc")],
)
def test_a_bad_setting_is_named(flags: dict[str, object], said: str) -> None:
    with pytest.raises(StartupError, match=said):
        load_config(**flags)


def test_an_offset_past_the_last_port_is_refused() -> None:
    with pytest.raises(StartupError, match="smaller"):
        load_config(ports={"rpc": 60000}, port_offset=6000).listening  # noqa: B018


def test_a_missing_or_malformed_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="no configuration file"):
        load_config(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("port_offset ==")
    with pytest.raises(StartupError, match=r"bad\.toml is not valid TOML"):
        load_config(tmp_path / "bad.toml")


def test_what_a_node_keeps_of_the_past_is_set_under_chain(tmp_path: Path) -> None:
    assert load_config().state_history == ARCHIVE
    file = tmp_path / "node.toml"
    file.write_text('[chain]\nstate = "pruned"\nkeep_blocks = 500\n')
    assert load_config(file).state_history == StateHistory("pruned", keep_blocks=500)
    file.write_text('[chain]\nstate = "pruned"\nkeep_blocks = 5\n')
    with pytest.raises(StartupError, match="keep_blocks"):
        load_config(file)
    file.write_text('[chain]\nstate = "pruned"\nkeep_blocks = 5000\nkeep_changes = 100\n')
    with pytest.raises(StartupError, match="100 is less than 5000"):
        _ = load_config(file).state_history


def test_transactions_without_a_chain_id_are_taken_on_a_devnet_unless_said_otherwise(tmp_path: Path) -> None:
    assert load_config().allow_unprotected_txs
    assert not load_config(network="testnet").allow_unprotected_txs
    file = tmp_path / "node.toml"
    for chosen in (True, False):
        file.write_text(f"[rpc]\nallow_unprotected_txs = {str(chosen).lower()}\n")
        assert load_config(file).allow_unprotected_txs is chosen
        assert load_config(file, network="mainnet").allow_unprotected_txs is chosen
