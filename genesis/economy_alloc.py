"""The economy's contracts in the L2 alloc: code and every initialised slot."""

from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.preset import Preset


def economy_alloc(preset: Preset) -> dict[bytes, GenesisAccount]:
    """Accounts of DatanetRegistry, ModelRegistry, InferenceLedger, RewardsDistributor and StakeManager."""
    return {}
