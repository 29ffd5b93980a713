"""What all nodes of one network agree on, and who may hold its roles."""

from dataclasses import dataclass, field, replace

from openledger.genesis.dev_accounts import is_dev_address
from openledger.genesis.parameters import OPEN_WEI, EconomyParameters, ForkSchedule


class RolesMissing(ValueError):
    """A public network's role or contract address has not been configured."""


class DevelopmentKeyRefused(ValueError):
    """A role of a public network was given the address of a key that everybody knows."""


@dataclass(frozen=True)
class Roles:
    """Who does what on a network; 20-byte addresses."""

    owner: bytes
    """Owns SystemConfig and ProxyAdmin and receives the vaults' fees, until governance takes over."""
    batcher: bytes
    proposer: bytes
    unsafe_block_signer: bytes
    """Address of the key that signs unsafe blocks for gossip."""

    def __post_init__(self) -> None:
        """Raises ValueError for anything that is not a 20-byte, non-zero address."""
        for name, address in vars(self).items():
            if len(address) != 20 or not any(address):
                raise ValueError(f"role {name} must be a non-zero 20-byte address, got 0x{address.hex()}")


@dataclass(frozen=True)
class L1Contracts:
    """Where a network's contracts stand on its L1."""

    open_token: bytes
    portal: bytes
    system_config: bytes
    output_oracle: bytes
    cross_domain_messenger: bytes
    standard_bridge: bytes
    erc721_bridge: bytes
    superchain_config: bytes
    proxy_admin: bytes


@dataclass(frozen=True)
class Preset:
    """Everything that two nodes of one network must agree on. Lengths of time are in seconds (…_s) or L1 blocks.

    `batcher`, `proposer`, `unsafe_block_signer`, `owner` and `l1` raise RolesMissing on a public network
    until `with_roles` has supplied them.
    """

    name: str
    l1_chain_id: int
    l2_chain_id: int
    development: bool
    economy: EconomyParameters
    roles: Roles | None = None
    l1_contracts: L1Contracts | None = None
    l1_block_time_s: int = 12
    l2_block_time_s: int = 2
    gas_limit: int = 60_000_000
    l1_gas_limit: int = 60_000_000
    base_fee_per_gas: int = 1_000_000
    l1_base_fee_per_gas: int = 1_000_000_000
    eip1559_denominator: int = 250
    eip1559_elasticity: int = 6
    base_fee_scalar: int = 1_368
    blob_base_fee_scalar: int = 810_949
    operator_fee_scalar: int = 0
    operator_fee_constant: int = 0
    seq_window_size: int = 3_600
    channel_timeout: int = 50
    max_sequencer_drift: int = 1_800
    output_interval_blocks: int = 1_800
    """L2 blocks between two output proposals."""
    finalization_period_s: int = 7 * 24 * 3_600
    """How long a proposed output can be challenged or deleted before withdrawals may rely on it."""
    decision_period_s: int = 7 * 24 * 3_600
    """After this time anybody can end a challenge that nobody has decided; the output is deleted then."""
    proposer_bond_wei: int = 1_000 * OPEN_WEI
    """OPEN on L1 behind each output until it is final."""
    challenger_bond_wei: int = 500 * OPEN_WEI
    """OPEN on L1 behind a challenge until it is decided."""
    forks: ForkSchedule = field(default_factory=ForkSchedule)

    @property
    def open_outputs(self) -> int:
        """How many outputs are not final at one time, when each is proposed as soon as it may be."""
        return -(-self.finalization_period_s // (self.output_interval_blocks * self.l2_block_time_s)) + 1

    @property
    def batch_inbox(self) -> bytes:
        """0xff00…00 followed by the L2 chain id in decimal digits (the OP-Stack convention)."""
        return bytes.fromhex("ff" + f"{self.l2_chain_id:038d}")

    @property
    def owner(self) -> bytes:
        return self._known_roles().owner

    @property
    def batcher(self) -> bytes:
        return self._known_roles().batcher

    @property
    def proposer(self) -> bytes:
        return self._known_roles().proposer

    @property
    def unsafe_block_signer(self) -> bytes:
        return self._known_roles().unsafe_block_signer

    @property
    def l1(self) -> L1Contracts:
        if self.l1_contracts is None:
            raise RolesMissing(
                f"preset {self.name} has no L1 contract addresses: set them in the configuration's [l1_contracts]"
            )
        return self.l1_contracts

    def with_roles(self, roles: Roles, l1_contracts: L1Contracts | None = None) -> "Preset":
        """The preset with its roles (and L1 contracts) replaced.

        Raises DevelopmentKeyRefused when a public network is given a development key's address.
        """
        if not self.development:
            for name, address in vars(roles).items():
                if is_dev_address(address):
                    raise DevelopmentKeyRefused(
                        f"{name} of preset {self.name} is 0x{address.hex()}, a development account whose key is "
                        "public: configure an address of your own"
                    )
        return replace(self, roles=roles, l1_contracts=l1_contracts or self.l1_contracts)

    def _known_roles(self) -> Roles:
        if self.roles is None:
            raise RolesMissing(
                f"preset {self.name} has no roles: set owner, batcher, proposer and unsafe_block_signer in the "
                "configuration's [roles] (development keys are refused)"
            )
        return self.roles
