"""How a node reaches EigenDA is set in its configuration, and what does not fit together is refused by name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from openledger.genesis.presets import DEVNET
from openledger.node.config import load_config
from openledger.node.da_layer import open_da_layer
from openledger.node.daemon import _check_endpoints
from openledger.node.errors import StartupError
from openledger.node.validator_process import environment, validator_config
from openledger.rollup.da.client import DAClient

from ..rollup.da.eigenda_network import PAYER, PAYLOAD, Network, served

KEY = PAYER.private_key.hex()
ADDRESS = "0x" + "11" * 20
L1: Any = None  # nobody asks it here


async def test_payloads_go_to_the_disperser_and_come_from_a_relay(tmp_path: Path) -> None:
    network = Network()
    network.chain_id, network.disperser_id = DEVNET.l1_chain_id, 0
    with served(network) as target:
        file = tmp_path / "node.toml"
        file.write_text(
            f'da_route = "disperser"\nda_payment_key = "{KEY}"\n[eigenda]\ndisperser = "{target}"\nplaintext = true\n'
            f'payment = "on-demand"\ncertificate_version = 3\nrelays = {{ 2 = "{target}" }}\n'
        )
        async with open_da_layer(load_config(file), DEVNET, L1, "http://nowhere") as da:
            commitment = await da.put(PAYLOAD)
            assert commitment[:3] == b"\x01\x00\x02"  # V3
            assert await da.get(commitment, 7) == PAYLOAD
    assert network.payments[0].cumulative_payment > 0


async def test_a_proxy_is_the_usual_way() -> None:
    async with open_da_layer(load_config(), DEVNET, L1, "http://127.0.0.1:1") as da:
        assert isinstance(da, DAClient)


@pytest.mark.parametrize(
    ("eigenda", "flags", "said"),
    [
        ({}, {}, "nobody to read from"),
        ({"relay_registry": "0x12"}, {}, "eigenda.relay_registry must be an address"),
        ({"relays": {0: "a:1"}, "registry_coordinator": ADDRESS}, {}, "belong together"),
        ({"relays": {0: "a:1"}, "disperser": "a:1"}, {}, "who pays"),
        ({"relays": {0: "a:1"}}, {"da_payment_key": KEY}, "where blobs go"),
        ({"relays": {0: "a:1"}, "disperser": "a:1"}, {"da_payment_key": "12"}, "64 hex digits"),
        ({"relays": {0: "a:1"}}, {"da_trust": "l1"}, "da_cert_verifier"),
    ],
)
async def test_settings_that_do_not_fit_are_refused(eigenda: dict[str, Any], flags: dict[str, Any], said: str) -> None:
    config = load_config(da_route="disperser", eigenda=eigenda, **flags)
    with pytest.raises(StartupError, match=said):
        async with open_da_layer(config, DEVNET, L1, ""):
            pass


async def test_a_public_chain_needs_the_ceremonys_files_and_without_a_proxy_the_contracts_word(tmp_path: Path) -> None:
    public = replace(DEVNET, development=False)
    with pytest.raises(StartupError, match=r"eigenda\.srs_folder is not set"):
        async with open_da_layer(load_config(), public, L1, ""):
            pass
    config = load_config(da_route="disperser", eigenda={"srs_folder": tmp_path, "relay_registry": ADDRESS})
    with pytest.raises(StartupError, match="da_trust to l1"):
        async with open_da_layer(config, public, L1, ""):
            pass


def test_the_validator_beside_a_dev_node_reads_the_same_way_and_pays_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = load_config(
        da_route="disperser", da_payment_key=KEY, eigenda={"disperser": "a:1", "relays": {2: "b:2"}, "plaintext": True}
    )
    monkeypatch.setenv("OPENLEDGER_DA_PAYMENT_KEY", KEY)
    for name, value in environment(validator_config(config)).items():
        monkeypatch.setenv(name, value)
    loaded = load_config()
    assert (loaded.da_route, loaded.da_payment_key, loaded.eigenda.disperser) == ("disperser", "", "")
    assert (loaded.eigenda.relays, loaded.eigenda.plaintext) == ({2: "b:2"}, True)


def test_only_the_route_by_a_proxy_needs_one() -> None:
    given = {"role": "validator", "l1_rpc_url": "http://127.0.0.1:1"}
    _check_endpoints(load_config(**given, da_route="disperser"))
    with pytest.raises(StartupError, match="da_url is not set"):
        _check_endpoints(load_config(**given))
