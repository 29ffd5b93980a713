"""Which rules a chain follows, and which of them hold in one block.

`Rules` is made once from a genesis; `Rules.at` gives the rules of a block, worked out so that executing a transaction
only reads attributes. Sources are the EIPs named at each rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from openledger.evm_ext import fees
from openledger.evm_ext.block import Header, HeaderForm, header_form
from openledger.evm_ext.errors import GenesisInvalid
from openledger.genesis import predeploys
from openledger.genesis.genesis import Genesis, InvalidGenesis, decode_holocene_extra_data
from openledger.genesis.hardforks import BlobParameters, Hardfork, HardforkSchedule
from openledger.genesis.op_forks import OpFork, OpForkSchedule
from openledger.genesis.parameters import ForkSchedule

ETHEREUM_EXTRA_DATA_BYTES = 32
ETHER_WEI = 10**18

MAX_TRANSACTION_GAS = 2**24
"""EIP-7825, from Osaka: the most gas one transaction may ask for."""
MAX_BLOCK_RLP_BYTES = 8_388_608
"""EIP-7934, from Osaka: 10 MiB less 2 MiB for what the beacon block adds."""
MAX_TRANSACTION_BLOBS = 6
"""EIP-7594, from Osaka: the most blobs one transaction may carry."""
MAX_INIT_CODE_BYTES = 49_152
"""EIP-3860, from Shanghai."""

_NO_BLOBS = BlobParameters(0, 0, 1)

# The fork in the genesis schedule that switches each precompile of ours on.
_FORK_OF_PRECOMPILE = {
    predeploys.CREDIT: "credit",
    predeploys.SPANS: "spans",
    predeploys.SCORES: "scores",
    predeploys.STEP: "step",
    predeploys.BN254_KZG: "bn254_kzg",
}


@dataclass(frozen=True)
class BlockRules:
    """The rules of one block. `own_precompiles` are the addresses of ours that are active in it; `denominator` and
    `elasticity` are the chain's defaults of the base fee; `has_replay_protection` is EIP-155."""

    fork: Hardfork
    is_op: bool
    chain_id: int
    denominator: int
    elasticity: int
    own_precompiles: tuple[bytes, ...]
    has_replay_protection: bool
    blobs: BlobParameters
    deposit_contract: bytes
    op_fork: OpFork = OpFork.ISTHMUS
    """Of an OP chain only."""

    @cached_property
    def transaction_types(self) -> frozenset[int]:
        """Types that the block may hold. OP chains have no blobs; only they have deposits."""
        if self.is_op:
            return frozenset({0, 1, 2, 4, 0x7E} if self.fork >= Hardfork.PRAGUE else {0, 1, 2, 0x7E})
        types = {0}
        for fork, kind in ((Hardfork.BERLIN, 1), (Hardfork.LONDON, 2), (Hardfork.CANCUN, 3), (Hardfork.PRAGUE, 4)):
            if self.fork >= fork:
                types.add(kind)
        return frozenset(types)

    @cached_property
    def header_form(self) -> HeaderForm:
        return header_form(self.fork)

    # --- transactions -------------------------------------------------------------------------------------

    @cached_property
    def creation_gas(self) -> int:
        """What a transaction that creates a contract pays more (EIP-2, from Homestead)."""
        return 32_000 if self.fork >= Hardfork.HOMESTEAD else 0

    @cached_property
    def nonzero_byte_gas(self) -> int:
        """Per non-zero byte of calldata (EIP-2028, from Istanbul)."""
        return 16 if self.fork >= Hardfork.ISTANBUL else 68

    @cached_property
    def limits_init_code(self) -> bool:
        """Creation code is bounded and costs gas per word (EIP-3860)."""
        return self.fork >= Hardfork.SHANGHAI

    @cached_property
    def has_calldata_floor(self) -> bool:
        """EIP-7623."""
        return self.fork >= Hardfork.PRAGUE

    @cached_property
    def refund_quotient(self) -> int:
        """The part of the gas used that is refunded at most is one in this many (EIP-3529, from London)."""
        return 5 if self.fork >= Hardfork.LONDON else 2

    @cached_property
    def self_destruct_refund(self) -> int:
        """Gas given back per destroyed contract (EIP-3529 ended it)."""
        return 0 if self.fork >= Hardfork.LONDON else 24_000

    @cached_property
    def requires_low_s(self) -> bool:
        """EIP-2, from Homestead."""
        return self.fork >= Hardfork.HOMESTEAD

    @cached_property
    def has_delegations(self) -> bool:
        """Code of 23 bytes that begins with 0xef0100 points to another account's (EIP-7702)."""
        return self.fork >= Hardfork.PRAGUE

    @cached_property
    def max_transaction_gas(self) -> int | None:
        """EIP-7825."""
        return MAX_TRANSACTION_GAS if self.fork >= Hardfork.OSAKA else None

    @cached_property
    def max_transaction_blobs(self) -> int:
        """EIP-7594; before, as many as a block takes."""
        return min(self.blobs.max, MAX_TRANSACTION_BLOBS) if self.fork >= Hardfork.OSAKA else self.blobs.max

    @cached_property
    def max_blob_gas(self) -> int:
        """Blob gas that a block may use."""
        return self.blobs.max * fees.GAS_PER_BLOB

    @cached_property
    def receipts_have_state_root(self) -> bool:
        """Receipts carry the state root instead of the status (EIP-658 ended it)."""
        return self.fork < Hardfork.BYZANTIUM

    @cached_property
    def clears_empty_accounts(self) -> bool:
        """EIP-161."""
        return self.fork >= Hardfork.SPURIOUS_DRAGON

    # --- blocks -------------------------------------------------------------------------------------------

    @cached_property
    def is_proof_of_stake(self) -> bool:
        return self.fork >= Hardfork.PARIS

    @cached_property
    def block_reward(self) -> int:
        """Wei for the miner of a block; its uncles' miners get parts of it."""
        if self.is_proof_of_stake:
            return 0
        if self.fork >= Hardfork.CONSTANTINOPLE:
            return 2 * ETHER_WEI
        return (3 if self.fork >= Hardfork.BYZANTIUM else 5) * ETHER_WEI

    @cached_property
    def has_base_fee(self) -> bool:
        return self.fork >= Hardfork.LONDON

    @cached_property
    def has_withdrawals(self) -> bool:
        return self.fork >= Hardfork.SHANGHAI

    @cached_property
    def has_beacon_root(self) -> bool:
        """EIP-4788, and blobs."""
        return self.fork >= Hardfork.CANCUN

    @cached_property
    def has_requests(self) -> bool:
        """EIP-7685 requests come out of the block; OP chains have none."""
        return self.fork >= Hardfork.PRAGUE and not self.is_op

    @cached_property
    def stores_parent_hash(self) -> bool:
        """EIP-2935."""
        return self.fork >= Hardfork.PRAGUE

    # --- OP-Stack -----------------------------------------------------------------------------------------

    @cached_property
    def has_fee_parameters(self) -> bool:
        """The parameters of the base fee are in extraData (Holocene)."""
        return self.is_op and self.op_fork >= OpFork.HOLOCENE

    @cached_property
    def has_fastlz_l1_fee(self) -> bool:
        """The L1 fee is on the compressed size (Fjord), not on the calldata gas (Ecotone)."""
        return self.op_fork >= OpFork.FJORD

    @cached_property
    def has_operator_fee(self) -> bool:
        """There is an operator fee with a vault of its own (Isthmus)."""
        return self.is_op and self.op_fork >= OpFork.ISTHMUS

    @cached_property
    def commits_to_message_passer(self) -> bool:
        """withdrawalsRoot is the message passer's storage root (Isthmus)."""
        return self.is_op and self.op_fork >= OpFork.ISTHMUS

    @cached_property
    def max_block_rlp_bytes(self) -> int | None:
        """EIP-7934."""
        return MAX_BLOCK_RLP_BYTES if self.fork >= Hardfork.OSAKA else None


@dataclass(frozen=True)
class Rules:
    """`is_op`: the OP-Stack's forks as `op_forks` says, over Ethereum's as `hardforks` says; ours are Isthmus over Prague
    from the start. `denominator` and `elasticity` are the
    defaults of the base fee; an OP chain's blocks carry their own."""

    is_op: bool
    chain_id: int
    denominator: int
    elasticity: int
    forks: ForkSchedule
    hardforks: HardforkSchedule
    op_forks: OpForkSchedule = field(default_factory=OpForkSchedule)

    @classmethod
    def from_genesis(cls, genesis: Genesis) -> Rules:
        """Raises `GenesisInvalid` for base fee parameters that no block could follow."""
        if genesis.rules == "ethereum":
            return cls(
                False,
                genesis.chain_id,
                fees.ETHEREUM_DENOMINATOR,
                fees.ETHEREUM_ELASTICITY,
                genesis.forks,
                genesis.hardforks,
            )
        try:
            denominator, elasticity = decode_holocene_extra_data(genesis.extra_data)
        except InvalidGenesis as error:
            raise GenesisInvalid(str(error)) from None
        if not denominator or not elasticity:
            raise GenesisInvalid(f"genesis extraData 0x{genesis.extra_data.hex()} has a zero denominator or elasticity")
        return cls(True, genesis.chain_id, denominator, elasticity, genesis.forks, genesis.hardforks)

    def at(self, number: int, timestamp: int, *, merged: bool = False) -> BlockRules:
        """The rules of a block. `merged` says that it is known to be one of proof of stake, where neither its number nor
        its time tells; see `HardforkSchedule.at`."""
        return _block_rules(
            fork=self.hardforks.at(number, timestamp, merged=merged),
            is_op=self.is_op,
            chain_id=self.chain_id,
            denominator=self.denominator,
            elasticity=self.elasticity,
            own_precompiles=self._own_precompiles(timestamp),
            has_replay_protection=self.hardforks.is_eip155(number),
            blobs=(None if self.is_op else self.hardforks.blobs_at(timestamp)) or _NO_BLOBS,
            deposit_contract=self.hardforks.deposit_contract,
            op_fork=self.op_forks.at(timestamp),
        )

    def of(self, header: Header) -> BlockRules:
        """The rules of the block with this header: a difficulty of 0 says that it is one of proof of stake."""
        return self.at(header.number, header.timestamp, merged=header.number > 0 and header.difficulty == 0)

    def after(self, parent: Header) -> BlockRules:
        """The rules that a block right after `parent` would have, for judging transactions that wait."""
        merged = parent.number > 0 and parent.difficulty == 0
        return self.at(parent.number + 1, parent.timestamp + 1, merged=merged)

    def _own_precompiles(self, timestamp: int) -> tuple[bytes, ...]:
        if not self.is_op:
            return ()
        return tuple(
            address for address, fork in sorted(_FORK_OF_PRECOMPILE.items()) if self.forks.active(fork, timestamp)
        )


@lru_cache(maxsize=256)
def _block_rules(**values: object) -> BlockRules:
    """Equal rules are one object, which keeps what is worked out of them."""
    return BlockRules(**values)  # type: ignore[arg-type]


__all__ = [
    "ETHEREUM_EXTRA_DATA_BYTES",
    "MAX_BLOCK_RLP_BYTES",
    "MAX_INIT_CODE_BYTES",
    "MAX_TRANSACTION_GAS",
    "BlockRules",
    "Hardfork",
    "Rules",
]
