"""What is deployed, in which order: each step is one transaction, made from the addresses that the steps before it left.

A proxy belongs to ProxyAdmin from its first byte on, and ProxyAdmin to the deployer until the last step; so nobody else can
initialise anything between two transactions, and `upgradeAndCall` initialises in the transaction that sets the code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from eth_abi.abi import encode

from openledger.genesis.alloc import l2_genesis, l2_supply_wei
from openledger.genesis.artifact import artifact
from openledger.genesis.dev_accounts import is_dev_address
from openledger.genesis.parameters import TOTAL_SUPPLY_WEI
from openledger.genesis.preset import L1Contracts, Preset
from openledger.node.contracts import Contract, canonical_types
from openledger.node.errors import UserError

LOCK_GAS: Final = 21_000
"""L2 gas of the deposit that locks the genesis supply; nobody will execute it."""

PROXIED: Final = {
    "superchain_config": "SuperchainConfig",
    "portal": "OptimismPortal",
    "output_oracle": "L2OutputOracle",
    "cross_domain_messenger": "L1CrossDomainMessenger",
    "standard_bridge": "L1StandardBridge",
    "erc721_bridge": "L1ERC721Bridge",
}
"""The contracts behind proxies: the field of L1Contracts, and the artifact."""

Addresses = Mapping[str, bytes]
Request = tuple[bytes | None, bytes]
"""Whom to call (None: a new contract) and with what data."""


@dataclass(frozen=True)
class Terms:
    """What is deployed by whom. `preset` has its L1's chain id and its roles; its L1 contracts are what comes out.

    `open_token` is an ERC-20 that already is OPEN on this L1; None deploys one, whose supply goes to the owner.
    """

    preset: Preset
    deployer: bytes
    open_token: bytes | None = None

    def __post_init__(self) -> None:
        """Raises UserError for terms that contradict themselves, RolesMissing without roles."""
        _ = self.preset.owner
        if not self.preset.development and is_dev_address(self.deployer):
            raise UserError(
                f"0x{self.deployer.hex()} is a development account whose key is public: whoever holds it could take the "
                f"contracts of {self.preset.name} over while they are deployed; sign with a key of your own (--key-file)"
            )
        if self.preset.development and self.open_token is not None:
            raise UserError(
                "a development chain begins with OPEN on L2 that must be locked on L1, so it brings its own token: "
                "leave --open-token out"
            )

    def network_preset(self, addresses: Addresses) -> Preset:
        """The preset with the L1 contracts that now stand."""
        found = {name: addresses[name] for name in L1Contracts.__dataclass_fields__}
        return replace(self.preset, l1_contracts=L1Contracts(**found))

    @property
    def proposer_wei(self) -> int:
        """OPEN that the proposer is given where the token is new: bonds for all outputs that are open at once."""
        return self.preset.proposer_bond_wei * self.preset.open_outputs

    def locked_wei(self, addresses: Addresses) -> int:
        """OPEN that exists in the L2's block 0."""
        return l2_supply_wei(l2_genesis(self.network_preset(addresses), 0))


@dataclass(frozen=True)
class Step:
    """One transaction. `creates` names the contract that it brings into being, or is empty."""

    name: str
    request: Callable[[Addresses], Request]
    creates: str = ""


def steps_before_genesis(terms: Terms) -> tuple[Step, ...]:
    """Everything that stands on L1 when the rollup begins.

    OPEN of the L2's block 0 is locked by a deposit here: derivation begins after it, so it mints nothing on L2.
    """
    steps = [
        Step("ProxyAdmin", lambda _: _creation("ProxyAdmin", terms.deployer), "proxy_admin"),
        *(
            Step(f"proxy of {contract}", lambda known: _creation("Proxy", known["proxy_admin"]), field)
            for field, contract in PROXIED.items()
        ),
    ]
    if terms.open_token is None:
        steps.append(Step("OpenToken", lambda _: _creation("OpenToken", terms.deployer), "open_token"))
    steps.append(Step("SystemConfig", lambda known: _system_config(terms.preset, known), "system_config"))
    steps += [Step(contract, _bare_creation(contract), _implementation(field)) for field, contract in PROXIED.items()]
    steps += [
        _initialise("superchain_config", lambda known: (terms.preset.owner, False)),
        _initialise(
            "cross_domain_messenger",
            lambda known: (known["superchain_config"], known["portal"], known["system_config"]),
        ),
        _initialise(
            "standard_bridge",
            lambda known: (known["cross_domain_messenger"], known["superchain_config"], known["system_config"]),
        ),
        _initialise("erc721_bridge", lambda known: (known["cross_domain_messenger"], known["superchain_config"])),
    ]
    if terms.preset.development:
        steps += [
            _PORTAL,
            Step(
                "approve the portal",
                lambda known: _call(
                    "OpenToken", known["open_token"], "approve", known["portal"], terms.locked_wei(known)
                ),
            ),
            Step("lock the OPEN of the L2's block 0", lambda known: _lock(terms, known)),
        ]
    if terms.open_token is None and terms.preset.proposer not in (terms.deployer, terms.preset.owner):
        steps.append(
            Step(
                "OPEN for the proposer's bonds",
                lambda known: _call(
                    "OpenToken", known["open_token"], "transfer", terms.preset.proposer, terms.proposer_wei
                ),
            )
        )
    if terms.open_token is None and terms.deployer != terms.preset.owner:
        steps.append(
            Step(
                "OPEN to the owner",
                lambda known: _call(
                    "OpenToken", known["open_token"], "transfer", terms.preset.owner, _unlocked(terms, known)
                ),
            )
        )
    return tuple(steps)


def steps_after_genesis(terms: Terms, timestamp: int) -> tuple[Step, ...]:
    """What may only follow once the rollup's first L1 block is known; `timestamp` is the L2's genesis time, in seconds.

    The portal is opened here where nothing had to be locked before: no deposit can come too early to be derived.
    """
    preset = terms.preset
    steps = [
        _initialise(
            "output_oracle",
            lambda known: (
                preset.output_interval_blocks,
                preset.l2_block_time_s,
                0,
                timestamp,
                preset.proposer,
                preset.owner,
                preset.finalization_period_s,
                (
                    known["open_token"],
                    preset.proposer_bond_wei,
                    preset.challenger_bond_wei,
                    preset.decision_period_s,
                ),
            ),
        )
    ]
    if not preset.development:
        steps.append(_PORTAL)
    if terms.deployer != preset.owner:
        steps.append(
            Step(
                "ProxyAdmin to the owner",
                lambda known: _call("ProxyAdmin", known["proxy_admin"], "transferOwnership", preset.owner),
            )
        )
    return tuple(steps)


def initialiser(field: str, arguments: tuple[Any, ...]) -> bytes:
    """Calldata that initialises the contract behind the proxy of that field."""
    return Contract(b"", artifact(PROXIED[field]).abi).encode("initialize", *arguments)


def _implementation(field: str) -> str:
    return f"{field} implementation"


def _creation(name: str, *arguments: Any) -> Request:
    contract = artifact(name)
    constructor = next((entry for entry in contract.abi if entry["type"] == "constructor"), None)
    body = encode(canonical_types(constructor["inputs"]), arguments) if constructor else b""
    return None, contract.bytecode + body


def _bare_creation(name: str) -> Callable[[Addresses], Request]:
    return lambda _: _creation(name)


def _call(name: str, to: bytes, function: str, *arguments: Any) -> Request:
    return to, Contract(to, artifact(name).abi).encode(function, *arguments)


def _initialise(field: str, arguments: Callable[[Addresses], tuple[Any, ...]]) -> Step:
    def request(known: Addresses) -> Request:
        data = initialiser(field, arguments(known))
        return _call(
            "ProxyAdmin", known["proxy_admin"], "upgradeAndCall", known[field], known[_implementation(field)], data
        )

    return Step(f"initialise {PROXIED[field]}", request)


_PORTAL: Final = _initialise(
    "portal", lambda known: (known["output_oracle"], known["system_config"], known["superchain_config"])
)


def _system_config(preset: Preset, known: Addresses) -> Request:
    return _creation(
        "SystemConfig",
        preset.owner,
        preset.batcher.rjust(32, b"\0"),
        preset.unsafe_block_signer,
        preset.gas_limit,
        preset.base_fee_scalar,
        preset.blob_base_fee_scalar,
        preset.eip1559_denominator,
        preset.eip1559_elasticity,
        preset.operator_fee_scalar,
        preset.operator_fee_constant,
        (
            known["open_token"],
            known["portal"],
            known["cross_domain_messenger"],
            known["standard_bridge"],
            known["erc721_bridge"],
            preset.batch_inbox,
        ),
    )


def _lock(terms: Terms, known: Addresses) -> Request:
    amount = terms.locked_wei(known)
    arguments = (terms.preset.owner, amount, 0, LOCK_GAS, False, b"")
    return _call("OptimismPortal", known["portal"], "depositERC20Transaction", *arguments)


def _unlocked(terms: Terms, known: Addresses) -> int:
    kept = 0 if terms.preset.proposer == terms.preset.owner else terms.proposer_wei
    return TOTAL_SUPPLY_WEI - terms.locked_wei(known) - kept
