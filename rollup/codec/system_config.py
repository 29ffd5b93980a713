"""The system configuration: what L1 sets for L2, and the logs that change it (OP-Stack system-config.md).

    ConfigUpdate(uint256 indexed version, uint8 indexed updateType, bytes data)

An update that cannot be read changes nothing: the reason is returned so that the caller can log it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum

from openledger.evm_ext.receipts import Log
from openledger.genesis.hashing import keccak256
from openledger.rollup.codec.abi_bytes import InvalidAbi, read_single_bytes

CONFIG_UPDATE_TOPIC = keccak256(b"ConfigUpdate(uint256,uint8,bytes)")


class InvalidConfigUpdate(ValueError):
    """A ConfigUpdate log that cannot be read; it is skipped."""


class UpdateType(IntEnum):
    """What a ConfigUpdate changes."""

    BATCHER = 0
    FEE_SCALARS = 1
    GAS_LIMIT = 2
    UNSAFE_BLOCK_SIGNER = 3
    EIP_1559_PARAMS = 4
    OPERATOR_FEE = 5


@dataclass(frozen=True)
class SystemConfig:
    """The values in force at one L1 block. An `eip_1559_params` of (0, 0) stands for the chain's constants."""

    batcher: bytes
    base_fee_scalar: int
    blob_base_fee_scalar: int
    gas_limit: int
    eip_1559_denominator: int = 0
    eip_1559_elasticity: int = 0
    operator_fee_scalar: int = 0
    operator_fee_constant: int = 0

    @property
    def eip_1559_params(self) -> bytes:
        """Denominator and elasticity as PayloadAttributes carry them, 8 bytes (Holocene)."""
        return self.eip_1559_denominator.to_bytes(4, "big") + self.eip_1559_elasticity.to_bytes(4, "big")


def encode_fee_scalar(base_fee_scalar: int, blob_base_fee_scalar: int) -> bytes:
    """The 32-byte scalar word since Ecotone: 0x01, zeros, blob scalar u32, base scalar u32."""
    return b"\x01" + bytes(23) + blob_base_fee_scalar.to_bytes(4, "big") + base_fee_scalar.to_bytes(4, "big")


def decode_fee_scalar(word: bytes) -> tuple[int, int]:
    """(base fee scalar, blob base fee scalar) of a scalar word; raises `InvalidConfigUpdate`."""
    if word[0] == 0:
        if any(word[1:28]):
            raise InvalidConfigUpdate("scalar of version 0 has more than 32 bits")
        return int.from_bytes(word[28:32], "big"), 0
    if word[0] == 1:
        if any(word[1:24]):
            raise InvalidConfigUpdate("scalar of version 1 has bytes set in its padding")
        return int.from_bytes(word[28:32], "big"), int.from_bytes(word[24:28], "big")
    raise InvalidConfigUpdate(f"unknown scalar version {word[0]}")


def apply_update(config: SystemConfig, log: Log) -> SystemConfig:
    """The configuration after one ConfigUpdate log; raises `InvalidConfigUpdate` if the log cannot be read."""
    if len(log.topics) != 3 or log.topics[0] != CONFIG_UPDATE_TOPIC:
        raise InvalidConfigUpdate("not a ConfigUpdate log")
    version = int.from_bytes(log.topics[1], "big")
    if version != 0:
        raise InvalidConfigUpdate(f"unknown ConfigUpdate version {version}")
    kind = int.from_bytes(log.topics[2], "big")
    try:
        value = read_single_bytes(log.data)
    except InvalidAbi as error:
        raise InvalidConfigUpdate(str(error)) from error
    if kind == UpdateType.FEE_SCALARS:
        if len(value) != 64:
            raise InvalidConfigUpdate(f"fee scalars have {len(value)} bytes, not 64")
        base_fee_scalar, blob_base_fee_scalar = decode_fee_scalar(value[32:])
        return replace(config, base_fee_scalar=base_fee_scalar, blob_base_fee_scalar=blob_base_fee_scalar)
    if len(value) != 32:
        raise InvalidConfigUpdate(f"update of type {kind} has {len(value)} bytes, not 32")
    if kind == UpdateType.BATCHER:
        return replace(config, batcher=_low(value, 20))
    if kind == UpdateType.GAS_LIMIT:
        return replace(config, gas_limit=int.from_bytes(_low(value, 8), "big"))
    if kind == UpdateType.EIP_1559_PARAMS:
        params = _low(value, 8)
        return replace(
            config,
            eip_1559_denominator=int.from_bytes(params[:4], "big"),
            eip_1559_elasticity=int.from_bytes(params[4:], "big"),
        )
    if kind == UpdateType.OPERATOR_FEE:
        params = _low(value, 12)
        return replace(
            config,
            operator_fee_scalar=int.from_bytes(params[:4], "big"),
            operator_fee_constant=int.from_bytes(params[4:], "big"),
        )
    if kind == UpdateType.UNSAFE_BLOCK_SIGNER:
        return config  # gossip's concern, not derivation's
    raise InvalidConfigUpdate(f"unknown ConfigUpdate type {kind}")


def apply_updates(
    config: SystemConfig, successful_logs: Iterable[tuple[int, Log]], system_config_address: bytes
) -> tuple[SystemConfig, tuple[str, ...]]:
    """The configuration after an L1 block's logs, and why some of them were skipped."""
    skipped: list[str] = []
    for index, log in successful_logs:
        if log.address != system_config_address or log.topics[:1] != (CONFIG_UPDATE_TOPIC,):
            continue
        try:
            config = apply_update(config, log)
        except InvalidConfigUpdate as error:
            skipped.append(f"log {index}: {error}")
    return config, tuple(skipped)


def _low(word: bytes, size: int) -> bytes:
    """The last `size` bytes of a word whose others must be zero."""
    if any(word[:-size]):
        raise InvalidConfigUpdate(f"value {word.hex()} does not fit {size} bytes")
    return word[-size:]
