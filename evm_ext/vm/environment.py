"""What a computation can see of the block it runs in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from openledger.evm_ext.block import Header
from openledger.evm_ext.fees import blob_base_fee
from openledger.evm_ext.vm.rules import BlockRules

MAX_ANCESTORS = 256


@dataclass(frozen=True)
class BlockEnvironment:
    """The block under execution. Names are those py-evm's opcodes ask for.

    `ancestor_hash` gives the hash of the ancestor with a number; it is only asked for the last 256.
    """

    rules: BlockRules
    chain_id: int
    coinbase: bytes
    timestamp: int
    block_number: int
    difficulty: int
    mix_hash: bytes
    gas_limit: int
    base_fee_per_gas: int
    excess_blob_gas: int
    ancestor_hash: Callable[[int], bytes]

    @classmethod
    def of(cls, header: Header, rules: BlockRules, ancestor_hash: Callable[[int], bytes]) -> BlockEnvironment:
        """The environment of the block with this header."""
        return cls(
            rules=rules,
            chain_id=rules.chain_id,
            coinbase=header.fee_recipient,
            timestamp=header.timestamp,
            block_number=header.number,
            difficulty=header.difficulty,
            mix_hash=header.prev_randao,
            gas_limit=header.gas_limit,
            base_fee_per_gas=header.base_fee_per_gas,
            excess_blob_gas=header.excess_blob_gas,
            ancestor_hash=ancestor_hash,
        )

    @cached_property
    def blob_base_fee(self) -> int:
        """Wei per blob gas; 1, the least, where there are no blobs."""
        return blob_base_fee(self.excess_blob_gas, self.rules.blobs.base_fee_update_fraction)

    def get_ancestor_hash(self, number: int) -> bytes:
        """BLOCKHASH: empty outside the last 256 blocks."""
        if not 0 <= self.block_number - number - 1 < MAX_ANCESTORS or number < 0:
            return b""
        return self.ancestor_hash(number)
