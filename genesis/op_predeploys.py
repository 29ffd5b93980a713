"""The OP-Stack predeploys in the L2 alloc, each behind a proxy that ProxyAdmin owns.

Nothing here is left for an `initialize()` that anyone could call: the slots that initialisation would have
written are in the alloc, for the proxy (with this network's values) and for the implementation (as its
constructor leaves it). Tests replay constructors and initialisers on a fresh EVM and compare.
"""

from collections.abc import Mapping
from typing import Final

from openledger.genesis import predeploys
from openledger.genesis.artifact import Artifact, artifact
from openledger.genesis.genesis import GenesisAccount
from openledger.genesis.predeploys import implementation_address
from openledger.genesis.preset import Preset
from openledger.genesis.storage import EIP1967_ADMIN_SLOT, EIP1967_IMPLEMENTATION_SLOT, named_slot

GAS_TOKEN_NAME: Final = "Openledger"
GAS_TOKEN_SYMBOL: Final = "OPEN"
GAS_TOKEN_DECIMALS: Final = 18

FEE_VAULT_MIN_WITHDRAWAL_WEI: Final = 10**15
"""Least balance that a fee vault sends to its recipient."""

UNSET_MESSAGE_SENDER: Final = 0xDEAD
"""What messengers and the portal hold as sender while no message is being relayed (DEFAULT_L2_SENDER)."""

_WITHDRAW_TO_L2: Final = 1  # WithdrawalNetwork.L2


def proxied(
    address: bytes,
    admin: bytes,
    contract: Artifact,
    *,
    state: Mapping[int, int],
    implementation_state: Mapping[int, int],
    code: bytes | None = None,
) -> dict[bytes, GenesisAccount]:
    """Two accounts: an ERC-1967 proxy with the contract's state at `address`, and the implementation.

    `code` replaces the artifact's runtime code where immutables had to be filled in.
    """
    implementation = implementation_address(address)
    links = {
        EIP1967_IMPLEMENTATION_SLOT: int.from_bytes(implementation, "big"),
        EIP1967_ADMIN_SLOT: int.from_bytes(admin, "big"),
    }
    return {
        address: GenesisAccount(nonce=1, code=artifact("Proxy").deployed_bytecode, storage={**state, **links}),
        implementation: GenesisAccount(
            nonce=1, code=code or contract.deployed_bytecode, storage=dict(implementation_state)
        ),
    }


def op_predeploys(preset: Preset) -> dict[bytes, GenesisAccount]:
    """Every OP-Stack predeploy of the network's L2. Raises RolesMissing before a public network's roles are set."""
    messenger, bridge = artifact("L2CrossDomainMessenger"), artifact("L2StandardBridge")
    erc721_bridge, erc20_factory = artifact("L2ERC721Bridge"), artifact("OptimismMintableERC20Factory")
    initialised = {"_initialized": 1}
    states: dict[bytes, tuple[str, dict[int, int], dict[int, int]]] = {
        predeploys.WETH: ("WETH", {}, {}),
        predeploys.L2_CROSS_DOMAIN_MESSENGER: (
            "L2CrossDomainMessenger",
            messenger.storage(
                **initialised,
                xDomainMsgSender=UNSET_MESSAGE_SENDER,
                otherMessenger=preset.l1.cross_domain_messenger,
            ),
            messenger.storage(**initialised, xDomainMsgSender=UNSET_MESSAGE_SENDER),
        ),
        predeploys.GAS_PRICE_ORACLE: ("GasPriceOracle", {}, {}),
        predeploys.L2_STANDARD_BRIDGE: (
            "L2StandardBridge",
            bridge.storage(
                **initialised,
                messenger=predeploys.L2_CROSS_DOMAIN_MESSENGER,
                otherBridge=preset.l1.standard_bridge,
            ),
            bridge.storage(**initialised, messenger=predeploys.L2_CROSS_DOMAIN_MESSENGER),
        ),
        predeploys.OPTIMISM_MINTABLE_ERC20_FACTORY: (
            "OptimismMintableERC20Factory",
            erc20_factory.storage(**initialised, bridge=predeploys.L2_STANDARD_BRIDGE),
            erc20_factory.storage(**initialised),
        ),
        predeploys.L2_ERC721_BRIDGE: (
            "L2ERC721Bridge",
            erc721_bridge.storage(
                **initialised,
                messenger=predeploys.L2_CROSS_DOMAIN_MESSENGER,
                otherBridge=preset.l1.erc721_bridge,
            ),
            erc721_bridge.storage(**initialised, messenger=predeploys.L2_CROSS_DOMAIN_MESSENGER),
        ),
        predeploys.L1_BLOCK: ("L1Block", _gas_token_state(preset), {}),
        predeploys.L2_TO_L1_MESSAGE_PASSER: ("L2ToL1MessagePasser", {}, {}),
        predeploys.PROXY_ADMIN: ("ProxyAdmin", artifact("ProxyAdmin").storage(_owner=preset.owner), {}),
    }
    codes = {
        predeploys.OPTIMISM_MINTABLE_ERC721_FACTORY: artifact("OptimismMintableERC721Factory").with_immutables(
            BRIDGE=predeploys.L2_ERC721_BRIDGE, REMOTE_CHAIN_ID=preset.l1_chain_id
        )
    }
    states[predeploys.OPTIMISM_MINTABLE_ERC721_FACTORY] = ("OptimismMintableERC721Factory", {}, {})
    for address, name in (
        (predeploys.SEQUENCER_FEE_VAULT, "SequencerFeeVault"),
        (predeploys.BASE_FEE_VAULT, "BaseFeeVault"),
        (predeploys.L1_FEE_VAULT, "L1FeeVault"),
        (predeploys.OPERATOR_FEE_VAULT, "OperatorFeeVault"),
    ):
        states[address] = (name, {}, {})
        codes[address] = artifact(name).with_immutables(
            RECIPIENT=preset.owner,
            MIN_WITHDRAWAL_AMOUNT=FEE_VAULT_MIN_WITHDRAWAL_WEI,
            WITHDRAWAL_NETWORK=_WITHDRAW_TO_L2,
        )
    alloc: dict[bytes, GenesisAccount] = {}
    for address, (name, state, implementation_state) in states.items():
        alloc |= proxied(
            address,
            predeploys.PROXY_ADMIN,
            artifact(name),
            state=state,
            implementation_state=implementation_state,
            code=codes.get(address),
        )
    return alloc


def _gas_token_state(preset: Preset) -> dict[int, int]:
    """L1Block's record of the ERC-20 that is the native currency."""
    return {
        named_slot("opstack.gaspayingtoken"): GAS_TOKEN_DECIMALS << 160 | int.from_bytes(preset.l1.open_token, "big"),
        named_slot("opstack.gaspayingtokenname"): _left_aligned(GAS_TOKEN_NAME),
        named_slot("opstack.gaspayingtokensymbol"): _left_aligned(GAS_TOKEN_SYMBOL),
    }


def _left_aligned(text: str) -> int:
    return int.from_bytes(text.encode().ljust(32, b"\0"), "big")
