"""What CREDIT reads and writes in the economy's contracts: slots, words, and their price.

The layouts are those of solc for the structs named here; changing a struct's order in Solidity changes
consensus. Mapping slots follow Solidity's "Layout of State Variables in Storage".
"""

from dataclasses import dataclass
from typing import Any

from openledger.genesis.hashing import keccak256
from openledger.genesis.predeploys import DATANET_REGISTRY, MODEL_REGISTRY, REWARDS_DISTRIBUTOR

ACCOUNTS_SLOT = 0
PLATFORM_SLOT = 1
STAKERS_SLOT = 2
RELEASES_SLOT = 0
CONTRIBUTIONS_SLOT = 2
DATANETS_SLOT = 3
TREASURY_WORD = 1
RELEASE_DATANETS_WORD = 8

COLD_READ_GAS = 2_100
WARM_READ_GAS = 100
NEW_SLOT_GAS = 20_000
UPDATE_SLOT_GAS = 2_900

_ADDRESS = (1 << 160) - 1


def mapping_slot(slot: int, key: int) -> int:
    """The first slot of a mapping's value."""
    return int.from_bytes(keccak256(key.to_bytes(32, "big") + slot.to_bytes(32, "big")), "big")


def address_of(word: int) -> bytes:
    """The address in the right 160 bits of a word."""
    return (word & _ADDRESS).to_bytes(20, "big")


@dataclass(frozen=True, slots=True)
class ContributionRecord:
    """First word of DatanetRegistry.Contribution."""

    contributor: bytes
    datanet: int
    status: int


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """First two words of ModelRegistry.Release; `policy_bps` is owner, trainer, stakers, provider, contributors."""

    owner: bytes
    trainer: bytes
    policy_bps: tuple[int, int, int, int, int]
    datanets: int


class MeteredState:
    """A computation's state, each access paid as the EVM's own SLOAD and SSTORE would be."""

    def __init__(self, computation: Any) -> None:
        self._computation = computation

    def read(self, address: bytes, slot: int) -> int:
        state = self._computation.state
        if state.is_storage_warm(address, slot):
            self._computation.consume_gas(WARM_READ_GAS, "CREDIT: read")
        else:
            self._computation.consume_gas(COLD_READ_GAS, "CREDIT: read")
            state.mark_storage_warm(address, slot)
        value: int = state.get_storage(address, slot)
        return value

    def write(self, address: bytes, slot: int, before: int, value: int) -> None:
        """Writes a slot that was read before; `before` is its value."""
        gas = NEW_SLOT_GAS if before == 0 else UPDATE_SLOT_GAS
        self._computation.consume_gas(gas, "CREDIT: write")
        self._computation.state.set_storage(address, slot, value)

    def platform(self) -> tuple[bytes, int, bytes]:
        """(platform's payee, its basis points, stakers' payee)."""
        word = self.read(REWARDS_DISTRIBUTOR, PLATFORM_SLOT)
        stakers = self.read(REWARDS_DISTRIBUTOR, STAKERS_SLOT)
        return address_of(word), word >> 160 & 0xFFFF, address_of(stakers)

    def contribution(self, identity: int) -> ContributionRecord:
        word = self.read(DATANET_REGISTRY, mapping_slot(CONTRIBUTIONS_SLOT, identity))
        return ContributionRecord(address_of(word), word >> 160 & 0xFFFFFFFF, word >> 224 & 0xFF)

    def treasury(self, datanet: int) -> bytes:
        return address_of(self.read(DATANET_REGISTRY, mapping_slot(DATANETS_SLOT, datanet) + TREASURY_WORD))

    def release(self, identity: int) -> ReleaseRecord | None:
        """The release's record, None when there is no such release."""
        slot = mapping_slot(RELEASES_SLOT, identity)
        first = self.read(MODEL_REGISTRY, slot)
        if not first:
            return None
        second = self.read(MODEL_REGISTRY, slot + 1)
        shares = first >> 160
        return ReleaseRecord(
            owner=address_of(first),
            trainer=address_of(second),
            policy_bps=(
                shares & 0xFFFF,
                shares >> 16 & 0xFFFF,
                shares >> 32 & 0xFFFF,
                shares >> 48 & 0xFFFF,
                shares >> 64 & 0xFFFF,
            ),
            datanets=second >> 160 & 0xFF,
        )

    def release_datanets(self, identity: int, count: int) -> list[tuple[int, int]]:
        """(Datanet id, tokens) of a release's Datanets, one a word: from the right id u32, version u32, tokens u64."""
        array = mapping_slot(RELEASES_SLOT, identity) + RELEASE_DATANETS_WORD
        first = int.from_bytes(keccak256(array.to_bytes(32, "big")), "big")
        shares = []
        for index in range(count):
            word = self.read(MODEL_REGISTRY, first + index)
            shares.append((word & 0xFFFFFFFF, word >> 64 & 0xFFFFFFFFFFFFFFFF))
        return shares

    def payee_slot(self, payee: bytes) -> int:
        return mapping_slot(ACCOUNTS_SLOT, int.from_bytes(payee, "big"))
