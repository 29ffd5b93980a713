"""The three networks: devnet, testnet and mainnet."""

from dataclasses import replace
from types import MappingProxyType
from typing import Final

from openledger.genesis import dev_accounts, predeploys
from openledger.genesis.alloc import l1_genesis, l2_genesis
from openledger.genesis.parameters import EconomyParameters
from openledger.genesis.preset import L1Contracts, Preset, Roles

__all__ = ["DEVNET", "MAINNET", "PRESETS", "TESTNET", "Preset", "UnknownPreset", "l1_genesis", "l2_genesis", "preset"]


class UnknownPreset(ValueError):
    """No preset has that name."""


DEV_ROLES: Final = Roles(
    owner=dev_accounts.OWNER.address,
    batcher=dev_accounts.BATCHER.address,
    proposer=dev_accounts.PROPOSER.address,
    unsafe_block_signer=dev_accounts.SEQUENCER_P2P.address,
)
DEV_L1_CONTRACTS: Final = L1Contracts(
    open_token=predeploys.L1_OPEN_TOKEN,
    portal=predeploys.L1_PORTAL,
    system_config=predeploys.L1_SYSTEM_CONFIG,
    output_oracle=predeploys.L1_OUTPUT_ORACLE,
    cross_domain_messenger=predeploys.L1_CROSS_DOMAIN_MESSENGER,
    standard_bridge=predeploys.L1_STANDARD_BRIDGE,
    erc721_bridge=predeploys.L1_ERC721_BRIDGE,
    superchain_config=predeploys.L1_SUPERCHAIN_CONFIG,
    proxy_admin=predeploys.L1_PROXY_ADMIN,
)


_PUBLIC_ECONOMY: Final = EconomyParameters(
    epoch_blocks=43_200,  # a day at 2 s
    dispute_window_epochs=2,
    withdraw_delay_epochs=7,
    unbonding_epochs=14,
    reveal_min_blocks=1,
    reveal_max_blocks=43_200,
    min_contribution_stake_wei=10**18,
)

DEVNET: Final = Preset(
    name="devnet",
    l1_chain_id=900,
    l2_chain_id=161_299,
    development=True,
    roles=DEV_ROLES,
    l1_contracts=DEV_L1_CONTRACTS,
    l1_block_time_s=4,
    # Small but not zero, so that every fee's path is walked.
    operator_fee_scalar=100,
    operator_fee_constant=1_000,
    output_interval_blocks=30,
    finalization_period_s=60,
    decision_period_s=60,
    economy=EconomyParameters(
        epoch_blocks=10,
        dispute_window_epochs=2,
        withdraw_delay_epochs=4,
        unbonding_epochs=4,
        reveal_min_blocks=1,
        reveal_max_blocks=1_800,
    ),
)
TESTNET: Final = Preset(
    name="testnet",
    l1_chain_id=11_155_111,  # Sepolia
    l2_chain_id=161_201,
    development=False,
    economy=replace(_PUBLIC_ECONOMY, epoch_blocks=1_800, reveal_max_blocks=1_800),  # an hour at 2 s
)
MAINNET: Final = Preset(name="mainnet", l1_chain_id=1, l2_chain_id=1_612, development=False, economy=_PUBLIC_ECONOMY)

PRESETS: Final = MappingProxyType({known.name: known for known in (DEVNET, TESTNET, MAINNET)})


def preset(name: str) -> Preset:
    """The preset of that name: devnet, testnet or mainnet. Raises UnknownPreset."""
    try:
        return PRESETS[name]
    except KeyError:
        raise UnknownPreset(f"no preset named {name!r}; there are {', '.join(PRESETS)}") from None
