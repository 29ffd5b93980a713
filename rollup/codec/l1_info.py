"""The L1 attributes deposit, first transaction of every L2 block (OP-Stack deposits.md; Isthmus, 176 bytes).

0 selector 098999be | 4 baseFeeScalar u32 | 8 blobBaseFeeScalar u32 | 12 sequenceNumber u64 | 20 l1 timestamp u64
28 l1 number u64 | 36 l1 base fee u256 | 68 blob base fee u256 | 100 l1 hash | 132 batcher hash
164 operatorFeeScalar u32 | 168 operatorFeeConstant u64
"""

import struct
from dataclasses import dataclass

from openledger.evm_ext.transactions import DepositTransaction
from openledger.genesis.predeploys import DEPOSITOR_ACCOUNT, L1_BLOCK
from openledger.rollup.codec.deposits import l1_info_source_hash

ISTHMUS_SELECTOR = bytes.fromhex("098999be")
ISTHMUS_SIZE = 176
L1_INFO_GAS = 1_000_000

_LAYOUT = struct.Struct(">4sIIQQQ32s32s32s32sIQ")


class InvalidL1Info(ValueError):
    """The bytes are no Isthmus L1 attributes."""


@dataclass(frozen=True)
class L1Info:
    """What an L2 block knows of its L1 origin and of the system configuration; fees in wei, times in seconds."""

    number: int
    timestamp: int
    base_fee: int
    blob_base_fee: int
    block_hash: bytes
    sequence_number: int
    batcher: bytes
    base_fee_scalar: int
    blob_base_fee_scalar: int
    operator_fee_scalar: int
    operator_fee_constant: int


def encode_l1_info(info: L1Info) -> bytes:
    """The 176 bytes of calldata."""
    return _LAYOUT.pack(
        ISTHMUS_SELECTOR,
        info.base_fee_scalar,
        info.blob_base_fee_scalar,
        info.sequence_number,
        info.timestamp,
        info.number,
        info.base_fee.to_bytes(32, "big"),
        info.blob_base_fee.to_bytes(32, "big"),
        info.block_hash,
        bytes(12) + info.batcher,
        info.operator_fee_scalar,
        info.operator_fee_constant,
    )


def decode_l1_info(data: bytes) -> L1Info:
    """The attributes in calldata; raises `InvalidL1Info` for another selector, size, or a batcher hash over 20 bytes."""
    if len(data) != ISTHMUS_SIZE:
        raise InvalidL1Info(f"L1 attributes have {len(data)} bytes, not {ISTHMUS_SIZE}")
    (
        selector,
        base_scalar,
        blob_scalar,
        sequence,
        time,
        number,
        base_fee,
        blob_fee,
        l1_hash,
        batcher,
        scalar,
        constant,
    ) = _LAYOUT.unpack(data)
    if selector != ISTHMUS_SELECTOR:
        raise InvalidL1Info(f"unknown L1 attributes selector {selector.hex()}")
    if any(batcher[:12]):
        raise InvalidL1Info("batcher hash is no address")
    return L1Info(
        number=number,
        timestamp=time,
        base_fee=int.from_bytes(base_fee, "big"),
        blob_base_fee=int.from_bytes(blob_fee, "big"),
        block_hash=l1_hash,
        sequence_number=sequence,
        batcher=batcher[12:],
        base_fee_scalar=base_scalar,
        blob_base_fee_scalar=blob_scalar,
        operator_fee_scalar=scalar,
        operator_fee_constant=constant,
    )


def l1_info_deposit(info: L1Info) -> DepositTransaction:
    """The deposit that tells L2 about its L1 origin."""
    return DepositTransaction(
        source_hash=l1_info_source_hash(info.block_hash, info.sequence_number),
        sender=DEPOSITOR_ACCOUNT,
        to=L1_BLOCK,
        mint=0,
        value=0,
        gas=L1_INFO_GAS,
        is_system_transaction=False,
        data=encode_l1_info(info),
    )
