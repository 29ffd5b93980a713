"""Which rules a chain follows, taken from its genesis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from openledger.evm_ext import fees
from openledger.evm_ext.errors import GenesisInvalid
from openledger.genesis.genesis import Genesis, InvalidGenesis, decode_holocene_extra_data
from openledger.genesis.parameters import ForkSchedule

ETHEREUM_EXTRA_DATA_BYTES = 32


@dataclass(frozen=True)
class Rules:
    """`is_op`: Isthmus over Prague; else plain Prague. `denominator` and `elasticity` are the defaults of
    the base fee; an OP chain's blocks carry their own."""

    is_op: bool
    chain_id: int
    denominator: int
    elasticity: int
    forks: ForkSchedule

    @classmethod
    def from_genesis(cls, genesis: Genesis) -> Rules:
        """Raises `GenesisInvalid` for base fee parameters that no block could follow."""
        if genesis.rules == "ethereum":
            return cls(False, genesis.chain_id, fees.ETHEREUM_DENOMINATOR, fees.ETHEREUM_ELASTICITY, genesis.forks)
        try:
            denominator, elasticity = decode_holocene_extra_data(genesis.extra_data)
        except InvalidGenesis as error:
            raise GenesisInvalid(str(error)) from None
        if not denominator or not elasticity:
            raise GenesisInvalid(f"genesis extraData 0x{genesis.extra_data.hex()} has a zero denominator or elasticity")
        return cls(True, genesis.chain_id, denominator, elasticity, genesis.forks)

    @cached_property
    def transaction_types(self) -> frozenset[int]:
        """Types that blocks may hold. OP chains have no blobs; only they have deposits."""
        return frozenset({0, 1, 2, 4, 0x7E}) if self.is_op else frozenset({0, 1, 2, 3, 4})
