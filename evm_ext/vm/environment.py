"""What a computation can see of the block it runs in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from openledger.evm_ext.fees import blob_base_fee

MAX_ANCESTORS = 256


@dataclass(frozen=True)
class BlockEnvironment:
    """The block under execution. Names are those py-evm's opcodes ask for.

    `ancestor_hash` gives the hash of the ancestor with a number; it is only asked for the last 256.
    """

    chain_id: int
    coinbase: bytes
    timestamp: int
    block_number: int
    mix_hash: bytes
    gas_limit: int
    base_fee_per_gas: int
    excess_blob_gas: int
    ancestor_hash: Callable[[int], bytes]

    @cached_property
    def blob_base_fee(self) -> int:
        return blob_base_fee(self.excess_blob_gas)

    def get_ancestor_hash(self, number: int) -> bytes:
        """BLOCKHASH: empty outside the last 256 blocks."""
        if not 0 <= self.block_number - number - 1 < MAX_ANCESTORS or number < 0:
            return b""
        return self.ancestor_hash(number)
