"""Output roots and withdrawal hashes (OP-Stack withdrawals.md)."""

from openledger.genesis.hashing import keccak256

OUTPUT_VERSION_0 = bytes(32)


def output_root(state_root: bytes, message_passer_storage_root: bytes, block_hash: bytes) -> bytes:
    """The version-0 output root of an L2 block.

    Since Isthmus the block's header carries the message passer's storage root as `withdrawalsRoot`.
    """
    return keccak256(OUTPUT_VERSION_0 + state_root + message_passer_storage_root + block_hash)


def withdrawal_storage_slot(withdrawal_hash: bytes) -> bytes:
    """The slot of L2ToL1MessagePasser that holds 1 once the withdrawal was initiated."""
    return keccak256(withdrawal_hash + bytes(32))
