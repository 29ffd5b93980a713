"""What the consensus side and the execution side hand each other, with the Engine API's field names.

Source: execution-apis, engine V3/V4; OP-Stack specification, exec-engine (the fields after `gas_limit`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Withdrawal:
    """A validator withdrawal (EIP-4895); `amount` in gwei. OP chains have none."""

    index: int
    validator_index: int
    address: bytes
    amount: int


@dataclass(frozen=True)
class PayloadAttributes:
    """What the next block is built from.

    `transactions` are encodings that come first and have to be in the block, deposits before all others;
    with `no_tx_pool` nothing follows them. `gas_limit` None keeps the parent's. `eip_1559_params`
    (Holocene) is denominator u32 || elasticity u32; None or eight zero bytes mean the chain's defaults.
    """

    timestamp: int
    prev_randao: bytes
    suggested_fee_recipient: bytes
    parent_beacon_block_root: bytes
    transactions: tuple[bytes, ...] = ()
    no_tx_pool: bool = False
    gas_limit: int | None = None
    eip_1559_params: bytes | None = None
    withdrawals: tuple[Withdrawal, ...] = ()


@dataclass(frozen=True)
class ExecutionPayload:
    """A block as the Engine API (and OP gossip) carries it.

    `logs_bloom` is 256 bytes. `withdrawals_root` is the message passer's storage root on an OP chain.
    `parent_beacon_block_root` travels beside the payload on the wire; here it is a field of it.
    """

    parent_hash: bytes
    fee_recipient: bytes
    state_root: bytes
    receipts_root: bytes
    logs_bloom: bytes
    prev_randao: bytes
    block_number: int
    gas_limit: int
    gas_used: int
    timestamp: int
    extra_data: bytes
    base_fee_per_gas: int
    block_hash: bytes
    transactions: tuple[bytes, ...]
    withdrawals: tuple[Withdrawal, ...] = ()
    blob_gas_used: int = 0
    excess_blob_gas: int = 0
    withdrawals_root: bytes = bytes(32)
    parent_beacon_block_root: bytes = bytes(32)
