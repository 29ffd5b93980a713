"""Our predeploys as contracts that can be called: one place where an address meets its ABI."""

from __future__ import annotations

from functools import cache

from openledger.genesis import predeploys
from openledger.genesis.artifact import artifact
from openledger.node.contracts import Contract


@cache
def datanet_registry() -> Contract:
    return Contract(predeploys.DATANET_REGISTRY, artifact("DatanetRegistry").abi)


@cache
def model_registry() -> Contract:
    return Contract(predeploys.MODEL_REGISTRY, artifact("ModelRegistry").abi)


@cache
def inference_ledger() -> Contract:
    return Contract(predeploys.INFERENCE_LEDGER, artifact("InferenceLedger").abi)


@cache
def rewards_distributor() -> Contract:
    return Contract(predeploys.REWARDS_DISTRIBUTOR, artifact("RewardsDistributor").abi)


@cache
def stake_manager() -> Contract:
    return Contract(predeploys.STAKE_MANAGER, artifact("StakeManager").abi)
