"""What all derivers of one chain agree on, read from and written to op-node's `rollup.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openledger.genesis.preset import Preset
from openledger.rollup.blocks import BlockId
from openledger.rollup.codec.system_config import (
    InvalidConfigUpdate,
    SystemConfig,
    decode_fee_scalar,
    encode_fee_scalar,
)

FORKS_AT_GENESIS = ("regolith", "canyon", "delta", "ecotone", "fjord", "granite", "holocene", "isthmus")
_KNOWN_TIMES = frozenset(("block_time", *(f"{fork}_time" for fork in FORKS_AT_GENESIS)))

COMMITMENT_TYPE = "GenericCommitment"

# Commitments of this type cannot be challenged on L1, but op-node takes no window of 0; it finalizes so much later.
_NO_WINDOW = 1


class InvalidRollupConfig(ValueError):
    """A rollup.json that cannot be used; the message names the field."""


@dataclass(frozen=True)
class RollupConfig:
    """A chain's rollup parameters. Times are seconds; windows and timeouts are L1 blocks. Isthmus holds from genesis.

    Since Granite and Fjord the protocol fixes `channel_timeout` at 50 and `max_sequencer_drift` at 1,800: an
    independent node reads those constants whatever rollup.json says, so only tests use other values.
    """

    l1_genesis: BlockId
    l2_genesis: BlockId
    l2_genesis_time: int
    genesis_system_config: SystemConfig
    l1_chain_id: int
    l2_chain_id: int
    batch_inbox: bytes
    deposit_contract: bytes
    l1_system_config: bytes
    block_time: int = 2
    max_sequencer_drift: int = 1800
    seq_window_size: int = 3600
    channel_timeout: int = 50
    eip_1559_elasticity: int = 6
    eip_1559_denominator: int = 250

    @classmethod
    def from_genesis(
        cls, preset: Preset, l1_genesis_hash: bytes, l2_genesis_hash: bytes, timestamp: int, l1_genesis_number: int = 0
    ) -> "RollupConfig":
        """The configuration of a preset's chain, given its first L1 and L2 blocks and the L2 genesis time.

        Raises RolesMissing for a public preset whose roles and L1 contracts are not configured.
        """
        return cls(
            l1_genesis=BlockId(l1_genesis_hash, l1_genesis_number),
            l2_genesis=BlockId(l2_genesis_hash, 0),
            l2_genesis_time=timestamp,
            genesis_system_config=SystemConfig(
                batcher=preset.batcher,
                base_fee_scalar=preset.base_fee_scalar,
                blob_base_fee_scalar=preset.blob_base_fee_scalar,
                gas_limit=preset.gas_limit,
                eip_1559_denominator=preset.eip1559_denominator,
                eip_1559_elasticity=preset.eip1559_elasticity,
                operator_fee_scalar=preset.operator_fee_scalar,
                operator_fee_constant=preset.operator_fee_constant,
            ),
            l1_chain_id=preset.l1_chain_id,
            l2_chain_id=preset.l2_chain_id,
            batch_inbox=preset.batch_inbox,
            deposit_contract=preset.l1.portal,
            l1_system_config=preset.l1.system_config,
            block_time=preset.l2_block_time_s,
            max_sequencer_drift=preset.max_sequencer_drift,
            seq_window_size=preset.seq_window_size,
            channel_timeout=preset.channel_timeout,
            eip_1559_elasticity=preset.eip1559_elasticity,
            eip_1559_denominator=preset.eip1559_denominator,
        )

    def to_json(self) -> dict[str, Any]:
        """The document op-node reads as rollup.json (its rollup.Config at Isthmus), which refuses fields it does not know."""
        system = self.genesis_system_config
        operator_fee = system.operator_fee_scalar.to_bytes(4, "big") + system.operator_fee_constant.to_bytes(8, "big")
        return {
            "genesis": {
                "l1": _id_to_json(self.l1_genesis),
                "l2": _id_to_json(self.l2_genesis),
                "l2_time": self.l2_genesis_time,
                "system_config": {
                    "batcherAddr": _hex(system.batcher),
                    "overhead": _hex(bytes(32)),
                    "scalar": _hex(encode_fee_scalar(system.base_fee_scalar, system.blob_base_fee_scalar)),
                    "gasLimit": system.gas_limit,
                    "eip1559Params": _hex(system.eip_1559_params),
                    "operatorFeeParams": _hex(operator_fee.rjust(32, b"\0")),
                },
            },
            "block_time": self.block_time,
            "max_sequencer_drift": self.max_sequencer_drift,
            "seq_window_size": self.seq_window_size,
            "channel_timeout": self.channel_timeout,
            "l1_chain_id": self.l1_chain_id,
            "l2_chain_id": self.l2_chain_id,
            **{f"{fork}_time": 0 for fork in FORKS_AT_GENESIS},
            "batch_inbox_address": _hex(self.batch_inbox),
            "deposit_contract_address": _hex(self.deposit_contract),
            "l1_system_config_address": _hex(self.l1_system_config),
            "protocol_versions_address": _hex(bytes(20)),
            "chain_op_config": {
                "eip1559Elasticity": self.eip_1559_elasticity,
                "eip1559Denominator": self.eip_1559_denominator,
                "eip1559DenominatorCanyon": self.eip_1559_denominator,
            },
            "alt_da": {
                "da_challenge_contract_address": _hex(bytes(20)),
                "da_commitment_type": COMMITMENT_TYPE,
                "da_challenge_window": _NO_WINDOW,
                "da_resolve_window": _NO_WINDOW,
            },
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "RollupConfig":
        """The inverse of `to_json`; raises `InvalidRollupConfig` for what is missing, malformed, or of another fork."""
        try:
            return cls._from_json(document)
        except KeyError as error:
            raise InvalidRollupConfig(f"rollup config lacks the field {error}") from error
        except (TypeError, InvalidConfigUpdate) as error:
            raise InvalidRollupConfig(f"rollup config is malformed: {error}") from error

    @classmethod
    def _from_json(cls, document: Mapping[str, Any]) -> "RollupConfig":
        _check_forks(document)
        alt_da = document.get("alt_da")
        if alt_da is not None and alt_da["da_commitment_type"] != COMMITMENT_TYPE:
            raise InvalidRollupConfig(
                f"da_commitment_type is {alt_da['da_commitment_type']!r}: only chains with {COMMITMENT_TYPE} are derived"
            )
        genesis, fees = document["genesis"], document["chain_op_config"]
        system = genesis["system_config"]
        base_fee_scalar, blob_base_fee_scalar = decode_fee_scalar(_data(system, "scalar", 32))
        params = _data(system, "eip1559Params", 8)
        operator_fee = _data(system, "operatorFeeParams", 32)
        return cls(
            l1_genesis=_id_from_json(genesis["l1"]),
            l2_genesis=_id_from_json(genesis["l2"]),
            l2_genesis_time=_number(genesis, "l2_time"),
            genesis_system_config=SystemConfig(
                batcher=_data(system, "batcherAddr", 20),
                base_fee_scalar=base_fee_scalar,
                blob_base_fee_scalar=blob_base_fee_scalar,
                gas_limit=_number(system, "gasLimit"),
                eip_1559_denominator=int.from_bytes(params[:4], "big"),
                eip_1559_elasticity=int.from_bytes(params[4:], "big"),
                operator_fee_scalar=int.from_bytes(operator_fee[20:24], "big"),
                operator_fee_constant=int.from_bytes(operator_fee[24:], "big"),
            ),
            l1_chain_id=_number(document, "l1_chain_id"),
            l2_chain_id=_number(document, "l2_chain_id"),
            batch_inbox=_data(document, "batch_inbox_address", 20),
            deposit_contract=_data(document, "deposit_contract_address", 20),
            l1_system_config=_data(document, "l1_system_config_address", 20),
            block_time=_number(document, "block_time", 1),
            max_sequencer_drift=_number(document, "max_sequencer_drift"),
            seq_window_size=_number(document, "seq_window_size", 2),
            channel_timeout=_number(document, "channel_timeout", 1),
            eip_1559_elasticity=_number(fees, "eip1559Elasticity", 1),
            eip_1559_denominator=_number(fees, "eip1559DenominatorCanyon", 1),
        )


def _check_forks(document: Mapping[str, Any]) -> None:
    """Raises `InvalidRollupConfig` for a chain that does not begin at Isthmus, or leaves it."""
    for fork in FORKS_AT_GENESIS:
        time = document[f"{fork}_time"]
        if time != 0:
            raise InvalidRollupConfig(
                f"{fork}_time is {time}: only chains that begin at Isthmus are derived, with all times up to isthmus_time 0"
            )
    for name, time in document.items():
        if name.endswith("_time") and name not in _KNOWN_TIMES and time is not None:
            raise InvalidRollupConfig(
                f"{name} is {time}: the chain leaves Isthmus then, and this version knows no later rules (Jovian and on); "
                "it would derive other blocks from there"
            )


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _id_to_json(block: BlockId) -> dict[str, Any]:
    return {"hash": _hex(block.hash), "number": block.number}


def _id_from_json(document: Mapping[str, Any]) -> BlockId:
    return BlockId(_data(document, "hash", 32), _number(document, "number"))


def _number(document: Mapping[str, Any], name: str, minimum: int = 0) -> int:
    value = document[name]
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value < 2**64:
        raise InvalidRollupConfig(f"{name} must be a whole number from {minimum}, got {value!r}")
    return value


def _data(document: Mapping[str, Any], name: str, size: int) -> bytes:
    value = document[name]
    try:
        data = bytes.fromhex(value.removeprefix("0x"))
    except (AttributeError, ValueError):
        raise InvalidRollupConfig(f"{name} must be hex, got {value!r}") from None
    if len(data) != size:
        raise InvalidRollupConfig(f"{name} must be {size} bytes, got {len(data)}")
    return data
