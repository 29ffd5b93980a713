"""Our contracts in the embedded L1 of the development network: the token, the portal that locks it, and the rest.

The portal and the bridges are those of the OP-Stack, from its version that still knew a custom gas token as an ERC-20 on
L1; SystemConfig, the output oracle and the token are our own. As on L2, nothing waits for an initialiser.
"""

from typing import Final

from openledger.genesis import predeploys
from openledger.genesis.artifact import artifact
from openledger.genesis.dev_accounts import DEV_ACCOUNTS
from openledger.genesis.eip712 import domain_immutables
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.op_predeploys import GAS_TOKEN_NAME, GAS_TOKEN_SYMBOL, UNSET_MESSAGE_SENDER, proxied
from openledger.genesis.parameters import OPEN_WEI, TOTAL_SUPPLY_WEI
from openledger.genesis.preset import Preset
from openledger.genesis.storage import erc7201_slot, mapping_slot, named_slot

DEV_L1_OPEN_WEI: Final = 1_000_000 * OPEN_WEI
"""OPEN of each development account on L1, as the ERC-20; the owner holds what is left of the supply."""

# OpenZeppelin's state outside of solc's layout.
INITIALIZABLE_SLOT: Final = erc7201_slot("openzeppelin.storage.Initializable")
INITIALIZERS_DISABLED: Final = 2**64 - 1
REENTRANCY_GUARD_SLOT: Final = erc7201_slot("openzeppelin.storage.ReentrancyGuard")
NOT_ENTERED: Final = 1

_INITIAL_DEPOSIT_BASE_FEE_WEI: Final = 10**9


def l1_contracts(preset: Preset, timestamp: int, locked_wei: int) -> dict[bytes, GenesisAccount]:
    """All contracts of a network on its embedded L1, with `locked_wei` of OPEN locked in the portal.

    `timestamp` is that of the L2's genesis block, in seconds.
    """
    return {
        **_open_token(preset, locked_wei),
        **_system_config(preset),
        **_portal_and_oracle(preset, timestamp, locked_wei),
        **_bridges(preset),
        preset.l1.proxy_admin: GenesisAccount(
            nonce=1,
            code=artifact("ProxyAdmin").deployed_bytecode,
            storage=artifact("ProxyAdmin").storage(_owner=preset.owner),
        ),
    }


def _open_token(preset: Preset, locked_wei: int) -> dict[bytes, GenesisAccount]:
    token = artifact("OpenToken")
    balances = {account.address: DEV_L1_OPEN_WEI for account in DEV_ACCOUNTS}
    balances[preset.l1.portal] = locked_wei
    balances[preset.owner] = balances.get(preset.owner, 0) + TOTAL_SUPPLY_WEI - sum(balances.values())
    code = token.with_immutables(**domain_immutables(GAS_TOKEN_NAME, "1", preset.l1_chain_id, preset.l1.open_token))
    storage = token.storage(_totalSupply=TOTAL_SUPPLY_WEI, _name=GAS_TOKEN_NAME, _symbol=GAS_TOKEN_SYMBOL)
    held = token.slot("_balances")
    storage |= {mapping_slot(held, holder): amount for holder, amount in balances.items() if amount}
    return {preset.l1.open_token: GenesisAccount(nonce=1, code=code, storage=storage)}


def _system_config(preset: Preset) -> dict[bytes, GenesisAccount]:
    config = artifact("SystemConfig")
    code = config.with_immutables(
        GAS_PAYING_TOKEN=preset.l1.open_token,
        optimismPortal=preset.l1.portal,
        l1CrossDomainMessenger=preset.l1.cross_domain_messenger,
        l1StandardBridge=preset.l1.standard_bridge,
        l1ERC721Bridge=preset.l1.erc721_bridge,
        batchInbox=preset.batch_inbox,
    )
    storage = config.storage(
        _owner=preset.owner,
        batcherHash=preset.batcher,
        unsafeBlockSigner=preset.unsafe_block_signer,
        gasLimit=preset.gas_limit,
        basefeeScalar=preset.base_fee_scalar,
        blobbasefeeScalar=preset.blob_base_fee_scalar,
        eip1559Denominator=preset.eip1559_denominator,
        eip1559Elasticity=preset.eip1559_elasticity,
        operatorFeeScalar=preset.operator_fee_scalar,
        operatorFeeConstant=preset.operator_fee_constant,
        startBlock=0,
    )
    return {preset.l1.system_config: GenesisAccount(nonce=1, code=code, storage=storage)}


def _portal_and_oracle(preset: Preset, timestamp: int, locked_wei: int) -> dict[bytes, GenesisAccount]:
    portal, oracle, superchain = (artifact(name) for name in ("OptimismPortal", "L2OutputOracle", "SuperchainConfig"))
    fresh_portal = portal.storage(_initialized=1, params=_INITIAL_DEPOSIT_BASE_FEE_WEI, l2Sender=UNSET_MESSAGE_SENDER)
    return {
        **proxied(
            preset.l1.portal,
            preset.l1.proxy_admin,
            portal,
            state=fresh_portal
            | portal.storage(
                superchainConfig=preset.l1.superchain_config,
                l2Oracle=preset.l1.output_oracle,
                systemConfig=preset.l1.system_config,
                _balance=locked_wei,
            ),
            implementation_state=fresh_portal,
        ),
        **proxied(
            preset.l1.output_oracle,
            preset.l1.proxy_admin,
            oracle,
            state=oracle.storage(
                startingBlockNumber=0,
                startingTimestamp=timestamp,
                submissionInterval=preset.output_interval_blocks,
                l2BlockTime=preset.l2_block_time_s,
                challenger=preset.owner,
                proposer=preset.proposer,
                finalizationPeriodSeconds=preset.finalization_period_s,
                bondToken=preset.l1.open_token,
                proposerBond=preset.proposer_bond_wei,
                challengerBond=preset.challenger_bond_wei,
                decisionPeriodSeconds=preset.decision_period_s,
            )
            | {INITIALIZABLE_SLOT: 1},
            implementation_state={INITIALIZABLE_SLOT: INITIALIZERS_DISABLED, REENTRANCY_GUARD_SLOT: NOT_ENTERED},
        ),
        **proxied(
            preset.l1.superchain_config,
            preset.l1.proxy_admin,
            superchain,
            state={
                **superchain.storage(_initialized=1),
                named_slot("superchainConfig.guardian"): int.from_bytes(preset.owner, "big"),
            },
            implementation_state=superchain.storage(_initialized=1),
        ),
    }


def _bridges(preset: Preset) -> dict[bytes, GenesisAccount]:
    messenger, bridge, erc721_bridge = (
        artifact(name) for name in ("L1CrossDomainMessenger", "L1StandardBridge", "L1ERC721Bridge")
    )
    return {
        **proxied(
            preset.l1.cross_domain_messenger,
            preset.l1.proxy_admin,
            messenger,
            state=messenger.storage(
                _initialized=1,
                xDomainMsgSender=UNSET_MESSAGE_SENDER,
                otherMessenger=predeploys.L2_CROSS_DOMAIN_MESSENGER,
                superchainConfig=preset.l1.superchain_config,
                portal=preset.l1.portal,
                systemConfig=preset.l1.system_config,
            ),
            implementation_state=messenger.storage(
                _initialized=1,
                xDomainMsgSender=UNSET_MESSAGE_SENDER,
                otherMessenger=predeploys.L2_CROSS_DOMAIN_MESSENGER,
            ),
        ),
        **proxied(
            preset.l1.standard_bridge,
            preset.l1.proxy_admin,
            bridge,
            state=bridge.storage(
                _initialized=1,
                messenger=preset.l1.cross_domain_messenger,
                otherBridge=predeploys.L2_STANDARD_BRIDGE,
                superchainConfig=preset.l1.superchain_config,
                systemConfig=preset.l1.system_config,
            ),
            implementation_state=bridge.storage(_initialized=1, otherBridge=predeploys.L2_STANDARD_BRIDGE),
        ),
        **proxied(
            preset.l1.erc721_bridge,
            preset.l1.proxy_admin,
            erc721_bridge,
            state=erc721_bridge.storage(
                _initialized=1,
                messenger=preset.l1.cross_domain_messenger,
                otherBridge=predeploys.L2_ERC721_BRIDGE,
                superchainConfig=preset.l1.superchain_config,
            ),
            implementation_state=erc721_bridge.storage(_initialized=1, otherBridge=predeploys.L2_ERC721_BRIDGE),
        ),
    }
