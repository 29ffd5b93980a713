"""Block 0 of a network's L2, and of the development network's embedded L1."""

from typing import Final

from openledger.genesis import predeploys
from openledger.genesis.dev_accounts import DEV_ACCOUNTS
from openledger.genesis.economy_alloc import economy_alloc
from openledger.genesis.genesis import Genesis, GenesisAccount, encode_holocene_extra_data
from openledger.genesis.l1_contracts import l1_contracts
from openledger.genesis.op_predeploys import op_predeploys
from openledger.genesis.parameters import OPEN_WEI
from openledger.genesis.preset import Preset
from openledger.genesis.system_contracts import system_contracts

DEV_L1_BALANCE_WEI: Final = 1_000_000 * OPEN_WEI
"""The L1's gas currency of each development account."""

DEV_L2_BALANCE_WEI: Final = 1_000_000 * OPEN_WEI
"""OPEN of each development account on L2, locked in the portal on L1."""


def l2_genesis(preset: Preset, timestamp: int) -> Genesis:
    """Block 0 of the L2: a pure function of the preset and the timestamp (seconds).

    Raises RolesMissing for a public network whose roles are not configured.
    """
    alloc: dict[bytes, GenesisAccount] = {
        **system_contracts(with_requests=False),
        **op_predeploys(preset),
        **economy_alloc(preset),
    }
    if preset.development:
        alloc.update({account.address: GenesisAccount(balance=DEV_L2_BALANCE_WEI) for account in DEV_ACCOUNTS})
    return Genesis(
        rules="op",
        chain_id=preset.l2_chain_id,
        timestamp=timestamp,
        gas_limit=preset.gas_limit,
        base_fee_per_gas=preset.base_fee_per_gas,
        extra_data=encode_holocene_extra_data(preset.eip1559_denominator, preset.eip1559_elasticity),
        coinbase=predeploys.SEQUENCER_FEE_VAULT,
        alloc=alloc,
        forks=preset.forks,
    )


def l1_genesis(preset: Preset, timestamp: int) -> Genesis:
    """Block 0 of the embedded L1: a pure function of the preset and the timestamp (seconds).

    It holds the L2's contracts, with all OPEN of the L2's alloc locked in the portal, and assumes that the
    L2's genesis block has the same timestamp. Raises NoEmbeddedL1 for a public network: its L1 is Ethereum.
    """
    if not preset.development:
        raise NoEmbeddedL1(f"preset {preset.name} runs on L1 chain {preset.l1_chain_id}: configure an L1 RPC")
    alloc: dict[bytes, GenesisAccount] = {
        **system_contracts(with_requests=True),
        **l1_contracts(preset, timestamp, locked_wei=l2_supply_wei(l2_genesis(preset, timestamp))),
        **{account.address: GenesisAccount(balance=DEV_L1_BALANCE_WEI) for account in DEV_ACCOUNTS},
    }
    return Genesis(
        rules="ethereum",
        chain_id=preset.l1_chain_id,
        timestamp=timestamp,
        gas_limit=preset.l1_gas_limit,
        base_fee_per_gas=preset.l1_base_fee_per_gas,
        alloc=alloc,
    )


def l2_supply_wei(genesis: Genesis) -> int:
    """All native OPEN that exists in an L2's block 0."""
    return sum(account.balance for account in genesis.alloc.values())


class NoEmbeddedL1(ValueError):
    """Only the development network brings its own L1."""
