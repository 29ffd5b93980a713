"""L1 attributes: the calldata of the first transaction of every L2 block (OP-Stack deposits.md).

Ours are always Isthmus'. The forms before it are read and written for other chains' blocks:
| form | bytes | selector | layout |
|---|---|---|---|
| Bedrock | 260 | 015d8eb9 | ABI of setL1BlockValues: number, timestamp, base fee, hash, sequence number, batcher hash, L1 fee overhead, scalar |
| Ecotone | 164 | 440a5e20 | packed: 4 baseFeeScalar u32, 8 blobBaseFeeScalar u32, 12 sequenceNumber u64, 20 timestamp u64, 28 number u64, \
36 base fee u256, 68 blob base fee u256, 100 L1 hash, 132 batcher hash |
| Isthmus | 176 | 098999be | Ecotone's, then 164 operatorFeeScalar u32, 168 operatorFeeConstant u64 |
"""

import struct
from dataclasses import dataclass

from openledger.evm_ext.transactions import DepositTransaction
from openledger.genesis.predeploys import DEPOSITOR_ACCOUNT, L1_BLOCK
from openledger.rollup.codec.deposits import l1_info_source_hash

BEDROCK_SELECTOR = bytes.fromhex("015d8eb9")
BEDROCK_SIZE = 4 + 8 * 32
ECOTONE_SELECTOR = bytes.fromhex("440a5e20")
ECOTONE_SIZE = 164
ISTHMUS_SELECTOR = bytes.fromhex("098999be")
ISTHMUS_SIZE = 176
L1_INFO_GAS = 1_000_000

_ECOTONE = struct.Struct(">4sIIQQQ32s32s32s32s")
_OPERATOR_FEE = struct.Struct(">IQ")


class InvalidL1Info(ValueError):
    """The bytes are not L1 attributes of the form asked for."""


@dataclass(frozen=True)
class BedrockL1Info:
    """What an L2 block before Ecotone knows of its L1 origin; one scalar and an overhead price L1 data."""

    number: int
    timestamp: int
    base_fee: int
    block_hash: bytes
    sequence_number: int
    batcher: bytes
    l1_fee_overhead: int
    l1_fee_scalar: int


@dataclass(frozen=True)
class EcotoneL1Info:
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


@dataclass(frozen=True)
class L1Info(EcotoneL1Info):
    """The attributes since Isthmus: Ecotone's and the operator fee's parameters."""

    operator_fee_scalar: int
    operator_fee_constant: int


AnyL1Info = BedrockL1Info | EcotoneL1Info | L1Info


def encode_l1_info(info: AnyL1Info) -> bytes:
    """The calldata, in the form of the value's class; the inverse of `decode_any_l1_info`."""
    if isinstance(info, BedrockL1Info):
        words = (
            info.number,
            info.timestamp,
            info.base_fee,
            int.from_bytes(info.block_hash, "big"),
            info.sequence_number,
            int.from_bytes(info.batcher, "big"),
            info.l1_fee_overhead,
            info.l1_fee_scalar,
        )
        return BEDROCK_SELECTOR + b"".join(word.to_bytes(32, "big") for word in words)
    isthmus = isinstance(info, L1Info)
    packed = _ECOTONE.pack(
        ISTHMUS_SELECTOR if isthmus else ECOTONE_SELECTOR,
        info.base_fee_scalar,
        info.blob_base_fee_scalar,
        info.sequence_number,
        info.timestamp,
        info.number,
        info.base_fee.to_bytes(32, "big"),
        info.blob_base_fee.to_bytes(32, "big"),
        info.block_hash,
        bytes(12) + info.batcher,
    )
    if isinstance(info, L1Info):
        packed += _OPERATOR_FEE.pack(info.operator_fee_scalar, info.operator_fee_constant)
    return packed


def decode_any_l1_info(data: bytes) -> AnyL1Info:
    """The attributes in calldata of any form; raises `InvalidL1Info` for an unknown selector, a size that is not the
    form's, or a value wider than its type."""
    selector = data[:4]
    size = {BEDROCK_SELECTOR: BEDROCK_SIZE, ECOTONE_SELECTOR: ECOTONE_SIZE, ISTHMUS_SELECTOR: ISTHMUS_SIZE}.get(
        selector
    )
    if size is None:
        raise InvalidL1Info(f"unknown L1 attributes selector 0x{selector.hex()}")
    if len(data) != size:
        raise InvalidL1Info(f"L1 attributes 0x{selector.hex()} have {len(data)} bytes, not {size}")
    return _decode_bedrock(data) if selector == BEDROCK_SELECTOR else _decode_packed(data)


def decode_l1_info(data: bytes) -> L1Info:
    """The attributes in Isthmus' form, the only one our blocks have; raises `InvalidL1Info` for any other."""
    info = decode_any_l1_info(data)
    if not isinstance(info, L1Info):
        raise InvalidL1Info(f"L1 attributes have the form of selector 0x{data[:4].hex()}, not Isthmus'")
    return info


def _decode_bedrock(data: bytes) -> BedrockL1Info:
    words = [data[start : start + 32] for start in range(4, BEDROCK_SIZE, 32)]
    number, timestamp, base_fee, _, sequence, _, overhead, scalar = (int.from_bytes(word, "big") for word in words)
    for name, value in (("number", number), ("timestamp", timestamp), ("sequence number", sequence)):
        if value >= 1 << 64:
            raise InvalidL1Info(f"{name} of the L1 attributes needs more than 64 bits")
    return BedrockL1Info(number, timestamp, base_fee, words[3], sequence, _address(words[5]), overhead, scalar)


def _decode_packed(data: bytes) -> EcotoneL1Info:
    (_, base_scalar, blob_scalar, sequence, time, number, base_fee, blob_fee, l1_hash, batcher) = _ECOTONE.unpack(
        data[:ECOTONE_SIZE]
    )
    ecotone = EcotoneL1Info(
        number=number,
        timestamp=time,
        base_fee=int.from_bytes(base_fee, "big"),
        blob_base_fee=int.from_bytes(blob_fee, "big"),
        block_hash=l1_hash,
        sequence_number=sequence,
        batcher=_address(batcher),
        base_fee_scalar=base_scalar,
        blob_base_fee_scalar=blob_scalar,
    )
    if data[:4] == ECOTONE_SELECTOR:
        return ecotone
    scalar, constant = _OPERATOR_FEE.unpack(data[ECOTONE_SIZE:])
    return L1Info(**vars(ecotone), operator_fee_scalar=scalar, operator_fee_constant=constant)


def _address(batcher_hash: bytes) -> bytes:
    if any(batcher_hash[:12]):
        raise InvalidL1Info(f"batcher hash 0x{batcher_hash.hex()} is no address")
    return batcher_hash[12:]


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
