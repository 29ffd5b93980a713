"""The development L1's folder, as another version may have left it."""

from dataclasses import replace

import pytest

from openledger.evm_ext.chain import Chain
from openledger.genesis.predeploys import L1_OUTPUT_ORACLE
from openledger.genesis.presets import DEVNET, l1_genesis
from openledger.node.config import load_config
from openledger.node.embedded import embedded_l1
from openledger.node.errors import StartupError
from openledger.node.network import Network


async def test_a_devnet_with_other_contracts_on_its_l1_is_refused_with_what_to_do(tmp_path) -> None:
    genesis = l1_genesis(DEVNET, 1_700_000_000)
    alloc = {address: account for address, account in genesis.alloc.items() if address != L1_OUTPUT_ORACLE}
    Chain.open(tmp_path / "l1" / "chain", replace(genesis, alloc=alloc)).close()
    config = load_config(role="dev", data_dir=tmp_path)
    with pytest.raises(StartupError, match=r"older version began a devnet.*begin a new one in another --data-dir"):
        async with embedded_l1(config, Network(DEVNET, 1_700_000_000)):
            pass
