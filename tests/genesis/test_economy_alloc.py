"""The economy's contracts in block 0: the code their sources give, the numbers the preset says."""

import pytest

from openledger.genesis import predeploys
from openledger.genesis.artifact import artifact
from openledger.genesis.parameters import MICRO_OPEN_WEI
from openledger.genesis.predeploys import implementation_address
from openledger.genesis.presets import DEVNET, l2_genesis

GENESIS = l2_genesis(DEVNET, 1_700_000_000)
CONTRACTS = {
    "DatanetRegistry": predeploys.DATANET_REGISTRY,
    "ModelRegistry": predeploys.MODEL_REGISTRY,
    "InferenceLedger": predeploys.INFERENCE_LEDGER,
    "RewardsDistributor": predeploys.REWARDS_DISTRIBUTOR,
    "StakeManager": predeploys.STAKE_MANAGER,
}
# These name the contract itself: a proxy's address in the alloc, the implementation's own after a deployment.
NAME_THEIR_CONTRACT = {"_cachedThis", "_cachedDomainSeparator"}
ECONOMY = DEVNET.economy
NUMBERS = [
    ("DatanetRegistry", "revealMinBlocks", "uint32", ECONOMY.reveal_min_blocks),
    ("DatanetRegistry", "revealMaxBlocks", "uint32", ECONOMY.reveal_max_blocks),
    ("DatanetRegistry", "maxDocumentBytes", "uint32", ECONOMY.max_document_bytes),
    ("DatanetRegistry", "commitDeposit", "uint56", ECONOMY.min_contribution_stake_wei // MICRO_OPEN_WEI),
    ("InferenceLedger", "minWithdrawDelay", "uint32", ECONOMY.withdraw_delay_epochs * ECONOMY.epoch_blocks),
    ("RewardsDistributor", "platform", "address", "0x" + DEVNET.owner.hex()),
    ("RewardsDistributor", "platformBps", "uint16", ECONOMY.platform_bps),
    ("RewardsDistributor", "epochBlocks", "uint32", ECONOMY.epoch_blocks),
    ("RewardsDistributor", "stakers", "address", "0x" + predeploys.STAKE_MANAGER.hex()),
    ("StakeManager", "minProviderStake", "uint128", ECONOMY.min_provider_stake_wei),
    ("StakeManager", "unbondingBlocks", "uint64", ECONOMY.unbonding_epochs * ECONOMY.epoch_blocks),
]


@pytest.mark.parametrize("name", CONTRACTS)
def test_the_code_is_what_a_deployment_of_the_artifact_gives(name, machine):
    evm = machine(GENESIS.chain_id)
    contract = artifact(name)
    deployed = bytearray(evm.code(evm.deploy(contract.bytecode)))
    stored = bytearray(GENESIS.alloc[implementation_address(CONTRACTS[name])].code)
    for immutable in NAME_THEIR_CONTRACT & contract.immutables.keys():
        for start in contract.immutables[immutable]:
            assert any(stored[start : start + 32])
            deployed[start : start + 32] = stored[start : start + 32]
    assert stored.rstrip(b"\0") == deployed


@pytest.mark.parametrize(("name", "getter", "kind", "value"), NUMBERS, ids=[f"{n[0]}.{n[1]}" for n in NUMBERS])
def test_a_contract_starts_with_the_presets_number(name, getter, kind, value, machine):
    evm = machine(GENESIS.chain_id, GENESIS.alloc)
    assert evm.call(CONTRACTS[name], f"{getter}()", returns=f"({kind})") == value
