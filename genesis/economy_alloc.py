"""The economy's contracts in the L2 alloc: code and every initialised slot.

Nothing in them has an initialiser: what a constructor or a governor would have set is written here, behind
proxies that ProxyAdmin owns.
"""

from typing import Final

from openledger.genesis import predeploys
from openledger.genesis.artifact import Artifact, artifact
from openledger.genesis.eip712 import domain_immutables
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.op_predeploys import proxied
from openledger.genesis.parameters import MICRO_OPEN_WEI
from openledger.genesis.preset import Preset

EIP712_NAME: Final = "Openledger"
EIP712_VERSION: Final = "1"

# ERC-7201 slot of OpenZeppelin's ReentrancyGuard, and what its constructor writes there.
_REENTRANCY_GUARD_SLOT: Final = 0x9B779B17422D0DF92223018B32B4D1FA46E071723D6817E2486D003BECC55F00
_NOT_ENTERED: Final = {_REENTRANCY_GUARD_SLOT: 1}


def economy_alloc(preset: Preset) -> dict[bytes, GenesisAccount]:
    """Accounts of DatanetRegistry, ModelRegistry, InferenceLedger, RewardsDistributor and StakeManager.

    The network's owner receives the platform's part of fees until governance takes over.
    Raises RolesMissing before a public network's roles are set.
    """
    economy = preset.economy
    datanets, ledger = artifact("DatanetRegistry"), artifact("InferenceLedger")
    models, rewards, stakes = artifact("ModelRegistry"), artifact("RewardsDistributor"), artifact("StakeManager")
    states: tuple[tuple[bytes, Artifact, dict[int, int]], ...] = (
        (
            predeploys.DATANET_REGISTRY,
            datanets,
            datanets.storage(
                revealMinBlocks=economy.reveal_min_blocks,
                revealMaxBlocks=economy.reveal_max_blocks,
                maxDocumentBytes=economy.max_document_bytes,
                commitDeposit=economy.min_contribution_stake_wei // MICRO_OPEN_WEI,
            ),
        ),
        (predeploys.MODEL_REGISTRY, models, {}),
        (
            predeploys.INFERENCE_LEDGER,
            ledger,
            ledger.storage(minWithdrawDelay=economy.withdraw_delay_epochs * economy.epoch_blocks) | _NOT_ENTERED,
        ),
        (
            predeploys.REWARDS_DISTRIBUTOR,
            rewards,
            rewards.storage(
                platform=preset.owner,
                platformBps=economy.platform_bps,
                epochBlocks=economy.epoch_blocks,
                stakers=predeploys.STAKE_MANAGER,
            )
            | _NOT_ENTERED,
        ),
        (
            predeploys.STAKE_MANAGER,
            stakes,
            stakes.storage(
                minProviderStake=economy.min_provider_stake_wei,
                unbondingBlocks=economy.unbonding_epochs * economy.epoch_blocks,
            )
            | _NOT_ENTERED,
        ),
    )
    alloc: dict[bytes, GenesisAccount] = {}
    for address, contract, state in states:
        alloc |= proxied(
            address,
            predeploys.PROXY_ADMIN,
            contract,
            state=state,
            implementation_state={},
            code=_with_eip712(contract, address, preset.l2_chain_id) if contract.immutables else None,
        )
    return alloc


def _with_eip712(contract: Artifact, address: bytes, chain_id: int) -> bytes:
    """The runtime code with the immutables of OpenZeppelin's EIP712, for a contract that speaks at `address`."""
    return contract.with_immutables(**domain_immutables(EIP712_NAME, EIP712_VERSION, chain_id, address))
